"""The micro Stable Diffusion: text encoder, inpainting UNet (9 channels), text-to-image UNet.

A training example is a rendering, a mask, and a caption that says what is under the mask. What the
mask covers is what the study will ask for: everything but the object (background edits), the
paintable surface (colour and texture edits), a box, or all. Empty scenes and bare surfaces, which
the priors of the study are, join them with everything masked.

symbols   x0       (B, 4, 32, 32)  latents of the picture
          context  (B, 4, 32, 32)  latents of the picture with the masked pixels grey
          mask     (B, 1, 32, 32)  1 where the model paints; nearest neighbour, as the pipeline does
          v        sqrt(abar) noise - sqrt(1 - abar) x0, the prediction target

A first, cheap stage trains on latents averaged 2 x 2: a quarter of the cells, and the words find
their colours and layouts three times as fast. Afterwards every other step takes windows of 16 x 16
cells at full detail: a pattern is the same everywhere, and a window costs a quarter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from .. import captions
from ..feasibility import COLORS, SCENES, TEXTURES
from ..render import Spec, empty_scene
from . import autoencoder
from .contrastive import tokens
from .data import on_all_cores
from .trainer import FitSettings, fit, half, on
from .vocabulary import END, MAX_LENGTH, START

TASKS = ("background", "texture", "color", "box", "all")
_PATTERN_TASKS = [TASKS.index("texture"), TASKS.index("color")]
SHARES = (0.40, 0.27, 0.18, 0.07, 0.08)
BARE = 0.2  # share of empty scenes and bare surfaces, painted from words alone
WINDOW = 16  # cells, the side of a window
FAINT = 300  # time steps: below them the study refines its edits, so half the windows lie there
NEAR_BARE = 0.35  # the same, in a step on windows
COARSE_GAIN = 1.25  # averaging takes that much of the latents' deviation away
WIDTH = 192


def text_encoder(vocab: dict[str, int], width: int = WIDTH) -> CLIPTextModel:
    """Two layers over a word-level vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocab),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=vocab[START],
            eos_token_id=vocab[END],
            pad_token_id=vocab[END],
        )
    )


