"""A list of images as a CSV file: columns path, label; perhaps split, mask."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from ..data_set import DataSet, PathText, PhotographSpec
from ..image_record import SPLIT_NAMES, SPLITS, DatasetError, Entry, Skipped, read_lines


class CsvSpec(PhotographSpec):
    """path: the CSV file; the paths in it are relative to its folder."""

    path: PathText

    def place(self) -> Path:
        """The file that the photographs come from."""
        return Path(self.path)


def read(name: str, spec: CsvSpec, skipped: Skipped) -> Iterator[Entry]:
    """Entries of the lines; labels are class names, whatever they look like."""
    path = Path(spec.path)
    if not path.is_file():
        raise DatasetError(f"datasets.{name}.path: {path}: no such file")
    table = read_lines(path, skipped)
    missing = [c for c in ("path", "label") if c not in table]
    if missing:
        raise DatasetError(f"{path}: lacks the columns {missing}; it has {list(table)}")
    for row in table.to_dict("records"):
        split = row.get("split", "").strip().lower()
        reason = (
            "runs over several lines; is there a quotation mark too many?"
            if any("\n" in row.get(c, "") for c in ("path", "label", "split", "mask"))
            else "no label"
            if not row["label"].strip()
            else f"split {row['split']!r} is none of {SPLITS}"
            if split and split not in SPLIT_NAMES
            else ""
        )
        if reason:
            skipped.append({"file": row["path"].split("\n")[0], "reason": reason})
            continue
        yield Entry(
            row["path"],
            _found(path.parent / row["path"]),
            unicodedata.normalize("NFC", row["label"].strip()),
            SPLIT_NAMES.get(split, ""),
            _found(path.parent / row["mask"]) if row.get("mask") else None,
        )


def _found(path: Path) -> Path:
    """The file, also where the disk spells its name in another Unicode form than the list."""
    try:
        forms = [Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]
        return next((p for p in (path, *forms) if p.exists()), path)
    except (OSError, ValueError):  # a name that no file can have; the reader of images says so
        return path


DATA_SET = DataSet(
    name="csv",
    about="your images, listed in a CSV file: path, label, perhaps split, mask",
    spec=CsvSpec,
    read=read,
    lists=lambda spec: [Path(spec.path)],
)
