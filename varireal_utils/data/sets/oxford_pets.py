"""Oxford-IIIT Pet: 37 breeds, trimaps, in torchvision's layout.

root[/oxford-iiit-pet]/images/<breed>_<n>.jpg, annotations/{trainval,test}.txt, trimaps/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .. import splits
from ..data_set import DataSet
from ..image_record import Entry, Skipped
from ..official import Archive, Layout, demand, text_lines
from .official_spec import OfficialSpec


def _lists(name: str, spec: OfficialSpec, folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """Official class ids may have gaps; they stay as a column, labels are numbered anew."""
    lists = {s: folder / "annotations" / f"{s}.txt" for s in ("trainval", "test")}
    demand(name, spec.root, list(lists.values()))
    for kind, path in lists.items():
        for line in text_lines(path):
            stem, number = (*line.split(), "")[:2]
            if not number.isdecimal():
                reason = f"{path.name}: wanted name and class id, got the line {line!r}"
                skipped.append({"file": stem, "reason": reason})
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


_VGG = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
_IMAGES, _LISTS = "5c4f3ee8e5d25df40f4fd59a7f44e54c", "95a8c909bbe2e81eed6a22bccdf3f68f"
LAYOUT = Layout(
    name="oxford_pets",
    folder="oxford-iiit-pet",
    lists=_lists,
    needed=lambda home, spec: [
        home / p for p in ("annotations/trainval.txt", "annotations/test.txt", "images")
    ],
    key=splits.stem,
    archives=(
        Archive(f"{_VGG}annotations.tar.gz", _LISTS, 19_173_078, "annotations"),
        Archive(f"{_VGG}images.tar.gz", _IMAGES, 791_918_971, "images"),
    ),
    mirrors=("hf://timm/oxford-iiit-pet",),
    mirrored=lambda entry, row: replace(entry, class_name=_breed(entry.class_name)),
)
DATA_SET = DataSet(
    name="oxford_pets",
    about="37 breeds of cats and dogs, with trimaps",
    spec=OfficialSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    layout=LAYOUT,
    owner="Oxford-IIIT Pet",
    terms="CC BY-SA 4.0",
    classes=37,
    images=(3680, 0, 3669),
    noun="pet",
    phrases="params/prompts/oxford_pets.yaml",
    titles={"oxford_pets": "Oxford Pets"},
    paper=True,
)