def unet(in_channels: int) -> UNet2DConditionModel:
    """Three resolutions; attention to the text on the lowest, where it is cheap, and its pooled
    states beside the time step, so that every resolution knows which colour and which pattern."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=in_channels,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 128, WIDTH),
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * 2,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def scheduler(from_noise: bool = False) -> DPMSolverMultistepScheduler:
    """Stable Diffusion's betas, velocity prediction, the paper's solver.

    from_noise: the last time step is noise alone (Lin et al. 2024). Without it a little of the
    picture's mean shines through in training, the model reads it there and not in the words, and
    from pure noise it paints any colour and no night.
    """
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        rescale_betas_zero_snr=from_noise,
    )


def prompt_for(spec: Spec, task: str, rng: np.random.Generator) -> str:
    """A caption that says what is under the mask, and now and then something more."""
    from ..captions import describe, kind, sentence

    pick = rng.random(4)
    noun = spec.class_name if pick[0] < 0.6 else kind(spec.family, spec.class_name)
    if task == "background":
        return sentence(noun, spec.color if pick[1] < 0.1 else "", "", spec.background)
    if task == "texture":
        return sentence(noun, spec.color if pick[1] < 0.25 else "", spec.texture)
    if task == "color":
        return sentence(noun, spec.color, spec.texture if pick[1] < 0.25 else "")
    return describe(spec, rng, 0.6, 0.7, 0.9, 0.3)


def task_masks(bits: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """bits (N, 128, 128), 1 object, 2 paintable -> task index (N,), masks (N, 128, 128) bool."""
    rng = np.random.default_rng(seed)
    tasks = rng.choice(len(TASKS), size=len(bits), p=SHARES)
    masks = np.zeros(bits.shape, bool)
    for i, (task, b) in enumerate(zip(tasks, bits)):
        name = TASKS[task]
        if name == "background":
            masks[i] = (b & 1) == 0
        elif name in ("texture", "color"):
            masks[i] = (b & 2) > 0
        elif name == "box":
            y, x = rng.integers(8, 60, 2)
            h, w = rng.integers(40, 100, 2)
            masks[i, y : y + h, x : x + w] = True
        else:
            masks[i] = True
    return tasks, masks


def prepare(vae, pixels: np.ndarray, folder: Path, chunk: int = 512) -> dict[str, np.ndarray]:
    """Latents of every rendering and of its masked context, computed once into `folder`."""
    done = folder / "latents.npz"
    if not done.exists():
        tasks, masks = task_masks(pixels[..., 3])
        x0, context = [], []
        for i in range(0, len(pixels), chunk):
            rgb = np.ascontiguousarray(pixels[i : i + chunk, ..., :3])
            x0.append(autoencoder.encode(vae, rgb).numpy())
            context.append(encode_masked(vae, rgb, masks[i : i + chunk]).numpy())
            _finite(x0[-1], f"the latents of pictures {i} to {i + len(rgb)}")
            _finite(context[-1], f"the masked latents of pictures {i} to {i + len(rgb)}")
            print(f"\rlatents {i + len(rgb)}/{len(pixels)}", end="", flush=True)
        np.savez(
            done,
            x0=np.concatenate(x0),
            context=np.concatenate(context),
            tasks=tasks,
            mask=masks[:, ::4, ::4],
        )
    return dict(np.load(done))


def _finite(values: np.ndarray, what: str) -> None:
    """Raise FloatingPointError where a number is not one."""
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise FloatingPointError(
            f"{what} hold {bad} numbers that are not finite: the "
            "autoencoder's weights or this device's bfloat16 are at fault"
        )


@torch.no_grad()
def encode_masked(vae, pixels: np.ndarray, masks: np.ndarray, batch: int = 64) -> torch.Tensor:
    """As the inpainting pipeline does: masked pixels become 0 in -1..1 before encoding."""
    out = []
    for i in range(0, len(pixels), batch):
        image = autoencoder.to_model(pixels[i : i + batch])
        image = image * torch.from_numpy(~masks[i : i + batch])[:, None]
        image = image.to(on(vae), memory_format=torch.channels_last)
        with half(image.device):
            out.append(vae.encode(image).latents.half().cpu())
    return torch.cat(out)


def draw(shape: tuple, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Noise of a shape and one time step t for each of its rows."""
    return {"noise": rng.standard_normal(shape, np.float32), "t": rng.integers(0, 1000, shape[0])}


