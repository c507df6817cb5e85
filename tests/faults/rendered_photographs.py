"""Rendered cars as photographs of one's own: files, masks, and the CSV that lists them."""

from __future__ import annotations

import csv
from pathlib import Path

from microworld import render
from varireal_utils.core import storage

COUNTS = {"train": 8, "val": 8, "test": 8}  # one of each class


def photographs(folder: Path) -> Path:
    """Write the photographs and masks; returns the CSV file."""
    rows = []
    for split, count in COUNTS.items():
        for index in range(count):
            shown = render.photograph("cars", split, index)
            name = f"{split}{index}.png"
            storage.write_image(folder / "photos" / name, shown.image)
            storage.write_image(folder / "masks" / name, shown.mask)
            label = shown.spec.class_name
            rows.append([f"photos/{name}", label, split, f"masks/{name}"])
    with open(folder / "cars.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "mask"], *rows])
    return folder / "cars.csv"


def replace_photograph(folder: Path) -> None:
    """Put another car of the same class in the place of the first one."""
    storage.write_image(folder / "photos/train0.png", _other().image)


def replace_mask(folder: Path) -> None:
    """Put the mask of that other car in the place of the first one's."""
    storage.write_image(folder / "masks/train0.png", _other().mask)


def _other() -> render.Photograph:
    other = render.photograph("cars", "train", 8)
    assert other.spec.class_name == render.photograph("cars", "train", 0).spec.class_name
    return other
