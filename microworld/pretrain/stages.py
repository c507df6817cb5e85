"""The stages of micro pretraining, in order; each resumes from its checkpoint and ships its part.

    pictures -> autoencoder -> inpaint -> text2image -> datadream
                                       -> controlnet
             -> teacher -> clip
             -> judge (never shipped: it only measures)

Every stage takes the same `Workshop`: where checkpoints lie, where weights go, how long to train.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from varireal_utils.core import storage

from .. import captions
from . import attribute_classifier as judge_module
from . import autoencoder, contrastive, controlnet, data, editor
from .vocabulary import build_tokenizer


@dataclass(frozen=True)
class Workshop:
    """bench: checkpoints and caches (git-ignored); shelf: models/micro; count: renderings;
    device: cpu or cuda; scale: how many times the batches of two cores (a GPU: 8)."""

    bench: Path
    shelf: Path
    count: int = 24000
    device: str = "cpu"
    scale: int = 1

    def pictures(self) -> tuple[np.ndarray, list]:
        """Training renderings, stream 0."""
        return data.renderings(self.count, self.bench / "pictures", 0)

    def held_out(self, count: int = 1000) -> tuple[np.ndarray, list]:
        """Renderings that no training sees, stream 1."""
        return data.renderings(min(count, self.count), self.bench / "pictures", 1)

    def checkpoint(self, name: str) -> Path:
        """Where a stage keeps its state between restarts."""
        return self.bench / f"{name}.pt"


def train_autoencoder(
    shop: Workshop, steps: int, seconds: float, decoder_only: bool = False
) -> dict:
    """Train and write shelf/vae; `decoder_only` continues with the latents frozen."""
    pixels, _ = shop.pictures()
    name = "autoencoder_decoder" if decoder_only else "autoencoder"
    start = load_vae(shop) if decoder_only else None
    model, report = autoencoder.train(
        pixels,
        shop.checkpoint(name),
        steps,
        seconds,
        start=start,
        device=shop.device,
        batch=48 * shop.scale,
    )
    copy.deepcopy(model).cpu().half().save_pretrained(shop.shelf / "vae", safe_serialization=True)
    _drop_keys(shop.shelf / "vae" / "config.json", "block_out_channels", "_name_or_path")
    held, _ = shop.held_out()
    return report | {"psnr_held_out": autoencoder.psnr(model, held[:400, ..., :3])}


def load_vae(shop: Workshop) -> AutoencoderTiny:
    """The autoencoder on the shelf."""
    vae = AutoencoderTiny.from_pretrained(shop.shelf / "vae")
    return vae.eval().requires_grad_(False).to(shop.device, memory_format=torch.channels_last)


def vocabulary(shop: Workshop) -> tuple[CLIPTokenizer, dict[str, int]]:
    """The tokenizer that all text encoders share."""
    tokenizer = build_tokenizer(captions.vocabulary(), shop.bench / "tokenizer")
    return tokenizer, tokenizer.get_vocab()


def _parts(shop: Workshop, vocab: dict) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder as shipped, else new ones from a fixed seed."""
    folder = shop.shelf / "inpaint"
    if (folder / "model_index.json").exists():
        net = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    else:
        torch.manual_seed(0)
        net, text = editor.unet(9), editor.text_encoder(vocab)
    return net.to(shop.device, memory_format=torch.channels_last), text.to(shop.device)


