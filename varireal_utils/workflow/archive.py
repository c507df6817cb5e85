"""A study as one archive that another machine can check: pack, unpack, the cards inside.

    SHA256SUMS       of every other member, as `sha256sum -c` reads it
    DATA_CARD.md     what the images are, how they were made, from what, under which terms
    models/          card of each model that the study used (no weights but the study's adapters)
    sources/         parameter files, phrase banks and claims that the records name
    study/           the study's folder, without drafts and parts of unfinished arms

Invariants (tests/unit/test_archive.py): equal studies give equal archives, byte for byte; an
archive with a changed byte, a missing member or a name that would leave its folder unpacks to
nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..core import storage, walk
from ..core.config import StudyConfig
from . import cards, provenance, verify

SUMS, STORED = "SHA256SUMS", (".png", ".jpg", ".parquet", ".safetensors", ".zip")
LEFT_OUT = re.compile(r"(^|/)(\.[^/]*|parts|shards)(/|$)|\.failed\.ipynb$|(^|/)checkpoint\.")


class ArchiveError(ValueError):
    """An archive that cannot be made or trusted; the message says which member and why."""


def pack(config: StudyConfig, target: Path | None = None) -> Path:
    """Check a study and write it as one zip file, by default runs/<study>.zip.

    Raises ArchiveError that lists what `verify` found wrong: a study with a fault is not packed.
    """
    study = config.paths.root
    target = Path(target or f"{study}.zip")
    if target.resolve().is_relative_to(study.resolve()):
        raise ArchiveError(f"{target} lies in the study itself; choose a place outside {study}")
    check = verify.verify(study)
    if check.wrong:
        raise ArchiveError(
            "\n".join([f"{study}: not packed; it is not as recorded:", *check.wrong])
        )
    members: dict[str, Path | bytes] = {
        f"study/{p.relative_to(study).as_posix()}": p
        for p in walk.files(study)
        if not LEFT_OUT.search(p.relative_to(study).as_posix()) and p.resolve() != target.resolve()
    }
    members |= {f"sources/{name}": Path(name) for name in _sources(config)}
    members |= cards.model_cards(config.models)
    members["DATA_CARD.md"] = cards.data_card(config).encode()
    sums = {
        name: storage.sha256_bytes(m) if isinstance(m, bytes) else storage.sha256_file(m)
        for name, m in sorted(members.items())
    }
    members[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    _write(members, target)
    return target


def _write(members: dict[str, Path | bytes], target: Path) -> None:
    """Write the members as one zip file, the sums first; equal members give equal bytes."""
    with storage.atomic_path(target) as draft, zipfile.ZipFile(draft, "w") as archive:
        for name in sorted(members, key=lambda n: (n != SUMS, n)):
            entry = zipfile.ZipInfo(name)  # of 1980, so that equal studies give equal bytes
            entry.external_attr = 0o644 << 16
            packed = name.endswith(STORED)
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            content = members[name]
            with archive.open(entry, "w", force_zip64=True) as out:
                if isinstance(content, bytes):
                    out.write(content)
                else:
                    with open(content, "rb") as file:
                        shutil.copyfileobj(file, out)


def unpack(path: Path, target: Path | None = None) -> tuple[Path, provenance.Check]:
    """Unpack an archive into a folder that does not exist yet, check it, return (folder, check).

    Raises ArchiveError for anything but an unchanged archive of `pack`; nothing is left then.
    """
    path = Path(path)
    target = Path(target or path.with_suffix(""))
    if target.exists():
        raise ArchiveError(f"{target} exists already; name another folder to unpack into")
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive")
    with _damage(path), zipfile.ZipFile(path) as archive:
        wanted = _read_sums(path, archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
        try:
            for name, digest in wanted.items():
                place = draft / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as inside, open(place, "wb") as out:
                    shutil.copyfileobj(inside, out)
                if storage.sha256_file(place) != digest:
                    raise ArchiveError(f"{path}: {name} is not what {SUMS} says; fetch it again")
            (draft / SUMS).write_bytes(archive.read(SUMS))
            os.chmod(draft, 0o755)  # noqa: S103 - a folder like any other
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target, verify.verify(target / "study")


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        UnicodeDecodeError,
        RuntimeError,
    ) as error:
        raise ArchiveError(
            f"{path}: not a whole archive of a study, or no room for it here "
            f"({type(error).__name__}: {error}); fetch or pack it again"
        ) from error


def _read_sums(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Member -> sha256, every name inside the folder. Raises ArchiveError."""
    lines = archive.read(SUMS).decode().splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {i.filename for i in archive.infolist()} - {SUMS}
    if odd := sorted(present ^ set(wanted)):
        where = (
            f"not in the archive and in {SUMS}"
            if odd[0] in wanted
            else f"in the archive and not in {SUMS}"
        )
        raise ArchiveError(f"{path}: {odd[0]} is {where}; fetch it again")
    for name in wanted:
        if (
            name.startswith("/")
            or "\\" in name
            or ":" in name.split("/")[0]
            or ".." in PurePosixPath(name).parts
        ):
            raise ArchiveError(
                f"{path}: {name!r} would leave the folder; this is no archive of "
                "ours, and nothing was unpacked"
            )
    return wanted


def _sources(config: StudyConfig) -> list[str]:
    """Files outside the study that its records name, and the parameter file itself."""
    study, names = config.paths.root, {config.file}
    for path in config.paths.records():
        record = storage.read_json(path)
        names |= {
            n
            for kind in ("inputs", "outputs")
            for n in record.get(kind, {})
            if not (study / n).exists()
        }
    return sorted(
        n
        for n in names
        if Path(n).is_file() and not Path(n).is_absolute() and ".." not in Path(n).parts
    )
