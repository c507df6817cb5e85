"""Reads split files: the split of each image, as CoOp writes it (docs/protocol.md, C2).

    name.csv           columns split (train, val or test), filename
    split_zhou_*.json  {"train": [[path, label from 0, class name], ...], "val": ..., "test": ...}

A split file names images by path, and every author packs the folders anew. A layout says how much
of the path counts (`whole`, `stem`, `folder_and_stem`): where file names are unique, the name.

Invariant (tests/unit/test_official.py): an image has one split, whatever the file says twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .image_record import SPLIT_NAMES, SPLITS, DatasetError, Skipped, read_lines


class Line(NamedTuple):
    """A line of a split file. label and class_name are None and "" in a CSV, which has none."""

    path: str
    split: str
    label: int | None
    class_name: str


def whole(path: str) -> str:
    """The key of an image whose whole path counts."""
    return str(_posix(path))


def stem(path: str) -> str:
    """The key of an image whose file name is enough."""
    return _posix(path).stem


def folder_and_stem(path: str) -> str:
    """The key of an image whose last folder counts too."""
    inner = _posix(path)
    return f"{inner.parent.name}/{inner.stem}"


def _posix(path: str) -> PurePosixPath:
    return PurePosixPath(path.replace("\\", "/"))


def read(name: str, path: Path, key: Callable[[str], str], skipped: Skipped) -> dict[str, Line]:
    """Key of an image -> its line. An image that is listed twice keeps its first line.

    key: path -> key of an image; adds to `skipped`. Raises DatasetError for a file that is missing
    or of neither form.
    """
    if not path.is_file():
        raise DatasetError(
            f"datasets.{name}.split: got {path}, wanted official or a CSV file with "
            "columns split, filename, or CoOp's split_zhou_*.json"
        )
    lines = _json_lines(path, skipped) if path.suffix == ".json" else _csv_lines(path, skipped)
    kept: dict[str, Line] = {}
    for line in lines:
        first = kept.setdefault(key(line.path), line)
        if first is not line:
            skipped.append(
                {
                    "file": line.path,
                    "reason": f"{path.name} lists it twice, in "
                    f"{first.split} and in {line.split}; its first line counts",
                }
            )
    return kept


def _csv_lines(path: Path, skipped: Skipped) -> Iterator[Line]:
    table = read_lines(path, skipped)
    wanted = f"{path}: wanted columns split (train, val or test) and filename; "
    for column in ("split", "filename"):
        if column not in table:
            raise DatasetError(f"{wanted}{column!r} is missing or unknown")
    for file, split in zip(table["filename"], table["split"]):
        if split.strip().lower() not in SPLIT_NAMES:
            raise DatasetError(f"{wanted}{split!r} is missing or unknown")
        yield Line(file.strip(), SPLIT_NAMES[split.strip().lower()], None, "")


def _json_lines(path: Path, skipped: Skipped) -> Iterator[Line]:
    wanted = f'{path}: wanted CoOp\'s form {{"train": [[path, label, class name], ...], ...}}; '
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise DatasetError(f"{wanted}it is not JSON: {error}") from error
    if (
        not isinstance(lists, dict)
        or not lists
        or not set(lists) <= set(SPLITS)
        or not all(isinstance(rows, list) for rows in lists.values())
    ):
        got = sorted(lists) if isinstance(lists, dict) else type(lists).__name__
        raise DatasetError(f"{wanted}got {got}, wanted lists train, val and test")
    for split, rows in lists.items():
        for row in rows:
            if (
                isinstance(row, list)
                and [type(part) for part in row] == [str, int, str]
                and row[0]
                and row[2]
            ):
                yield Line(row[0], split, row[1], row[2])
            else:
                skipped.append(
                    {
                        "file": str(row)[:80],
                        "reason": f"{path.name}: wanted [path, label, class name]",
                    }
                )
