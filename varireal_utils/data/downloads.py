"""Fetches the papers' data sets: resumed, checked, kept, and by hand where the link is dead.

    root/archives/<file>       the archive as its owners packed it; yours, if you put it there
    root/archives/<file>.part  a download that was cut off; the next run goes on behind it
    root/<folder>/...          what was in it, in the layout that data/dataset_readers.py reads

Addresses and md5 sums of Pets and Cars are torchvision's (Cars: before its 404), that of Aircraft
is quoted alike by several public readers of it; sizes are those of tensorflow_datasets' checksum
lists. Of Waterbirds no checksum is known: its archive must unpack to its end.

Invariant (tests/unit/test_downloads.py): root holds a data set's folder whole or not at all; a good
archive is never fetched again; every error says which file to put where. Mirrors on the Hugging
Face hub are read by hub.py.
"""

from __future__ import annotations

import contextlib
import email.utils
import fcntl
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tqdm.auto import tqdm

from . import dataset_readers, hub
from .image_record import DownloadError

_AGAIN = (429, 500, 502, 503, 504)  # what a server may say in passing
_PATIENCE = 600  # seconds that a Retry-After may ask for
_PIECE = 1 << 18  # bytes


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
        return self.url.rsplit("/", 1)[1]

    def told(self) -> str:
        """The file and how to know it."""
        known = [f"md5 {self.md5}"] * bool(self.md5) + [f"{self.size:,} bytes"] * bool(self.size)
        return f"{self.file} ({', '.join(known) or 'no checksum is known'})"


_VGG, _STANFORD = "https://www.robots.ox.ac.uk/~vgg/data/", "https://ai.stanford.edu/~jkrause/"
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "oxford_pets": (
        Archive(
            f"{_VGG}pets/data/annotations.tar.gz",
            "95a8c909bbe2e81eed6a22bccdf3f68f",
            19_173_078,
            "annotations",
        ),
        Archive(
            f"{_VGG}pets/data/images.tar.gz",
            "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            791_918_971,
            "images",
        ),
    ),
    "fgvc_aircraft": (
        Archive(
            f"{_VGG}fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            "d4acdd33327262359767eeaa97a4f732",
            0,
            "fgvc-aircraft-2013b",
            inner=False,
        ),
    ),
    "stanford_cars": (
        Archive(
            f"{_STANFORD}cars/car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", 330_960, "devkit"
        ),
        Archive(
            f"{_STANFORD}car196/cars_test_annos_withlabels.mat",
            "b0a2b23655a3edd16d84508592a98d10",
            185_758,
            "cars_test_annos_withlabels.mat",
        ),
        Archive(
            f"{_STANFORD}car196/cars_train.tgz",
            "065e5b463ae28d29e77c1b4b166cfe61",
            979_269_282,
            "cars_train",
        ),
        Archive(
            f"{_STANFORD}car196/cars_test.tgz",
            "4ce7ebf6a94d07f1952d94dd34c4d501",
            977_350_468,
            "cars_test",
        ),
    ),
    "waterbirds": (
        Archive(
            "https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz",
            "",
            0,
            "waterbird_complete95_forest2water2",
            inner=False,
        ),
    ),
}
MIRRORS: dict[str, tuple[str, ...]] = {
    "oxford_pets": ("hf://timm/oxford-iiit-pet",),
    "fgvc_aircraft": ("hf://HuggingFaceM4/FGVC-Aircraft",),
    "stanford_cars": (
        "https://www.kaggle.com/datasets/rickyyyyyyy/torchvision-stanford-cars",
        "hf://tanganke/stanford_cars",
    ),
    "waterbirds": ("hf://grodino/waterbirds",),
}


def fetch(name: str, root: str | Path, timeout: float = 30.0, tries: int = 5) -> Path:
    """Bring a data set to `root` and unpack it there; what is there already stays.

    name: a key of `ARCHIVES`; root: a folder, or hf://owner/name[/folder][@revision], a mirror;
    timeout: seconds without a byte; tries: failures in a row without progress. Returns the folder
    to read from: root, or that of the mirror. Raises DownloadError.
    """
    if str(root).startswith("hf://"):
        return _from_hub(name, str(root), timeout, tries)
    root = Path(root)
    kept = root / "archives"
    kept.mkdir(parents=True, exist_ok=True)
    with _alone(kept / ".lock"):
        for archive in ARCHIVES[name]:
            if not (_target(name, archive, root) / archive.makes).exists():
                _unpack(name, archive, _obtain(name, archive, root, timeout, tries), root)
    missing = dataset_readers.lacking({"source": name, "root": root})
    if missing:
        raise DownloadError(
            f"{dataset_readers.home({'source': name, 'root': root})} is there, but "
            f"without {missing}; remove that folder and run again: the archives "
            f"are in {kept}"
        )
    return root


