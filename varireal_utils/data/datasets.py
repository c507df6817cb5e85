"""Reads a data set from any source into one table: images.parquet.

    datasets.load(name, spec, study, seed) -> (table of images, table of skipped files)

What a spec may say stands in data_set.py and in the modules of data/sets; near duplicates across
splits are found in near_duplicates.py.

Invariants (tests/unit/test_datasets.py): the table, its order and the stored pixels depend on the
source, the spec and the seed alone; a bad file costs itself and nothing else, and is named in the
list of skipped files; photographs are stored once, as PNG, upright, never enlarged, so that real
and edited images have the same history; a file that already holds the pixels is left alone, so a
second run writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from ..core import storage
from ..core.seeds import seed_for
from ..core.study_paths import StudyPaths
from . import images, registry
from .data_set import DataSetSpec, Drawing, PhotographSpec
from .image_record import SPLITS, DatasetError, Entry, Skipped
from .images import ImageProblem
from .near_duplicates import leaks

__all__ = ["COLUMNS", "SPLITS", "DatasetError", "leaks", "load"]
SMALLEST = 8  # pixels of a side: what networks shrink to one feature
COLUMNS = [
    "image_id",
    "path",
    "label",
    "class_name",
    "split",
    "width",
    "height",
    "sha256",
    "mask_path",
    "paint_mask_path",
    "source_path",
    "source_sha256",
]


def load(
    name: str, spec: DataSetSpec | dict[str, Any], study: Path, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a data set and store its pictures under study/data/<name>.

    name: also the folder's name; spec: its settings, typed or as in a parameter file; seed: of the
    carved splits. Returns the table of images (columns `COLUMNS`, then the source's own), in the
    order of split and image_id, and the table of skipped files (file, reason). Masks that the
    source lacks are "". Raises DatasetError where the source itself is wrong or no image is left.
    """
    spec = registry.local(registry.parse(name, spec))
    folder = StudyPaths(Path(study)).data(name)
    skipped: Skipped = []
    draw = registry.DATA_SETS[spec.source].draw
    if draw is not None:
        rows = [_drawn(drawing, folder, study) for drawing in draw(spec)]
    else:
        rows = _photographs(name, spec, seed, folder, study, skipped)
    if not rows:
        raise DatasetError(
            f"datasets.{name}: no image could be read from {spec.place()}; "
            f"{len(skipped)} files skipped, first: {ascii(skipped[:1])}; check the path "
            "and the *_per_class keys"
        )
    rows.sort(key=lambda r: (SPLITS.index(r["split"]), r["image_id"]))
    table = pd.DataFrame(rows)
    more = [c for c in table if c not in COLUMNS]
    rows_skipped = [{key: storage.shown(text) for key, text in row.items()} for row in skipped]
    return table[[*COLUMNS, *more]], pd.DataFrame(rows_skipped, columns=["file", "reason"])


def _drawn(drawing: Drawing, folder: Path, study: Path) -> dict[str, Any]:
    """Store a drawing; returns its row."""
    row = {
        "image_id": drawing.image_id,
        "label": drawing.label,
        "class_name": drawing.class_name,
        "split": drawing.split,
    }
    row |= _store(drawing.image_id, drawing.pixels, drawing.masks, folder, study)
    return row | {"source_path": "", "source_sha256": "", **drawing.extra}


def _photographs(
    name: str, spec: Any, seed: int, folder: Path, study: Path, skipped: Skipped
) -> list[dict[str, Any]]:
    """Read and store the photographs of a source; returns their rows, classes numbered."""
    entries = registry.entries(name, spec, skipped)
    rows = _store_all(_in_turn(entries, spec, seed), spec, folder, study, skipped)
    if rows:
        _number_classes(rows, entries, skipped)
    return rows


def _in_turn(entries: list[Entry], spec: PhotographSpec, seed: int) -> list[Entry]:
    """Every entry with a split; within a class in the order of a hash: the first are taken."""
    for split in ("test", "val"):
        if not any(e.split == split for e in entries):
            entries = _carve(entries, split, spec.fraction(split), seed)
    entries = [replace(e, split=e.split or "train") for e in entries]
    taken = seed if spec.taken_by is None else spec.taken_by
    return sorted(entries, key=lambda e: (e.class_name, e.split, _rank(e, "take", taken)))


def _carve(entries: list[Entry], split: str, fraction: float, seed: int) -> list[Entry]:
    """Move a fraction of each class's undecided (else training) images to a split, by hash.

    At least one where a class has three or more, or had before one of them was carved for the test,
    and never all of a class.
    """
    tested = {e.class_name for e in entries if e.split == "test" and split == "val"}
    carved = any(not e.split for e in entries)
    pool = [e for e in entries if not e.split] or [e for e in entries if e.split == "train"]
    by_class: dict[str, list[Entry]] = {}
    for entry in pool:
        by_class.setdefault(entry.class_name, []).append(entry)
    moved: set[str] = set()
    for name, members in by_class.items():
        least = 2 if carved and name in tested else 3
        count = round(len(members) * fraction)
        count = max(count, 1 if len(members) >= least and fraction > 0 else 0)
        ranked = sorted(members, key=lambda e: _rank(e, split, seed))
        moved |= {e.image_id for e in ranked[: min(count, len(members) - 1)]}
    return [replace(e, split=split) if e.image_id in moved else e for e in entries]


