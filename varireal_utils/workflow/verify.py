"""Holds what lies in a study against what its seal and its records promise.

    verify(folder)    every digest below a folder, from the list of what must be there
    root_of(folder)   the study that a folder of results belongs to

symbols   seal      list of what the study must hold (seal.py)
          record    run.json of a job: digests of its inputs, outputs, sources, upstream records
          name      of a file in a record: below its root, or as seen from the repository's root
          root      of a record: its replicate's folder where it lies in one, else the study's

Invariant (tests/unit/test_provenance.py): one changed byte in any file that a record names, in a
record or in an executed notebook is found and named; so is a missing file, a record or notebook
without its sum, and, in a sealed study, a record that is gone with all of its files. Files that
nothing names (parts of unfinished arms, drafts, pages that people made) are counted, not judged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..core import storage, walk
from ..core.code import CodeDigests
from ..core.stage import CODE_CACHE
from ..core.study_paths import StudyPaths
from . import code_changes, consistency, elsewhere, expected, provenance, registration, seal
from .provenance import SUMS, Check

ARCHIVE_SUMS = "SHA256SUMS"  # beside the study in an unpacked archive
VOTES = "votes"


@dataclass
class Look:
    """A study being checked. digests: of the files looked at; named: those that something vouches
    for; records: job -> record; made: places of all outputs; away: those that lie on another
    machine; archived: it lies in an unpacked archive, whose folder `sources` stands for the
    repository's root."""

    folder: Path
    check: Check
    digests: dict[Path, str] = field(default_factory=dict)
    named: set[Path] = field(default_factory=set)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: set[Path] = field(default_factory=set)
    away: set[Path] = field(default_factory=set)
    archived: bool = False

    def digest(self, file: Path) -> str:
        """sha256 of a file, computed once."""
        if file not in self.digests:
            self.digests[file] = storage.sha256_file(file)
        return self.digests[file]

    def fault(self, text: str) -> None:
        """Add a line of what is wrong."""
        self.check.wrong.append(text)

    def root(self, job: str) -> Path:
        """The folder that names in a job's record are relative to."""
        return StudyPaths(self.folder).replicate_of(job).root

    def output(self, root: Path, name: str) -> Path | None:
        """The place of a file that a job of `root` made; None for a name that leaves it."""
        path = PurePosixPath(name)
        return None if path.is_absolute() or ".." in path.parts else root / name

    def place(self, root: Path, name: str) -> Path | None:
        """The place of a file that a job of `root` read: made by another job, or a vote, or outside
        the study. None for one outside an archive."""
        own = self.output(root, name)
        votes = VOTES in PurePosixPath(name).parts
        if own is not None and (own in self.made or (votes and own.is_file())):
            return own
        if self.archived:
            outside = None if own is None else self.folder.parent / "sources" / name
        else:
            outside = Path.cwd() / name
        if own is not None and not is_file(outside) and is_file(own):
            return own  # an input that an earlier version gave no record
        return outside


def verify(folder: Path) -> Check:
    """Recompute every digest below a study's folder, links to other disks followed."""
    folder, check = Path(folder), Check()
    archived = (folder.parent / ARCHIVE_SUMS).is_file()
    look = Look(folder, check, archived=archived)
    try:
        found = [p for p in walk.files(folder) if not walk.hidden(p, folder)]
    except (walk.BadLink, OSError) as error:
        look.fault(str(error))
        return check
    _read_records(look, [p for p in found if p.name == "run.json"])
    _find_away(look)
    _hold_list(look)
    for job, record in look.records.items():
        _hold_record(look, job, record)
    for path in found:
        if path.suffix == SUMS:
            against_sum(look, path)
    _hold_notebooks(look, found)
    consistency.hold(folder, look.records, look.digest, look.away, check)
    hold_registration(look, list(look.records.values()))
    _say_code(look)
    check.files = len(look.digests)
    everything = (p for p in walk.files(folder) if p.resolve() not in look.named)
    check.unnamed = sorted(p.relative_to(folder).as_posix() for p in everything)
    return check


def _read_records(look: Look, paths: list[Path]) -> None:
    """Read every record, each with its sum beside it."""
    if not paths:
        look.fault(f"{look.folder}: no run.json below it; is it a study's folder?")
    for path in paths:
        look.check.records += 1
        look.named.add(path.resolve())
        look.digest(path)
        try:
            record = provenance.read(path)
        except ValueError as error:
            look.fault(f"{path}: not a record: {error}")
            continue
        if not path.with_suffix(SUMS).is_file():
            look.fault(f"{path}: its sum {path.with_suffix(SUMS).name} is missing")
        job = path.parent.relative_to(look.folder).as_posix()
        look.records[job] = record
        look.made |= {look.root(job) / str(name) for name in record.get("outputs", {})}


