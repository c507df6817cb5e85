"""Fetches the papers' data sets: resumed, checked, kept, and by hand where the link is dead.

    root/archives/<file>       the archive as its owners packed it; yours, if you put it there
    root/archives/<file>.part  a download that was cut off; the next run goes on behind it
    root/<folder>/...          what was in it, in the layout that its module in data/sets reads

Addresses and md5 sums of Pets and Cars are torchvision's (Cars: before its 404), that of Aircraft
is quoted alike by several public readers of it; sizes are those of tensorflow_datasets' checksum
lists. Of Waterbirds no checksum is known: its archive must unpack to its end.

Invariant (tests/unit/test_downloads.py): root holds a data set's folder whole or not at all; a good
archive is never fetched again; every error says which file to put where. Mirrors on the Hugging
Face hub are read by hub.py.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..core import file_lock
from . import hub, transfer
from .image_record import DownloadError
from .official import MIRROR, Archive, Layout

_PIECE = 1 << 18  # bytes


def fetch(layout: Layout, root: str | Path, timeout: float = 30.0, tries: int = 5) -> Path:
    """Bring a data set to `root` and unpack it there; what is there already stays.

    root: a folder, or hf://owner/name[/folder][@revision], a mirror;
    timeout: seconds without a byte; tries: failures in a row without progress. Returns the folder
    to read from: root, or that of the mirror. Raises DownloadError.
    """
    if str(root).startswith("hf://"):
        return _from_hub(layout, str(root), timeout, tries)
    root = Path(root)
    kept = root / "archives"
    kept.mkdir(parents=True, exist_ok=True)
    with _alone(kept / ".lock"):
        failed = "" if _begun(layout, root) else _mirrored(layout, root)
        if (root / layout.folder / MIRROR).is_file():
            return root
        for archive in layout.archives:
            if not (_target(layout, archive, root) / archive.makes).exists():
                try:
                    file = _obtain(layout, archive, root, timeout, tries)
                except DownloadError as error:
                    raise DownloadError(f"{failed}{error}") from None
                _unpack(layout, archive, file, root)
    missing = layout.lacking(root)
    if missing:
        raise DownloadError(
            f"{layout.home(root)} is there, but without {missing}; remove that folder and run "
            f"again: the archives are in {kept}"
        )
    return root


def _begun(layout: Layout, root: Path) -> bool:
    """Whether root holds an archive or a part of the layout: somebody brings it by hand."""
    home = layout.home(root)
    archives = (root / "archives" / a.file for a in layout.archives)
    return any(p.exists() for p in (root / layout.folder, *archives, *layout.needed(home, None)))


def _mirrored(layout: Layout, root: Path) -> str:
    """Bring the layout's mirror on the hub to root; what went wrong, "" where nothing did."""
    if not layout.hub:
        return ""
    try:
        hub.unpack(layout.hub, hub.snapshot(layout.hub)[0], root / layout.folder)
    except DownloadError as error:
        return f"{error}; nor from its owners: "
    return ""


def _from_hub(layout: Layout, address: str, timeout: float, tries: int) -> Path:
    """A mirror on the hub: parquet files, the official layout, or the official archives."""
    snapshot, place = hub.snapshot(address)
    if hub.tables(snapshot):
        return hub.unpack(address, snapshot, place)
    if not layout.lacking(snapshot):
        return snapshot
    found = {p.name: p for p in snapshot.rglob("*") if p.is_file()}
    ours = [a.file for a in layout.archives if a.file in found]
    if not ours:
        raise DownloadError(
            f"{address}: holds neither parquet files nor the layout or archives of "
            f"{layout.name}, but {sorted(found)[:8]}; name another mirror, e.g. "
            f"{', '.join(layout.mirrors)}"
        )
    for file in ours:
        link = place / "archives" / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(found[file].resolve())
    return fetch(layout, place, timeout, tries)


def _target(layout: Layout, archive: Archive, root: Path) -> Path:
    return root / layout.folder if archive.inner else root


