"""Attribute classifier that measures the micro models for their cards.

It is trained on renderings for this purpose alone. No stage of a study loads it: the study's
verifier is CLIP, and a measure must not be the model that chose the images.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..render import Spec
from .contrastive import augment, coverage, moves
from .data import ATTRIBUTES, labels
from .trainer import FitSettings, fit, half, on

OBJECT, PAINT = 1, 2  # bits of a rendering's fourth channel: where a network is told to look
STORED_NAME = "judge"  # in checkpoints
HEADS = ("background", "texture", "color", "class_name")


def _stage(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, 2, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def gabor_bank(
    wavelengths: tuple[float, ...] = (3.0, 4.5, 7.0, 11.0), turns: int = 6, side: int = 17
) -> torch.Tensor:
    """Even and odd Gabor filters (2, len(wavelengths) * turns, 1, side, side) of zero mean and
    unit energy: one octave and 30 degrees apart, as in texture analysis (Jain and Farrokhnia,
    1991)."""
    line = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    filters = []
    for wave in wavelengths:
        envelope = torch.exp(-(x**2 + y**2) / (2 * (0.5 * wave) ** 2))
        for k in range(turns):
            along = x * math.cos(math.pi * k / turns) + y * math.sin(math.pi * k / turns)
            phase = 2 * math.pi / wave * along
            even, odd = envelope * torch.cos(phase), envelope * torch.sin(phase)
            even = even - envelope * even.sum() / envelope.sum()
            filters.append(torch.stack([even / even.norm(), odd / odd.norm()]))
    return torch.stack(filters, 1)[:, :, None]


class AttributeClassifier(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 and where their painted surfaces are (B, 1, 128, 128) in
    0..1 -> {attribute: logits}.

    Convolutions and the log energies of a fixed Gabor bank; means and deviations of every map over
    the surface and the rest: a texture is a deviation, and windows and wheels have none of it. The
    place is told: it is exact, and it is the edit that is judged, not whether it was found.
    """

    width = 184  # of a token of `maps`: the last feature map and the bank

    def __init__(self):
        super().__init__()
        bank = gabor_bank()
        self.register_buffer("bank", bank.flatten(0, 1))
        widths = (4, 24, 48, 96, self.width - bank.shape[1])
        self.stages = nn.ModuleList([_stage(a, b) for a, b in zip(widths, widths[1:])])
        size = 4 * (sum(widths[1:]) + bank.shape[1])
        self.heads = nn.ModuleDict(
            {
                k: nn.Sequential(
                    nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, len(ATTRIBUTES[k]))
                )
                for k in HEADS
            }
        )

    def energies(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, 128, 128) -> (B, 24, 64, 64): log energy of the brightness in each filter."""
        grey = images.float().mean(1, keepdim=True)
        answers = F.conv2d(grey, self.bank.float(), stride=2, padding=self.bank.shape[-1] // 2)
        even, odd = answers.chunk(2, 1)
        return (even.square() + odd.square() + 0.01).log()

    def forward(self, images: torch.Tensor, where: torch.Tensor) -> dict[str, torch.Tensor]:
        x, maps = torch.cat([images, where.to(images)], 1), [self.energies(images)]
        for stage in self.stages:
            x = stage(x)
            maps.append(x.float())
        pooled = []
        for m in maps:
            inside = F.adaptive_avg_pool2d(where.float(), m.shape[-1])
            for weight in (inside, 1 - inside):
                share = weight / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)
                mean = (m * share).sum(dim=(2, 3))
                square = (m.square() * share).sum(dim=(2, 3))
                pooled += [mean, (square - mean.square()).clamp_min(1e-4).sqrt()]
        pooled = torch.cat(pooled, 1)
        return {k: head(pooled) for k, head in self.heads.items()}

    @torch.no_grad()
    def maps(self, images: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """(B, 64, width): last feature map and energies, a token of the ViT each; the features
        normed over channels, the energies as they are (about -4 to 2, so halved)."""
        where = F.interpolate(coverage(cells), size=images.shape[-1])
        x = torch.cat([images, where.to(images)], 1).to(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        x = x.flatten(2).transpose(1, 2)
        energies = F.adaptive_avg_pool2d(self.energies(images), 8).flatten(2).transpose(1, 2)
        return torch.cat([F.layer_norm(x.float(), x.shape[-1:]), energies / 2 + 1], 2)


def train(
    pixels: np.ndarray,
    specs: list[Spec],
    settings: FitSettings,
    device: str = "cpu",
    decoded: np.ndarray | None = None,
    place: int = PAINT,
) -> tuple[AttributeClassifier, dict]:
    """pixels (N, 128, 128, 4) uint8; decoded (N, 128, 128, 3) uint8: the same after a round trip
    through the autoencoder, which every edit has gone through; they take half of each batch.
    place: OBJECT or PAINT."""
    model, truth = (
        AttributeClassifier().to(device, memory_format=torch.channels_last),
        labels(specs),
    )

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(pixels), size=settings.batch))
        drawn = pixels[rows]
        if decoded is not None:
            drawn[::2, ..., :3] = decoded[rows[::2]]
        drawn[..., 3] = (drawn[..., 3] & place) > 0
        return moves(settings.batch, rng) | {
            "pixels": drawn,
            "noise": rng.integers(2**40),
            **{k: truth[k][rows] for k in HEADS},
        }

    def loss_of(step: int, given: dict):
        images, cells = augment(given["pixels"], given)
        where = F.interpolate(coverage(cells), size=images.shape[-1])
        source = torch.Generator(images.device).manual_seed(int(given["noise"]))
        images = images + 0.04 * torch.randn(images.shape, generator=source, device=images.device)
        with half(images.device):
            scores = model(images.to(memory_format=torch.channels_last), where)
        losses = {k: F.cross_entropy(v.float(), given[k]) for k, v in scores.items()}
        return sum(losses.values()), losses

    report = fit({STORED_NAME: model}, sample, loss_of, settings)
    return model, report


@torch.no_grad()
def classify(
    model: AttributeClassifier, pixels: np.ndarray, masks: np.ndarray, batch: int = 100
) -> dict[str, np.ndarray]:
    """pixels (N, 128, 128, >=3) uint8, masks of the surfaces (N, 128, 128), > 0 inside ->
    attribute -> (N,) index into ATTRIBUTES."""
    model.eval()
    out: dict[str, list] = {k: [] for k in HEADS}
    for i in range(0, len(pixels), batch):
        x = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch, ..., :3]))
        x = x.to(on(model)).permute(0, 3, 1, 2).float() / 127.5 - 1
        inside = (
            torch.from_numpy(np.asarray(masks[i : i + batch]) > 0)[:, None].float().to(on(model))
        )
        inside = F.interpolate(F.avg_pool2d(inside, 4), size=x.shape[-1])
        for k, v in model(x, inside).items():
            out[k].append(v.argmax(1).cpu().numpy())
    return {k: np.concatenate(v) for k, v in out.items()}
