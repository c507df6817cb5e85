"""Files of restored jobs that lie on the machine that made them (saved.py brings the jobs).

    <study>/elsewhere.json    restored job -> sha256 of its record

    read(study)             that list
    is_left(name)           whether a file is one of those that `save` leaves where it was made
    files(study, records)   places of all that is not here, of the records that are listed

A job that runs again has another record, so its files must be here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import ParameterError
from ..core.study_paths import StudyPaths

LIST = "elsewhere.json"
LEFT = (".png", ".jpg", ".jpeg", ".safetensors", ".html")  # no table of 07_claims is made of them


def is_left(name: str) -> bool:
    """Whether `save` leaves a file where it was made: pictures, adapters, pages."""
    return name.endswith(LEFT)


def parsed(content: bytes) -> dict[str, str]:
    """job -> sha256 of its record, from JSON. Raises ValueError for anything else."""
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict) or not all(isinstance(d, str) for d in found.values()):
        raise ValueError("no list of records")
    return found


def read(study: Path) -> dict[str, str]:
    """job -> sha256 of its record, of the restored jobs; none without a list. Raises
    ParameterError."""
    path = Path(study) / LIST
    if not path.is_file():
        return {}
    try:
        return parsed(path.read_bytes())
    except ValueError as error:
        raise ParameterError(
            f"{path}: {error}; take its change back, or remove it and `restore` again"
        ) from error


def is_listed(listed: Mapping[str, str], job: str, record: Path) -> bool:
    """Whether the record of a job is the one that was restored. listed: what `read` returns."""
    return job in listed and record.is_file() and storage.sha256_file(record) == listed[job]


def files(study: Path, records: Mapping[str, dict[str, Any]]) -> set[Path]:
    """Places of the files that restored jobs made on another machine. records: job -> record."""
    paths, listed, out = StudyPaths(study), read(study), set()
    for job, record in records.items():
        if is_listed(listed, job, paths.root / job / "run.json"):
            root = paths.replicate_of(job).root
            out |= {root / str(n) for n in record.get("outputs", {}) if is_left(str(n))}
    return {path for path in out if not path.exists()}
