"""Digests of a study: what its records promise, and what a check of them found.

    <stage folder>/run.json        the record: sha256 of each input, output and model weight
    <stage folder>/run.sha256      of run.json itself, as `sha256sum -c` reads it
    notebooks/<name>.sha256        of an executed notebook

The check itself is workflow/verify.py, the list of what a study must hold workflow/seal.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from ..core import storage

SUMS = ".sha256"
FORM: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "own": dict,
    "inputs": dict,
    "outputs": dict,
    "weights": dict,
    "parameters": dict,
    "started": str,
    "seconds": (int, float),
    "peak_memory_mb": (int, float),
    "commit": (str, NoneType),
}


@dataclass
class Check:
    """What a check found.

    wrong: a line for each fault; unnamed: files that no record names; absent: files that a record
    names and this machine need not have (model weights; of a published folder, the trainings);
    notes: what cannot be checked, or is no fault; recomputed: tables made again; checked: what else
    was compared, with counts; files, records: how many were looked at.
    """

    records: int = 0
    files: int = 0
    wrong: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: faults first, then what was not checked, then counts."""
        out = [*dict.fromkeys(self.wrong)]
        if self.absent:
            out.append(
                f"not checked, {len(self.absent)} files that are not on this machine, as "
                f"{self.absent[0]}"
            )
        if self.unnamed:
            out.append(f"{len(self.unnamed)} files that no record names, as {self.unnamed[0]}")
        out += self.notes
        if self.checked:
            out.append(f"checked: {'; '.join(self.checked)}")
        if self.recomputed:
            out.append(f"{len(self.recomputed)} tables recomputed: {', '.join(self.recomputed)}")
        return [
            *out,
            f"{self.records} records, {self.files} files: "
            + (f"{len(self.wrong)} faults" if self.wrong else "every file is as recorded"),
        ]


def seal(path: Path) -> Path:
    """Write the sum of a file beside it, as `sha256sum -c` reads it; returns the sum's path."""
    beside = path.with_suffix(SUMS)
    storage.write_text(beside, f"{storage.sha256_file(path)}  {path.name}\n")
    return beside


def read(path: Path) -> dict[str, Any]:
    """A record, its form checked: keys of FORM that are there have that type.

    Raises ValueError that names file, key and remedy.
    """
    record = storage.read_json(path)
    if not isinstance(record, dict):
        raise ValueError(
            f"{path}: no record of a run, but {type(record).__name__}; run its stage again"
        )
    for key, kind in FORM.items():
        value = record.get(key)
        if key in record and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{path}: {key} is {str(value)[:60]!r}; run its stage again")
    return record
