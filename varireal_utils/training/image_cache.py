"""Holds the images of a training or an evaluation: decoded once, wherever there is room.

Small sets are kept in the memory of the process. Others lie in maps on the disk (pixel_maps.py),
which all trainings share and the system keeps in memory as far as it has some to spare; without
room for a map, in memory; without that, each is read from its file at every use.

symbols   image   uint8 (3, H, W)      S   side of the network's input

Invariant (tests/unit/test_pixel_maps.py): an image is the same wherever it is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf

from ..core import storage
from ..core.cores import cores
from ..core.stage import SourceDigests
from ..models.preprocess import BICUBIC, input_size, resize
from . import pixel_maps
from .pixel_maps import MOST, Pictures, PixelMaps, place

SOME = 8  # images whose size stands for all
DIGESTS = "digests.json"  # of the files whose pictures are in maps


class Images:
    """The images of a list of files.

    Images much larger than the network's input are held at twice its size (shorter side), so that
    the smallest crop, a quarter of the area, is not enlarged. The inputs of an evaluation are held
    on their own, since a training looks at the same ones a hundred times.
    """

    def __init__(
        self,
        paths: Sequence[str],
        root: Path,
        size: int,
        memory: float = MOST,
        maps: Path | None = None,
    ):
        """memory: bytes that may be kept in this process; maps: folder of the shared maps."""
        self.paths, self.root, self.limit, self.memory = list(paths), Path(root), 2 * size, memory
        self.maps = maps
        self._inputs: tuple[dict, torch.Tensor, np.ndarray] | None = None
        self._input_maps: dict[str, Pictures | None] = {}
        self._last: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        if self.kept is not None:
            return self.kept[i]
        if self._mapped is not None:
            return torch.from_numpy(self._mapped[i]).permute(2, 0, 1).contiguous()
        return self._read(self.paths[i])

    @property
    def kept(self) -> list[torch.Tensor] | None:
        """The images in memory; None where they are held elsewhere."""
        return self._held[0]

    @property
    def _mapped(self) -> Pictures | None:
        return self._held[1]

    @cached_property
    def _held(self) -> tuple[list[torch.Tensor] | None, Pictures | None]:
        some = [self._read(p).numel() for p in self.paths[:SOME]]
        need = len(self.paths) * float(np.mean(some or [0]))
        where, mapped = place(need, self.maps, self.memory), None
        if where == "disk":
            decode = _last_axis(lambda file: self._read(str(file)))
            mapped = self._map(f"shorter{self.limit}", decode, need)
            if mapped is None and need < pixel_maps.free_memory() / 2:
                where = "memory"
        return (self._all(self._read) if where == "memory" else None), mapped

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of an image as it is held."""
        if self._mapped is not None:
            height, width, _ = self._mapped.shape(i)
            return height, width
        height, width = self._whole(i).shape[1:]
        return height, width

    def cut(self, i: int, top: int, left: int, out: np.ndarray) -> None:
        """Copy a part of an image into `out` (height, width, 3)."""
        if self._mapped is not None:
            self._mapped.part(i, top, left, out)
            return
        part = self._whole(i)[:, top : top + out.shape[0], left : left + out.shape[1]]
        out[...] = part.permute(1, 2, 0).numpy()

    def _whole(self, i: int) -> torch.Tensor:
        """An image; the last one is at hand, since its size is asked for first."""
        if self._last is None or self._last[0] != i:
            self._last = i, self[i]
        return self._last[1]

    def inputs(self, rows: range, preprocess: dict) -> torch.Tensor:
        """uint8 (len(rows), 3, S, S): what an evaluation sees of these images; each is decoded once
        where all of them can be held."""
        side = input_size(preprocess)
        need = len(self) * 3 * side**2
        where = place(need, self.maps, self.memory + 1)
        if where == "disk" and (found := self._input_map(preprocess, need)) is not None:
            return torch.from_numpy(np.stack([found[i] for i in rows]))
        if where == "files":
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

    def _input_map(self, preprocess: dict, need: float) -> Pictures | None:
        kind = f"input{input_size(preprocess)}{preprocess.get('resize_mode') or 'shortest'}"
        if kind not in self._input_maps:

            def decode(file: Path) -> np.ndarray:
                return resize(self._read(str(file)), preprocess).numpy()

            self._input_maps[kind] = self._map(kind, decode, need)
        return self._input_maps[kind]

    def _map(self, kind: str, decode: Callable[[Path], np.ndarray], need: float) -> Pictures | None:
        assert self.maps is not None
        files = [self.root / p for p in self.paths]
        self.maps.mkdir(parents=True, exist_ok=True)
        known = SourceDigests(self.maps / DIGESTS).of(files)
        digests = [known[f.as_posix()] for f in files]
        return PixelMaps(self.maps, kind).open(files, digests, decode, need)

    def _read(self, path: str) -> torch.Tensor:
        image = torch.tensor(storage.read_image(self.root / path)).permute(2, 0, 1).contiguous()
        if min(image.shape[1:]) > self.limit:
            image = tvf.resize(image, [self.limit], BICUBIC, antialias=True)
        return image

    def _all(self, read: Callable[[str], torch.Tensor]) -> list[torch.Tensor]:
        with ThreadPoolExecutor(cores()) as pool:  # decoding and resizing leave Python's lock
            return list(pool.map(read, self.paths))

    def _resized(self, rows: range, preprocess: dict) -> torch.Tensor:
        with ThreadPoolExecutor(cores()) as pool:
            made = pool.map(lambda i: resize(self._read(self.paths[i]), preprocess), rows)
            return torch.stack(list(made))


def _last_axis(read: Callable[[Path], torch.Tensor]) -> Callable[[Path], np.ndarray]:
    """The same with channels last, so that rows of an image lie together."""
    return lambda file: read(file).permute(1, 2, 0).contiguous().numpy()
