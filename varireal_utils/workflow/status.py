"""Which jobs of a study are current, and what changed for those that are not.

    states(graph)      each job: current, stale, missing or never run, with the reasons
    settle(states)     sets aside the records that are not true any more, so that their jobs run
    lines(states)      one line a stage

A job is stale where its key (core/stage.py) differs from the one in its record, where a job whose
files it reads is not current, or where that job has run again since. Only records decide: neither
times of files nor what Snakemake remembers, so a copied folder of runs stays current.

Invariant (tests/unit/test_reruns.py): a change makes exactly those jobs stale whose results can
depend on it. A record set aside comes back when the change is taken back before its job began.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..core import storage
from ..core.config import StudyConfig
from ..core.stage import Key, SourceDigests
from . import code_changes, elsewhere, provenance, stages
from .invocation import find_notebook
from .stages import Job

ASIDE = ".run.stale.json"  # a record that is not true any more, beside where it was
DIGESTS = ".digests.json"  # digests of sources, in runs_dir
EMPTY = storage.sha256_bytes(b"")
NO_KEY = "recorded by an earlier version, without a key"


@dataclass(frozen=True)
class State:
    """A job and how it stands. reasons: what changed, a line each; none where it is current; away:
    whether some of its files lie on the machine that made them (elsewhere.py)."""

    job: Job
    word: Literal["current", "stale", "missing", "never run"]
    reasons: list[str] = field(default_factory=list)
    record: Path | None = None  # where its record lies: in its place, or set aside
    away: bool = False


def set_aside(record: Path) -> Path:
    """Where the record of a folder lies while it is not true."""
    return record.with_name(ASIDE)


def upstream_digests(job: Job) -> dict[str, str]:
    """Upstream job -> sha256 of its record; "" where there is none."""
    return {
        up.name: storage.sha256_file(up.record) if up.record.is_file() else ""
        for up in job.upstream()
    }


def states(
    config: StudyConfig, notebooks: str | Path = "notebooks", here: bool = True
) -> list[State]:
    """The state of every job of a study, upstream first.

    here: whether the jobs run on this machine. Elsewhere `auto` may mean another device and
    precision, so what the records say is taken for them.
    """
    digests = SourceDigests(Path(config.runs_dir) / DIGESTS)
    found: dict[str, State] = {}
    root = config.whole.root
    accepted, restored = code_changes.read(root), elsewhere.read(root)
    look = _Look(Path(notebooks), digests, here, accepted, restored)
    for job in stages.jobs(config):
        found[job.name] = _state(job, found, look)
    for state in list(found.values()):
        for part in state.job.parts() if state.word == "current" else ():
            found[part.name] = State(part, "current")  # what it was needed for is there
    return _with_pictures(found) if restored else list(found.values())


def _with_pictures(found: dict[str, State]) -> list[State]:
    """The same, but for restored jobs whose pictures a job must read that is to run here: all jobs
    of that data set and replicate run again."""
    needs = {_unit(s.job): s.job.name for s in found.values() if s.word != "current"}
    for name, state in found.items():
        if state.word == "current" and state.away and (job := needs.get(_unit(state.job))):
            reason = f"its pictures lie on another machine, and {job} is to run here"
            found[name] = replace(state, word="missing", reasons=[reason])
        elif state.word == "current":
            above = [found[up.name] for up in state.job.upstream()]
            reasons = [f"upstream {s.job.name}: {s.word}" for s in above if s.word != "current"]
            found[name] = replace(state, word="stale", reasons=reasons) if reasons else state
    return list(found.values())


def _unit(job: Job) -> tuple[int | None, str | None]:
    """The replicate and the data set of a job; (None, None) for one of the whole study."""
    return job.config.replicate, job.target.get("dataset")


@dataclass(frozen=True)
class _Look:
    """What a state is judged by. accepted: changes of code (code_changes.read); restored: jobs
    whose pictures lie on another machine (elsewhere.read)."""

    notebooks: Path
    digests: SourceDigests
    here: bool
    accepted: list[dict[str, Any]]
    restored: dict[str, str]


def _state(job: Job, before: dict[str, State], look: _Look) -> State:
    places = [p for p in (job.record, set_aside(job.record)) if p.is_file()]
    if not places:
        return State(job, "never run")
    state = State(job, "stale", [], places[0])
    try:
        record = provenance.read(places[0])
        lost, away = _lost(record, job, places[0], look)
    except (ValueError, KeyError, TypeError, OSError) as error:
        return replace(
            state, word="missing", reasons=[f"its record cannot be read ({type(error).__name__})"]
        )
    if lost:
        reason = f"{len(lost)} of its files are gone or changed, as {lost[0]}"
        return replace(state, word="missing", reasons=[reason])
    old = Key.from_record(record.get("key"))
    if old is None:
        return replace(state, reasons=[NO_KEY])
    old = code_changes.effective(look.accepted, old, job.name, places[0])
    key = job.key(find_notebook(job.stage.name, look.notebooks), look.digests)
    if not look.here:
        key = _elsewhere(key, old, job.config)
    reasons = [*key.changes(old), *_upstream_changes(job, record.get("upstream"), before)]
    return replace(state, word="stale" if reasons else "current", reasons=reasons, away=away)


def _lost(record: dict[str, Any], job: Job, place: Path, look: _Look) -> tuple[list[str], bool]:
    """The outputs of a record that are not there, are empty, or have been written since it was and
    hold something else; and whether others lie on another machine."""
    root, out, newer, away = job.config.paths.root, [], {}, False
    restored = elsewhere.is_listed(look.restored, job.name, place)
    written = place.stat().st_mtime_ns
    for name, wanted in record["outputs"].items():
        path = root / name if (root / name).exists() else Path(name)
        stat = path.stat() if path.is_file() else None
        if stat is None and restored and elsewhere.is_left(name):
            away = True
            continue
        if stat is None or (stat.st_size == 0 and wanted != EMPTY):
            out.append(name)
        elif stat.st_mtime_ns > written:
            newer[path.as_posix()] = (name, wanted)
    for path_name, digest in look.digests.of(map(Path, newer)).items():
        name, wanted = newer[path_name]
        if digest != wanted:
            out.append(name)
    return sorted(out), away


def _elsewhere(key: Key, old: Key, config: StudyConfig) -> Key:
    """A key with the record's device and precision where the configuration says auto."""
    return replace(
        key,
        device=old.device if config.device == "auto" else key.device,
        precision=old.precision if config.precision == "auto" else key.precision,
    )


