"""Stanford Cars: 196 models, by the devkit's lists or by CoOp's split file.

root[/stanford_cars]/{cars_train,cars_test}/<n>.jpg, devkit/, cars_test_annos_withlabels.mat
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from .. import splits
from ..data_set import DataSet
from ..image_record import DatasetError, Entry, Skipped
from ..official import Archive, Layout, demand
from .official_spec import OfficialSpec

TEST_LABELS = "cars_test_annos_withlabels.mat"


def _test_labels(folder: Path) -> Path:
    inner = folder / "devkit" / TEST_LABELS
    return (
        inner if inner.is_file() and not (folder / TEST_LABELS).is_file() else folder / TEST_LABELS
    )


def _lists(name: str, spec: OfficialSpec, folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """The devkit's lists; label ids start at 1 and stay as a column. `val` is carved from train."""
    names = folder / "devkit" / "cars_meta.mat"
    lists = {"train": folder / "devkit" / "cars_train_annos.mat", "test": _test_labels(folder)}
    demand(name, spec.root, [names, *lists.values()])
    classes = [str(c).strip() for c in _mat(names, "class_names")]
    for split, path in lists.items():
        rows = _mat(path, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise DatasetError(
                f"{path}: its annotations have the fields {rows.dtype.names}, "
                f"wanted fname and class; {TEST_LABELS} holds the test labels"
            )
        part, kind = f"cars_{split}", "" if split == "train" else split
        for row in rows:
            file, number = str(row["fname"]), int(row["class"])
            if 1 <= number <= len(classes):
                yield _car(folder, part, file, kind, classes[number - 1], number)
                continue
            reason = f"{path.name}: class id {number}; ids run from 1 to {len(classes)}"
            skipped.append({"file": f"{part}/{file}", "reason": reason})


def _of_split(folder: Path, lines: dict[str, splits.Line]) -> Iterator[Entry]:
    """CoOp's JSON has paths and classes too, and stands in for a devkit that is not there."""
    for key, line in lines.items():
        part, stem = f"cars_{key}".rsplit("/", 1)
        file = f"{stem}{PurePosixPath(line.path).suffix}"
        number = 0 if line.label is None else line.label + 1
        yield _car(folder, part, file, line.split, _year_last(line.class_name), number)


def _car(folder: Path, part: str, file: str, split: str, class_name: str, number: int) -> Entry:
    pictures = folder / part
    if (pictures / part).is_dir():  # as some mirrors pack it
        pictures /= part
    image_id, extra = f"{part}/{Path(file).stem}", (("official_id", number),)
    return Entry(image_id, pictures / file, class_name, split, extra=extra)


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


def _key(path: str) -> str:
    """The last folder counts, for cars_train and cars_test use the same file names."""
    return splits.folder_and_stem(path).removeprefix("cars_")


_HUB = "hf://tanganke/stanford_cars"
_HOST = "https://ai.stanford.edu/~jkrause/"
LAYOUT = Layout(
    name="stanford_cars",
    folder="stanford_cars",
    lists=_lists,
    needed=lambda home, spec: [
        home / "cars_train",
        home / "cars_test",
        home / "devkit" / "cars_train_annos.mat",
        home / "devkit" / "cars_meta.mat",
        _test_labels(home),
    ],
    key=_key,
    archives=(
        Archive(
            f"{_HOST}cars/car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", 330_960, "devkit"
        ),
        Archive(
            f"{_HOST}car196/{TEST_LABELS}", "b0a2b23655a3edd16d84508592a98d10", 185_758, TEST_LABELS
        ),
        Archive(
            f"{_HOST}car196/cars_train.tgz",
            "065e5b463ae28d29e77c1b4b166cfe61",
            979_269_282,
            "cars_train",
        ),
        Archive(
            f"{_HOST}car196/cars_test.tgz",
            "4ce7ebf6a94d07f1952d94dd34c4d501",
            977_350_468,
            "cars_test",
        ),
    ),
    mirrors=("https://www.kaggle.com/datasets/rickyyyyyyy/torchvision-stanford-cars", _HUB),
    hub=_HUB,
    of_split=_of_split,
)
DATA_SET = DataSet(
    name="stanford_cars",
    about="196 models of cars, the devkit's lists or CoOp's split file",
    spec=OfficialSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    layout=LAYOUT,
    owner="Stanford Cars",
    terms="research and education only, not commercial",
    classes=196,
    images=(8144, 0, 8041),
    noun="car",
    phrases="params/prompts/stanford_cars.yaml",
    titles={"stanford_cars": "Stanford Cars"},
    paper=True,
)