def _by_hand(layout: Layout, root: Path, bad: Archive) -> str:
    """What to put where, for the bad archive and all that are not there yet; the mirrors."""
    lines = ["To bring it by hand, put"]
    for archive in layout.archives:
        there = _target(layout, archive, root) / archive.makes
        file = root / "archives" / archive.file
        if archive is bad or not (there.exists() or file.exists()):
            lines.append(
                f"  {archive.told()} into {root / 'archives'}/, or what it holds into {there}"
            )
    lines.append("and run again. Mirrors, not checked by us (hf://... may be written as root):")
    return "\n".join([*lines, *(f"  {mirror}" for mirror in layout.mirrors)])


def _obtain(layout: Layout, archive: Archive, root: Path, timeout: float, tries: int) -> Path:
    """The archive, whole and checked, in root/archives; from the network only where it must."""
    file = root / "archives" / archive.file
    if file.exists():
        wrong = _wrong(archive, file)
        if wrong:
            raise DownloadError(
                f"{file}: {wrong}; wanted {archive.told()}. Remove this file and "
                f"run again.\n{_by_hand(layout, root, archive)}"
            )
        return file
    part = file.with_name(f"{file.name}.part")
    for fresh in (False, True):
        resumed = part.exists()
        if not (resumed and not _wrong(archive, part)):
            try:
                transfer.fetch_file(archive.url, part, timeout, tries)
            except DownloadError as error:
                raise DownloadError(f"{error}.\n{_by_hand(layout, root, archive)}") from None
        wrong = _wrong(archive, part)
        if not wrong:
            os.replace(part, file)
            return file
        part.unlink()
        if fresh or not resumed:  # what was resumed may have begun with another file: once more
            break
    raise DownloadError(
        f"{archive.url}: {wrong}; wanted {archive.told()}. The server sends "
        f"another file, or damages it.\n{_by_hand(layout, root, archive)}"
    )


def _wrong(archive: Archive, file: Path) -> str:
    """What is wrong with a file: its size, its md5, or, where neither is known, its end."""
    size = file.stat().st_size
    if archive.size and size != archive.size:
        return f"has {size:,} bytes"
    if archive.md5:
        with open(file, "rb") as data:
            md5 = hashlib.file_digest(data, "md5").hexdigest()
        return "" if md5 == archive.md5 else f"has md5 {md5}"
    try:
        with gzip.open(file) as data:
            while data.read(_PIECE):
                pass
    except (OSError, EOFError, zlib.error) as error:
        return f"is no whole gzip archive ({error})"
    return ""


def _unpack(layout: Layout, archive: Archive, file: Path, root: Path) -> None:
    """Unpack beside the target, then rename: the folder is there whole or not at all."""
    target = _target(layout, archive, root)
    target.mkdir(parents=True, exist_ok=True)
    for left in target.glob(".unpack-*"):  # of a run that was killed; the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target) as draft:
        if file.name == archive.makes:
            shutil.copyfile(file, Path(draft) / archive.makes)
        else:
            _extract(file, Path(draft))
        made = Path(draft) / archive.makes
        if not made.exists():
            raise DownloadError(
                f"{file}: holds {sorted(os.listdir(draft))[:8]}, wanted "
                f"{archive.makes}; remove this file and run again.\n"
                f"{_by_hand(layout, root, archive)}"
            )
        os.rename(made, target / archive.makes)


def _extract(file: Path, folder: Path) -> None:
    """A tar archive of which no member may lie outside `folder`. Raises DownloadError."""
    try:
        with tarfile.open(file) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="data")
            else:  # Python 3.11.0 to 3.11.3, Debian 12's own among them
                inside = folder.resolve()
                for member in tar:
                    place = (inside / member.name).resolve()
                    if not (member.isfile() or member.isdir()) or not place.is_relative_to(inside):
                        raise tarfile.TarError(
                            f"{member.name!r} is no plain file in the archive's own folder"
                        )
                tar.extractall(folder)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(
            f"{file}: cannot be unpacked: {error}; remove this file and run again, "
            "or put a good one there"
        ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; a second one waits until the first has fetched."""
    with file_lock.exclusive(path, wait=True):
        yield
