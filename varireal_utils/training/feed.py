"""Feeds a training with augmented batches.

On a CPU each image is augmented by itself while it is loaded (augment.py): that is the reference,
and what published studies were made with. On a GPU loading processes draw numbers and cut crops,
and whole batches are augmented there (batch_augment.py), one ahead of the step, on a stream of its
own, from pinned memory. Both draw the same numbers from the same seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from ..core import seeds
from ..core.config_sections import AugmentSettings, TrainSettings
from ..models import preprocess as pre
from . import augment
from .batch_augment import Crops, augmented
from .draws import draw
from .image_cache import Images

Batch = tuple[torch.Tensor, torch.Tensor]  # pixels uint8 (B, 3, S, S), rows int64 (B,)


class CropBatches(torch.utils.data.Dataset):
    """Item `step` is a batch before its augmentation, a `Crops`; for a DataLoader."""

    def __init__(
        self, images: Images, rows: np.ndarray, side: int, settings: AugmentSettings, seed: int
    ):
        self.images, self.rows, self.side = images, rows, side
        self.settings, self.seed = settings, seed
        self._generator = torch.Generator()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> Crops:
        rows, draws = self.rows[step].tolist(), []
        for position, row in enumerate(rows):
            self._generator.manual_seed(seeds.seed_for(self.seed, "augment", int(step), position))
            size = self.images.size(row)
            draws.append(draw(self.settings, *size, self.side, self._generator))

        def cut(i: int, top: int, left: int, out: np.ndarray) -> None:
            self.images.cut(rows[i], top, left, out)

        return Crops.of(draws, self.rows[step], cut)


class OnDevice:
    """Batches of a loader of Crops, augmented on a device while the step before runs."""

    def __init__(self, loader: Iterable[Crops], device: torch.device, side: int):
        self.loader, self.device, self.side = loader, device, side

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type != "cuda":
            for crops in self.loader:
                yield augmented(crops.to(self.device), self.side), crops.rows
            return
        stream = torch.cuda.Stream(self.device)
        ahead: tuple[torch.Tensor, torch.Tensor, torch.cuda.Event] | None = None
        for crops in self.loader:
            with torch.cuda.stream(stream):
                pixels = augmented(crops.to(self.device), self.side)
                done = stream.record_event()
            if ahead is not None:
                yield self._given(*ahead)
            ahead = pixels, crops.rows, done
        if ahead is not None:
            yield self._given(*ahead)

    def _given(self, pixels: torch.Tensor, rows: torch.Tensor, done: torch.cuda.Event) -> Batch:
        """Pixels for the stream of the step, which waits for them; the host does not."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(done)
        pixels.record_stream(current)
        return pixels, rows


def batches(
    images: Images,
    order: np.ndarray,
    preprocess: dict,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    first: int = 0,
    workers: int = 0,
) -> Iterable[Batch]:
    """The batches of a training from step `first` on. order (steps, B): rows of each; workers:
    processes that load, which change no pixel."""
    side, there = pre.input_size(preprocess), device.type == "cuda"
    data = (
        CropBatches(images, order, side, settings.augment, seed)
        if there
        else augment.Batches(images, order, preprocess, settings.augment, seed)
    )
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=None,
        sampler=range(first, len(order)),
        num_workers=workers,
        pin_memory=there,
    )
    return OnDevice(loader, device, side) if there else loader
