"""Reads official layouts of the papers' data sets: what all of them have in common.

    Layout     where a data set lies below root, how its lists are read, where it is fetched from
    Archive    one file to fetch

The official lists say what is an image and what its class is; `split` (official, or the path of a
split file, see splits.py) says only who learns from it. Each layout has a file in data/sets.

Invariant (tests/unit/test_official.py): every line of a list gives one entry or one line in
`skipped`; class names stay as they are written, so that names differing in case alone stay two
classes (but Pets' breeds, which the files' names spell in two ways, come in title case).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import splits
from .image_record import DatasetError, Entry, Skipped, read_lines

MIRROR = "mirror.csv"  # made by hub.py of a mirror's parquet files
LABELS = ("label", "labels", "class", "y")  # columns of class names in mirrors


@dataclass(frozen=True)
class Archive:
    """One file of a data set. md5 "" and size 0 (bytes): not known.

    makes: what it unpacks to, in the folder of the data set, or in root where `inner` is False.
    """

    url: str
    md5: str
    size: int
    makes: str
    inner: bool = True

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rsplit("/", 1)[1]

    def told(self) -> str:
        """The file and how to know it."""
        known = [f"md5 {self.md5}"] * bool(self.md5) + [f"{self.size:,} bytes"] * bool(self.size)
        return f"{self.file} ({', '.join(known) or 'no checksum is known'})"


def _unchanged(entry: Entry, row: dict[str, str]) -> Entry:
    return entry


@dataclass(frozen=True)
class Layout:
    """An official layout.

    name       of the data set's entry in the registry
    folder     the data set's own folder below root
    lists      (name, spec, folder, skipped) -> entries of the official lists
    needed     (folder, spec or None) -> the files and folders that `lists` reads
    key        path -> what an image's path in a list and in a split file have in common
    archives   what is fetched; mirrors: other places, of which hf://... may be written as root
    hub        the mirror that is asked before the archives, whose addresses are dead; "": none
    labels     spec -> columns of a mirror's table that may hold class names, best first
    mirrored   (entry, row) -> the entry of a mirror's row as the lists would give it
    of_split   (folder, lines) -> entries of a split file that stands in for missing lists
    """

    name: str
    folder: str
    lists: Callable[[str, Any, Path, Skipped], Iterator[Entry]]
    needed: Callable[[Path, Any], list[Path]]
    key: Callable[[str], str]
    archives: tuple[Archive, ...]
    mirrors: tuple[str, ...]
    hub: str = ""
    labels: Callable[[Any], tuple[str, ...]] = lambda spec: LABELS
    mirrored: Callable[[Entry, dict[str, str]], Entry] = _unchanged
    of_split: Callable[[Path, dict[str, splits.Line]], Iterator[Entry]] | None = None

    def home(self, root: str | Path) -> Path:
        """The folder that holds the layout: root, or the data set's own folder in it."""
        inner = Path(root) / self.folder
        return inner if inner.is_dir() else Path(root)

    def lacking(self, root: str | Path, spec: Any = None) -> list[str]:
        """What the lists need and do not find, e.g. ["images"]; the split file does not count."""
        home = self.home(root)
        if (home / MIRROR).is_file():
            return []
        gone = [p.relative_to(home) for p in self.needed(home, spec) if not p.exists()]
        return [p.as_posix() for p in gone]

    def read(self, name: str, spec: Any, skipped: Skipped) -> Iterator[Entry]:
        """Entries of the lists, or of a mirror's parquet files as hub.py leaves them.

        Images that the split file does not name, and names in it that no list has, are named in
        `skipped`. Raises DatasetError where a list is missing or is no list.
        """
        folder, chosen = self.home(spec.root), spec.split_file()
        lines = {} if chosen is None else splits.read(name, chosen, self.key, skipped)
        if (folder / MIRROR).is_file():
            found = self._mirror(name, spec, folder, skipped)
        elif (
            self.of_split
            and self.lacking(spec.root, spec)
            and any(x.class_name for x in lines.values())
        ):
            found = self.of_split(folder, lines)
        else:
            found = self.lists(name, spec, folder, skipped)
        if chosen is None:
            yield from found
            return
        known = set()
        for entry in found:
            key = self.key(entry.image_id)
            known.add(key)
            if key in lines:
                yield replace(entry, split=lines[key].split)
            else:
                skipped.append({"file": entry.image_id, "reason": f"not in {chosen}"})
        skipped += [
            {"file": line.path, "reason": f"in {chosen}, but in no official list"}
            for key, line in lines.items()
            if key not in known
        ]

    def files(self, spec: Any) -> list[Path]:
        """The lists that `read` reads; folders of photographs left out."""
        home, chosen = self.home(spec.root), spec.split_file()
        lists = [home / MIRROR, *(p for p in self.needed(home, spec) if not p.is_dir())]
        return [*lists, *([] if chosen is None else [chosen])]

    def _mirror(self, name: str, spec: Any, folder: Path, skipped: Skipped) -> Iterator[Entry]:
        """The table that hub.unpack makes: path, split, name, and the mirror's own columns."""
        table, columns = read_lines(folder / MIRROR, skipped), self.labels(spec)
        where = f"datasets.{name}.root: the mirror ({folder}) has"
        column = next((c for c in columns if c in table), None)
        if column is None:
            raise DatasetError(
                f"{where} the columns {list(table)}, wanted one of {list(columns)} with class names"
            )
        if "test" not in set(table["split"]):
            raise DatasetError(
                f"{where} the splits {sorted(set(table['split']))}; without the official test "
                "images it is no mirror; name another"
            )
        if table[column].str.isdecimal().all():
            raise DatasetError(f"{where} numbers in {column} and no names to them; name another")
        for row in table.to_dict("records"):
            if row[column]:
                entry = Entry(row["name"], folder / row["path"], row[column], row["split"])
                yield self.mirrored(entry, row)
            else:
                reason = f"{MIRROR}: no class name in {column}"
                skipped.append({"file": row["name"], "reason": reason})


def demand(name: str, root: object, files: list[Path]) -> None:
    """Raises DatasetError for the first of the files that is not there."""
    for path in files:
        if not path.is_file():
            raise DatasetError(
                f"datasets.{name}.root: {path} is not there; root ({root}) is the "
                "folder of the data set or the one above it; download: true "
                "fetches what is missing"
            )


def text_lines(path: Path) -> list[str]:
    """Lines of a text file without empty ones and notes (#). Raises DatasetError."""
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise DatasetError(f"{path}: not a text file in UTF-8: {error}; fetch it again") from error
    return [s for s in text.splitlines() if s.strip() and not s.startswith("#")]
