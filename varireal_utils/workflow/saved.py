"""A study of replicates that moves between machines: what is done, without its pictures.

    save(config, folder)      writes <folder>/<replicate>_<data set>.tar.xz of each that is done
    restore(config, folder)   brings those that the study here lacks; `study` makes the rest

symbols   unit      all jobs of one data set in one replicate
          index     first file of an archive: job -> sha256 of its record

A machine that is lent for some hours ends before a long study does. Of a unit the study's tables
read predictions and small tables, a hundredth of its bytes. Its records name all of its files, with
their digests; `verify` says which are not here (elsewhere.py). Replicate 0 is not saved: figures
show its pictures, so the machine that ends the study makes it.

Invariants (tests/unit/test_saved.py): equal units give equal archives, byte for byte; nothing of an
archive is brought unless each of its files is one that a record in it names, with its digest; a
unit that has begun here is left alone; a restored job is current where the job itself would be, and
is made again where one of its saved files is gone.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from ..core import storage
from ..core.config import ParameterError, StudyConfig
from . import elsewhere, provenance, stages, status
from .lock import lock
from .stages import Job

INDEX, ENDING = "saved.json", ".tar.xz"
LARGEST = 2**28  # bytes of a saved file: more is no table
DAMAGE = (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError)


class SavedError(ValueError):
    """An archive that cannot be trusted; the message says which one and why."""


def units(config: StudyConfig) -> dict[str, list[Job]]:
    """Name of an archive -> its jobs, upstream first; replicate 0 left out.

    Raises ParameterError for a study of one draw: figures show pictures of all that it makes.
    """
    if not config.replicates:
        raise ParameterError(
            f"{config.file}: replicates: got 0, wanted more: pictures are not saved, and figures "
            "show those of a study of one draw; `pack` keeps a whole study"
        )
    found: dict[str, list[Job]] = {}
    jobs = stages.jobs(config)
    parts = {part.name for job in jobs for part in job.parts()}  # what they made lies in the whole
    for job in jobs:
        if job.config.replicate and "dataset" in job.target and job.name not in parts:
            name = f"{job.config.replicate:02d}_{storage.slug(job.target['dataset'])}{ENDING}"
            found.setdefault(name, []).append(job)
    return found


def save(config: StudyConfig, folder: Path, notebooks: str | Path = "notebooks") -> list[Path]:
    """Write an archive of each unit all of whose jobs are current; returns those that were written.

    An archive of the same records stays as it is. The study may run meanwhile.
    """
    named, written = units(config), []
    current = {s.job.name for s in status.states(config, notebooks) if s.word == "current"}
    for name, jobs in named.items():
        if not all(job.name in current and job.record.is_file() for job in jobs):
            continue
        path = Path(folder) / name
        records = {job.name: storage.sha256_file(job.record) for job in jobs}
        if path.is_file() and _index(path) == records:
            continue
        _write(path, records, {k: p for job in jobs for k, p in _files(job).items()})
        written.append(path)
    return written


def kept(config: StudyConfig, folder: Path) -> tuple[int, int]:
    """(how many archives of the study's units lie in a folder, their bytes)."""
    found = [p for name in units(config) if (p := Path(folder) / name).is_file()]
    return len(found), sum(p.stat().st_size for p in found)


def _files(job: Job) -> dict[str, Path]:
    """Name below the study -> place, of what is saved of a job."""
    root, study = job.config.paths.root, job.config.whole.root
    outputs = provenance.read(job.record)["outputs"]
    places = [root / name for name in sorted(outputs) if not elsewhere.is_left(name)]
    places += [job.record, job.record.with_suffix(provenance.SUMS)]
    return {place.relative_to(study).as_posix(): place for place in places}


def _write(path: Path, records: dict[str, str], files: dict[str, Path]) -> None:
    with (
        storage.atomic_path(path) as draft,
        lzma.open(draft, "wb", preset=9) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        index = storage.to_json(records).encode()
        for name, content in [(INDEX, index), *((n, p.read_bytes()) for n, p in files.items())]:
            entry = tarfile.TarInfo(name)  # of 1970 and nobody: equal units give equal bytes
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def restore(config: StudyConfig, folder: Path) -> tuple[list[str], list[str]]:
    """Bring what `folder` holds into the study; returns (archives that were brought, a line on
    each that was not: of another study, damaged, or begun here).

    Raises ParameterError where the folder holds no archive, StudyBusy while the study runs.
    """
    wanted, root = units(config), config.whole.root
    found = sorted(Path(folder).glob(f"*{ENDING}"))
    if not found:
        raise ParameterError(f"{folder}: no *{ENDING} there; wanted a folder that `save` wrote")
    brought, others = [], []
    with lock(root):
        for path in found:
            jobs = wanted.get(path.name)
            begun = [job.name for job in jobs or [] if _begun(job)]
            try:
                if jobs is None:
                    others.append(f"{path}: no data set of a replicate of study {config.study}")
                elif begun:
                    others.append(f"{path}: {begun[0]} has begun here; left alone")
                else:
                    _bring(path, jobs, root)
                    brought.append(path.name)
            except SavedError as error:
                others.append(str(error))
    return brought, others


def _begun(job: Job) -> bool:
    return job.record.is_file() or status.set_aside(job.record).is_file()


def _bring(path: Path, jobs: list[Job], root: Path) -> None:
    """Check an archive and move its files into the study, records last. Raises SavedError."""
    contents = _read(path)
    records = _checked(path, contents, jobs)
    draft = Path(tempfile.mkdtemp(dir=root, prefix=".restored-"))
    try:
        for name, content in contents.items():
            storage.write_bytes(draft / name, content)
        # The list first: after a stop in between it names a job that has no record.
        storage.write_json(root / elsewhere.LIST, elsewhere.read(root) | records)
        last = {f"{job.name}/run.json": n for n, job in enumerate(jobs)}
        for name in sorted(contents, key=lambda n: last.get(n, -1)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / name, root / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _checked(path: Path, contents: dict[str, bytes], jobs: list[Job]) -> dict[str, str]:
    """The index of an archive, taken out of `contents`, whose files must be those that its records
    name. Raises SavedError."""
    try:
        records = elsewhere.parsed(contents.pop(INDEX, b""))
    except ValueError as error:
        raise SavedError(f"{path}: its {INDEX}: {error}; save it again") from error
    if odd := sorted(set(records) ^ {job.name for job in jobs}):
        raise SavedError(f"{path}: of other jobs than this study's, as {odd[0]}")
    wanted: dict[str, str] = {}
    for job in jobs:
        name, digest = f"{job.name}/run.json", records[job.name]
        sums = f"{digest}  run.json\n".encode()
        wanted[name] = digest
        wanted[f"{job.name}/run{provenance.SUMS}"] = storage.sha256_bytes(sums)
        prefix = job.config.paths.root.relative_to(job.config.whole.root)
        for output, wants in _outputs(path, name, contents.get(name, b"")).items():
            wanted[(prefix / output).as_posix()] = wants
    there = {name: storage.sha256_bytes(content) for name, content in contents.items()}
    for name in sorted({*wanted, *there}):
        if wanted.get(name) != there.get(name):
            what = "not as its record says" if name in there else "missing"
            raise SavedError(f"{path}: {name} is {what}; save it again")
    return records


def _outputs(path: Path, name: str, record: bytes) -> dict[str, str]:
    """What is saved of the outputs of a record. Raises SavedError."""
    try:
        outputs = {str(n): str(digest) for n, digest in json.loads(record)["outputs"].items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SavedError(f"{path}: {name} is no record; save it again") from error
    for output in outputs:
        if PurePosixPath(output).is_absolute() or ".." in PurePosixPath(output).parts:
            raise SavedError(f"{path}: {name} names {output!r}, which lies outside the study")
    return {n: digest for n, digest in outputs.items() if not elsewhere.is_left(n)}


def _read(path: Path) -> dict[str, bytes]:
    """Member -> content. Raises SavedError for what is no whole archive of `save`."""
    out: dict[str, bytes] = {}
    try:
        with lzma.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.isreg() else None
                if file is None or entry.size > LARGEST or entry.name in out:
                    raise ValueError(f"{entry.name!r} is no file that `save` writes")
                out[entry.name] = file.read()
            while packed.read(2**20):  # to the end, where the check of the whole lies
                pass
    except DAMAGE as error:
        raise SavedError(f"{path}: no whole archive of `save` ({error}); save it again") from error
    return out


def _index(path: Path) -> dict[str, str] | None:
    """What an archive is of, by its first file; None where that cannot be read."""
    try:
        with lzma.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            first = archive.next()
            file = archive.extractfile(first) if first and first.name == INDEX else None
            return elsewhere.parsed(file.read(LARGEST)) if file else None
    except DAMAGE:
        return None
