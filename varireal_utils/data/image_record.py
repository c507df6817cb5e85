"""Defines what all readers share: an entry, the names of the splits, lines of a CSV file.

Sources are listed in registry.py; the papers' official layouts in official.py.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
Skipped = list[dict[str, str]]


class DatasetError(ValueError):
    """A data set that cannot be read at all; the message names data set, key, value and remedy."""


class DownloadError(DatasetError):
    """A file that could not be fetched; the message names it, its place and where else it lies."""


@dataclass(frozen=True)
class Entry:
    """One image of a source before it is read. `split` is "" where the source has none.

    mask: path of a mask, or None; trimap: its values are 1 object, 2 background, 3 border.
    extra: further columns of the table. crop_bottom: rows of pixels at the bottom of the upright
    photograph, and of its mask, that are no part of it (a banner) and are cut off.
    """

    image_id: str
    file: Path
    class_name: str
    split: str = ""
    mask: Path | None = None
    trimap: bool = False
    extra: tuple[tuple[str, Any], ...] = ()
    crop_bottom: int = 0


def read_lines(path: Path, skipped: Skipped) -> pd.DataFrame:
    """A CSV as text; a line with too many fields is skipped and named, one with too few filled.

    Raises DatasetError for what is no CSV file in UTF-8 with a header line, and for a quotation
    mark that is never closed, since pandas drops all lines after it in silence.
    """

    def bad(fields: list[str]) -> None:
        skipped.append(
            {
                "file": fields[0],
                "reason": f"{path.name}: {len(fields)} fields in the "
                f"line {','.join(fields)!r}, more than in the header; quote commas",
            }
        )

    try:
        _check_quotes(path)
        return pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            engine="python",
            index_col=False,
            on_bad_lines=bad,
        ).fillna("")
    except ValueError as error:  # pandas' own errors and wrong encodings
        raise DatasetError(
            f"{path}: not a CSV file in UTF-8 with a header line: {error}"
        ) from error


def _check_quotes(path: Path) -> None:
    """Raise DatasetError, with its line, for a quotation mark that is not closed."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        while True:
            start = lines.line_num + 1
            try:
                next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" not in str(error):
                    continue  # the reader of the table takes it as it stands, or names it
                raise DatasetError(
                    f"{path}: line {start}: a quotation mark is opened and never closed; "
                    "close or remove it"
                ) from None