def _velocity(
    x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, abar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    a = abar[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0


def _surfaces(bare: dict) -> np.ndarray:
    """Which of the bare examples are surfaces; the others are empty scenes."""
    return np.char.endswith(bare["texts"], "surface")


def _windows(
    maps: list[np.ndarray], wanted: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Each row of the maps (B, C, 32, 32) cut to (B, C, WINDOW, WINDOW) around some cell of its
    mask `wanted` (B, 32, 32)."""
    keys = np.where(wanted, rng.random(wanted.shape), -1.0).reshape(len(wanted), -1)
    middle = np.stack(np.unravel_index(keys.argmax(1), wanted.shape[1:]), 1)
    corner = np.clip(middle - WINDOW // 2, 0, wanted.shape[1] - WINDOW)
    return [
        np.stack([row[:, y : y + WINDOW, x : x + WINDOW] for row, (y, x) in zip(m, corner)])
        for m in maps
    ]


@dataclass(frozen=True)
class Examples:
    """What the editors train on: `data` of `prepare` with its specs, `bare` of `bare_examples`, and
    the tokenizer's vocabulary."""

    data: dict[str, np.ndarray]
    specs: list[Spec]
    bare: dict[str, np.ndarray]
    vocab: dict[str, int]


def train_inpaint(
    net: UNet2DConditionModel,
    text: CLIPTextModel,
    examples: Examples,
    settings: FitSettings,
    coarse: bool = False,
) -> dict:
    """Train UNet and text encoder together on the prepared latents."""
    device = on(net)
    abar = scheduler().alphas_cumprod.to(device)

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        x0, context, mask = (given[k].float() for k in ("x0", "context", "mask"))
        if coarse:
            x0, context = (F.avg_pool2d(z, 2) * COARSE_GAIN for z in (x0, context))
            mask = F.avg_pool2d(mask, 2).round()
        t = given["t"]
        noisy, target = _velocity(x0, given["noise"], t, abar)
        with half(device):
            states = text(given["tokens"]).last_hidden_state
            stack = torch.cat([noisy, mask, context], 1).to(memory_format=torch.channels_last)
            out = net(stack, t, states).sample
        square = (out.float() - target).square().mean(1, keepdim=True)
        weight = 0.25 + 0.75 * mask
        return (square * weight).sum() / weight.sum(), {}

    sample = _inpaint_sampler(examples, settings.batch, coarse)
    return fit({"unet": net, "text": text}, sample, loss_of, settings)


def _inpaint_sampler(
    examples: Examples, batch: int, coarse: bool
) -> Callable[[int, np.random.Generator], dict]:
    """(step, rng) -> a batch; every other step windows at full detail, unless coarse."""
    data, bare, specs = examples.data, examples.bare, examples.specs
    is_surface, on_paint = _surfaces(bare), np.isin(data["tasks"], _PATTERN_TASKS)
    anything = np.arange(len(data["x0"])), np.arange(len(bare["x0"]))
    patterns = np.flatnonzero(on_paint), np.flatnonzero(is_surface)

    def sample(step: int, rng: np.random.Generator) -> dict:
        near = step % 2 == 0 and not coarse
        renderings, others = patterns if near else anything
        count = 3 * batch if near else batch
        others = rng.choice(others, round((NEAR_BARE if near else BARE) * count))
        rows = rng.choice(renderings, count - len(others))
        x0 = np.concatenate([data["x0"][rows], bare["x0"][others]])
        context = np.concatenate(
            [data["context"][rows], np.broadcast_to(bare["grey"], bare["x0"][others].shape)]
        )
        mask = np.concatenate([data["mask"][rows], np.ones((len(others), 32, 32), bool)])[:, None]
        if near:
            x0, context, mask = _windows([x0, context, mask], mask[:, 0], rng)
        texts = [prompt_for(specs[i], TASKS[data["tasks"][i]], rng) for i in rows]
        texts += [bare["texts"][i] for i in others]
        texts = ["" if rng.random() < 0.1 else t for t in texts]
        side = x0.shape[-1] // (2 if coarse else 1)
        drawn = draw((*x0.shape[:2], side, side), rng)
        if near:
            drawn["t"][::2] = drawn["t"][::2] * FAINT // 1000
        written = tokens(texts, examples.vocab)
        return drawn | {"x0": x0, "context": context, "mask": mask, "tokens": written}

    return sample


def from_inpaint(net) -> UNet2DConditionModel:
    """A 4-channel UNet that starts from the inpainting one, without its mask channels."""
    plain = unet(4)
    state = dict(net.state_dict())
    state["conv_in.weight"] = state["conv_in.weight"][:, :4].clone()
    plain.load_state_dict(state)
    return plain.to(memory_format=torch.channels_last)


def bare_examples(vae, count: int, folder: Path, seed: int = 5) -> dict[str, np.ndarray]:
    """Empty scenes and bare surfaces, encoded once into `folder`: x0 (count, 4, 32, 32) latents,
    texts (count,) captions, grey (4, 32, 32) the latents of a picture that is masked all over."""
    path = folder / "bare.npz"
    if path.exists():
        return dict(np.load(path))
    pixels, texts = zip(*on_all_cores(_bare, [(seed, i) for i in range(count)], "bare", 50))
    blank = encode_masked(vae, np.zeros((1, 128, 128, 3), np.uint8), np.ones((1, 128, 128), bool))
    x0 = autoencoder.encode(vae, np.stack(pixels)).numpy()
    _finite(x0, "the latents of scenes and surfaces")
    np.savez(path, x0=x0, texts=np.array(texts), grey=blank[0].numpy())
    return dict(np.load(path))


def _bare(job: tuple[int, int]) -> tuple[np.ndarray, str]:
    """The picture (128, 128, 3) uint8 and the caption of (seed, number): two scenes, a surface."""
    from .. import textures

    rng = np.random.default_rng(job)
    if job[1] % 3:
        scene = str(rng.choice(SCENES))
        return empty_scene(scene, int(rng.integers(2**40))), captions.empty_sentence(scene)
    texture, color = str(rng.choice(TEXTURES)), str(rng.choice(list(COLORS)))
    return (
        textures.pattern(texture, COLORS[color], rng, 128),
        captions.surface_sentence(texture, color if rng.random() < 0.6 else ""),
    )


@dataclass(frozen=True)
class Mixture:
    """What a text-to-image batch holds. whole: share of whole pictures; of the others half are
    empty scenes and half surfaces, as the priors are. near: share of the steps on windows of
    surfaces alone. hard: textures that are drawn three times as often as others."""

    whole: float = 0.25
    near: float = 0.67
    hard: tuple[str, ...] = ()


def train_text2image(
    net: UNet2DConditionModel,
    text: CLIPTextModel,
    examples: Examples,
    settings: FitSettings,
    mixture: Mixture = Mixture(),
) -> dict:
    """Train UNet and text encoder from captions alone; a tenth of the captions is dropped."""
    device = on(net)
    abar = scheduler(from_noise=True).alphas_cumprod.to(device)
    choose = _chooser(examples, settings.batch, mixture)

    def sample(step: int, rng: np.random.Generator) -> dict:
        x0, texts = choose(rng)
        texts = ["" if rng.random() < 0.1 else t for t in texts]
        return {"x0": x0, "tokens": tokens(texts, examples.vocab), **draw(x0.shape, rng)}

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        noisy, target = _velocity(given["x0"].float(), given["noise"], given["t"], abar)
        with half(device):
            states = text(given["tokens"]).last_hidden_state
            out = net(noisy.to(memory_format=torch.channels_last), given["t"], states).sample
        return F.mse_loss(out.float(), target), {}

    return fit({"unet": net, "text": text}, sample, loss_of, settings)


def _chooser(
    examples: Examples, batch: int, mixture: Mixture
) -> Callable[[np.random.Generator], tuple[np.ndarray, list[str]]]:
    """rng -> latents (B, 4, h, w) and B captions."""
    data, bare = examples.data, examples.bare
    count, part = len(data["x0"]), round(mixture.whole * batch)
    is_surface = _surfaces(bare)
    surfaces, scenes = np.flatnonzero(is_surface), np.flatnonzero(~is_surface)
    again = [i for i in surfaces if bare["texts"][i].split()[-2] in mixture.hard]
    surfaces = np.concatenate([surfaces, again, again]).astype(int)

    def choose(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        rows = np.empty(0, int)
        if rng.random() < mixture.near:
            others = rng.choice(surfaces, 3 * batch)
            (x0,) = _windows([bare["x0"][others]], np.ones((3 * batch, 32, 32), bool), rng)
        else:
            rows = rng.integers(count, size=part)
            half_of = (batch - part) // 2
            others = np.concatenate(
                [rng.choice(surfaces, half_of), rng.choice(scenes, batch - part - half_of)]
            )
            x0 = np.concatenate([data["x0"][rows], bare["x0"][others]])
        texts = [_whole(examples.specs[i], rng) for i in rows]
        return x0, texts + [bare["texts"][i] for i in others]

    return choose


def _whole(spec: Spec, rng: np.random.Generator) -> str:
    """A caption of a whole picture: it says little now and then, as DataDream's own prompt does ("a
    photo of a {class}"), and names the class in six of ten."""
    return captions.describe(spec, rng, 0.6, 0.5, 0.5, 0.2)
