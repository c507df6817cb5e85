"""DataDream's other data sets in the layout that CoOp's authors describe, split file and all.

    source      pictures below root                split file in root
    caltech101  101_ObjectCategories/<class>/      split_zhou_Caltech101.json
    dtd         images/<class>/                    split_zhou_DescribableTextures.json
    eurosat     2750/<class>/                      split_zhou_EuroSAT.json
    sun397      SUN397/<letter>/<scene>/           split_zhou_SUN397.json
    food101     images/<class>/                    split_zhou_Food101.json
    flowers102  jpg/                               split_zhou_OxfordFlowers.json
    imagenet    images/{train,val}/<synset>/       none; classnames.txt has synset and name

A split file lists path, label and class name of every image, so it alone says what there is.
ImageNet has no public test labels: its `val` is what every paper tests on, so it is the test split
here, and `val` is carved from train. Nothing is fetched: the owners ask for a form or a licence, so
an error says what to put where.

Invariant (tests/unit/test_coop.py): every line gives one entry or one line in `skipped`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from . import splits
from .image_record import DatasetError, Entry, Skipped

# source -> folder of the pictures, split file, folder that CoOp's authors put it all into
LAYOUTS = {
    "caltech101": ("101_ObjectCategories", "split_zhou_Caltech101.json", "caltech-101"),
    "dtd": ("images", "split_zhou_DescribableTextures.json", "dtd"),
    "eurosat": ("2750", "split_zhou_EuroSAT.json", "eurosat"),
    "sun397": ("SUN397", "split_zhou_SUN397.json", "sun397"),
    "food101": ("images", "split_zhou_Food101.json", "food-101"),
    "flowers102": ("jpg", "split_zhou_OxfordFlowers.json", "oxford_flowers"),
    "imagenet": ("images", "classnames.txt", "imagenet"),
}
PICTURES = (".jpeg", ".jpg", ".png", ".tif", ".tiff")


def read(name: str, spec: dict[str, Any], skipped: Skipped) -> Iterator[Entry]:
    """Entries of one of `LAYOUTS`; adds to `skipped`. Raises DatasetError for a missing list.

    spec: source, root (the folder of the layout or the one above it), optional split: the path of
    another split file of the same form.
    """
    source = spec["source"]
    inner, listed, folder = LAYOUTS[source]
    root = Path(spec["root"])
    root = root / folder if (root / folder).is_dir() else root
    lines = Path(spec["split"]) if spec.get("split", "official") != "official" else root / listed
    for path in (lines, root / inner):
        if not path.exists():
            raise DatasetError(
                f"datasets.{name}.root: {path} is not there; put {listed} and the "
                f"folder {inner} into {root}, as CoOp's instructions for {folder} "
                "tell; nothing is fetched for this source"
            )
    if source == "imagenet":
        yield from _imagenet(lines, root / inner, skipped)
        return
    for line in splits.read(name, lines, source, skipped).values():
        if line.class_name:
            yield Entry(line.path, root / inner / line.path, _readable(line.class_name), line.split)
        else:
            skipped.append({"file": line.path, "reason": f"{lines.name}: no class name"})


def _readable(name: str) -> str:
    """CoOp's files spell some names as folders do: pink_primrose."""
    return " ".join(name.replace("_", " ").split())


def _imagenet(names: Path, pictures: Path, skipped: Skipped) -> Iterator[Entry]:
    """classnames.txt has a synset and a name on each line; two synsets may have one name, which
    would merge two classes, so such a name gets its synset behind it."""
    known: dict[str, str] = {}
    for text in names.read_text(encoding="utf-8").splitlines():
        synset, _, name = text.strip().partition(" ")
        if not name:
            if text.strip():
                skipped.append(
                    {"file": text.strip(), "reason": f"{names.name}: wanted a synset and a name"}
                )
            continue
        known[synset] = (
            f"{name.strip()} {synset}" if name.strip() in known.values() else name.strip()
        )
    for folder, split in (("train", ""), ("val", "test")):
        if not (pictures / folder).is_dir():
            raise DatasetError(
                f"{pictures / folder} is not there: ImageNet's {folder} pictures, "
                "a folder for each synset"
            )
        for home in sorted(p for p in (pictures / folder).iterdir() if p.is_dir()):
            if home.name not in known:
                skipped.append(
                    {
                        "file": f"{folder}/{home.name}",
                        "reason": f"no class of that synset in {names.name}",
                    }
                )
                continue
            for file in sorted(home.iterdir()):
                if file.suffix.lower() in PICTURES:
                    inner = PurePosixPath(folder, home.name, file.name)
                    yield Entry(str(inner), file, known[home.name], split)
