"""The latent autoencoder: (B, 3, 128, 128) in -1..1 <-> (B, 4, 32, 32) of about unit variance.

`AutoencoderTiny` of diffusers (no attention, no norms: fast on a CPU), trained on crops with a
squared and an absolute error, noise on the latents so that diffusion may miss them a little, and a
pull of their scale to one, so that `scaling_factor` is 1.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional as F

from .trainer import FitSettings, fit, half, on


def build(channels: int = 32) -> AutoencoderTiny:
    """An untrained autoencoder with three resolutions."""
    return AutoencoderTiny(
        encoder_block_out_channels=(channels,) * 3,
        decoder_block_out_channels=(channels,) * 3,
        num_encoder_blocks=(0, 3, 3),
        num_decoder_blocks=(3, 3, 1),
        latent_channels=4,
        scaling_factor=1.0,
    )


def to_model(pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in -1..1."""
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def train(
    pixels: np.ndarray,
    settings: FitSettings,
    start: AutoencoderTiny | None = None,
    crop: int = 64,
    channels: int = 32,
    device: str = "cpu",
) -> tuple[AutoencoderTiny, dict]:
    """pixels (N, 128, 128, >=3) uint8.

    With `start`, a trained autoencoder, only its decoder goes on learning: the latents stay what
    the diffusion models were trained on.
    """
    model = (start or build(channels)).to(device, memory_format=torch.channels_last)
    model.requires_grad_(True)
    model.encoder.requires_grad_(start is None)

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(pixels), size=settings.batch))
        y, x = rng.integers(pixels.shape[1] - crop + 1, size=2)
        cells = (settings.batch, model.config.latent_channels, crop // 4, crop // 4)
        return {
            "pixels": np.ascontiguousarray(pixels[rows, y : y + crop, x : x + crop, :3]),
            "noise": rng.standard_normal(cells, np.float32),
        }

    def loss_of(step: int, given: dict):
        real = to_model(given["pixels"]).contiguous(memory_format=torch.channels_last)
        with half(real.device):
            latents = model.encoder(real).float()
            back = model.decoder(latents + 0.05 * given["noise"]).float()
        square = F.mse_loss(back, real)
        loss = (
            4 * square
            + 0.5 * F.l1_loss(back, real)
            + edges(back, real)
            + 0.02 * (latents.std(dim=(0, 2, 3)) - 1).square().mean()
            + 0.02 * latents.mean(dim=(0, 2, 3)).square().mean()
        )
        return loss, {"psnr": 10 * torch.log10(4 / square.detach())}

    report = fit({"vae": model}, sample, loss_of, settings)
    return model, report


def edges(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Absolute error of horizontal and vertical differences: keeps lines sharp."""
    return 0.5 * (
        (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
        + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
    )


@torch.no_grad()
def encode(model: AutoencoderTiny, pixels: np.ndarray, batch: int = 64) -> torch.Tensor:
    """(N, 128, 128, 3) uint8 -> (N, 4, 32, 32) float16 latents."""
    out = []
    for i in range(0, len(pixels), batch):
        images = to_model(pixels[i : i + batch]).to(on(model), memory_format=torch.channels_last)
        with half(images.device):
            out.append(model.encode(images).latents.half().cpu())
    return torch.cat(out)


@torch.no_grad()
def reconstruct(model: AutoencoderTiny, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
    """(N, 128, 128, >=3) uint8 -> (N, 128, 128, 3) uint8: encoded and decoded again."""
    out = []
    for i in range(0, len(pixels), batch):
        latents = encode(model, np.ascontiguousarray(pixels[i : i + batch, ..., :3]), batch)
        back = model.decode(latents.float().to(on(model))).sample.float().clamp(-1, 1)
        out.append(((back + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


@torch.no_grad()
def psnr(model: AutoencoderTiny, pixels: np.ndarray, batch: int = 50) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB; pixels (N, 128, 128, 3) uint8."""
    values = []
    for i in range(0, len(pixels), batch):
        real = to_model(pixels[i : i + batch]).to(on(model))
        back = model.decode(model.encode(real).latents).sample.clamp(-1, 1)
        values.append(10 * torch.log10(4 / (back - real).square().mean(dim=(1, 2, 3))).cpu())
    return float(torch.cat(values).mean())
