"""Changes of code that somebody accepted: they alter no result, so nothing runs again.

    <study>/accepted.json    who accepted, when, why, for which records, and the code since then

    accept(config, why, ...)     accept the code as it is now for jobs that nothing else changed
    effective(root, ...)         the code that a record counts as made by

An acceptance is of one record, by its digest: a job that runs again is of the code that it ran.

Invariant (tests/unit/test_reruns.py): an acceptance makes exactly those jobs current which only
code made stale; a change after it makes them stale again; `verify` names it.
"""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import StudyConfig
from ..core.stage import Key, SourceDigests
from . import provenance

FILE = "accepted.json"


def path_of(root: Path) -> Path:
    """Where the acceptances of a study lie."""
    return Path(root) / FILE


def read(root: Path) -> list[dict[str, Any]]:
    """Acceptances, oldest first. Raises ValueError where their file is damaged."""
    path = path_of(root)
    if not path.is_file():
        return []
    found = storage.read_json(path)
    entries = found.get("accepted") if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f"{path}: no list of acceptances; delete it and run accept-code again")
    return entries


def effective(entries: list[dict[str, Any]], key: Key, job: str, record: Path) -> Key:
    """The key of a record, with the code that was accepted for it last.

    entries: of `read`; job: by its folder; record: its file.
    """
    if not entries:
        return key
    digest = storage.sha256_file(record)
    for entry in reversed(entries):
        stage, of = entry.get("records", {}).get(job, ("", ""))
        if of == digest:
            return replace(key, code=entry.get("code", {}).get(stage, key.code))
    return key


def accept(
    config: StudyConfig, found: list[Any], digests: SourceDigests, notebooks: Path, why: str
) -> list[str]:
    """Accept the code as it is now for those of the states `found` (status.states) whose own key
    differs in code alone; returns the jobs."""
    entries = read(config.paths.root)
    records: dict[str, list[str]] = {}
    code: dict[str, dict[str, str]] = {}
    for state in found:
        if state.record is None or state.word == "missing":
            continue
        job, record = state.job, provenance.read(state.record)
        old = Key.from_record(record.get("key"))
        if old is None:
            continue
        old = effective(entries, old, job.name, state.record)
        key = job.key(notebooks / f"{job.stage.name}.ipynb", digests)
        only_code = key.changes(old) == key.code_changes(old) != []
        if only_code:
            records[job.name] = [job.stage.name, storage.sha256_file(state.record)]
            code[job.stage.name] = key.code
    if records:
        entries.append(
            {
                "who": _who(),
                "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "why": why,
                "records": records,
                "code": code,
            }
        )
        storage.write_json(path_of(config.paths.root), {"accepted": entries})
    return sorted(records)


def alone(stale: list[Any]) -> bool:
    """Whether nothing but code made these states stale, and what follows from it."""
    reasons = [r for state in stale for r in state.reasons if not r.startswith("upstream ")]
    return bool(reasons) and all(r.startswith("code ") for r in reasons)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in passwd
        return str(os.getuid())


def lines(root: Path) -> list[str]:
    """For people: each acceptance."""
    return [
        f"a change of code was accepted for {len(e.get('records', {}))} jobs by {e.get('who')} on "
        f"{e.get('when')}: {e.get('why')}"
        for e in read(root)
    ]
