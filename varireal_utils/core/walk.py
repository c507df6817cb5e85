"""The files of a folder: one walk for verify, pack, overview and publishing.

    files(folder)         every file below it, links to folders followed, each folder once
    inside(path, folder)  a path's name below a folder, by its spelling or by where it leads
    spelled(path)         a path spelled in one way, whatever way somebody wrote it

A study's part may lie on another disk, with a link in its place: it belongs to the study like any
other. A link that leads nowhere or back up is refused by name.

Invariant (tests/unit/test_walk.py): moving a folder elsewhere and leaving a link changes nothing in
what is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class BadLink(ValueError):
    """A link that leads nowhere, or to a folder above itself."""


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted within each folder. Raises BadLink."""
    yield from _below(Path(folder), ())


def _below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        raise BadLink(f"{folder}: a link to a folder above itself; remove it")
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda e: e.name)
    for entry in entries:
        path = folder / entry.name
        if entry.is_symlink() and not path.exists():
            raise BadLink(
                f"{path}: a link to {os.readlink(path)!r}, which is not there; put it back, or "
                "remove the link"
            )
        if entry.is_dir():
            yield from _below(path, (*above, here))
        elif entry.is_file():
            yield path


def inside(path: Path, folder: Path) -> str | None:
    """The name of a path below a folder, with slashes; None where it is not below it."""
    for way in (os.path.abspath, os.path.realpath):
        one, above = Path(way(path)), Path(way(folder))
        if one.is_relative_to(above):
            return one.relative_to(above).as_posix()
    return None


def spelled(path: str) -> str:
    """A path without "./" and the like: relative where it lies below the working folder, else
    absolute. An address ("hf://...") and what no path can be stay as they are."""
    if not path or "://" in path or "\0" in path:
        return path
    return inside(Path(path), Path.cwd()) or os.path.abspath(path)


def hidden(path: Path, folder: Path) -> bool:
    """Whether a name of the path below the folder begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
