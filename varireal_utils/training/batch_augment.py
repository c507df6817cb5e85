"""Augments a whole batch of training images at once, on the device of the training.

A process that loads images draws numbers and cuts crops (`Crops.of`); resizing, RandAugment and
colours run here, a few hundred operations for a batch of any size, none of which reads a value from
the device.

symbols   crops    (N, 3) uint8, the pixels of all crops, row by row, one crop after another
          pixels   (B, 3, S, S) uint8, S the network's input size
          groups   (kind, argument, rows): images that one operation is for

Against the per-image transform (`augment.transform`), which stays the reference: resizing is
torch's 8-bit bicubic with antialiasing to the bit, by its 16-bit weights; geometric operations take
the reference's own source pixels. Colour arithmetic rounds alike but for its last bit, so a channel
may lie 1/255 beside the reference's; where a step of RandAugment follows that maps neighbouring
values far apart (Solarize, Posterize, Equalize), such a pixel may lie further off.

Invariant (tests/unit/test_batch_augment.py): at most 1 channel in 10,000 of a batch differs by more
than 1/255, and the mean difference is below 0.01/255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from .draws import BLUR, GEOMETRIC, SOLARISED, Draw

CUBIC = -0.5  # of the cubic filter with antialiasing
JITTERS = ("brightness", "contrast", "saturation", "hue")
LAST = ("grey", "solarise", "blur")
Cut = Callable[[int, int, int, np.ndarray], None]
Group = tuple[str, float, int, int]  # kind, argument, first and last + 1 of the batch's places


@dataclass(frozen=True)
class Crops:
    """A batch before augmentation, as a loading process hands it over.

    crops: as in the module's symbols; sizes (B, 2) float64: height and width of each crop; most:
    the largest of both; factors (B, 4) float32: of the jitter; sigmas (B,): of the blur; places:
    rows of each group, one after another; groups: what happens in order; rows (B,): of the
    training set.
    """

    crops: torch.Tensor
    sizes: torch.Tensor
    factors: torch.Tensor
    sigmas: torch.Tensor
    places: torch.Tensor
    groups: list[Group]
    rows: torch.Tensor
    most: tuple[int, int]

    @classmethod
    def of(cls, draws: list[Draw], rows: np.ndarray, cut: Cut) -> Crops:
        """A batch. draws: of each image; rows (B,); cut: (image, top, left, out) copies a crop into
        out (height, width, 3)."""
        sizes = np.array([one.crop[2:] for one in draws])
        crops, at = _shared(int(sizes.prod(axis=1).sum()), 3), 0
        room = crops.numpy()
        for i, (top, left, height, width) in enumerate(one.crop for one in draws):
            cut(i, top, left, room[at : at + height * width].reshape(height, width, 3))
            at += height * width
        factors = [d.jitter[1] if d.jitter else (1.0, 1.0, 1.0, 0.0) for d in draws]
        groups, places = _groups(draws)
        return cls(
            crops,
            torch.from_numpy(sizes.astype(float)),
            torch.tensor(factors),
            torch.tensor([d.sigma or 1.0 for d in draws]),
            torch.tensor(places, dtype=torch.int64),
            groups,
            torch.from_numpy(np.asarray(rows)),
            tuple(sizes.max(axis=0).tolist()),
        )

    def pin_memory(self) -> Crops:
        """In memory that a GPU copies from while the host goes on; a DataLoader calls it."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Crops:
        """On a device, but for `rows`; without waiting where they are pinned."""
        there = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(there, rows=self.rows)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Crops:
        names = ("crops", "sizes", "factors", "sigmas", "places", "rows")
        return replace(self, **{name: change(getattr(self, name)) for name in names})


def _shared(*shape: int) -> torch.Tensor:
    """Room for crops, not filled; in a loading process, where the process that trains reads it."""
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    room = torch.UntypedStorage._new_shared(int(np.prod(shape)))
    return torch.empty(0, dtype=torch.uint8).set_(room).view(shape)


