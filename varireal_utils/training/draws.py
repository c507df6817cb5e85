"""Draws the augmentation of one image: numbers alone, no pixels.

symbols   crop     top, left, height, width in the stored image
          ops      RandAugment's operations, (name, magnitude) each
          jitter   order of its four changes, and factors of brightness, contrast, saturation, hue

Invariant (tests/unit/test_batch_augment.py): a generator that is seeded as the per-image transform
(`augment.transform`) is gives the numbers that the transform draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torchvision.transforms import v2

from ..core.config_sections import AugmentSettings

RATIO = (3 / 4, 4 / 3)  # width over height of a crop
TRIES = 10  # crops that may not fit, before the middle is taken
BLUR, SIGMA = 5, (0.1, 2.0)  # width of the kernel in pixels; its standard deviation
JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
SPANS = [(1 - s, 1 + s) for s in JITTER[:3]] + [(-JITTER[3], JITTER[3])]
LIKELY = {"jitter": 0.8, "grey": 0.2, "solarise": 0.2}
SOLARISED = 128  # values from here on are inverted
COUNT, STRENGTH, BINS = 2, 9, 31  # RandAugment: operations an image, which of how many magnitudes
GEOMETRIC = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

Op = tuple[str, float]


@dataclass(frozen=True)
class Draw:
    """The augmentation of one image. jitter: None for none; sigma: 0 for no blur."""

    crop: tuple[int, int, int, int]
    flip: bool = False
    ops: tuple[Op, ...] = ()
    jitter: tuple[tuple[int, ...], tuple[float, ...]] | None = None
    grey: bool = False
    solarise: bool = False
    sigma: float = 0.0


def draw(
    settings: AugmentSettings, height: int, width: int, side: int, generator: torch.Generator
) -> Draw:
    """The augmentation of an image of height x width pixels for an input of side x side."""

    def happens(probability: float) -> bool:
        return not bool(torch.rand(1, generator=generator) >= probability)

    crop = _crop(settings.scale_min, height, width, generator)
    flip = settings.flip and happens(0.5)
    ops = _ops(settings.color, side, generator) if settings.rand_augment else ()
    jitter, grey, solarise, sigma = None, False, False, 0.0
    if settings.color:
        if happens(LIKELY["jitter"]):
            order = tuple(torch.randperm(4, generator=generator).tolist())
            jitter = order, tuple(_uniform(*span, generator) for span in SPANS)
        grey, solarise = happens(LIKELY["grey"]), happens(LIKELY["solarise"])
    if settings.blur and happens(settings.blur):
        sigma = _uniform(*SIGMA, generator)
    return Draw(crop, flip, ops, jitter, grey, solarise, sigma)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=generator).item())


@lru_cache(maxsize=1)
def _log_ratio() -> tuple[float, float]:
    low, high = torch.log(torch.tensor(RATIO)).tolist()
    return low, high


def _crop(
    scale_min: float, height: int, width: int, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """A random share of the area in a random shape; the middle where none of TRIES fits."""
    for _ in range(TRIES):
        area = height * width * _uniform(scale_min, 1.0, generator)
        spread = torch.empty(1).uniform_(*_log_ratio(), generator=generator)
        ratio = torch.exp(spread).item()
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (
                int(torch.randint(0, room + 1, (1,), generator=generator).item())
                for room in (height - h, width - w)
            )
            return top, left, h, w
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(w / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(h * RATIO[1])
    return (height - h) // 2, (width - w) // 2, h, w


@lru_cache(maxsize=4)
def space(color: bool, side: int) -> tuple[tuple[str, float, bool], ...]:
    """RandAugment's operations on side x side pixels: name, magnitude, whether its sign is drawn.

    Without colour those that change colours are left out.
    """
    out = []
    for name, (magnitudes, signed) in v2.RandAugment._AUGMENTATION_SPACE.items():
        if color or name in GEOMETRIC:
            found = magnitudes(BINS, side, side)
            size = 0.0 if found is None else float(found[STRENGTH])
            out.append((name, size, signed and found is not None))
    return tuple(out)


def _ops(color: bool, side: int, generator: torch.Generator) -> tuple[Op, ...]:
    known, out = space(color, side), []
    for _ in range(COUNT):
        name, size, signed = known[int(torch.randint(len(known), (), generator=generator))]
        if signed and bool(torch.rand((), generator=generator) <= 0.5):
            size = -size
        out.append((name, size))
    return tuple(out)