def _find_away(look: Look) -> None:
    """Say which files lie on the machine that made them; they are not looked for here."""
    look.named.add((look.folder / elsewhere.LIST).resolve())
    try:
        look.away = elsewhere.files(look.folder, look.records)
    except ValueError as error:
        look.fault(str(error))
    look.check.absent += sorted(p.relative_to(look.folder).as_posix() for p in look.away)


def _hold_list(look: Look) -> None:
    """Hold the jobs that are there against the list of those that must be."""
    try:
        found = seal.read(look.folder)
    except ValueError as error:
        look.fault(str(error))
        return
    if found is None:
        _without_seal(look)
        return
    for path in (seal.path_of(look.folder), seal.path_of(look.folder).with_suffix(SUMS)):
        look.named.add(path.resolve())
        if not path.is_file():
            look.fault(f"{path}: missing")
    for job, entry in found.get("jobs", {}).items():
        path = look.folder / job / "run.json"
        if not path.is_file():
            look.fault(f"{path}: missing; the seal lists it with {entry.get('outputs')} files")
        elif look.digest(path) != entry.get("record"):
            look.fault(f"{path}: not the record that was sealed")
        elif len(look.records.get(job, {}).get("outputs", {})) != entry.get("outputs"):
            look.fault(f"{path}: names other files than the {entry.get('outputs')} of the seal")
    for name, wanted in found.get("notebooks", {}).items():
        path = StudyPaths(look.folder).notebooks / name
        if not path.is_file():
            look.fault(f"{path}: missing; the seal lists it")
        elif look.digest(path) != wanted:
            look.fault(f"{path}: not the notebook that was sealed")
    accepted = code_changes.path_of(look.folder)
    if (look.digest(accepted) if accepted.is_file() else "") != found.get("accepted", ""):
        look.fault(f"{accepted}: not the acceptances that were sealed")
    more = sorted(set(look.records) - set(found.get("jobs", {})))
    if more:
        look.check.notes.append(f"{len(more)} records that the seal does not list, as {more[0]}")
    counts = f"{len(found.get('jobs', {}))} jobs and {len(found.get('notebooks', {}))} notebooks"
    look.check.checked.append(f"the seal's list of {counts}")


def _without_seal(look: Look) -> None:
    """Say what is not known without a seal, and which jobs the parameters ask for beside."""
    wanted = expected.of_records(look.folder, look.records)
    note = (
        "no seal (`study` writes it at its end): files that are gone with their record are not seen"
    )
    if wanted is None:
        look.check.notes.append(note)
        return
    lacking = [name for name in wanted if name not in look.records]
    if lacking:
        note = f"unfinished: {len(lacking)} of {len(wanted)} jobs have no record, as {lacking[0]}"
    look.check.notes.append(note)


def _hold_record(look: Look, job: str, record: dict[str, Any]) -> None:
    """Hold the files and upstream jobs of one record against what lies there."""
    path, root = look.folder / job / "run.json", look.root(job)
    own = record.get("parameters")
    if own is not None and storage.sha256_json(own) != record.get("parameter_digest"):
        look.fault(f"{path}: its parameters are not those of its parameter_digest")
    for name, wanted in record.get("outputs", {}).items():
        file = look.output(root, str(name))
        if file is None:
            look.fault(f"{path}: names {name!r} as its output, which lies outside the study")
        else:
            _hold_file(look, file, wanted, f"{name}: missing (outputs of {path})", path)
    for name, wanted in record.get("inputs", {}).items():
        file = look.place(root, str(name))
        if file is None:
            look.check.absent.append(str(name))
        else:
            _hold_file(look, file, wanted, f"{name}: missing (inputs of {path})", path)
    _hold_sources(look, root, path, record)
    upstream = record.get("upstream", {})
    for name, wanted in (upstream if isinstance(upstream, dict) else {}).items():
        above = look.folder / name / "run.json"
        if not above.is_file() and wanted:
            look.fault(f"{above}: missing; {job} was made from it")
        elif above.is_file() and look.digest(above) != wanted:
            look.fault(f"{above}: not the record that {job} was made from; run `study` again")