def _groups(draws: list[Draw]) -> tuple[list[Group], list[int]]:
    """What happens to a batch in order, and the places of each group's images."""
    jitter = 1 + max(len(one.ops) for one in draws)
    last = jitter + len(JITTERS)
    steps: list[dict[tuple[str, float], list[int]]] = [{} for _ in range(last + 3)]
    for i, one in enumerate(draws):
        if one.flip:
            steps[0].setdefault(("flip", 0.0), []).append(i)
        for number, op in enumerate(one.ops, 1):
            if op[0] != "Identity":
                steps[number].setdefault(op, []).append(i)
        for number, change in enumerate(one.jitter[0] if one.jitter else (), jitter):
            steps[number].setdefault((JITTERS[change], 0.0), []).append(i)
        for number, there in enumerate((one.grey, one.solarise, one.sigma > 0), last):
            if there:
                steps[number].setdefault((LAST[number - last], 0.0), []).append(i)
    groups: list[Group] = []
    places: list[int] = []
    for step in steps:
        for (kind, argument), own in step.items():
            groups.append((kind, argument, len(places), len(places) + len(own)))
            places += own
    return groups, places


@torch.no_grad()
def augmented(batch: Crops, side: int) -> torch.Tensor:
    """uint8 (B, 3, S, S) of a batch whose tensors are on one device."""
    pixels = resized(side_by_side(batch.crops, batch.sizes, batch.most), batch.sizes, side)
    for kind, argument, first, last in batch.groups:
        own = batch.places[first:last]
        changed = _change(kind, argument, pixels.index_select(0, own), batch, own)
        pixels.index_copy_(0, own, changed)
    return pixels


def _change(
    kind: str, argument: float, pixels: torch.Tensor, batch: Crops, own: torch.Tensor
) -> torch.Tensor:
    if kind == "flip":
        return pixels.flip(-1)
    if kind == "grey":
        return tvf.rgb_to_grayscale(pixels, 3).contiguous()
    if kind == "solarise":
        return tvf.solarize(pixels, SOLARISED)
    if kind == "blur":
        return blurred(pixels, batch.sigmas.index_select(0, own))
    if kind in JITTERS:
        factors = batch.factors.index_select(0, own)[:, JITTERS.index(kind)]
        return jittered(kind, pixels, factors.view(-1, 1, 1, 1))
    if kind in GEOMETRIC:
        return moved(kind, argument, pixels)
    change = v2.RandAugment()._apply_image_or_video_transform
    return change(pixels, kind, argument, v2.InterpolationMode.NEAREST, {})


def side_by_side(crops: torch.Tensor, sizes: torch.Tensor, most: tuple[int, int]) -> torch.Tensor:
    """(B, Hm, Wm, 3) uint8: each crop in its upper left corner, its last pixels again beside it."""
    height, width = sizes.long().view(-1, 2, 1, 1).unbind(1)
    first = (height * width).cumsum(0) - height * width
    y, x = (torch.arange(n, device=crops.device) for n in most)
    rows = torch.minimum(y[None, :, None], height - 1)
    at = first + rows * width + torch.minimum(x[None, None], width - 1)
    return crops.index_select(0, at.flatten()).view(*at.shape, 3)


def resized(crops: torch.Tensor, sizes: torch.Tensor, side: int) -> torch.Tensor:
    """(B, Hm, Wm, 3) uint8 crops of sizes (B, 2) as (B, 3, side, side), by torch's 8-bit bicubic
    with antialiasing: rows first, each pass rounded to 8 bits."""
    values = crops.permute(0, 3, 1, 2).float()
    across = weights(sizes[:, 1], crops.shape[2], side)[:, None]
    down = weights(sizes[:, 0], crops.shape[1], side)[:, None]
    wide = _eight_bits(values @ across.transpose(-1, -2))
    return _eight_bits(down @ wide).to(torch.uint8)


def _eight_bits(values: torch.Tensor) -> torch.Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