def _upstream_changes(job: Job, recorded: Any, before: dict[str, State]) -> list[str]:
    recorded = recorded if isinstance(recorded, dict) else {}
    upstream = {up.name: before[up.name] for up in job.upstream()}
    out = []
    for name, state in upstream.items():
        if state.word != "current" or state.record is None:
            out.append(f"upstream {name}: {state.word}")
        elif name not in recorded:
            out.append(f"upstream {name}: added")
        elif recorded[name] != storage.sha256_file(state.record):
            out.append(f"upstream {name}: ran again")
    return out + [f"upstream {name}: removed" for name in recorded if name not in upstream]


def settle(found: Iterable[State]) -> None:
    """Make the records agree with the states: those of jobs that must run are set aside, those set
    aside whose jobs are current come back, those that cannot be used are removed."""
    for state in found:
        record, aside = state.job.record, set_aside(state.job.record)
        if state.word == "current" and state.record == aside:
            aside.replace(record)
            provenance.seal(record)
        elif state.word == "stale" and state.record == record:
            record.replace(aside)
            record.with_suffix(provenance.SUMS).unlink(missing_ok=True)
        elif state.word == "missing":
            for path in (record, record.with_suffix(provenance.SUMS), aside):
                path.unlink(missing_ok=True)


def settle_others(config: StudyConfig) -> list[str]:
    """Set aside the records of jobs that the configuration does not name any more, as those of an
    attribute taken out of the file, so that no table, figure or report counts them; returns the
    jobs. They come back with the attribute. What was made by hand from `source` stays."""
    named = {job.name for job in stages.jobs(config)}
    others = []
    for record in config.paths.records():
        job = record.parent.relative_to(config.paths.root).as_posix()
        try:
            stage = provenance.read(record).get("stage")
        except ValueError:
            continue  # of a named job: settle removes it; of another one: verify names it
        drawn = record.parent in (config.paths.recomputed, config.paths.redrawn)
        if job not in named and stage in stages.STAGES and not drawn:
            record.replace(set_aside(record))
            record.with_suffix(provenance.SUMS).unlink(missing_ok=True)
            others.append(job)
    return others


def lines(found: Iterable[State]) -> list[str]:
    """One line a stage: how many of its jobs are current, or what changed."""
    return [f"{name:<14} {words}" for name, _, words in rows(found)]


def rows(found: Iterable[State]) -> list[tuple[str, str, str]]:
    """(stage, the state of its job that stands worst, all its jobs in words), a row a stage."""
    by_stage: dict[str, list[State]] = {}
    for state in found:
        by_stage.setdefault(state.job.stage.name, []).append(state)
    order = ("missing", "stale", "never run", "current")
    return [
        (name, min((s.word for s in own), key=order.index), _summed(own))
        for name, own in by_stage.items()
    ]


def _summed(found: list[State]) -> str:
    """The jobs of one stage in words, with the first reason of those that must run again."""
    counts = {w: sum(s.word == w for s in found) for w in ("current", "stale", "missing")}
    never = len(found) - sum(counts.values())
    if counts["current"] == len(found):
        return "current" + (f" ({len(found)} jobs)" if len(found) > 1 else "")
    if never == len(found):
        return "never run" + (f" ({len(found)} jobs)" if len(found) > 1 else "")
    parts = [f"{n} {w}" for w, n in [*counts.items(), ("never run", never)] if n]
    words = ", ".join(parts) if len(found) > 1 else parts[0].split(" ", 1)[1]
    reasons = list(dict.fromkeys(r for s in found for r in s.reasons))
    own = [r for r in reasons if not r.startswith("upstream ")]
    shown = own or reasons  # what follows from another stage's change is said where it changed
    more = f" (and {len(shown) - 2} more)" if len(shown) > 2 else ""
    return f"{words}: {'; '.join(shown[:2])}{more}" if shown else words


def details(found: Iterable[State]) -> list[str]:
    """Every job that is not current, with every reason."""
    out = []
    for state in found:
        if state.word != "current":
            out.append(f"{f'{state.job.stage.name} {state.job.what}'.strip()}: {state.word}")
            out += [f"    {reason}" for reason in state.reasons]
    return out
