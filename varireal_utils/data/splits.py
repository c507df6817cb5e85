"""Split files: who learns from an image, as CoOp and its followers write it (PROTOCOL.md, C2).

    name.csv           columns split (train, val or test), filename
    split_zhou_*.json  {"train": [[path, label from 0, class name], ...], "val": ..., "test": ...}

A split file names images by path, and every author packs the folders anew. For Pets and Aircraft
the file's name is enough; Cars and Waterbirds count the last folder too, since cars_train and
cars_test use the same names. Elsewhere (coop.py) the split file is the only list, and the whole
path counts.

Invariant (tests/unit/test_official.py): an image has one split, whatever the file says twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .image_record import SPLIT_NAMES, SPLITS, DatasetError, Skipped, read_lines

LISTED_OTHERWISE = ("oxford_pets", "fgvc_aircraft", "stanford_cars", "waterbirds")


class Line(NamedTuple):
    """A line of a split file. label and class_name are None and "" in a CSV, which has none."""

    path: str
    split: str
    label: int | None
    class_name: str


def key(source: str, path: str) -> str:
    """What the path of an image in a list and in a split file have in common."""
    inner = PurePosixPath(path.replace("\\", "/"))
    if source not in LISTED_OTHERWISE:
        return str(inner)
    if source in ("oxford_pets", "fgvc_aircraft"):
        return inner.stem
    folder = inner.parent.name
    if source == "stanford_cars":  # cars_train/00001.jpg, train/00001.jpg
        folder = folder.removeprefix("cars_")
    return f"{folder}/{inner.stem}"


def read(name: str, path: Path, source: str, skipped: Skipped) -> dict[str, Line]:
    """Key of an image -> its line. An image that is listed twice keeps its first line.

    source: one of the official layouts, which says what makes a key; adds to `skipped`. Raises
    DatasetError for a file that is missing or of neither form.
    """
    if not path.is_file():
        raise DatasetError(
            f"datasets.{name}.split: got {path}, wanted official or a CSV file with "
            "columns split, filename, or CoOp's split_zhou_*.json"
        )
    lines = _json_lines(path, skipped) if path.suffix == ".json" else _csv_lines(path, skipped)
    kept: dict[str, Line] = {}
    for line in lines:
        first = kept.setdefault(key(source, line.path), line)
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