def weights(lengths: torch.Tensor, most: int, side: int) -> torch.Tensor:
    """(B, side, most) float32: how much each of a crop's `lengths` (B,) pixels counts in each of
    `side`; rounded to the 16-bit numbers that torch multiplies 8-bit pixels by."""
    device = lengths.device
    length = lengths.view(-1, 1, 1)
    scale = length / side
    spread = scale.clamp_min(1.0)  # an enlargement is not smoothed
    centre = scale * (torch.arange(side, device=device, dtype=torch.float64).view(1, -1, 1) + 0.5)
    at = torch.arange(most, device=device, dtype=torch.float64).view(1, 1, -1)
    first = (centre - 2 * spread + 0.5).floor().clamp_min(0)
    last = torch.minimum((centre + 2 * spread + 0.5).floor(), length)
    x = ((at - centre + 0.5) / spread).abs()
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * CUBIC - 4 * CUBIC
    found = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    found = torch.where((at >= first) & (at < last), found, 0.0)
    found = found / found.sum(-1, keepdim=True)
    largest = found.amax((1, 2), keepdim=True)
    bits = torch.arange(1, 23, device=device, dtype=torch.float64).view(1, 1, -1)
    fits = (0.5 + largest * 2**bits < 2**15).sum(-1, keepdim=True)  # bits of a 16-bit weight
    unit = torch.pow(2.0, fits.double())
    return ((found * unit).abs() + 0.5).floor_().mul_(found.sign()).div_(unit).float()


@lru_cache(maxsize=64)
def _sources(kind: str, argument: float, side: int, device: torch.device) -> torch.Tensor:
    """(S * S,) number of the pixel that each pixel comes from, as the reference says; S * S where
    it comes from outside."""
    numbers = torch.arange(1, side * side + 1, dtype=torch.float32).view(1, side, side)
    change = v2.RandAugment()._apply_image_or_video_transform
    found = change(numbers, kind, argument, v2.InterpolationMode.NEAREST, {})
    at = found.long().flatten() - 1
    return torch.where(at < 0, side * side, at).to(device)


def moved(kind: str, argument: float, pixels: torch.Tensor) -> torch.Tensor:
    """A shear, shift or rotation by the nearest pixel; zeros come in from outside."""
    side = pixels.shape[-1]
    beside = F.pad(pixels.flatten(2), (0, 1))
    return beside.index_select(2, _sources(kind, argument, side, pixels.device)).view_as(pixels)


def jittered(kind: str, pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """One change of the colour jitter, (B, 3, S, S) by factors (B, 1, 1, 1)."""
    if kind == "hue":
        hsv = tvf._color._rgb_to_hsv(pixels.float() / 255)
        hsv[:, :1] = (hsv[:, :1] + factor).remainder_(1.0)
        return tvf.to_dtype(tvf._color._hsv_to_rgb(hsv), torch.uint8, scale=True)
    if kind == "brightness":
        return (pixels * factor).clamp_(0, 255).to(torch.uint8)
    r, g, b = pixels.unbind(1)
    grey = r.mul(0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114).floor_()[:, None]
    if kind == "contrast":
        grey = grey.mean((-3, -2, -1), keepdim=True)
    blend = torch.addcmul(pixels * factor, grey, 1 - factor)
    return blend.clamp_(0, 255).to(torch.uint8)


def blurred(pixels: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """A Gaussian blur of BLUR pixels, (B, 3, S, S) by standard deviations (B,)."""
    reach = BLUR // 2
    limit = (BLUR - 1) / (2 * 2**0.5)  # torchvision's spacing of the kernel's points
    x = torch.linspace(-limit, limit, BLUR, device=pixels.device)
    one = (x / sigmas[:, None]).square().neg().softmax(1)
    kernels = one[:, :, None] * one[:, None, :]
    count, channels, *size = pixels.shape
    planes = pixels.float().flatten(0, 1)[None]
    padded = F.pad(planes, [reach] * 4, mode="reflect")
    of_plane = kernels.repeat_interleave(channels, 0)[:, None]
    out = F.conv2d(padded, of_plane, groups=count * channels)
    return out.round_().to(torch.uint8).view(count, channels, *size)