def _hold_sources(look: Look, root: Path, path: Path, record: dict[str, Any]) -> None:
    """Hold weights and other sources against what a job used, where this machine has them."""
    key, weights = record.get("key"), record.get("weights", {})
    sources = key.get("sources", {}) if isinstance(key, dict) else {}
    for name, wanted in {**sources, **weights}.items():
        file = look.place(root, str(name))
        if file is None or not is_file(file):
            look.check.absent.append(str(name))
        elif look.digest(file) != wanted and name not in record.get("inputs", {}):
            what = "weights of" if name in weights else "source changed since"
            look.fault(
                f"{file}: sha256 {look.digest(file)[:12]}, wanted {str(wanted)[:12]} ({what} "
                f"{path}); run `study` again"
            )


def _hold_file(look: Look, file: Path, wanted: Any, missing: str, record: Path) -> None:
    if file in look.away:
        return
    if not is_file(file):
        look.fault(missing)
        return
    look.named.add(file.resolve())
    if look.digest(file) != wanted:
        look.fault(f"{file}: sha256 {look.digest(file)[:12]}, wanted {str(wanted)[:12]} ({record})")


def is_file(path: Path | None) -> bool:
    """Whether a path is a file; False for a name that no file system takes."""
    try:
        return path is not None and path.is_file()
    except (OSError, ValueError):
        return False


def against_sum(look: Look, sums: Path) -> None:
    """Hold a file against the sum beside it."""
    look.named.add(sums.resolve())
    look.digest(sums)
    wanted, _, name = sums.read_bytes().decode("utf-8", "replace").rstrip("\n").partition("  ")
    file = sums.with_name(Path(name).name or "?")
    if not is_file(file) or file.with_suffix(SUMS) != sums:
        look.fault(f"{sums}: names {name!r}, which is not beside it")
        return
    look.named.add(file.resolve())
    if look.digest(file) != wanted:
        look.fault(f"{file}: sha256 {look.digest(file)[:12]}, wanted {wanted[:12]} ({sums.name})")


def _hold_notebooks(look: Look, found: list[Path]) -> None:
    """An executed notebook without its sum may have been edited."""
    folders = {root.notebooks for root in StudyPaths(look.folder).roots()}
    for path in found:
        kept = path.suffix == ".ipynb" and not path.name.endswith(".failed.ipynb")
        if kept and path.parent in folders and not path.with_suffix(SUMS).is_file():
            look.fault(f"{path}: its sum {path.with_suffix(SUMS).name} is missing")


def _say_code(look: Look) -> None:
    """Say which code made the records: commits, changed trees, what git did not tell."""
    records = [r for r in look.records.values() if "commit" in r]
    commits = Counter(str(r["commit"])[:10] for r in records if r["commit"])
    look.check.notes += code_lines(commits, records)
    try:
        look.check.notes += code_changes.lines(look.folder)
    except ValueError as error:
        look.fault(str(error))
    look.named.add(code_changes.path_of(look.folder).resolve())
    keys = [r["key"] for r in look.records.values() if isinstance(r.get("key"), dict)]
    made = {n: d for key in keys for n, d in dict(key.get("code") or {}).items()}
    now = CodeDigests(look.folder.parent / CODE_CACHE).now(list(made))
    other = sorted(n for n in made if now.get(n) != made[n])
    if other:
        look.check.notes.append(
            f"{len(other)} of {len(made)} modules are not as these records were made with, as "
            f"{other[0]}"
        )


def hold_registration(look: Look, records: list[dict[str, Any]]) -> None:
    """Hold records against the registration of their study, where there is one."""
    named = {
        (str(own.get("registration") or ""), str(own["study"]))
        for record in records
        if isinstance(own := record.get("parameters"), dict) and "study" in own
    }
    for file, study in sorted(named):
        wrong, said = registration.compared(registration.file_of(file, study), records)
        look.check.wrong += wrong
        look.check.checked += [said] * bool(said)


def code_lines(commits: Counter[str], records: list[dict[str, Any]]) -> list[str]:
    """Lines on the commits of records, on changed trees and on what is unknown."""
    out = []
    if commits:
        named = ", ".join(f"{c} ({n})" for c, n in sorted(commits.items()))
        out.append(f"made by commit {named}")
    if dirty := sum(r.get("dirty") is True for r in records):
        out.append(f"{dirty} records were made with uncommitted changes")
    unknown = [r for r in records if r.get("commit") is None or r.get("dirty") is None]
    if unknown:
        out.append(f"{len(unknown)} records without a known commit: {unknown[0].get('git')}")
    return out


def root_of(folder: Path) -> Path:
    """The study whose results folder this is, where one lies around it; else the folder itself."""
    folder = Path(folder)
    above = folder.resolve().parent
    is_results = folder.resolve() == StudyPaths(above).results
    return folder.parent if is_results and StudyPaths(above).trainings.is_dir() else folder
