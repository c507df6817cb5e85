"""Keeps decoded pictures in files that all trainings of a machine share: each is decoded once.

    place(need, folder)                                  memory, disk or files
    PixelMaps(folder, kind).open(files, digests, decode) -> Pictures, or None

A map is one file: pictures of one kind back to back, then an index (sha256 of each picture's file,
its shape) and a check sum. A picture is known by its bytes, so recipes, seeds, replicates and
studies that use the same photograph find it in the same map, and a photograph that changed is
another one, which is decoded anew. Maps are written whole under another name and then renamed; one
that is damaged or cut short is made again. The folder may be removed at any time.

symbols   kind      what was done to a picture after decoding, as "shorter448"; part of a map's name
          digest    sha256 of a picture's file
          picture   uint8, three dimensions, as `decode` gives it

Invariant (tests/unit/test_pixel_maps.py): a picture from a map has the bytes that `decode` gives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core import storage
from ..core.cores import cores

MAGIC = b"VRPXMAP1"
KEPT, MOST = 3e8, 2e9  # bytes that a process keeps for itself where there are maps, where none are
SPARE = 1e9  # bytes of a disk that maps leave free
UNUSED = 24 * 3600  # seconds after which a map may make room for another
PIECE = 1 << 24  # bytes that are read at once to check a map
AHEAD = 64  # pictures that are decoded at once
Decode = Callable[[Path], np.ndarray]


class DamagedMap(ValueError):
    """A map that is not as it was written."""


@dataclass
class PixelMap:
    """One map, read by position: nothing of it stays in the memory of this process.

    places: digest -> (offset in bytes, shape); check: crc32 of all pictures, in their order.
    """

    path: Path
    places: dict[str, tuple[int, tuple[int, ...]]]
    check: int
    end: int
    _file: int = field(default=-1, repr=False)
    _scratch: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def read(cls, path: Path) -> PixelMap:
        """A map with its index. Raises DamagedMap, OSError."""
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.seek(max(0, size - 16))
            tail = file.read(16)
            length = int.from_bytes(tail[:8], "little")
            if len(tail) < 16 or tail[8:] != MAGIC or length > size - 16:
                raise DamagedMap(f"{path}: cut short, or no map")
            file.seek(size - 16 - length)
            index = file.read(length)
        try:
            found = json.loads(index)
            places, at = {}, 0
            for digest, *shape in found["pictures"]:
                places[digest] = (at, tuple(shape))
                at += int(np.prod(shape))
            check = int(found["check"])
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedMap(f"{path}: its index cannot be read ({error})") from error
        if at != size - 16 - length:
            raise DamagedMap(f"{path}: {size} bytes do not hold the {at} of its pictures")
        return cls(path, places, check, at)

    def verify(self) -> None:
        """Read everything once. Raises DamagedMap."""
        found, left = 0, self.end
        with open(self.path, "rb", buffering=0) as file:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                found, left = zlib.crc32(piece, found), left - len(piece)
        if left or found != self.check:
            raise DamagedMap(f"{self.path}: its pictures have another check sum")

    def picture(self, digest: str) -> np.ndarray:
        """A picture. Raises DamagedMap."""
        offset, shape = self.places[digest]
        out = np.empty(shape, np.uint8)
        self._read(memoryview(out.data).cast("B"), offset)
        return out

    def part(self, digest: str, top: int, left: int, out: np.ndarray) -> None:
        """Copy a part of a picture into `out` (height, width, 3). Raises DamagedMap."""
        offset, (_, width, depth) = self.places[digest]
        size = out.shape[0] * width * depth
        if self._scratch is None or self._scratch.size < size:
            self._scratch = np.empty(2 * size, np.uint8)
        lines = self._scratch[:size]  # new memory for each picture would cost more than to read it
        self._read(memoryview(lines.data), offset + top * width * depth)
        out[...] = lines.reshape(-1, width, depth)[:, left : left + out.shape[1]]

    def _read(self, view: memoryview, at: int) -> None:
        if self._file < 0:
            self._file = os.open(self.path, os.O_RDONLY)
        while len(view):
            read = os.preadv(self._file, [view], at)
            if not read:
                raise DamagedMap(f"{self.path}: cut short while it was in use")
            view, at = view[read:], at + read

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": -1, "_scratch": None}

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


@dataclass(frozen=True)
class Pictures:
    """Pictures of a list of files, in maps."""

    digests: list[str]
    maps: dict[str, PixelMap]  # of each digest

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, i: int) -> np.ndarray:
        digest = self.digests[i]
        return self.maps[digest].picture(digest)

    def part(self, i: int, top: int, left: int, out: np.ndarray) -> None:
        """Copy a part of a picture into `out`; by one thread at a time."""
        digest = self.digests[i]
        self.maps[digest].part(digest, top, left, out)

    def shape(self, i: int) -> tuple[int, ...]:
        """Shape of one picture."""
        digest = self.digests[i]
        return self.maps[digest].places[digest][1]


class PixelMaps:
    """The maps of one kind in a folder."""

    _whole: set[tuple[str, int, int]] = set()  # path, size, time of maps that this process checked

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind = Path(folder), kind

    def open(
        self, files: Sequence[Path], digests: Sequence[str], decode: Decode, size: float
    ) -> Pictures | None:
        """Pictures of `files`; those that no map holds are decoded into a new one, by one process
        at a time. size: bytes of them all, estimated. None, with a warning, where they cannot be
        stored: too little room, or a folder that cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                found = self._held(set(digests))
                missing = {d: f for d, f in zip(digests, files) if d not in found}
                if missing:
                    need = size * len(missing) / len(set(digests))
                    if not self._room(need):
                        _say(f"{self.folder}: {need / 1e9:.1f} GB are not free")
                        return None
                    path = self._make(missing, decode)
                    found |= dict.fromkeys(missing, PixelMap.read(path))
        except OSError as error:
            _say(f"{self.folder}: {error.strerror or error}")
            return None
        return Pictures(list(digests), found)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; it ends with its holder, as a lock of the system."""
        with open(self.folder / f".{self.kind}.lock", "w", encoding="utf-8") as file:
            with contextlib.suppress(OSError):  # without locks, pictures may be decoded twice
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _held(self, wanted: set[str]) -> dict[str, PixelMap]:
        """The maps of the pictures that are there; damaged ones are removed."""
        found: dict[str, PixelMap] = {}
        for path in sorted(self.folder.glob(f"{self.kind}-*.map")):
            try:
                one = PixelMap.read(path)
                own = (wanted & set(one.places)) - set(found)
                if own:
                    self._check(one)
                    os.utime(path)  # in use
                    found |= dict.fromkeys(own, one)
            except DamagedMap as error:
                warnings.warn(f"{error}; it is made again", stacklevel=4)
                path.unlink(missing_ok=True)
        return found

    def _check(self, one: PixelMap) -> None:
        stat = one.path.stat()
        state = (str(one.path), stat.st_size, stat.st_ino)
        if state not in self._whole:
            one.verify()
            self._whole.add(state)

    def _make(self, missing: dict[str, Path], decode: Decode) -> Path:
        """Decode pictures into a new map; at most AHEAD of them are in memory."""
        name = storage.sha256_json(sorted(missing))[:16]
        path = self.folder / f"{self.kind}-{name}.map"
        index: list[list] = []
        check, waiting = 0, list(missing.items())
        with storage.atomic_path(path) as draft:
            with open(draft, "wb") as file, ThreadPoolExecutor(cores()) as pool:
                for start in range(0, len(waiting), AHEAD):
                    part = waiting[start : start + AHEAD]
                    for (digest, _), picture in zip(part, pool.map(decode, [f for _, f in part])):
                        data = np.ascontiguousarray(picture, np.uint8)
                        file.write(data.data)
                        check = zlib.crc32(data.data, check)
                        index.append([digest, *data.shape])
                tail = storage.to_json({"pictures": index, "check": check}).encode()
                file.write(tail + len(tail).to_bytes(8, "little") + MAGIC)
        stat = path.stat()
        self._whole.add((str(path), stat.st_size, stat.st_ino))
        return path

    def _room(self, need: float) -> bool:
        """Whether the disk has room for so many bytes; maps that nobody has used for a day make
        room, the oldest first."""
        old = [(p.stat().st_mtime, p) for p in self.folder.glob("*.map")]
        for used, path in sorted(old):
            if enough(self.folder, need) or time.time() - used < UNUSED:
                break
            path.unlink(missing_ok=True)
        return enough(self.folder, need)


def place(need: float, folder: Path | None, most: float = MOST) -> str:
    """Where pictures of `need` bytes are held. folder: of the maps, None for none; most: bytes that
    a process keeps without maps."""
    if need < (most if folder is None else min(most, KEPT)):
        return "memory"
    if folder is None:
        return "files"
    if enough(folder, need):
        return "disk"
    return "memory" if need < free_memory() / 2 else "files"


def enough(folder: Path, need: float) -> bool:
    """Whether the disk of a folder, which may not be there yet, has `need` bytes and SPARE."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free > need + SPARE


def free_memory() -> float:
    """Bytes of memory that are free or can be freed; infinity where the system does not say."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024.0 * int(next(s for s in lines if s.startswith("MemAvailable")).split()[1])
    return float("inf")


def _say(reason: str) -> None:
    warnings.warn(
        f"decoded pictures cannot be kept ({reason}): they are kept in memory where they fit, else "
        "decoded at every use, which a GPU waits for; free the disk, or set runs_dir to another",
        stacklevel=4,
    )