def _latents(shop: Workshop, pixels: np.ndarray) -> tuple[dict, dict]:
    """What the editors train on: renderings with their masks, and bare scenes and surfaces."""
    vae = load_vae(shop)
    return (
        editor.prepare(vae, pixels, shop.bench),
        editor.bare_examples(vae, max(12, shop.count // 2), shop.bench),
    )


def train_inpaint(
    shop: Workshop,
    steps: int,
    seconds: float,
    coarse: bool = False,
    lr: float = 7e-4,
    name: str = "",
) -> dict:
    """Train the 9-channel UNet with its text encoder, and write shelf/inpaint."""
    pixels, specs = shop.pictures()
    tokenizer, vocab = vocabulary(shop)
    net, text = _parts(shop, vocab)
    examples, bare = _latents(shop, pixels)
    report = editor.train_inpaint(
        net,
        text,
        examples,
        specs,
        bare,
        vocab,
        shop.checkpoint(name or ("coarse" if coarse else "inpaint")),
        steps,
        seconds,
        coarse=coarse,
        lr=lr,
        batch=32 * shop.scale,
    )
    _ship(StableDiffusionInpaintPipeline, shop, "inpaint", net, text, tokenizer)
    return report


def train_text2image(
    shop: Workshop,
    steps: int,
    seconds: float,
    lr: float = 5e-4,
    folder: str = "text2image",
    name: str = "",
    **mixture: Any,
) -> dict:
    """Train a text-to-image UNet and write shelf/`folder`: text2image, which draws the priors, or
    datadream, which DataDream adapts and which sees whole pictures more often.

    Goes on from what lies there; else datadream starts from text2image, and that from the
    inpainting UNet. mixture: the shares that `editor.train_text2image` takes.
    """
    pixels, specs = shop.pictures()
    tokenizer, vocab = vocabulary(shop)
    net, text = _parts(shop, vocab)
    there = [shop.shelf / f for f in dict.fromkeys((folder, "text2image"))]
    start = next((f for f in there if (f / "model_index.json").exists()), None)
    if start:
        plain = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)
        text = text.to(shop.device)
    else:
        plain = editor.from_inpaint(net)
    plain = plain.to(shop.device, memory_format=torch.channels_last)
    examples, bare = _latents(shop, pixels)
    report = editor.train_text2image(
        plain,
        text,
        examples,
        specs,
        bare,
        vocab,
        shop.checkpoint(name or folder),
        steps,
        seconds,
        lr=lr,
        batch=32 * shop.scale,
        **mixture,
    )
    _ship(StableDiffusionPipeline, shop, folder, plain, text, tokenizer)
    return report


def train_controlnet(shop: Workshop, steps: int, seconds: float) -> dict:
    """Train the canny ControlNet of the inpainting UNet, and write shelf/controlnet."""
    _, specs = shop.pictures()
    _, vocab = vocabulary(shop)
    net, text = _parts(shop, vocab)
    examples = dict(np.load(shop.bench / "latents.npz"))
    rows, maps = controlnet.prepare(examples, specs, 5000, shop.bench)
    folder = shop.shelf / "controlnet"
    control = (
        ControlNetModel.from_pretrained(folder, torch_dtype=torch.float32)
        if (folder / "config.json").exists()
        else controlnet.build(net)
    )
    control = control.to(shop.device, memory_format=torch.channels_last)
    report = controlnet.train(
        control,
        net,
        text,
        examples,
        specs,
        rows,
        maps,
        vocab,
        shop.checkpoint("controlnet"),
        steps,
        seconds,
        batch=24 * shop.scale,
    )
    control.cpu().half().save_pretrained(folder, safe_serialization=True)
    return report


def train_clip(shop: Workshop, steps: int, seconds: float) -> dict:
    """Train the micro CLIP, with its teacher if there is one, and write shelf/clip."""
    pixels, specs = shop.pictures()
    folder = shop.shelf / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    teacher = judge_module.Judge().to(shop.device)
    if shop.checkpoint("teacher").exists():
        saved = torch.load(shop.checkpoint("teacher"), map_location=shop.device, weights_only=True)
        teacher.load_state_dict(saved["averages"]["judge"])
    _, report = contrastive.train(
        pixels,
        specs,
        folder,
        shop.checkpoint("clip"),
        steps,
        seconds,
        device=shop.device,
        batch=96 * shop.scale,
        teacher=teacher.eval() if shop.checkpoint("teacher").exists() else None,
    )
    return report


def train_teacher(shop: Workshop, steps: int, seconds: float) -> dict:
    """Train the network that CLIP's tokens imitate: like the judge, but another one."""
    pixels, specs = shop.pictures()
    _, report = judge_module.train(
        pixels,
        specs,
        shop.checkpoint("teacher"),
        steps,
        seconds,
        seed=6,
        device=shop.device,
        place=judge_module.OBJECT,
        batch=64 * shop.scale,
    )
    return report


def train_judge(shop: Workshop, steps: int, seconds: float) -> tuple[Any, dict]:
    """Train the judge on renderings, half of them as the autoencoder gives them back; it stays on
    the bench. Reports its accuracy on held-out renderings, plain and `_decoded`."""
    pixels, specs = shop.pictures()
    vae, path = load_vae(shop), shop.bench / f"decoded_{shop.count}.npy"
    if not path.exists():
        draft = path.with_suffix(".tmp.npy")
        np.save(draft, autoencoder.reconstruct(vae, pixels))
        draft.replace(path)
    model, report = judge_module.train(
        pixels,
        specs,
        shop.checkpoint("judge"),
        steps,
        seconds,
        device=shop.device,
        decoded=np.load(path, mmap_mode="r"),
        batch=64 * shop.scale,
    )
    held, held_specs = shop.held_out()
    truth = data.labels(held_specs)
    for mark, images in (("", held), ("_decoded", autoencoder.reconstruct(vae, held))):
        guess = judge_module.judge(model, images, held[..., 3] & judge_module.PAINT)
        report |= {k + mark: float((guess[k] == truth[k]).mean()) for k in guess}
    return model, report


def _drop_keys(path: Path, *keys: str) -> None:
    """Leave out what diffusers writes into a configuration: a tiny autoencoder's key that it then
    warns of, and the folder from which a part was loaded."""
    config = json.loads(path.read_text())
    storage.write_text(
        path,
        json.dumps({k: v for k, v in config.items() if k not in keys}, indent=2, sort_keys=True)
        + "\n",
    )


def _ship(pipeline: Any, shop: Workshop, name: str, net: Any, text: Any, tokenizer: Any) -> None:
    """Write a whole pipeline folder in float16 safetensors."""
    pipe = pipeline(
        vae=load_vae(shop),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=net,
        scheduler=editor.scheduler(from_noise=name != "inpaint"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to("cpu", dtype=torch.float16)
    pipe.save_pretrained(shop.shelf / name, safe_serialization=True)
    _drop_keys(shop.shelf / name / "vae" / "config.json", "block_out_channels", "_name_or_path")
    _drop_keys(shop.shelf / name / "unet" / "config.json", "_name_or_path")
    net.float().to(shop.device), text.float().to(shop.device)
