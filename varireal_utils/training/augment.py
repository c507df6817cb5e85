"""Augments training images and puts batches together (docs/protocol.md, C2, row "aug").

symbols   image       uint8 (3, H, W), any size
          pixels      uint8 (B, 3, S, S), S the network's input size
          preprocess  dict: size, mean, std, resize_mode, as open_clip writes it

The papers' augmentation: RandAugment, RandomResizedCrop, flip, and colour jitter with p 0.8, grey
0.2, blur 0.2, solarise 0.2. `color: false` leaves out whatever changes colours, in RandAugment
too: colour is one of the attributes under study, and jitter hides what an edit changed.

Invariant: the pixels of a batch depend on (seed, step, position) alone: not on workers, on a
resume, or on the training set's other rows. Paired arms get the same crops and flips.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import v2

from ..core import seeds
from ..core.config_sections import AugmentSettings
from ..models.preprocess import BICUBIC, input_size
from .draws import BLUR, GEOMETRIC, JITTER, LIKELY, SIGMA, SOLARISED
from .image_cache import Images


class GeometricRandAugment(v2.RandAugment):
    """RandAugment without its colour operations (torchvision offers no argument for that)."""

    _AUGMENTATION_SPACE = {
        k: v for k, v in v2.RandAugment._AUGMENTATION_SPACE.items() if k in GEOMETRIC
    }


def transform(preprocess: dict, settings: AugmentSettings) -> v2.Compose:
    """The random transform of uint8 images (3, H, W) to (3, S, S); draws from torch's CPU
    generator."""
    steps: list = [
        v2.RandomResizedCrop(
            input_size(preprocess),
            (settings.scale_min, 1.0),
            interpolation=BICUBIC,
            antialias=True,
        )
    ]
    if settings.flip:
        steps.append(v2.RandomHorizontalFlip())
    if settings.rand_augment:
        steps.append(v2.RandAugment() if settings.color else GeometricRandAugment())
    if settings.color:
        steps += [
            v2.RandomApply([v2.ColorJitter(*JITTER)], LIKELY["jitter"]),
            v2.RandomGrayscale(LIKELY["grey"]),
            v2.RandomSolarize(SOLARISED, LIKELY["solarise"]),
        ]
    if settings.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(BLUR, SIGMA)], settings.blur))
    return v2.Compose(steps)


def order(is_real: np.ndarray, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """(steps, batch_size) row numbers: shuffled epochs; real and edited rows each fill half of
    every batch where there are both, so each recipe sees as many images, and no batch lacks a kind.

    An order depends on the seed and on the numbers of real and of edited rows only.
    """
    kinds = {
        k: rows
        for k, rows in (("real", np.flatnonzero(is_real)), ("edited", np.flatnonzero(~is_real)))
        if len(rows)
    }
    if not kinds or batch_size < len(kinds):
        raise ValueError(
            f"classify.batch_size {batch_size} with {len(is_real)} rows of "
            f"{list(kinds)}: no batch can be made."
        )
    parts = []
    for i, (kind, rows) in enumerate(kinds.items()):
        width = batch_size // len(kinds) + (batch_size % len(kinds) if i == 0 else 0)
        epochs = -(-steps * width // len(rows))
        stream = [
            rows[seeds.numpy_rng(seed, "order", kind, e).permutation(len(rows))]
            for e in range(epochs)
        ]
        parts.append(np.concatenate(stream)[: steps * width].reshape(steps, width))
    return np.concatenate(parts, axis=1)


class Batches(torch.utils.data.Dataset):
    """Item `step` is (pixels, rows): uint8 (B, 3, S, S) and int64 (B,). For a DataLoader."""

    def __init__(
        self,
        images: Images | list[torch.Tensor],
        rows: np.ndarray,
        preprocess: dict,
        settings: AugmentSettings,
        seed: int,
    ):
        self.images, self.rows, self.seed = images, rows, seed
        self.transform = transform(preprocess, settings)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = []
        with torch.random.fork_rng(devices=[]):
            for position, row in enumerate(self.rows[step]):
                noise = seeds.seed_for(self.seed, "augment", int(step), position)
                torch.random.default_generator.manual_seed(noise)
                pixels.append(self.transform(self.images[int(row)]))
        return torch.stack(pixels), torch.from_numpy(self.rows[step])