def _from_hub(name: str, address: str, timeout: float, tries: int) -> Path:
    """A mirror on the hub: parquet files, the official layout, or the official archives."""
    snapshot, place = hub.snapshot(address)
    if hub.tables(snapshot):
        return hub.unpack(address, snapshot, place)
    if not dataset_readers.lacking({"source": name, "root": snapshot}):
        return snapshot
    found = {p.name: p for p in snapshot.rglob("*") if p.is_file()}
    ours = [a.file for a in ARCHIVES[name] if a.file in found]
    if not ours:
        raise DownloadError(
            f"{address}: holds neither parquet files nor the layout or archives of "
            f"{name}, but {sorted(found)[:8]}; name another mirror, e.g. "
            f"{', '.join(MIRRORS[name])}"
        )
    for file in ours:
        link = place / "archives" / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(found[file].resolve())
    return fetch(name, place, timeout, tries)


def _target(name: str, archive: Archive, root: Path) -> Path:
    return root / dataset_readers.HOMES[name] if archive.inner else root


def _by_hand(name: str, root: Path, bad: Archive) -> str:
    """What to put where, for the bad archive and all that are not there yet; the mirrors."""
    lines = ["To bring it by hand, put"]
    for archive in ARCHIVES[name]:
        there = _target(name, archive, root) / archive.makes
        file = root / "archives" / archive.file
        if archive is bad or not (there.exists() or file.exists()):
            lines.append(
                f"  {archive.told()} into {root / 'archives'}/, or what it holds into {there}"
            )
    lines.append("and run again. Mirrors, not checked by us (hf://... may be written as root):")
    return "\n".join([*lines, *(f"  {mirror}" for mirror in MIRRORS[name])])


def _obtain(name: str, archive: Archive, root: Path, timeout: float, tries: int) -> Path:
    """The archive, whole and checked, in root/archives; from the network only where it must."""
    file = root / "archives" / archive.file
    if file.exists():
        wrong = _wrong(archive, file)
        if wrong:
            raise DownloadError(
                f"{file}: {wrong}; wanted {archive.told()}. Remove this file and "
                f"run again.\n{_by_hand(name, root, archive)}"
            )
        return file
    part = file.with_name(f"{file.name}.part")
    for fresh in (False, True):
        resumed = part.exists()
        if not (resumed and not _wrong(archive, part)):
            _transfer(name, archive, part, root, timeout, tries)
        wrong = _wrong(archive, part)
        if not wrong:
            os.replace(part, file)
            return file
        part.unlink()
        if fresh or not resumed:  # what was resumed may have begun with another file: once more
            break
    raise DownloadError(
        f"{archive.url}: {wrong}; wanted {archive.told()}. The server sends "
        f"another file, or damages it.\n{_by_hand(name, root, archive)}"
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


def _transfer(
    name: str, archive: Archive, part: Path, root: Path, timeout: float, tries: int
) -> None:
    """Fill `part` to its end, going on where it stopped; gives up after `tries` vain attempts."""
    failures = 0
    while True:
        before, asked = _length(part), 0.0
        try:
            total = _receive(archive.url, part, timeout)
            if total is None or _length(part) == total:
                return
            problem = f"the connection ended after {_length(part):,} of {total:,} bytes"
        except urllib.error.HTTPError as error:
            gone = ", the link is dead" if error.code in (404, 410) else ""
            problem = f"{error.code} {error.reason}{gone}"
            asked = retry_after(error.headers.get("Retry-After"))
            error.close()
            if error.code == 416:  # the part is longer than the file: it is another file's
                part.unlink(missing_ok=True)
            elif error.code not in _AGAIN:
                failures = tries
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSError
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        failures = 1 if _length(part) > before and failures < tries else failures + 1
        if failures >= tries or asked > _PATIENCE:
            wait = f" (it asks to wait {asked:,.0f} seconds)" if asked else ""
            rest = f"; the next run goes on behind {part}" if _length(part) else ""
            raise DownloadError(
                f"{archive.url}: {problem}{wait}{rest}.\n{_by_hand(name, root, archive)}"
            )
        _pause(max(asked, min(60.0, 2.0 ** (failures - 1))))


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


_pause = time.sleep


def _receive(url: str, part: Path, timeout: float) -> int | None:
    """Append what the server sends behind the part; the file's whole size, if it tells it."""
    start = _length(part)
    headers = {"User-Agent": "varireal-utils", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        span = reply.headers.get("Content-Range", "")
        goes_on = reply.status == 206
        if goes_on and not span.startswith(f"bytes {start}-"):
            part.unlink()
            raise http.client.HTTPException(f"asked for bytes from {start}, got {span!r}")
        rest = reply.headers.get("Content-Length")
        size = span.rpartition("/")[2] if goes_on else rest
        total = int(size) if size and size.isdecimal() else None
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(
                total=total,
                initial=start if goes_on else 0,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                mininterval=5,
            ) as bar,
        ):
            while piece := reply.read1(_PIECE):
                file.write(piece)
                bar.update(len(piece))
    return total


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 where it says nothing."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        then = email.utils.parsedate_to_datetime(header)
        return max(0.0, (then - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _unpack(name: str, archive: Archive, file: Path, root: Path) -> None:
    """Unpack beside the target, then rename: the folder is there whole or not at all."""
    target = _target(name, archive, root)
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
                f"{_by_hand(name, root, archive)}"
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
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
