"""Trains LoRA adapters of a text-to-image model on a few photographs (docs/protocol.md, C3).

symbols   latents  (B, c, h, w) of the pipeline's autoencoder, times its scaling factor
          target   the noise, or the velocity, as the pipeline's own scheduler was trained

The model's weights are float32, under autocast to the study's precision. In float16 the loss is
scaled, or most gradients of the text encoder's adapters would be subnormal (2 ** -24 at best).

Invariant (tests/unit/test_datadream.py): every random number comes from (seed, step), so a training
that was killed resumes to the same bytes. Adapters are stored in diffusers' own format.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..core import checkpoints, oom_retry, storage
from ..core.config_sections import DataDreamSettings
from ..core.seeds import seed_for, torch_generator
from ..models import loaders, precision
from ..models.schedule import cosine_with_warmup

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]
WEIGHTS, CHECKPOINT = "pytorch_lora_weights.safetensors", "checkpoint.safetensors"


@contextlib.contextmanager
def lora_layers(
    pipe: Any, settings: DataDreamSettings, seed: int
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Add LoRA layers to the UNet and, where asked, the text encoder, as the only weights that may
    change; remove them after the block. Yields {name: float32 parameter}."""
    from peft import LoraConfig

    parts = {"unet": (pipe.unet, UNET_LAYERS)}
    if settings.text_encoder:
        parts["text_encoder"] = (pipe.text_encoder, TEXT_LAYERS)
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        module.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "init"))
        for module, layers in parts.values():
            module.add_adapter(
                LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.rank,
                    init_lora_weights="gaussian",
                    target_modules=layers,
                )
            )
    weights = {
        f"{part}.{name}": p
        for part, (module, _) in parts.items()
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    for parameter in weights.values():
        parameter.data = parameter.data.float()
    try:
        yield weights
    finally:
        pipe.unload_lora_weights()


def crop(image: np.ndarray, size: int, rng: torch.Generator) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, size, size) in -1..1: shorter side to `size`, a random square."""
    from torchvision.transforms.v2 import functional as tvf

    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    if min(pixels.shape[1:]) != size:
        pixels = tvf.resize(pixels, [size], antialias=True)
    y, x = (int(torch.randint(n - size + 1, (1,), generator=rng)) for n in pixels.shape[1:])
    return pixels[:, y : y + size, x : x + size].float() / 127.5 - 1


def loss_of(
    pipe: Any, scheduler: Any, pixels: torch.Tensor, states: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    """Mean squared error of the UNet's prediction for random noise and times."""
    device = pixels.device
    with torch.no_grad():
        encoded = pipe.vae.encode(pixels)
        latents = (
            encoded.latents
            if hasattr(encoded, "latents")
            else encoded.latent_dist.mean
            + encoded.latent_dist.std
            * torch.randn(encoded.latent_dist.mean.shape, generator=rng).to(device)
        )
        latents = (latents * pipe.vae.config.scaling_factor).float()
    noise = torch.randn(latents.shape, generator=rng).to(device)
    times = scheduler.config.num_train_timesteps
    t = torch.randint(times, (len(latents),), generator=rng).to(device)
    noisy = scheduler.add_noise(latents, noise, t)
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"the scheduler's prediction_type is {kind!r}; epsilon and v_prediction can be trained"
        )
    target = noise if kind == "epsilon" else scheduler.get_velocity(latents, noise, t)
    return F.mse_loss(pipe.unet(noisy, t, states).sample.float(), target)


@dataclass(frozen=True)
class Shots:
    """Images and prompts that an adapter learns: (H, W, 3) uint8 each, and a text each."""

    images: list[np.ndarray]
    texts: list[str]

    @classmethod
    def of(cls, rows: pd.DataFrame, read: Callable[[str], np.ndarray], template: str) -> Shots:
        """Read the images of rows (path, class_name); the prompt is the template's."""
        return cls(
            [read(p) for p in rows["path"]],
            [template.replace("{class}", c) for c in rows["class_name"]],
        )


