"""The parts of DataDream's model: 64 x 64 pixels, on which classes can be told apart.

symbols   half      (N, 64, 64, 4)  uint8  renderings at half their size: RGB, and the object's
                                           coverage 0..255
          x0        (B, 8, 16, 16)         latents of a half, four pixels a cell
          coverage  (B, 1, 16, 16)  0..1   share of a cell that the object covers
          states    (B, T, 128)            text states, from the last layer of the text encoder
          v         sqrt(abar) noise - sqrt(1 - abar) x0, the prediction target

What decides is how much of a class's shape a picture teaches:

* Latents hold the shape. Eight channels, since through four CLIP names fewer than half of the cars.
* Words arrive trained: the text encoder first learns beside a locked image tower (Zhai et al.,
  arXiv 2111.07991) what the words look like.
* Words reach every resolution: the pooled states scale and shift each block's channels together
  with the time step, and the two lower resolutions attend to the states.
* The noise suits 16 x 16 cells: a cosine schedule (Nichol and Dhariwal, arXiv 2102.09672), since
  few cells say little of each other (Hoogeboom et al., arXiv 2301.11093), and time steps mostly
  from its middle (Esser et al., arXiv 2403.03206), where a shape is decided.
* The object's cells weigh more than the scene's.

Invariant (tests/unit/test_dream.py): a batch is a function of (seed, step), so that a training that
was stopped ends with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from .. import captions
from ..render import Spec
from . import autoencoder, contrastive, editor
from .trainer import FitSettings, fit, half, on

SIDE, CELLS = 64, 16  # pixels and latent cells of a picture's side
LATENTS = 8
WIDTH = 128  # of the text states
CHANNELS = (96, 160, 224)
OBJECT = 3.0  # how much more a cell of the object weighs than one of the scene
NAMED = 0.85  # share of captions with attributes that name the class; the others name its kind
PURE = 0.3  # share of captions that say "a photo of a {class}" and no more, as DataDream does
DROPPED = 0.1  # share of captions left out, for classifier-free guidance
SPREAD = 0.2  # share of time steps that are uniform; the others are logit-normal
CHUNK = 100


def halved(pixels: np.ndarray) -> np.ndarray:
    """(N, 128, 128, 4) uint8 renderings -> (N, 64, 64, 4) uint8: RGB as DataDream's adapters read
    their photographs, and the object's coverage 0..255."""
    given = torch.tensor(pixels).permute(0, 3, 1, 2).float()
    given[:, 3] = (given[:, 3].int() & 1) * 255.0
    small = F.interpolate(given, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def widened(old: AutoencoderTiny, channels: int = LATENTS) -> AutoencoderTiny:
    """An autoencoder with more latent channels, which starts from the weights of `old`: what the
    first channels mean it knows, the others begin at random."""
    own = {k: v for k, v in old.config.items() if not k.startswith("_")}
    own.pop("block_out_channels", None)
    new = AutoencoderTiny(**(own | {"latent_channels": channels}))
    state, known = new.state_dict(), old.state_dict()
    for name, weight in state.items():
        weight[tuple(slice(n) for n in known[name].shape)] = known[name]
    new.load_state_dict(state)
    return new.float()


def train_autoencoder(vae: AutoencoderTiny, small: np.ndarray, settings: FitSettings) -> dict:
    """Train on whole halves; noise on the latents, so that diffusion may miss them a little."""
    vae.requires_grad_(True).to(memory_format=torch.channels_last)

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(small), size=settings.batch))
        shape = (settings.batch, vae.config.latent_channels, CELLS, CELLS)
        raw = np.ascontiguousarray(small[rows])
        if rng.random() < 0.5:
            raw = np.ascontiguousarray(raw[:, :, ::-1])
        return {"half": raw, "noise": rng.standard_normal(shape, np.float32)}

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        real = autoencoder.to_model(given["half"][..., :3])
        with half(real.device):
            latents = vae.encoder(real.contiguous(memory_format=torch.channels_last)).float()
            back = vae.decoder(latents + 0.05 * given["noise"]).float()
        weight = 1 + (OBJECT - 1) * given["half"][..., 3].float()[:, None] / 255
        weight = weight / weight.mean()
        square = ((back - real).square() * weight).mean()
        loss = (
            4 * square
            + 0.5 * ((back - real).abs() * weight).mean()
            + autoencoder.edges(back, real)
            + 0.02 * (latents.std(dim=(0, 2, 3)) - 1).square().mean()
            + 0.02 * latents.mean(dim=(0, 2, 3)).square().mean()
        )
        return loss, {"psnr": 10 * torch.log10(4 / square.detach())}

    report = fit({"vae": vae}, sample, loss_of, settings)
    vae.requires_grad_(False)
    return report


@torch.no_grad()
def encode(vae: AutoencoderTiny, small: np.ndarray) -> np.ndarray:
    """(N, 64, 64, >= 3) uint8 -> (2, N, LATENTS, 16, 16) float16 latents, as they are and mirrored.

    Raises FloatingPointError where one is not finite.
    """
    out = np.empty((2, len(small), vae.config.latent_channels, CELLS, CELLS), np.float16)
    for i in range(0, len(small), CHUNK):
        raw = small[i : i + CHUNK, ..., :3]
        for side, pixels in enumerate((raw, raw[:, :, ::-1])):
            real = autoencoder.to_model(np.ascontiguousarray(pixels)).to(on(vae))
            with half(real.device):
                latents = vae.encode(real.contiguous(memory_format=torch.channels_last)).latents
            out[side, i : i + CHUNK] = latents.float().cpu().numpy()
    if not np.isfinite(out).all():
        raise FloatingPointError(
            "latents hold numbers that are not finite: the autoencoder's weights or this device's "
            "bfloat16 are at fault"
        )
    return out


