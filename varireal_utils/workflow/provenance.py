"""Digests of a study: what its records promise, held against what lies there.

    <stage folder>/run.json        the record: sha256 of each input, output and model weight
    <stage folder>/run.sha256      of run.json itself, as `sha256sum -c` reads it
    notebooks/<name>.sha256        of an executed notebook

Invariant (tests/unit/test_provenance.py): one changed byte in any file that a record names, in a
record or in an executed notebook is found and named; so is a missing file. Files that nothing
names (parts of unfinished arms, drafts, pages that people made) are counted, not judged.
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
    """What a check found. wrong: a line for each fault; unnamed: files that no record names;
    absent: files that a record names and this machine need not have (model weights; of a published
    folder, the trainings); recomputed: tables made again; files, records: how many were looked
    at."""

    records: int = 0
    files: int = 0
    wrong: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: faults first, then counts."""
        out = [*self.wrong]
        if self.absent:
            out.append(
                f"not checked, {len(self.absent)} files that are not on this machine, as "
                f"{self.absent[0]}"
            )
        if self.unnamed:
            out.append(f"{len(self.unnamed)} files that no record names, as {self.unnamed[0]}")
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


def verify(folder: Path) -> Check:
    """Recompute every digest below a folder: records, their files, executed notebooks."""
    folder, check = Path(folder), Check()
    done: dict[Path, str] = {}
    named: set[Path] = set()
    records = sorted(p for p in folder.rglob("run.json") if not _hidden(p, folder))
    if not records:
        check.wrong.append(f"{folder}: no run.json below it; is it a study's folder?")
    for path in records:
        check.records += 1
        try:
            record = read(path)
        except ValueError as error:
            check.wrong.append(f"{path}: not a record: {error}")
            continue
        kinds = {k: record.get(k, {}) for k in ("inputs", "outputs", "weights")}
        own = record.get("parameters")
        if own is not None and storage.sha256_json(own) != record.get("parameter_digest"):
            check.wrong.append(f"{path}: its parameters are not those of its parameter_digest")
        for kind, files in kinds.items():
            for name, wanted in files.items():
                file = locate(path, str(name))
                if file is None:
                    if kind == "weights":
                        check.absent.append(str(name))
                    else:
                        check.wrong.append(f"{name}: missing ({kind} of {path})")
                    continue
                named.add(file.resolve())
                done[file] = done.get(file) or storage.sha256_file(file)
                if done[file] != wanted:
                    check.wrong.append(
                        f"{file}: sha256 {done[file][:12]}, wanted "
                        f"{str(wanted)[:12]} ({kind} of {path})"
                    )
    for sums in sorted(folder.rglob(f"*{SUMS}")):
        against_sum(sums, check, named, done)
    check.files = len(done)
    check.unnamed = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.resolve() not in named
    )
    return check


def against_sum(sums: Path, check: Check, named: set[Path], done: dict[Path, str]) -> None:
    """Hold a file against the sum beside it."""
    named.add(sums.resolve())
    wanted, _, name = sums.read_bytes().decode("utf-8", "replace").rstrip("\n").partition("  ")
    file = sums.with_name(Path(name).name or "?")
    if not file.is_file() or file.with_suffix(SUMS) != sums:
        check.wrong.append(f"{sums}: names {name!r}, which is not beside it")
        return
    named.add(file.resolve())
    done[file] = storage.sha256_file(file)
    if done[file] != wanted:
        check.wrong.append(f"{file}: sha256 {done[file][:12]}, wanted {wanted[:12]} ({sums.name})")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def locate(record: Path, name: str) -> Path | None:
    """A file that a record names, relative to its study (a folder above it) or to the root.

    In an unpacked archive the folder `sources` beside the study stands for the root.
    """
    above = record.resolve().parents
    for base in (*above, *(p / "sources" for p in above[:6]), Path.cwd()):
        try:
            if (base / name).is_file():
                return base / name
        except (OSError, ValueError):  # a name that no file system takes
            return None
    return None
