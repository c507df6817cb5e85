"""Reads DataDream's other data sets in the layout that CoOp's authors describe, split file and all.

A split file lists path, label and class name of every image, so it alone says what there is.
Nothing is fetched: the owners ask for a form or a licence, so an error says what to put where.

Invariant (tests/unit/test_coop.py): every line gives one entry or one line in `skipped`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import splits
from .data_set import FolderSpec
from .image_record import DatasetError, Entry, Skipped


@dataclass(frozen=True)
class CoopLayout:
    """folder: where CoOp's authors put it all; pictures: the folder in it that the paths of the
    list start from; listed: the file in it that lists the images."""

    folder: str
    pictures: str
    listed: str

    def read(self, name: str, spec: FolderSpec, skipped: Skipped) -> Iterator[Entry]:
        """Entries of the split file; adds to `skipped`. Raises DatasetError for a missing list."""
        lines, pictures = self.places(name, spec)
        for line in splits.read(name, lines, splits.whole, skipped).values():
            if line.class_name:
                file, class_name = pictures / line.path, readable(line.class_name)
                yield Entry(line.path, file, class_name, line.split)
            else:
                skipped.append({"file": line.path, "reason": f"{lines.name}: no class name"})

    def places(self, name: str, spec: FolderSpec) -> tuple[Path, Path]:
        """The file that lists the images, and the folder of the pictures. Raises DatasetError."""
        home, lines = self.home(spec), self.files(spec)[0]
        for path in (lines, home / self.pictures):
            if not path.exists():
                raise DatasetError(
                    f"datasets.{name}.root: {path} is not there; put {self.listed} and the "
                    f"folder {self.pictures} into {home}, as CoOp's instructions for {self.folder} "
                    "tell; nothing is fetched for this source"
                )
        return lines, home / self.pictures

    def home(self, spec: FolderSpec) -> Path:
        """The folder of the layout: root, or the one in it."""
        inner = Path(spec.root) / self.folder
        return inner if inner.is_dir() else Path(spec.root)

    def files(self, spec: FolderSpec) -> list[Path]:
        """The file that lists the images: the split file of the settings, or CoOp's."""
        return [spec.split_file() or self.home(spec) / self.listed]


def readable(name: str) -> str:
    """CoOp's files spell some names as folders do: pink_primrose."""
    return " ".join(name.replace("_", " ").split())
