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

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from ..core import seeds, storage
from ..core.config_sections import AugmentSettings
from ..core.cores import cores
from ..models.preprocess import BICUBIC, input_size, resize

GEOMETRIC = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


class GeometricRandAugment(v2.RandAugment):
    """RandAugment without its colour operations (torchvision offers no argument for that)."""

    _AUGMENTATION_SPACE = {
        k: v for k, v in v2.RandAugment._AUGMENTATION_SPACE.items() if k in GEOMETRIC
    }


class Images:
    """The images of a list of files, kept in memory where they fit into `memory` bytes.

    Images much larger than the network's input are kept at twice its size (shorter side), so that
    the smallest crop, a quarter of the area, is not enlarged. The inputs of an evaluation are kept
    on their own, since a training looks at the same ones a hundred times.
    """

    def __init__(self, paths: Sequence[str], root: Path, size: int, memory: float = 2e9):
        self.paths, self.root, self.limit, self.memory = list(paths), Path(root), 2 * size, memory
        self._inputs: tuple[dict, torch.Tensor, np.ndarray] | None = None
        some = [self._read(p).numel() for p in self.paths[:8]]
        fits = len(self.paths) * float(np.mean(some or [0])) < memory
        self.kept = [self._read(p) for p in self.paths] if fits else None

    def _read(self, path: str) -> torch.Tensor:
        image = torch.tensor(storage.read_image(self.root / path)).permute(2, 0, 1).contiguous()
        if min(image.shape[1:]) > self.limit:
            image = tvf.resize(image, [self.limit], BICUBIC, antialias=True)
        return image

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self._read(self.paths[i]) if self.kept is None else self.kept[i]

    def inputs(self, rows: range, preprocess: dict) -> torch.Tensor:
        """uint8 (len(rows), 3, S, S): what an evaluation sees of these images; each is read once
        where all of them fit into `memory`."""
        side = input_size(preprocess)
        if len(self) * 3 * side**2 > self.memory:
            return self._resized(rows, preprocess)
        if self._inputs is None or self._inputs[0] != preprocess:
            with torch.inference_mode(False):
                empty = torch.empty(len(self), 3, side, side, dtype=torch.uint8)
            self._inputs = (dict(preprocess), empty, np.zeros(len(self), bool))
        _, pixels, there = self._inputs
        at = slice(rows.start, rows.stop)
        if not there[at].all():
            pixels[at], there[at] = self._resized(rows, preprocess), True
        return pixels[at]

    def _resized(self, rows: range, preprocess: dict) -> torch.Tensor:
        def one(i: int) -> torch.Tensor:
            return resize(self[i], preprocess)

        if self.kept is not None:
            return torch.stack([one(i) for i in rows])
        with ThreadPoolExecutor(cores()) as pool:  # decoding and resizing leave Python's lock
            return torch.stack(list(pool.map(one, rows)))


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
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomSolarize(128, 0.2),
        ]
    if settings.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], settings.blur))
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
