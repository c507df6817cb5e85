"""A folder of images: [train|val|test/]class/image, masks below a folder of their own."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from ..data_set import DataSet, PathText, PhotographSpec
from ..image_record import SPLIT_NAMES, DatasetError, Entry, Skipped


class ImageFolderSpec(PhotographSpec):
    """root: the folder above the classes; masks: the same below it, as .png; "": no masks."""

    root: PathText
    masks: PathText | None = None

    def place(self) -> Path:
        """The folder that the photographs come from."""
        return Path(self.root)


def read(name: str, spec: ImageFolderSpec, skipped: Skipped) -> Iterator[Entry]:
    """Entries of a folder; where every folder in it is named like a split they are splits.

    A class is called as its folder, with spaces for underscores, since sentences are made of it.
    """
    called: dict[str, str] = {}
    if not Path(spec.root).is_dir():
        raise DatasetError(f"datasets.{name}.root: {spec.root} is no folder")
    root = _above_classes(Path(spec.root))
    if spec.masks is not None and not Path(spec.masks).is_dir():
        raise DatasetError(
            f"datasets.{name}.masks: {spec.masks} is no folder; leave the key "
            "out where there are no masks"
        )
    tops = _folders(root)
    splits = _splits(name, root, tops)
    for folder in [root, *(tops if splits else [])]:
        skipped += [
            {
                "file": p.relative_to(root).as_posix(),
                "reason": "lies beside the folders of the classes, in none",
            }
            for p in _files(folder, deep=False)
        ]
    for top in tops:
        for home in _folders(top) if splits else [top]:
            spelled = unicodedata.normalize("NFC", home.name)
            class_name = spelled.replace("_", " ").strip() or spelled
            if (other := called.setdefault(class_name, home.name)) != home.name:
                raise DatasetError(
                    f"datasets.{name}.root: the folders {other!r} and {home.name!r} "
                    f"both name the class {class_name!r}; rename one, or join them"
                )
            yield from _class(name, spec, home, class_name, splits.get(top, ""), skipped)


def _above_classes(root: Path) -> Path:
    """The folder above the classes: a lone folder around all of them, as archives have, is stepped
    into, unless it is that of a split."""
    while True:
        folders = _folders(root)
        if len(folders) != 1 or _files(root, deep=False) or folders[0].name.lower() in SPLIT_NAMES:
            return root
        if not _folders(folders[0]) or _files(folders[0], deep=False):
            return root
        root = folders[0]


def _splits(name: str, root: Path, tops: list[Path]) -> dict[Path, str]:
    """Folder of a split -> its name; empty where the folders are classes. Raises DatasetError."""
    splits = {p: SPLIT_NAMES.get(p.name.lower(), "") for p in tops}
    if tops and all(splits.values()) and "train" in splits.values():
        return splits
    if {"train", "test"} <= set(splits.values()):
        others = [p.name for p, split in splits.items() if not split]
        raise DatasetError(
            f"datasets.{name}.root: {root} holds folders of splits and others: "
            f"{others}; move those out of it, or list the images in a CSV"
        )
    return {}


def _class(
    name: str,
    spec: ImageFolderSpec,
    home: Path,
    class_name: str,
    split: str,
    skipped: Skipped,
) -> Iterator[Entry]:
    """Entries of the folder of one class."""
    files = _files(home, deep=True)
    if not files:
        raise DatasetError(
            f"datasets.{name}.root: class {home.name!r} is empty: {home} "
            "holds no file; fill the folder or remove it"
        )
    for file in files:
        inner = file.relative_to(spec.root).as_posix()
        if file.parent != home:
            reason = (
                f"in a folder inside the folder of class {home.name!r}; list such classes in a CSV"
            )
            skipped.append({"file": inner, "reason": reason})
            continue
        if not file.exists():
            reason = f"a link to {os.readlink(file)!r}, which is not there"
            skipped.append({"file": inner, "reason": reason})
            continue
        mask = Path(spec.masks, inner).with_suffix(".png") if spec.masks is not None else None
        yield Entry(inner, file, class_name, split, mask if mask and mask.exists() else None)


def _files(folder: Path, deep: bool) -> list[Path]:
    """Files in order, and links that lead nowhere, without what operating systems leave behind."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        p
        for p in found
        if (p.is_file() or (p.is_symlink() and not p.exists()))
        and not p.name.startswith(".")
        and p.name not in ("Thumbs.db", "desktop.ini")
    )


def _folders(root: Path) -> list[Path]:
    """Folders in order, without hidden ones and what macOS puts into archives."""
    return sorted(
        p
        for p in root.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name != "__MACOSX"
    )


def _all_files(spec: ImageFolderSpec) -> list[Path]:
    """Every file below root, for one that lies beside the classes is named as skipped."""
    root = Path(spec.root)
    return _files(root, deep=True) if root.is_dir() else []


DATA_SET = DataSet(
    name="imagefolder",
    about="your images: a folder for each class, perhaps below train, val, test",
    spec=ImageFolderSpec,
    read=read,
    lists=_all_files,
)
