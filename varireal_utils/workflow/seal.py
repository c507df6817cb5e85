"""The seal of a study: the list of what it must hold, written when all of it is there.

    <study>/seal.json              jobs with the digests of their records and how many files each
                                   made, executed notebooks, accepted changes of code
    results/<study>/seal.json      of a published folder: every file with its digest

symbols   job       one run of a stage, by its folder below the study's (workflow/stages.py)

`study` writes the seal at its end and removes it at its beginning; a stage that is run by hand
removes it too. `verify` starts from it. Without a seal the list is derived from the parameters that
the records hold.

Invariant (tests/unit/test_provenance.py): a record deleted with all of its files, a notebook
deleted or edited with its sum, and a changed file of a published folder are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core import storage, walk
from ..core.config import StudyConfig, written
from . import code_changes, invocation, provenance, stages

SEAL = "seal.json"


def path_of(folder: Path) -> Path:
    """Where the seal of a study or of a published folder lies."""
    return Path(folder) / SEAL


def remove(folder: Path) -> None:
    """Take a seal away: from here on its list is not true."""
    for path in (path_of(folder), path_of(folder).with_suffix(provenance.SUMS)):
        path.unlink(missing_ok=True)


def write(config: StudyConfig) -> Path | None:
    """Seal a study whose jobs all have records; None, and no seal, where one has none."""
    root, jobs = config.whole.root, {}
    parts = {part.name for job in stages.jobs(config) for part in job.parts()}
    for job in stages.jobs(config):
        if job.record.is_file():
            jobs[job.name] = {
                "stage": job.stage.name,
                "record": storage.sha256_file(job.record),
                "outputs": len(provenance.read(job.record)["outputs"]),
            }
        elif job.name not in parts:
            return None
    books = {
        Path(os.path.relpath(p, config.whole.notebooks)).as_posix(): storage.sha256_file(p)
        for p in _notebooks(config)
        if p.is_file()
    }
    parameters = written(config)
    return _put(
        root,
        {
            "study": config.study,
            "parameter_digest": storage.sha256_json(parameters),
            "parameters": parameters,
            "jobs": jobs,
            "notebooks": books,
            "accepted": _accepted(root),
        },
    )


def _accepted(root: Path) -> str:
    """Digest of the accepted changes of code; "" where there are none."""
    path = code_changes.path_of(root)
    return storage.sha256_file(path) if path.is_file() else ""


def _notebooks(config: StudyConfig) -> Iterator[Path]:
    """Where the runner keeps the executed notebook of each job."""
    for job in stages.jobs(config):
        yield job.config.paths.notebooks / invocation.executed_name(job.stage.name, job.given())


def publish(folder: Path) -> Path:
    """Seal a published folder: every file that lies in it, but for hidden ones."""
    remove(folder)
    listed = {
        p.relative_to(folder).as_posix(): storage.sha256_file(p)
        for p in walk.files(folder)
        if not walk.hidden(p, folder)
    }
    return _put(folder, {"files": listed})


def published(paths: Iterable[Path]) -> None:
    """Seal each published folder among whose files these are."""
    for folder in sorted({p.parent for p in paths if p.name == "answers.parquet"}):
        publish(folder)


def _put(folder: Path, content: dict[str, Any]) -> Path:
    storage.write_json(path_of(folder), content)
    provenance.seal(path_of(folder))
    return path_of(folder)


def read(folder: Path) -> dict[str, Any] | None:
    """The seal of a folder, its form checked; None where there is none. Raises ValueError."""
    path = path_of(folder)
    if not path.is_file():
        return None
    found = storage.read_json(path)
    kinds = {k: found.get(k, {}) for k in ("jobs", "notebooks", "files")} if _is(found) else {}
    entries = kinds.get("jobs", {})
    if not kinds or not all(map(_is, kinds.values())) or not all(map(_is, entries.values())):
        raise ValueError(f"{path}: not a seal; run `study` of this folder's parameters again")
    return found


def _is(value: object) -> bool:
    return isinstance(value, dict)
