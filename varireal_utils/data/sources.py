"""Where photographs come from: each source as a list of entries, before any picture is read.

Invariant (tests/unit/test_datasets.py): entries depend on the source's files alone; what is
wrong with one line or file is named in `skipped` and costs nothing else; what is wrong with a whole
source is a `DatasetError`. What the keys of a spec mean is told in datasets.py; the papers' data
sets are read in data/dataset_readers.py and coop.py, fetched in downloads.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microworld.feasibility import FAMILIES

from ..core import storage
from . import coop, dataset_readers, downloads
from .image_record import SPLIT_NAMES, SPLITS, DatasetError, Entry, Skipped, read_lines

__all__ = [
    "KEYS",
    "SPLITS",
    "DatasetError",
    "Entry",
    "Skipped",
    "check",
    "entries",
    "local",
    "place",
]
_COUNTS = ("train_per_class", "val_per_class", "test_per_class")
_FRACTIONS = ("val_fraction", "test_fraction")
_OUTSIDE = (*_FRACTIONS, *_COUNTS, "limit_per_class", "max_size", "side")
_OFFICIAL = ("root", "split", "download", *_OUTSIDE)
KEYS = {
    "world": ("family", *_COUNTS),
    "oxford_pets": _OFFICIAL,
    "fgvc_aircraft": (*_OFFICIAL, "annotation_level"),
    "stanford_cars": _OFFICIAL,
    "waterbirds": _OFFICIAL,
    **dict.fromkeys(coop.LAYOUTS, ("root", "split", *_OUTSIDE)),
    "imagefolder": ("root", "masks", *_OUTSIDE),
    "csv": ("path", *_OUTSIDE),
}
_NEEDED = {"world": KEYS["world"], "csv": ("path",)}


def entries(name: str, spec: dict[str, Any], skipped: Skipped) -> list[Entry]:
    """All entries of a source outside the world; adds to `skipped`. Raises DatasetError.

    An image_id that comes twice keeps its first entry, so that ids are unique.
    """
    kept: dict[str, Entry] = {}
    for entry in _READERS[spec["source"]](name, spec, skipped):
        if kept.setdefault(entry.image_id, entry) is not entry:
            skipped.append(
                {"file": entry.image_id, "reason": "listed twice; its first line counts"}
            )
    return list(kept.values())


def check(name: str, spec: dict[str, Any]) -> None:
    """Name and keys of a data set's spec. Raises DatasetError."""
    if name != storage.slug(name):
        raise DatasetError(
            f"datasets.{name}: the name is a folder's name: lower-case letters, "
            "digits, _ and - please"
        )
    source = spec.get("source")
    if not isinstance(source, str) or source not in KEYS:
        raise DatasetError(f"datasets.{name}.source: got {source!r}, wanted one of {sorted(KEYS)}")
    for key in spec:
        if key != "source" and key not in KEYS[source]:
            near = difflib.get_close_matches(str(key), KEYS[source], 1) or sorted(KEYS[source])
            raise DatasetError(
                f"datasets.{name}.{key}: source {source} knows no such key; did you mean {near}?"
            )
    missing = [k for k in _NEEDED.get(source, ("root",)) if k not in spec]
    if missing:
        raise DatasetError(f"datasets.{name}: source {source} needs {missing}")
    for key, value in spec.items():
        wanted = _wanted(key, value)
        if wanted:
            raise DatasetError(f"datasets.{name}.{key}: got {value!r}, wanted {wanted}")


def _wanted(key: str, value: object) -> str:
    """What a key's value should have been; "" where it is right."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and isinstance(value, int)
    if key == "family":
        return "" if isinstance(value, str) and value in FAMILIES else f"one of {list(FAMILIES)}"
    if key == "side":
        return "" if value in ("longest", "shortest") else "longest or shortest"
    if key in (*_COUNTS, "limit_per_class"):
        return "" if whole and value >= 0 else "a whole number, 0 or more"
    if key in _FRACTIONS:
        return "" if number and 0 <= value < 1 else "a number from 0 to below 1"
    if key == "download":
        return "" if isinstance(value, bool) else "true or false"
    if key == "annotation_level":
        known = isinstance(value, str) and value in dataset_readers.LEVELS
        return "" if known else f"one of {list(dataset_readers.LEVELS)}"
    if key == "max_size":
        ok = value is None or (whole and value >= 1)
        return "" if ok else "a whole number of pixels, or null for no limit"
    if key in ("root", "path", "masks", "split"):
        return "" if isinstance(value, str | Path) and str(value) else "a path (split: or official)"
    return ""


def local(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with a root on this machine, fetched where it says `download` or hf://.

    A root that holds everything is left alone, without a look at the network. Raises DatasetError
    (a DownloadError where it is the network's fault).
    """
    if spec["source"] not in dataset_readers.HOMES:
        return spec
    if str(spec["root"]).startswith("hf://"):
        return spec | {"root": str(downloads.fetch(spec["source"], spec["root"]))}
    if spec.get("download", False) and dataset_readers.lacking(spec):
        downloads.fetch(spec["source"], spec["root"])
    return spec


