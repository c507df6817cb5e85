"""Each diffusion model restores noised photographs: autoencoder, its scale, scheduler and text.

symbols   x   latents of photographs, times the autoencoder's scaling factor
          e   mean squared error of the UNet's answer over the variance of what it should be, under
              the scheduler's prediction type; 1 is an answer that knows nothing

A scheduler of another prediction type or noise schedule, an autoencoder of another scale, and a
text encoder of another model each raise e far above what a trained model has; what they paint may
still look like a picture.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ...core import storage
from ...core.config import StudyConfig
from ...editing import conditioning
from ...editing.slices import editing_roles
from ...models import loaders, precision
from ...training import recipes
from ..check import Check, Finding, judged
from ..workspace import Workspace

COUNT, TIMES = 4, (0.4, 0.7)  # photographs; shares of the training times
LARGEST = 0.6  # e; trained models are near 0.1 to 0.3
SPREAD = (0.4, 2.0)  # standard deviation of x; 1 by training
LEAST_PSNR = 18.0  # dB of photographs through the autoencoder
KINDS = ("epsilon", "v_prediction")
UNETS = ("inpaint", "prior", "refine", "instruct", "datadream")


def roles(config: StudyConfig) -> list[str]:
    """The diffusion models that the study uses."""
    found = set()
    for attribute in config.attributes:
        refined = config.edit.attributes[attribute].refine_steps > 0
        found |= set(editing_roles(config.edit.editor, attribute, refined))
    if recipes.generators(config.classify.recipes):
        found.add(config.models.generator_role())
    return [r for r in UNETS if r in found and config.models.get(r)]


def run(bench: Workspace) -> Iterator[Finding]:
    """Three findings for each diffusion model."""
    rows = bench.sample().split("train").head(COUNT)
    pictures = [storage.read_image(p) for p in rows["path"]]
    texts = [f"a photo of a {name}" for name in rows["class_name"]]
    for role in roles(bench.config):
        pipe = loaders.load_pipeline(bench.config.models, role, bench.device)
        if getattr(pipe, "unet", None) is None:
            yield Finding(
                "denoising",
                role,
                "skip",
                f"{type(pipe).__name__} has no UNet",
                "looked at in edits",
            )
        else:
            yield from _findings(bench, role, pipe, pictures, texts)
        del pipe
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def _findings(
    bench: Workspace, role: str, pipe: Any, pictures: list[np.ndarray], texts: list[str]
) -> Iterator[Finding]:
    pixels = canvas(pipe, pictures).to(bench.device)
    latents, back = through_autoencoder(pipe, pixels)
    psnr = -10 * float(torch.log10(((back - pixels) / 2).square().mean()))
    yield judged(
        "denoising",
        f"{role}, autoencoder",
        psnr >= LEAST_PSNR,
        f"photographs come back with {psnr:.1f} dB",
        f"at least {LEAST_PSNR:g} dB",
        f"models.{role}: the autoencoder's weights or type are wrong; name another `vae` or dtype",
    )
    spread = float(latents.std())
    yield judged(
        "denoising",
        f"{role}, scale of latents",
        SPREAD[0] <= spread <= SPREAD[1],
        f"standard deviation {spread:.2f}",
        f"{SPREAD[0]:g} to {SPREAD[1]:g}, trained with 1",
        f"models.{role}: the autoencoder's scaling_factor ({pipe.vae.config.scaling_factor:g}) is "
        "not the UNet's; set it in vae/config.json, or name the `vae` that belongs to the UNet",
    )
    own = getattr(pipe.scheduler.config, "prediction_type", "none")
    errors = restoring(bench, pipe, latents, pixels, texts)
    best = min(errors, key=lambda kind: errors[kind] if np.isfinite(errors[kind]) else np.inf)
    error = errors.get(own, np.inf)
    yield _softened(
        bench,
        role,
        bool(error <= LARGEST and best == own),
        f"error {error:.2f} as {own}" + ("" if best == own else f", {errors[best]:.2f} as {best}"),
        f"at most {LARGEST:g} of the noise's variance",
        f"models.{role}: the scheduler ({type(pipe.scheduler).__name__}, {own}) is not the one "
        f"that the UNet was trained with{f': try prediction_type {best}' if best != own else ''}; "
        "else its betas, the text encoder or the weights are another model's",
    )


def _softened(
    bench: Workspace, role: str, good: bool, value: str, wanted: str, remedy: str
) -> Finding:
    """The finding of a UNet: a warning under a few-step LoRA, which restores in its own steps."""
    spec = loaders.required(bench.config.models, role)
    found = judged("denoising", f"{role}, UNet and scheduler", good, value, wanted, remedy)
    return replace(found, status="warn") if spec.lora and not good else found


def canvas(pipe: Any, pictures: list[np.ndarray]) -> torch.Tensor:
    """(N, 3, S, S) in -1..1, S the size that the UNet was trained with."""
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    scaled = [
        np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS))
        for p in pictures
    ]
    return torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def through_autoencoder(pipe: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(scaled latents, decoded pixels), float32."""
    vae, kept = pipe.vae, pipe.vae.dtype
    if getattr(vae.config, "force_upcast", False) and kept == torch.float16:
        vae.to(torch.float32)
    try:
        found = vae.encode(pixels.to(vae.dtype))
        plain = found.latents if hasattr(found, "latents") else found.latent_dist.mean
        back = vae.decode(plain).sample.float().clamp(-1, 1)
    finally:
        vae.to(kept)
    return (plain * vae.config.scaling_factor).float(), back


