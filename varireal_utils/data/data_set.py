"""Defines an entry of the registry of data sets and the typed settings of a data set.

    DataSet          an entry of the registry (registry.py): reader, settings, terms, sizes, names
    DataSetSpec      settings of every data set (`datasets.<name>` in a parameter file)
    PhotographSpec   settings of every data set of photographs: splits, numbers, size
    FolderSpec       of photographs below one folder

symbols   source   name of an entry: oxford_pets, csv, ...
          name     what a study calls the data set: a key below `datasets`

Invariant (tests/unit/test_registry.py): every key, bound and default of a spec stands in its class,
and each error names data set, key, value and what was wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field

from ..core.config_base import PATH, TOP, Settings, wanted
from ..core.seeds import seed_for
from .image_record import SPLITS, Entry, Skipped
from .official import Layout

Sizes = tuple[dict[str, int], int, str]  # images of each split, classes, where that is known from
PIXELS = 0.75  # of the square around a photograph, by its longest side: 4 to 3


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


PathText = Annotated[
    str, Field(min_length=1), wanted("a path (split: or official)"), BeforeValidator(_text), PATH
]
PerClass = Annotated[int, Field(ge=0, lt=TOP), wanted("a whole number, 0 or more")]
Fraction = Annotated[
    float, Field(ge=0, lt=1, allow_inf_nan=False), wanted("a number from 0 to below 1")
]
Switch = Annotated[bool, wanted("true or false")]


class DataSetSpec(Settings):
    """Settings of one data set of a study."""

    source: str

    def of_replicate(self, seed: int, index: int) -> Self:
        """These settings for one replicate of a study. seed: the study's."""
        return self

    def values(self) -> dict[str, dict[str, list[str]]]:
        """attribute -> arm -> its values, where a replicate of this source holds values out; else
        nothing."""
        return {}

    def phrase_family(self, name: str) -> str:
        """The family of phrases that data set `name` takes from a phrase file."""
        return name

    def place(self) -> Path:
        """The folder or file that the photographs come from."""
        return Path(self.source)

    def sizes(self, data_set: DataSet) -> Sizes | None:
        """Images and classes before anything is read; None where unknown."""
        return None

    def pixels(self) -> float:
        """Number of pixels of a stored photograph, about."""
        return PIXELS * 1024**2


class PhotographSpec(DataSetSpec):
    """val_fraction, test_fraction: of each class, where the source has no such split; *_per_class:
    at most so many, limit_per_class for all three; max_size: pixels of `side`, None for any;
    resample: each replicate takes others of the photographs of each split, as many as these numbers
    say; taken_by: the seed that they are taken by, None for the study's."""

    val_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    train_per_class: PerClass | None = None
    val_per_class: PerClass | None = None
    test_per_class: PerClass | None = None
    limit_per_class: PerClass | None = None
    max_size: Annotated[
        int | None,
        Field(ge=1, lt=TOP),
        wanted("a whole number of pixels, or null for no limit"),
    ] = 1024
    side: Annotated[Literal["longest", "shortest"], wanted("longest or shortest")] = "longest"
    resample: Switch = False
    taken_by: Annotated[int | None, wanted("an int, or null for the study's seed")] = None

    def of_replicate(self, seed: int, index: int) -> Self:
        """These settings for one replicate, which takes its own photographs under `resample`."""
        if not self.resample:
            return self
        return self.model_copy(update={"taken_by": seed_for(seed, "replicate", index)})

    def most(self, split: str) -> float:
        """The largest number of images of a class in a split."""
        own = getattr(self, f"{split}_per_class")
        found = self.limit_per_class if own is None else own
        return math.inf if found is None else found

    def fraction(self, split: str) -> float:
        """The share of each class that a split (val or test) takes where the source has none."""
        return float(getattr(self, f"{split}_fraction"))

    def pixels(self) -> float:
        """Number of pixels of a stored photograph, about."""
        return PIXELS * (self.max_size or 1024) ** 2


class FolderSpec(PhotographSpec):
    """root: the folder of the data set or the one above it; split: official, or a split file
    (splits.py)."""

    root: PathText
    split: PathText = "official"

    def place(self) -> Path:
        """The folder that the photographs come from."""
        return Path(self.root)

    def split_file(self) -> Path | None:
        """The split file, None for the official split."""
        return None if self.split == "official" else Path(self.split)

    def sizes(self, data_set: DataSet) -> Sizes | None:
        """Images by the official lists; None with another split or without such lists."""
        if not data_set.images or self.split != "official":
            return None
        counts = dict(zip(SPLITS, data_set.images, strict=True))
        if not counts["val"]:
            counts["val"] = round(counts["train"] * self.val_fraction)
            counts["train"] -= counts["val"]
        most = {split: data_set.classes * self.most(split) for split in SPLITS}
        kept = {split: int(min(n, most[split])) for split, n in counts.items()}
        return kept, data_set.classes, "the official lists"


@dataclass(frozen=True)
class Drawing:
    """A picture that a source makes itself. pixels: (H, W, 3) uint8; masks: column -> (H, W) uint8
    0 | 255, or None; extra: further columns of the table."""

    image_id: str
    label: int
    class_name: str
    split: str
    pixels: np.ndarray
    masks: dict[str, np.ndarray | None]
    extra: dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """Everything that is known of one source of photographs.

    name       as `source` in a parameter file
    about      what it holds and where, one line for listings
    spec       the class of its settings
    read       (name, spec, skipped) -> entries; or
    draw       spec -> drawings, of a source that makes its own pictures
    lists      spec -> files and folders that it reads beside the photographs of its entries
    layout     an official layout with archives and mirrors, where there is one
    owner      what its owners call it; terms: of use, as they state them
    classes    number of classes, images: of train, val (0: carved from train), test, by the
               official lists; 0 and () where unknown
    noun       what its photographs show, in sentences; phrases: its own phrase file
    titles     data set's name in a study -> its name in figures
    paper      whether VariReal's published results are of it
    """

    name: str
    about: str
    spec: type[DataSetSpec]
    read: Callable[[str, Any, Skipped], Iterator[Entry]] | None = None
    draw: Callable[[Any], Iterator[Drawing]] | None = None
    lists: Callable[[Any], Iterable[Path]] = lambda spec: ()
    layout: Layout | None = None
    owner: str = ""
    terms: str = ""
    classes: int = 0
    images: tuple[int, ...] = ()
    noun: str = ""
    phrases: str = ""
    titles: dict[str, str] = field(default_factory=dict)
    paper: bool = False