def _rank(entry: Entry, what: str, seed: int) -> tuple[int, str]:
    return seed_for(seed, what, entry.image_id), entry.image_id


def _store_all(
    entries: Iterable[Entry], spec: PhotographSpec, folder: Path, study: Path, skipped: Skipped
) -> list[dict]:
    """Read, normalise and store; full classes are passed over, bad files replaced by the next."""
    rows: list[dict[str, Any]] = []
    taken: Counter[tuple[str, str]] = Counter()
    for entry in tqdm(entries, desc="images", mininterval=5):
        key = (entry.class_name, entry.split)
        if taken[key] >= spec.most(entry.split):
            continue
        try:
            picture = _open(entry)
        except ImageProblem as problem:
            skipped.append(_reason(entry.image_id, entry.file, problem))
            continue
        size = images.fitted_size(picture.size, spec.max_size, spec.side)
        if min(size) < SMALLEST:
            reason = f"stored as {size[0]} x {size[1]} pixels, wanted at least {SMALLEST} a side"
            skipped.append({"file": entry.image_id, "reason": reason})
            continue
        taken[key] += 1
        mask = _read_mask(entry, picture.size, size, skipped)
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        row = {"image_id": entry.image_id, "class_name": entry.class_name, "split": entry.split}
        row |= _store(entry.image_id, pixels, {"mask_path": mask}, folder, study)
        rows.append(
            row
            | {
                "source_path": _relative(entry.file, spec.place()),
                "source_sha256": storage.sha256_file(entry.file),
                **dict(entry.extra),
            }
        )
    return rows


def _open(entry: Entry) -> Image.Image:
    """The photograph, upright, without the banner at its bottom. Raises ImageProblem."""
    picture = images.open_image(entry.file)
    if not entry.crop_bottom:
        return picture
    if picture.height <= entry.crop_bottom:
        raise ImageProblem(
            f"{entry.file}: {picture.height} pixels high, of which the lowest "
            f"{entry.crop_bottom} should be a banner"
        )
    return picture.crop((0, 0, picture.width, picture.height - entry.crop_bottom))


def _relative(file: Path, place: Path) -> str:
    """A file as its source names it, so that a table is the same on every machine."""
    base = place if place.is_dir() else place.parent
    return (file.relative_to(base) if file.is_relative_to(base) else file).as_posix()


def _read_mask(
    entry: Entry, cropped: tuple[int, int], size: tuple[int, int], skipped: Skipped
) -> np.ndarray | None:
    """The entry's mask at the stored size; a bad mask is named, its photograph stays."""
    if entry.mask is None:
        return None
    original = (cropped[0], cropped[1] + entry.crop_bottom)
    try:
        if entry.trimap:
            values = images.open_labels(entry.mask, original)
            if not np.isin(values, (1, 2, 3)).all():
                raise ImageProblem(
                    f"{entry.mask}: a trimap holds 1, 2 and 3, got {np.unique(values)[:6].tolist()}"
                )
            mask = np.where(values != 2, 255, 0).astype(np.uint8)
        else:
            mask = images.open_mask(entry.mask, original, images.orientation(entry.file))
    except ImageProblem as problem:
        skipped.append(_reason(f"mask of {entry.image_id}", entry.mask, problem))
        return None
    kept = Image.fromarray(mask[: cropped[1]])
    return np.asarray(kept.resize(size, Image.Resampling.NEAREST))


def _reason(what: str, file: Path, problem: ImageProblem) -> dict[str, str]:
    return {"file": what, "reason": str(problem).removeprefix(f"{file}: ")}


def _store(
    image_id: str,
    pixels: np.ndarray,
    masks: dict[str, np.ndarray | None],
    folder: Path,
    study: Path,
) -> dict[str, Any]:
    """Write a picture and its masks; returns their columns."""
    name = f"{storage.slug(image_id)}.png"
    row: dict[str, Any] = {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "path": (folder / "images" / name).relative_to(study).as_posix(),
        "sha256": _write(folder / "images" / name, pixels),
        "mask_path": "",
        "paint_mask_path": "",
    }
    for column, mask in masks.items():
        if mask is not None:
            path = folder / f"{column.removesuffix('_path')}s" / name
            _write(path, mask)
            row[column] = path.relative_to(study).as_posix()
    return row


def _write(path: Path, pixels: np.ndarray) -> str:
    """Write a PNG unless the file holds these very pixels already; returns its sha256."""
    try:
        with Image.open(path) as picture:
            kept = np.asarray(picture)
        if np.array_equal(kept, pixels):
            return storage.sha256_file(path)
    except (OSError, ValueError, SyntaxError):  # absent or damaged: write it
        pass
    return storage.write_image(path, pixels)


def _number_classes(rows: list[dict], entries: list[Entry], skipped: Skipped) -> None:
    """Labels 0..C-1 by sorted class name, whatever the source's own numbers."""
    names = sorted({r["class_name"] for r in rows})
    skipped += [
        {"file": f"class {n}", "reason": "none of its images could be read; left out"}
        for n in sorted({e.class_name for e in entries} - set(names))
    ]
    trained = {r["class_name"] for r in rows if r["split"] == "train"}
    for row in rows:
        row["label"] = names.index(row["class_name"])
    skipped += [
        {"file": f"class {n}", "reason": "has no training image"} for n in names if n not in trained
    ]