@torch.no_grad()
def restoring(
    bench: Workspace, pipe: Any, latents: torch.Tensor, pixels: torch.Tensor, texts: list[str]
) -> dict[str, float]:
    """e of each prediction type; infinite where the scheduler cannot noise."""
    from diffusers import DDPMScheduler

    config = pipe.scheduler.config
    if not hasattr(pipe.scheduler, "add_noise") or "num_train_timesteps" not in config:
        return dict.fromkeys(KINDS, np.inf)
    if not hasattr(pipe.scheduler, "alphas_cumprod"):
        return dict.fromkeys(KINDS, np.inf)  # a flow, which no UNet of these pipelines learnt
    scheduler = DDPMScheduler.from_config(config)
    scheduler.alphas_cumprod = pipe.scheduler.alphas_cumprod  # the pipeline's, whatever its config
    rng = torch.Generator().manual_seed(0)
    errors: dict[str, list[float]] = {kind: [] for kind in KINDS}
    more = _conditioning(bench, pipe, pixels, texts)
    beside = _beside(pipe, latents, pixels)
    for share in TIMES:
        noise = torch.randn(latents.shape, generator=rng).to(latents.device)
        t = torch.full((len(latents),), int(share * config["num_train_timesteps"])).to(noise.device)
        noisy = torch.cat([scheduler.add_noise(latents, noise, t), *beside], 1)
        with precision.pipeline_autocast(pipe, bench.device, bench.dtype):
            made = pipe.unet(noisy.to(pipe.unet.dtype), t, **more).sample.float()
        velocity = scheduler.get_velocity(latents, noise, t)
        for kind, target in (("epsilon", noise), ("v_prediction", velocity)):
            errors[kind].append(float(F.mse_loss(made, target) / target.var()))
    return {kind: float(np.mean(values)) for kind, values in errors.items()}


def _conditioning(
    bench: Workspace, pipe: Any, pixels: torch.Tensor, texts: list[str]
) -> dict[str, Any]:
    """The UNet's arguments for texts."""
    given = conditioning.arguments([conditioning.encode(pipe, t) for t in texts], {})
    out: dict[str, Any] = {"encoder_hidden_states": given["prompt_embeds"].to(bench.device)}
    if "pooled_prompt_embeds" in given:
        side = pixels.shape[-1]
        ids = torch.tensor([[side, side, 0, 0, side, side]] * len(texts))
        pooled = given["pooled_prompt_embeds"].to(bench.device)
        out["added_cond_kwargs"] = {
            "text_embeds": pooled,
            "time_ids": ids.to(pooled.device, pooled.dtype),
        }
    return out


def _beside(pipe: Any, latents: torch.Tensor, pixels: torch.Tensor) -> list[torch.Tensor]:
    """What else the UNet reads: mask and masked latents (inpainting), or the photograph's latents
    (instructions). The right half is masked."""
    channels, own = pipe.unet.config.in_channels, latents.shape[1]
    if channels == own:
        return []
    if channels == 2 * own:
        return [latents / pipe.vae.config.scaling_factor]
    mask = torch.zeros_like(latents[:, :1])
    mask[..., mask.shape[-1] // 2 :] = 1
    hidden = pixels.clone()
    hidden[..., hidden.shape[-1] // 2 :] = 0
    return [mask, through_autoencoder(pipe, hidden)[0]]


CHECK = Check(
    "denoising",
    "Do the diffusion models restore noised photographs?",
    run,
    "see that models.<role>.path, dtype and scheduler belong together",
    roles,
)
