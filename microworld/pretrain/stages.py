"""The stages of micro pretraining, in order; each resumes from its checkpoint and writes its part.

    pictures -> autoencoder -> inpaint -> text2image
                                       -> controlnet
             -> teacher -> clip
             -> attribute classifier (measures the others; not shipped)

Every stage takes the same `PretrainConfig`: where checkpoints and weights go, how large a batch is.
DataDream's model is trained apart (dream.py).
"""

from __future__ import annotations

import copy
import json
import math
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
from . import (
    attribute_classifier,
    autoencoder,
    contrastive,
    controlnet,
    data,
    editor,
    locked_text,
)
from .attribute_classifier import AttributeClassifier
from .trainer import FitSettings
from .vocabulary import build_tokenizer


@dataclass(frozen=True)
class PretrainConfig:
    """checkpoint_dir: checkpoints and caches (git-ignored); output_dir: models/micro; count:
    renderings; device: cpu or cuda; scale: how many times the batches of two cores (a GPU: 8);
    distribution: of the renderings (data.renderings)."""

    checkpoint_dir: Path
    output_dir: Path
    count: int = 24000
    device: str = "cpu"
    scale: int = 1
    distribution: str = "wide"

    def pictures(self) -> tuple[np.ndarray, list]:
        """Training renderings, stream 0."""
        return data.renderings(self.count, self.checkpoint_dir / "pictures", 0, self.distribution)

    def held_out(self, count: int = 1000) -> tuple[np.ndarray, list]:
        """Renderings of no training, stream 1."""
        return data.renderings(min(count, self.count), self.checkpoint_dir / "pictures", 1)

    def checkpoint(self, name: str) -> Path:
        """Where a stage keeps its state between restarts."""
        return self.checkpoint_dir / f"{name}.pt"

    def fit(
        self, name: str, steps: int, seconds: float, lr: float, batch: int, **more: Any
    ) -> FitSettings:
        """Settings of a stage; batch: examples of a step on two cores."""
        batch *= self.scale
        return FitSettings(self.checkpoint(name), steps, seconds, lr, batch, **more)


def train_autoencoder(
    config: PretrainConfig, steps: int, seconds: float, decoder_only: bool = False
) -> dict:
    """Train and write vae/; `decoder_only` continues with the latents frozen."""
    pixels, _ = config.pictures()
    name = "autoencoder_decoder" if decoder_only else "autoencoder"
    start = load_vae(config) if decoder_only else None
    settings = config.fit(name, steps, seconds, 1.5e-3, 48, ema=0.995)
    model, report = autoencoder.train(pixels, settings, start, device=config.device)
    folder = config.output_dir / "vae"
    copy.deepcopy(model).cpu().half().save_pretrained(folder, safe_serialization=True)
    _drop_keys(folder / "config.json", "block_out_channels", "_name_or_path")
    held, _ = config.held_out()
    return report | {"psnr_held_out": autoencoder.psnr(model, held[:400, ..., :3])}


def load_vae(config: PretrainConfig) -> AutoencoderTiny:
    """The trained autoencoder."""
    vae = AutoencoderTiny.from_pretrained(config.output_dir / "vae")
    return vae.eval().requires_grad_(False).to(config.device, memory_format=torch.channels_last)


def vocabulary(config: PretrainConfig) -> tuple[CLIPTokenizer, dict[str, int]]:
    """The tokenizer that all text encoders share."""
    tokenizer = build_tokenizer(captions.vocabulary(), config.checkpoint_dir / "tokenizer")
    return tokenizer, tokenizer.get_vocab()