def adapt(
    pipe: Any,
    shots: Shots,
    settings: DataDreamSettings,
    out: Path,
    seed: int,
    dtype: torch.dtype = torch.float32,
    stop_after: int | None = None,
) -> list[float]:
    """Train LoRA layers on the shots and write them to `out`; returns the loss of every step.

    A checkpoint in `out` is resumed. stop_after: stop there, as if killed (for tests). Raises
    ValueError for a loss that is not finite, weights that are not float32, or a scheduler that
    cannot be trained.
    """
    if (own := precision.weights_dtype(pipe)) != torch.float32:
        raise ValueError(
            f"the generator's weights are {own}, wanted float32, which DataDream trains under "
            "autocast; give models.datadream (without it, models.prior) dtype: float32"
        )
    per_epoch = -(-len(shots.images) // settings.batch_size)
    steps = per_epoch * settings.epochs
    with lora_layers(pipe, settings, seed) as weights:
        optimiser = torch.optim.AdamW(
            weights.values(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        device = pipe.unet.device
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        losses = _resume(out / CHECKPOINT, weights, optimiser, scaler, device)
        loss_of_step = _loss_function(pipe, shots, settings, seed, scaler, dtype)
        bar = tqdm(total=steps, initial=len(losses), desc=out.name, mininterval=5)
        for step in range(len(losses), steps):
            for group in optimiser.param_groups:
                group["lr"] = cosine_with_warmup(step, steps, settings.lr, settings.warmup_steps)
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss_of_step(*divmod(step, per_epoch), step))
            scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            scaler.step(optimiser)  # left out where a scaled gradient was not finite
            scaler.update()
            bar.update()
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"{out.name}: the loss is {losses[-1]} at step {step + 1}; lower "
                    f"datadream.lr ({settings.lr}) or set precision to float32"
                )
            if len(losses) % settings.checkpoint_every == 0:
                _checkpoint(out / CHECKPOINT, weights, optimiser, scaler, losses)
            if len(losses) == stop_after:
                return losses
        bar.close()
        _save(pipe, out, settings.text_encoder)
    storage.write_json(out / "losses.json", losses)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return losses


def _loss_function(
    pipe: Any,
    shots: Shots,
    settings: DataDreamSettings,
    seed: int,
    scaler: torch.amp.GradScaler,
    dtype: torch.dtype,
) -> Callable[[int, int, int], float]:
    """(epoch, batch, step) -> loss of the batch, whose gradients, times the scaler's factor, it
    leaves in the weights."""
    from diffusers import DDPMScheduler

    device, side = pipe.unet.device, pipe.unet.config.sample_size
    size, batch_size = side * pipe.vae_scale_factor, settings.batch_size
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)

    def loss_of_step(epoch: int, batch: int, step: int) -> float:
        order = torch.randperm(len(shots.images), generator=torch_generator(seed, "order", epoch))
        chosen = order[batch * batch_size :][:batch_size].tolist()
        rng = torch_generator(seed, "step", step)
        pixels = torch.stack([crop(shots.images[i], size, rng) for i in chosen]).to(device)
        texts = [shots.texts[i] for i in chosen]
        with (
            oom_retry.named("lower datadream.batch_size or datadream.rank"),
            loaders.short_attention(device, side),
        ):
            with precision.autocast(device, dtype):
                with contextlib.nullcontext() if settings.text_encoder else torch.no_grad():
                    states, _ = pipe.encode_prompt(texts, device, 1, False)
                loss = loss_of(pipe, scheduler, pixels, states, rng)
            scaler.scale(loss).backward()
        return float(loss.detach())

    return loss_of_step


def _resume(
    path: Path,
    weights: dict,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> list[float]:
    """Put a checkpoint back, if there is one; the losses so far."""
    if not path.exists():
        return []
    saved = checkpoints.read(path, device)
    for name, value in saved["weights"].items():
        weights[name].data.copy_(value)
    optimiser.load_state_dict(saved["optimiser"])
    if scaler.is_enabled():
        scaler.load_state_dict(saved["scaler"])
    return saved["losses"]


def _checkpoint(
    path: Path,
    weights: dict,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    losses: list[float],
) -> None:
    state = {"weights": dict(weights), "optimiser": optimiser.state_dict(), "losses": losses}
    checkpoints.write(path, state | {"scaler": scaler.state_dict()})


def _save(pipe: Any, out: Path, text_encoder: bool) -> None:
    """One safetensors file, as `pipe.load_lora_weights` reads it."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save

    state = {
        f"unet.{k}": v
        for k, v in convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet)).items()
    }
    if text_encoder:
        text = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.text_encoder))
        state |= {f"text_encoder.{k}": v for k, v in text.items()}
    tensors = {k: state[k].detach().cpu().contiguous() for k in sorted(state)}
    storage.write_bytes(out / WEIGHTS, save(tensors, {"format": "pt"}))
