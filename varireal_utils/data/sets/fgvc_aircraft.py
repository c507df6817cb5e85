"""FGVC-Aircraft: 100 variants, 70 families or 30 manufacturers, in torchvision's layout.

root[/fgvc-aircraft-2013b][/data]/images/<n>.jpg, images_<level>_<split>.txt, <level>s.txt
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from ...core.config_base import wanted
from .. import splits
from ..data_set import DataSet
from ..image_record import SPLITS, Entry, Skipped
from ..official import LABELS, Archive, Layout, demand, text_lines
from .official_spec import OfficialSpec

LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
BANNER = 20  # pixels of copyright at the bottom of every photograph, says the data set's README


class AircraftSpec(OfficialSpec):
    """annotation_level: what a class is."""

    annotation_level: Annotated[
        Literal["variant", "family", "manufacturer"], wanted(f"one of {list(LEVELS)}")
    ] = "variant"


def _lists(name: str, spec: AircraftSpec, folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """The official lists of one level; `val` is official. The banner is cut off when stored."""
    data, lists = _data(folder), _level_lists(folder, spec)
    demand(name, spec.root, list(lists.values()))
    names = data / LEVELS[spec.annotation_level]
    known = set(text_lines(names)) if names.is_file() else set()
    for split, path in lists.items():
        for line in text_lines(path):
            number, _, class_name = line.strip().partition(" ")
            if class_name and (not known or class_name in known):
                file = data / "images" / f"{number}.jpg"
                yield Entry(number, file, class_name, split, crop_bottom=BANNER)
                continue
            what = f"a class of {names.name}" if class_name else "an image and its class"
            reason = f"{path.name}: wanted {what}, got the line {line!r}"
            skipped.append({"file": number, "reason": reason})


def _data(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _level_lists(folder: Path, spec: AircraftSpec | None) -> dict[str, Path]:
    level = spec.annotation_level if spec else "variant"
    return {s: _data(folder) / f"images_{level}_{s}.txt" for s in SPLITS}


def _files(spec: AircraftSpec) -> list[Path]:
    names = _data(LAYOUT.home(spec.root)) / LEVELS[spec.annotation_level]
    return [*LAYOUT.files(spec), names]


_VGG = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
LAYOUT = Layout(
    name="fgvc_aircraft",
    folder="fgvc-aircraft-2013b",
    lists=_lists,
    needed=lambda home, spec: [_data(home) / "images", *_level_lists(home, spec).values()],
    key=splits.stem,
    archives=(
        Archive(
            f"{_VGG}fgvc-aircraft-2013b.tar.gz",
            "d4acdd33327262359767eeaa97a4f732",
            0,
            "fgvc-aircraft-2013b",
            inner=False,
        ),
    ),
    mirrors=("hf://HuggingFaceM4/FGVC-Aircraft",),
    labels=lambda spec: (spec.annotation_level, *LABELS),
    mirrored=lambda entry, row: replace(entry, crop_bottom=BANNER),
)
DATA_SET = DataSet(
    name="fgvc_aircraft",
    about="100 variants of aircraft (or family, manufacturer); the banner is cut off",
    spec=AircraftSpec,
    read=LAYOUT.read,
    lists=_files,
    layout=LAYOUT,
    owner="FGVC-Aircraft",
    terms="research only, not commercial; photographers' rights",
    classes=100,
    images=(3334, 3333, 3333),
    noun="aircraft",
    phrases="params/prompts/fgvc_aircraft.yaml",
    titles={"fgvc_aircraft": "FGVC Aircraft"},
    paper=True,
)