def _parts(config: PretrainConfig, vocab: dict) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder as shipped, else new ones from a fixed seed."""
    folder = config.output_dir / "inpaint"
    if (folder / "model_index.json").exists():
        net = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    else:
        torch.manual_seed(0)
        net, text = editor.unet(9), editor.text_encoder(vocab)
    return net.to(config.device, memory_format=torch.channels_last), text.to(config.device)


def _examples(config: PretrainConfig, vocab: dict[str, int]) -> editor.Examples:
    """What the editors train on: renderings with their masks, and bare scenes and surfaces."""
    pixels, specs = config.pictures()
    vae, folder = load_vae(config), config.checkpoint_dir
    bare = editor.bare_examples(vae, max(12, config.count // 2), folder)
    return editor.Examples(editor.prepare(vae, pixels, folder), specs, bare, vocab)


def train_inpaint(
    config: PretrainConfig, steps: int, seconds: float, coarse: bool = False, lr: float = 7e-4
) -> dict:
    """Train the 9-channel UNet with its text encoder, and write inpaint/."""
    tokenizer, vocab = vocabulary(config)
    net, text = _parts(config, vocab)
    settings = config.fit("coarse" if coarse else "inpaint", steps, seconds, lr, 32)
    report = editor.train_inpaint(net, text, _examples(config, vocab), settings, coarse)
    _write_pipeline(StableDiffusionInpaintPipeline, config, "inpaint", net, text, tokenizer)
    return report


def train_text2image(
    config: PretrainConfig,
    steps: int,
    seconds: float,
    lr: float = 5e-4,
) -> dict:
    """Train the text-to-image UNet that draws the priors, and write text2image/; it goes on from
    what lies there, else from the inpainting UNet."""
    tokenizer, vocab = vocabulary(config)
    net, text = _parts(config, vocab)
    start = config.output_dir / "text2image"
    if (start / "model_index.json").exists():
        plain = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)
        text = text.to(config.device)
    else:
        plain = editor.from_inpaint(net)
    plain = plain.to(config.device, memory_format=torch.channels_last)
    settings = config.fit("text2image", steps, seconds, lr, 32, seed=1)
    report = editor.train_text2image(plain, text, _examples(config, vocab), settings)
    _write_pipeline(StableDiffusionPipeline, config, "text2image", plain, text, tokenizer)
    return report


def train_controlnet(config: PretrainConfig, steps: int, seconds: float) -> dict:
    """Train the canny ControlNet of the inpainting UNet, and write controlnet/."""
    _, vocab = vocabulary(config)
    net, text = _parts(config, vocab)
    examples = _examples(config, vocab)
    rows, maps = controlnet.prepare(examples.data, examples.specs, 5000, config.checkpoint_dir)
    folder = config.output_dir / "controlnet"
    control = (
        ControlNetModel.from_pretrained(folder, torch_dtype=torch.float32)
        if (folder / "config.json").exists()
        else controlnet.build(net)
    )
    control = control.to(config.device, memory_format=torch.channels_last)
    settings = config.fit("controlnet", steps, seconds, 4e-4, 24, seed=2, ema=0.995)
    report = controlnet.train(control, net, text, examples, rows, maps, settings)
    control.cpu().half().save_pretrained(folder, safe_serialization=True)
    return report


def train_clip(config: PretrainConfig, steps: int, seconds: float = math.inf) -> dict:
    """Train the micro CLIP, with its teacher if there is one, and write clip/."""
    pixels, specs = config.pictures()
    folder = config.output_dir / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.fit(
        "clip", steps, seconds, 2e-3, 96, warmup=200, weight_decay=0.02, every=200
    )
    teacher = _load_teacher(config)
    _, report = contrastive.train(
        pixels, specs, folder, settings, device=config.device, teacher=teacher
    )
    return report


def train_text(config: PretrainConfig, steps: int, naming: contrastive.Naming) -> dict:
    """Train the text tower of clip/ anew, its image tower locked."""
    pixels, specs = config.pictures()
    settings = config.fit(
        "text", steps, math.inf, 1e-3, 256, warmup=100, weight_decay=0.02, every=200
    )
    return locked_text.train(pixels, specs, config.output_dir / "clip", settings, naming)


def _load_teacher(config: PretrainConfig) -> AttributeClassifier | None:
    path = config.checkpoint("teacher")
    if not path.exists():
        return None
    saved = torch.load(path, map_location=config.device, weights_only=True)
    teacher = AttributeClassifier().to(config.device)
    teacher.load_state_dict(saved["averages"][attribute_classifier.STORED_NAME])
    return teacher.eval()


def train_teacher(config: PretrainConfig, steps: int, seconds: float = math.inf) -> dict:
    """Train the network that CLIP's tokens imitate: an attribute classifier of the whole object."""
    pixels, specs = config.pictures()
    settings = config.fit("teacher", steps, seconds, 2e-3, 64, seed=6, ema=0.99)
    _, report = attribute_classifier.train(
        pixels, specs, settings, config.device, place=attribute_classifier.OBJECT
    )
    return report


def train_classifier(
    config: PretrainConfig, steps: int, seconds: float
) -> tuple[AttributeClassifier, dict]:
    """Train the attribute classifier on renderings, half of them as the autoencoder returns them.

    Reports its accuracy on held-out renderings, plain and `_decoded`.
    """
    pixels, specs = config.pictures()
    vae, path = load_vae(config), config.checkpoint_dir / f"decoded_{config.count}.npy"
    if not path.exists():
        draft = path.with_suffix(".tmp.npy")
        np.save(draft, autoencoder.reconstruct(vae, pixels))
        draft.replace(path)
    settings = config.fit("judge", steps, seconds, 2e-3, 64, seed=4, ema=0.99)
    decoded = np.load(path, mmap_mode="r")
    model, report = attribute_classifier.train(pixels, specs, settings, config.device, decoded)
    held, held_specs = config.held_out()
    truth = data.labels(held_specs)
    for mark, images in (("", held), ("_decoded", autoencoder.reconstruct(vae, held))):
        paint = held[..., 3] & attribute_classifier.PAINT
        guess = attribute_classifier.classify(model, images, paint)
        report |= {k + mark: float((guess[k] == truth[k]).mean()) for k in guess}
    return model, report


def _drop_keys(path: Path, *keys: str) -> None:
    """Leave out what diffusers writes into a configuration: a tiny autoencoder's key that it then
    warns of, and the folder from which a part was loaded."""
    content = json.loads(path.read_text(encoding="utf-8"))
    storage.write_text(
        path,
        json.dumps({k: v for k, v in content.items() if k not in keys}, indent=2, sort_keys=True)
        + "\n",
    )


def _write_pipeline(
    pipeline: Any, config: PretrainConfig, name: str, net: Any, text: Any, tokenizer: Any
) -> None:
    """Write a whole pipeline folder of this config; the parts stay float32 on its device."""
    parts = (load_vae(config), text, tokenizer, net, editor.scheduler(from_noise=name != "inpaint"))
    write_pipeline(pipeline, config.output_dir / name, *parts)
    net.float().to(config.device), text.float().to(config.device)


def write_pipeline(
    pipeline: Any, folder: Path, vae: Any, text: Any, tokenizer: Any, net: Any, noise: Any
) -> None:
    """Write a pipeline's folder in float16 safetensors, to which its parts are changed. noise: the
    scheduler."""
    pipe = pipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=net,
        scheduler=noise,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to("cpu", dtype=torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    _drop_keys(folder / "vae" / "config.json", "block_out_channels", "_name_or_path")
    _drop_keys(folder / "unet" / "config.json", "_name_or_path")
