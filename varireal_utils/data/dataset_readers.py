"""The papers' data sets in their official layouts: Pets, Aircraft, Cars and Waterbirds.

    source         what lies under root, or under root/<folder>          classes
    oxford_pets    oxford-iiit-pet/{images,annotations}                  37
    fgvc_aircraft  fgvc-aircraft-2013b/data (torchvision's layout)       100 variants
    stanford_cars  stanford_cars/{cars_train,cars_test,devkit} and
                   cars_test_annos_withlabels.mat                        196
    waterbirds     waterbird_complete95_forest2water2/metadata.csv       2

The official lists say what is an image and what its class is; `split` (official, or the path of a
split file, see splits.py) says only who learns from it.

Invariant (tests/unit/test_official.py): every line of a list gives one entry or one line in
`skipped`; class names stay as they are written, so that names differing in case alone stay two
classes (but Pets' breeds, which the files' names spell in two ways, come in title case).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from . import splits
from .image_record import SPLITS, DatasetError, Entry, Skipped, read_lines

HOMES = {
    "oxford_pets": "oxford-iiit-pet",
    "fgvc_aircraft": "fgvc-aircraft-2013b",
    "stanford_cars": "stanford_cars",
    "waterbirds": "waterbird_complete95_forest2water2",
}
LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
MIRROR = "mirror.csv"  # made by hub.py of a mirror's parquet files
BANNER = 20  # pixels of copyright at the bottom of every Aircraft photograph, says its README


def read(name: str, spec: dict[str, Any], skipped: Skipped) -> Iterator[Entry]:
    """Entries of an official layout, or of a mirror's parquet files as hub.py leaves them.

    Images that the split file does not name, and names in it that no list knows, are named in
    `skipped`. Raises DatasetError where a list is missing or is no list.
    """
    source, folder = spec["source"], home(spec)
    chosen = spec.get("split", "official")
    lines = {} if chosen == "official" else splits.read(name, Path(chosen), source, skipped)
    if (folder / MIRROR).is_file():
        found = _mirror(name, spec, folder, skipped)
    elif source == "stanford_cars" and lacking(spec) and any(x.class_name for x in lines.values()):
        found = _cars_of_split(folder, lines)
    else:
        found = _LISTS[source](name, spec, folder, skipped)
    if chosen == "official":
        yield from found
        return
    known = set()
    for entry in found:
        key = splits.key(source, entry.image_id)
        known.add(key)
        if key in lines:
            yield replace(entry, split=lines[key].split)
        else:
            skipped.append({"file": entry.image_id, "reason": f"not in {chosen}"})
    skipped += [
        {"file": line.path, "reason": f"in {chosen}, but in no official list"}
        for key, line in lines.items()
        if key not in known
    ]


def home(spec: dict[str, Any]) -> Path:
    """The folder that holds the layout: root, or the data set's own folder in it."""
    root = Path(spec["root"])
    inner = root / HOMES[spec["source"]]
    return inner if inner.is_dir() else root


def lacking(spec: dict[str, Any]) -> list[str]:
    """What the reader needs and does not find, e.g. ["images"]; the split file does not count."""
    base = home(spec)
    if (base / MIRROR).is_file():
        return []
    needed = {
        "oxford_pets": ["annotations/trainval.txt", "annotations/test.txt", "images"],
        "fgvc_aircraft": ["images", *(p.name for p in _level_lists(base, spec).values())],
        "stanford_cars": [
            "cars_train",
            "cars_test",
            "devkit/cars_train_annos.mat",
            "devkit/cars_meta.mat",
            "cars_test_annos_withlabels.mat",
        ],
        "waterbirds": ["metadata.csv"],
    }[spec["source"]]
    base = _data(base) if spec["source"] == "fgvc_aircraft" else base
    return [p for p in needed if not ((base / p).exists() or (base / "devkit" / p).exists())]


def _demand(name: str, root: object, files: list[Path]) -> None:
    """Raises DatasetError for the first of the files that is not there."""
    for path in files:
        if not path.is_file():
            raise DatasetError(
                f"datasets.{name}.root: {path} is not there; root ({root}) is the "
                "folder of the data set or the one above it; download: true "
                "fetches what is missing"
            )