def coverage(small: np.ndarray) -> np.ndarray:
    """(N, 64, 64, 4) uint8 halves -> (2, N, 1, 16, 16) float16 in 0..1, as it is and mirrored."""
    step = SIDE // CELLS
    cells = np.concatenate(
        [
            small[i : i + CHUNK, ..., 3].reshape(-1, 1, CELLS, step, CELLS, step).mean((3, 5))
            for i in range(0, len(small), CHUNK)
        ]
    )
    cells = (cells / 255).astype(np.float16)
    return np.stack([cells, cells[..., ::-1]])


def text_encoder(vocab: dict[str, int]) -> CLIPTextModel:
    """The editors' text encoder, WIDTH wide."""
    return editor.text_encoder(vocab, WIDTH)


def train_text(
    text: CLIPTextModel,
    features: torch.Tensor,
    specs: list[Spec],
    vocab: dict[str, int],
    settings: FitSettings,
) -> dict:
    """Train a text encoder from nothing beside a locked image tower: features (N, D), unit vectors
    of the pictures of `specs`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = Contrast(WIDTH, features.shape[1])

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(features), size=settings.batch))
        texts = [caption(specs[i], rng) for i in rows]
        return {
            "features": features[rows],
            "tokens": contrastive.tokens(texts, vocab),
            "caption": np.unique(texts, return_inverse=True)[1],
        }

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        with half(on(text)):
            written = head.project(text(given["tokens"]).pooler_output)
        return contrastive.contrast(given["features"], written, head.scale, given["caption"]), {}

    return fit({"text": text, "head": head}, sample, loss_of, settings)


class Contrast(nn.Module):
    """Projection of pooled text states to a CLIP's features, and CLIP's temperature; thrown away
    after `train_text`."""

    def __init__(self, width: int, features: int):
        super().__init__()
        self.project = nn.Linear(width, features, bias=False)
        self.scale = nn.Parameter(torch.tensor(3.0))


def unet() -> UNet2DConditionModel:
    """Three resolutions of 16, 8 and 4 cells; the pooled text states and the time step scale and
    shift the channels of every block, and the lower two attend to the states."""
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=LATENTS,
        out_channels=LATENTS,
        layers_per_block=1,
        block_out_channels=CHANNELS,
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )


def scheduler() -> DPMSolverMultistepScheduler:
    """Cosine noise that ends in noise alone, velocity prediction, the paper's solver."""
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        rescale_betas_zero_snr=True,
    )


def caption(spec: Spec, rng: np.random.Generator) -> str:
    """A caption of a whole picture that mostly names the class, and often nothing else."""
    if rng.random() < PURE:
        return captions.sentence(spec.class_name)
    return captions.describe(spec, rng, NAMED, 0.5, 0.6, 0.0)


def times(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) time steps 0..999: most logit-normal, so in the middle, some uniform."""
    middle = 1 / (1 + np.exp(-rng.standard_normal(count)))
    spread = rng.random(count) < SPREAD
    drawn = np.where(spread, rng.random(count), middle)
    return np.minimum((1000 * drawn).astype(np.int64), 999)


@dataclass(frozen=True)
class Examples:
    """What the UNet learns from: x0 of `encode`, cover of `coverage`, what each picture shows, and
    the tokenizer's vocabulary."""

    x0: np.ndarray
    cover: np.ndarray
    specs: list[Spec]
    vocab: dict[str, int]


def train_unet(
    net: UNet2DConditionModel, text: CLIPTextModel, examples: Examples, settings: FitSettings
) -> dict:
    """Train UNet and text encoder together on velocities, cells of the object weighted."""
    device = on(net)
    abar = scheduler().alphas_cumprod.to(device)

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = rng.integers(len(examples.specs), size=settings.batch)
        side = rng.integers(2, size=settings.batch)
        texts = [caption(examples.specs[i], rng) for i in rows]
        texts = ["" if rng.random() < DROPPED else t for t in texts]
        x0 = examples.x0[side, rows]
        return {
            "x0": x0,
            "cover": examples.cover[side, rows],
            "noise": rng.standard_normal(x0.shape, np.float32),
            "t": times(len(rows), rng),
            "tokens": contrastive.tokens(texts, examples.vocab),
        }

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        a = abar[given["t"]].view(-1, 1, 1, 1)
        x0, noise = given["x0"].float(), given["noise"]
        noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
        with half(device):
            states = text(given["tokens"]).last_hidden_state
            out = net(noisy.to(memory_format=torch.channels_last), given["t"], states).sample
        square = (out.float() - (a.sqrt() * noise - (1 - a).sqrt() * x0)).square()
        weight = 1 + OBJECT * given["cover"].float()
        return (square * weight).mean() / weight.mean(), {}

    return fit({"unet": net, "text": text}, sample, loss_of, settings)
