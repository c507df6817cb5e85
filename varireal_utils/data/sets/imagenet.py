"""ImageNet in CoOp's layout: root[/imagenet]/images/{train,val}/<synset>/<file>, classnames.txt.

There are no public test labels: `val` is what every paper tests on, so it is the test split here,
and `val` is carved from train.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec
from ..image_record import DatasetError, Entry, Skipped

LAYOUT = CoopLayout(folder="imagenet", pictures="images", listed="classnames.txt")
PICTURES = (".jpeg", ".jpg", ".png", ".tif", ".tiff")


def read(name: str, spec: FolderSpec, skipped: Skipped) -> Iterator[Entry]:
    """Entries of both folders; adds to `skipped`. Raises DatasetError for what is missing."""
    names, pictures = LAYOUT.places(name, spec)
    known = _class_names(names, skipped)
    for folder, split in (("train", ""), ("val", "test")):
        if not (pictures / folder).is_dir():
            raise DatasetError(
                f"{pictures / folder} is not there: ImageNet's {folder} pictures, "
                "a folder for each synset"
            )
        for home in sorted(p for p in (pictures / folder).iterdir() if p.is_dir()):
            if home.name not in known:
                reason = f"no class of that synset in {names.name}"
                skipped.append({"file": f"{folder}/{home.name}", "reason": reason})
                continue
            for file in sorted(home.iterdir()):
                if file.suffix.lower() in PICTURES:
                    inner = PurePosixPath(folder, home.name, file.name)
                    yield Entry(str(inner), file, known[home.name], split)


def _class_names(path: Path, skipped: Skipped) -> dict[str, str]:
    """Synset -> class name. Two synsets may have one name, which would merge two classes, so such a
    name gets its synset behind it."""
    known: dict[str, str] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        synset, _, name = (part.strip() for part in text.strip().partition(" "))
        if name:
            known[synset] = f"{name} {synset}" if name in known.values() else name
        elif synset:
            reason = f"{path.name}: wanted a synset and a name"
            skipped.append({"file": synset, "reason": reason})
    return known


DATA_SET = DataSet(
    name="imagenet",
    about="1,000 classes, in CoOp's layout; the official val is the test split",
    spec=FolderSpec,
    read=read,
    lists=LAYOUT.files,
    owner="ImageNet",
    terms="research and education only, not commercial; no passing on",
)