def _text_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise DatasetError(f"{path}: not a text file in UTF-8: {error}; fetch it again") from error
    return [s for s in text.splitlines() if s.strip() and not s.startswith("#")]


def _pets(name: str, spec: dict[str, Any], folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """Official class ids may have gaps; they stay as a column, labels are numbered anew."""
    lists = {s: folder / "annotations" / f"{s}.txt" for s in ("trainval", "test")}
    _demand(name, spec["root"], list(lists.values()))
    for kind, path in lists.items():
        for line in _text_lines(path):
            stem, number = (*line.split(), "")[:2]
            if not number.isdecimal():
                skipped.append(
                    {
                        "file": stem,
                        "reason": f"{path.name}: wanted name and class id, got the line {line!r}",
                    }
                )
                continue
            trimap = folder / "annotations" / "trimaps" / f"{stem}.png"
            yield Entry(
                stem,
                folder / "images" / f"{stem}.jpg",
                _breed(stem.rsplit("_", 1)[0]),
                "" if kind == "trainval" else "test",
                trimap if trimap.exists() else None,
                True,
                (("official_id", int(number)),),
            )


def _breed(name: str) -> str:
    return name.replace("_", " ").title()


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _level_lists(folder: Path, spec: dict[str, Any]) -> dict[str, Path]:
    level = spec.get("annotation_level", "variant")
    return {s: _data(folder) / f"images_{level}_{s}.txt" for s in SPLITS}


def _aircraft(name: str, spec: dict[str, Any], folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """The official lists of one level; `val` is official. The banner is cut off when stored."""
    data, lists = _data(folder), _level_lists(folder, spec)
    _demand(name, spec["root"], list(lists.values()))
    names = data / LEVELS[spec.get("annotation_level", "variant")]
    known = set(_text_lines(names)) if names.is_file() else set()
    for split, path in lists.items():
        for line in _text_lines(path):
            number, _, class_name = line.strip().partition(" ")
            if not class_name or (known and class_name not in known):
                wanted = f"a class of {names.name}" if class_name else "an image and its class"
                skipped.append(
                    {
                        "file": number,
                        "reason": f"{path.name}: wanted {wanted}, got the line {line!r}",
                    }
                )
                continue
            yield Entry(
                number, data / "images" / f"{number}.jpg", class_name, split, crop_bottom=BANNER
            )


def _cars(name: str, spec: dict[str, Any], folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """The devkit's lists; label ids start at 1 and stay as a column. `val` is carved from train."""
    names, labels = folder / "devkit" / "cars_meta.mat", "cars_test_annos_withlabels.mat"
    lists = {"train": folder / "devkit" / "cars_train_annos.mat", "test": folder / labels}
    if not lists["test"].is_file() and (folder / "devkit" / labels).is_file():
        lists["test"] = folder / "devkit" / labels
    _demand(name, spec["root"], [names, *lists.values()])
    classes = [str(c).strip() for c in _mat(names, "class_names")]
    for split, path in lists.items():
        rows = _mat(path, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise DatasetError(
                f"{path}: its annotations have the fields {rows.dtype.names}, "
                f"wanted fname and class; {labels} holds the test labels"
            )
        for row in rows:
            file, number = str(row["fname"]), int(row["class"])
            if not 1 <= number <= len(classes):
                skipped.append(
                    {
                        "file": f"cars_{split}/{file}",
                        "reason": f"{path.name}: class id "
                        f"{number}; ids run from 1 to {len(classes)}",
                    }
                )
                continue
            yield _car(
                folder,
                f"cars_{split}",
                file,
                "" if split == "train" else split,
                classes[number - 1],
                number,
            )


def _cars_of_split(folder: Path, lines: dict[str, splits.Line]) -> Iterator[Entry]:
    """CoOp's JSON has paths and classes too, and stands in for a devkit that is not there."""
    for key, line in lines.items():
        part, stem = f"cars_{key}".rsplit("/", 1)
        yield _car(
            folder,
            part,
            f"{stem}{PurePosixPath(line.path).suffix}",
            line.split,
            _year_last(line.class_name),
            line.label + 1,
        )


def _car(folder: Path, part: str, file: str, split: str, class_name: str, number: int) -> Entry:
    pictures = folder / part
    if (pictures / part).is_dir():  # as some mirrors pack it
        pictures /= part
    return Entry(
        f"{part}/{Path(file).stem}",
        pictures / file,
        class_name,
        split,
        extra=(("official_id", number),),
    )


def _year_last(class_name: str) -> str:
    """CoOp writes "2012 Audi TTS Coupe" for the official "Audi TTS Coupe 2012"."""
    year = re.fullmatch(r"(\d{4}) (.+)", class_name)
    return f"{year[2]} {year[1]}" if year else class_name


def _mat(path: Path, key: str) -> np.ndarray:
    """A one-dimensional array of a MATLAB file. Raises DatasetError."""
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[key])
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise DatasetError(
            f"{path}: wanted a MATLAB file with {key!r}: {type(error).__name__}: "
            f"{error}; fetch it again"
        ) from error


def _waterbirds(name: str, spec: dict[str, Any], folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """y: 0 landbird, 1 waterbird; split: 0 train, 1 val, 2 test; place: 0 land, 1 water."""
    path = folder / "metadata.csv"
    _demand(name, spec["root"], [path])
    table = read_lines(path, skipped)
    wanted = {"y": ("landbird", "waterbird"), "split": SPLITS, "place": ("land", "water")}
    missing = [c for c in ("img_filename", *wanted) if c not in table]
    if missing:
        raise DatasetError(f"{path}: lacks the columns {missing}; it has {list(table)}")
    for row in table.to_dict("records"):
        bad = [
            c for c, names in wanted.items() if row[c] not in [str(i) for i in range(len(names))]
        ]
        if bad:
            skipped.append(
                {
                    "file": row["img_filename"],
                    "reason": f"{path.name}: {bad[0]} is "
                    f"{row[bad[0]]!r}, wanted 0 to {len(wanted[bad[0]]) - 1}",
                }
            )
            continue
        bird, split, where = (names[int(row[c])] for c, names in wanted.items())
        yield Entry(
            row["img_filename"],
            folder / row["img_filename"],
            bird,
            split,
            extra=(("place", where),),
        )


def _mirror(name: str, spec: dict[str, Any], folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """The table that hub.unpack makes: path, split, name, and the mirror's own columns."""
    table, source = read_lines(folder / MIRROR, skipped), spec["source"]
    columns = [spec.get("annotation_level", "variant")] if source == "fgvc_aircraft" else []
    columns += ["label", "labels", "class", "y"]
    column = next((c for c in columns if c in table), None)
    if column is None:
        raise DatasetError(
            f"datasets.{name}.root: the mirror ({folder}) has the columns "
            f"{list(table)}, wanted one of {columns} with class names"
        )
    if "test" not in set(table["split"]):
        raise DatasetError(
            f"datasets.{name}.root: the mirror ({folder}) has the splits "
            f"{sorted(set(table['split']))}; without the official test images it "
            "is no mirror; name another"
        )
    if table[column].str.isdecimal().all():
        raise DatasetError(
            f"datasets.{name}.root: the mirror ({folder}) has numbers in {column} "
            "and no names to them; name another"
        )
    for row in table.to_dict("records"):
        if not row[column]:
            skipped.append({"file": row["name"], "reason": f"{MIRROR}: no class name in {column}"})
            continue
        class_name = _breed(row[column]) if source == "oxford_pets" else row[column]
        yield Entry(
            row["name"],
            folder / row["path"],
            class_name,
            row["split"],
            extra=(("place", row["place"]),) if source == "waterbirds" and row.get("place") else (),
            crop_bottom=BANNER if source == "fgvc_aircraft" else 0,
        )


_LISTS = {
    "oxford_pets": _pets,
    "fgvc_aircraft": _aircraft,
    "stanford_cars": _cars,
    "waterbirds": _waterbirds,
}
