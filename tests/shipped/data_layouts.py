"""A few pictures of every public data set in its real layout: lists, names and folders as there.

    lay_out(settings, root)   writes what `source` reads below `root`; the settings with that root

Every class has pictures in every split. Pictures are noise with a bright blob, 48 x 64 pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from varireal_utils.data import registry
from varireal_utils.data.coop import CoopLayout

SPLITS = {"train": 3, "val": 1, "test": 2}  # pictures of a class
BREEDS = ("Birman", "basset_hound", "japanese_chin")
VARIANTS = ("737-300", "F-16A/B", "BAE 146-200")
MODELS = ("Audi TTS Coupe 2012", "Ram C/V Cargo Van Minivan 2012", "Bugatti Veyron 16.4 Coupe 2009")
SYNSETS = {"n01440764": "tench", "n02012849": "crane", "n03126707": "crane"}


def picture(file: Path, seed: int, height: int = 48) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (height, 64, 3))
    top, left = rng.integers(6, 14, 2)
    pixels[top : top + 24, left : left + 30] = rng.integers(120, 250, 3) + rng.integers(
        0, 6, (24, 30, 1)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file, quality=95)


def numbers(split: str) -> Iterator[int]:
    """Numbers of the pictures of a class in a split; no two splits share one."""
    start = {"train": 1, "val": 11, "test": 21}[split]
    return iter(range(start, start + SPLITS[split]))


def pets(home: Path) -> None:
    """trainval.txt and test.txt; trimaps of every other picture."""
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for i, breed in enumerate(BREEDS):
        for split in SPLITS:
            for n in numbers(split):
                stem = f"{breed}_{n}"
                lines["test" if split == "test" else "trainval"].append(f"{stem} {i + 1} 1 1")
                picture(home / "images" / f"{stem}.jpg", 100 * i + n)
                if n % 2:
                    trimap = np.full((48, 64), 2, np.uint8)
                    trimap[10:34, 10:40] = 1
                    (home / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
                    Image.fromarray(trimap).save(home / "annotations" / "trimaps" / f"{stem}.png")
    for name, text in lines.items():
        (home / "annotations" / f"{name}.txt").write_text("\n".join(text) + "\n")


def aircraft(home: Path) -> None:
    data, seed = home / "data", 0
    (data / "images").mkdir(parents=True)
    for split in SPLITS:
        lines = []
        for variant in VARIANTS:
            for _ in numbers(split):
                seed += 1
                picture(data / "images" / f"{seed:07d}.jpg", seed, height=68)  # 20 of the banner
                lines.append(f"{seed:07d} {variant}")
        (data / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    (data / "variants.txt").write_text("\n".join(VARIANTS) + "\n")


def cars(home: Path) -> None:
    """The devkit's lists; train and test use the same file names for different pictures."""
    for part, lists in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for i in range(4 * len(MODELS)):
            file = f"{i + 1:05d}.jpg"
            picture(home / f"cars_{part}" / file, i + 100 * (part == "test"))
            rows.append((1, 1, 9, 9, i % len(MODELS) + 1, file))
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
        table = np.empty((1, len(rows)), dtype=[(f, "O") for f in fields])
        for i, row in enumerate(rows):
            table[0, i] = row
        (home / "devkit").mkdir(parents=True, exist_ok=True)
        savemat(home / lists, {"annotations": table})
    names = np.empty((1, len(MODELS)), dtype=object)
    names[0, :] = MODELS
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": names})


def waterbirds(home: Path) -> None:
    rows = []
    for y, bird in enumerate(("004.Groove_billed_Ani", "001.Black_footed_Albatross")):
        for s, split in enumerate(SPLITS):
            for n in numbers(split):
                file = f"{bird}/{bird}_{n}.jpg"
                picture(home / file, 100 * y + n)
                rows.append({"img_filename": file, "y": y, "split": s, "place": n % 2})
    pd.DataFrame(rows).to_csv(home / "metadata.csv", index=False)


def coop(layout: CoopLayout, home: Path) -> None:
    """CoOp's split file; names with underscores and a slash, as there."""
    lists: dict[str, list] = {}
    for split in SPLITS:
        for i, name in enumerate(("pink_primrose", "annual crop", "baluster/handrail")):
            for n in numbers(split):
                file = f"{name.replace('/', '_')}/{n:04d}.jpg"
                picture(home / layout.pictures / file, 100 * i + n)
                lists.setdefault(split, []).append([file, i, name])
    (home / layout.listed).write_text(json.dumps(lists))


def imagenet(home: Path) -> None:
    """Two synsets of one name; `val` is the test split."""
    for i, synset in enumerate(SYNSETS):
        for split, folder in (("train", "train"), ("val", "train"), ("test", "val")):
            for n in numbers(split):
                name = f"ILSVRC2012_{n:08d}.JPEG" if folder == "val" else f"{synset}_{n}.JPEG"
                picture(home / "images" / folder / synset / name, 100 * i + n)
    (home / "classnames.txt").write_text("".join(f"{s} {n}\n" for s, n in SYNSETS.items()))


def folder(home: Path) -> None:
    for i, name in enumerate(("grey_cat", "two words", "A$AP")):
        for n in range(1, 7):
            picture(home / name / f"{n}.png", 100 * i + n)


def csv(file: Path) -> None:
    rows = []
    for i, name in enumerate(("NA", "$5_$10")):
        for n in range(1, 7):
            picture(file.parent / f"pictures/{i}-{n}.png", 100 * i + n)
            rows.append({"path": f"pictures/{i}-{n}.png", "label": name})
    pd.DataFrame(rows).to_csv(file, index=False)


OFFICIAL: dict[str, Callable[[Path], None]] = {
    "oxford_pets": pets,
    "fgvc_aircraft": aircraft,
    "stanford_cars": cars,
    "waterbirds": waterbirds,
}


def lay_out(settings: dict[str, Any], root: Path) -> dict[str, Any]:
    """Write the pictures of a data set as a parameter file gives it; its settings, with the
    address changed and nothing else. A rendered world needs none: only its numbers shrink."""
    source = settings["source"]
    if source == "world":
        return settings | {"train_per_class": 1, "val_per_class": 1, "test_per_class": 2}
    if source == "csv":
        csv(root / "list.csv")
        return settings | {"path": str(root / "list.csv")}
    if source in OFFICIAL:
        OFFICIAL[source](root / registry.DATA_SETS[source].layout.folder)
    elif source == "imagefolder":
        folder(root)
    elif source == "imagenet":
        imagenet(root / source)
    else:
        from importlib import import_module

        layout = import_module(f"varireal_utils.data.sets.{source}").LAYOUT
        coop(layout, root / layout.folder)
    return settings | {"root": str(root)}