def place(spec: dict[str, Any]) -> Path:
    """The folder or file that a spec names."""
    return Path(spec.get("root") or spec.get("path") or "the world")


def _imagefolder(name: str, spec: dict[str, Any], skipped: Skipped) -> Iterator[Entry]:
    """[split/]class/image; where every folder is named like a split they are splits.

    A class is called as its folder, with spaces for underscores, since sentences are made of it.
    """
    root, called = Path(spec["root"]), {}
    if not root.is_dir():
        raise DatasetError(f"datasets.{name}.root: {root} is no folder")
    if "masks" in spec and not Path(spec["masks"]).is_dir():
        raise DatasetError(
            f"datasets.{name}.masks: {spec['masks']} is no folder; leave the key "
            "out where there are no masks"
        )
    tops = _folders(root)
    splits = {p: SPLIT_NAMES.get(p.name.lower(), "") for p in tops}
    nested = bool(tops) and all(splits.values()) and "train" in splits.values()
    if not nested and {"train", "test"} <= set(splits.values()):
        others = [p.name for p, split in splits.items() if not split]
        raise DatasetError(
            f"datasets.{name}.root: {root} holds folders of splits and others: "
            f"{others}; move those out of it, or list the images in a CSV"
        )
    for folder in [root, *(tops if nested else [])]:
        skipped += [
            {
                "file": p.relative_to(root).as_posix(),
                "reason": "lies beside the folders of the classes, in none",
            }
            for p in _files(folder, deep=False)
        ]
    for top in tops:
        for home in _folders(top) if nested else [top]:
            files = _files(home, deep=True)
            if not files:
                raise DatasetError(
                    f"datasets.{name}.root: class {home.name!r} is empty: {home} "
                    "holds no file; fill the folder or remove it"
                )
            class_name = home.name.replace("_", " ").strip() or home.name
            if (other := called.setdefault(class_name, home.name)) != home.name:
                raise DatasetError(
                    f"datasets.{name}.root: the folders {other!r} and {home.name!r} "
                    f"both name the class {class_name!r}; rename one, or join them"
                )
            for file in files:
                inner = file.relative_to(root).as_posix()
                if file.parent != home:
                    skipped.append(
                        {
                            "file": inner,
                            "reason": "in a folder inside the folder of "
                            f"class {home.name!r}; list such classes in a CSV",
                        }
                    )
                    continue
                mask = Path(spec["masks"], inner).with_suffix(".png") if "masks" in spec else None
                yield Entry(
                    inner,
                    file,
                    class_name,
                    splits[top] if nested else "",
                    mask if mask and mask.exists() else None,
                )


def _files(folder: Path, deep: bool) -> list[Path]:
    """Files in order, without what operating systems leave behind."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        p
        for p in found
        if p.is_file() and not p.name.startswith(".") and p.name not in ("Thumbs.db", "desktop.ini")
    )


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _csv(name: str, spec: dict[str, Any], skipped: Skipped) -> Iterator[Entry]:
    """Paths are relative to the CSV's folder; labels are class names, whatever they look like."""
    path = Path(spec["path"])
    if not path.is_file():
        raise DatasetError(f"datasets.{name}.path: {path}: no such file")
    table = read_lines(path, skipped)
    missing = [c for c in ("path", "label") if c not in table]
    if missing:
        raise DatasetError(f"{path}: lacks the columns {missing}; it has {list(table)}")
    for row in table.to_dict("records"):
        split = row.get("split", "").strip().lower()
        reason = (
            "no label"
            if not row["label"].strip()
            else f"split {row['split']!r} is none of {SPLITS}"
            if split and split not in SPLIT_NAMES
            else ""
        )
        if reason:
            skipped.append({"file": row["path"], "reason": reason})
            continue
        yield Entry(
            row["path"],
            path.parent / row["path"],
            row["label"].strip(),
            SPLIT_NAMES.get(split, ""),
            path.parent / row["mask"] if row.get("mask") else None,
        )


_READERS = {
    **dict.fromkeys(dataset_readers.HOMES, dataset_readers.read),
    **dict.fromkeys(coop.LAYOUTS, coop.read),
    "imagefolder": _imagefolder,
    "csv": _csv,
}
