"""The registration of a study: what was fixed before its first replicate was drawn.

    python -m varireal_utils register --params FILE

    register(config)   writes registrations/<study>.json, with its sum beside it; commit both
    hold(config)       refuses to run a registered study in another state, naming what differs,
                       and any other study with its seed before it is published
    compared(...)      what records of the study and its registration do not agree on

symbols   state     parameters (but for those marked EXECUTION), digests of sources (weights, phrase
                    file, claims), of notebooks, and of the code that they run
          reserved  indices of replicates that nothing but this study draws from its seed

The state is that of all stages up to the claims; figures may be drawn anew. A study grows only by
another registration: another name, and another seed. Invariant (tests/unit/test_registration.py):
a change of the state is named before anything runs, and afterwards by `verify`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import ParameterError, StudyConfig, checked, content
from ..core.config_base import flattened
from ..core.stage import SourceDigests
from . import provenance, stages, status
from .invocation import find_notebook

FOLDER = Path("registrations")
RESERVED = 64  # indices from 0 on
DRAWN = "08_figures"  # shows what was decided
PARTS = ("parameters", "sources", "notebooks", "code")
State = dict[str, dict[str, Any]]


def path_of(config: StudyConfig) -> Path:
    """Where the registration of a study lies, whether or not there is one."""
    return file_of(config.registration, config.study)


def file_of(file: str, study: str) -> Path:
    """The same from what a record holds: the parameter `registration`, and the study's name."""
    return Path(file or FOLDER / f"{storage.slug(study)}.json")


def state(config: StudyConfig, notebooks: str | Path = "notebooks") -> State:
    """PARTS of a study as they are now: name -> value or digest."""
    digests = SourceDigests(Path(config.runs_dir) / status.DIGESTS)
    found: State = {"parameters": _parameters(config), "sources": {}, "notebooks": {}, "code": {}}
    first = config.model_copy(update={"replicates": 1, "replicate": None})
    for job in stages.jobs(first):
        name = job.stage.name
        if name == DRAWN or (name in found["notebooks"] and name != "04_edit"):
            continue
        key = job.key(find_notebook(name, Path(notebooks)), digests)
        found["notebooks"][name] = key.notebook
        found["sources"] |= key.sources
        found["code"] |= key.code
    return {part: dict(sorted(values.items())) for part, values in found.items()}


def _parameters(config: StudyConfig) -> dict[str, Any]:
    """Dotted key -> value, of those that a result can depend on, the replicate's index left out."""
    plain = config.model_copy(update={"replicate": None})
    return flattened(content(plain))


def register(config: StudyConfig, notebooks: str | Path = "notebooks") -> Path:
    """Write the registration of a study; returns its path. Raises ParameterError for a study of one
    draw, of more replicates than are reserved, and for one that has begun."""
    path = path_of(config)
    if not 0 < config.replicates <= RESERVED:
        raise ParameterError(
            f"{config.file}: replicates: got {config.replicates}, wanted 1 to {RESERVED}: the unit "
            "of a registered study is the replicate"
        )
    begun = config.whole.records() if config.whole.root.is_dir() else []
    published = Path("results") / storage.slug(config.study)
    if begun or published.is_dir():
        raise ParameterError(
            f"{config.file}: study {config.study} has begun ({begun[0] if begun else published}), "
            "and a registration comes first; give the new one another `study` and another `seed`"
        )
    about = {
        "study": config.study,
        "registered": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": config.seed,
        "replicates": config.replicates,
        "reserved": [0, RESERVED - 1],
    }
    storage.write_json(path, about | state(config, notebooks))
    provenance.seal(path)
    return path


def read(path: Path) -> dict[str, Any] | None:
    """A registration, its form checked; None where there is none. Raises ParameterError."""
    if not path.is_file():
        return None
    try:
        found = provenance.read(path)
    except ValueError as error:
        raise ParameterError(f"{path}: {error}; take back its change") from error
    if any(not isinstance(found.get(part), dict) for part in PARTS) or "registered" not in found:
        raise ParameterError(f"{path}: no registration; wanted {', '.join(PARTS)}")
    return found


def differences(registered: Mapping[str, Any], now: State) -> list[str]:
    """What differs from a registration, a line each."""
    out = []
    for part in PARTS:
        before, after = registered[part], now[part]
        for name in sorted({*before, *after}):
            old, new = before.get(name, "(none)"), after.get(name, "(none)")
            if old != new and part == "parameters":
                out.append(f"{name}: {old} -> {new}")
            elif old != new:
                how = "added" if old == "(none)" else "removed" if new == "(none)" else "changed"
                out.append(f"{part.removesuffix('s')} {name}: {how}")
    return out


def hold(config: StudyConfig, notebooks: str | Path = "notebooks", stage: str = "") -> str:
    """A line that a registered study is as it was registered; "" for one that is not registered.
    Raises ParameterError that names what differs.

    stage: the one that is run, "" for the study. Figures show what was decided: DRAWN is held to
    the parameters alone, so that later code may draw a finished study again.
    """
    path = path_of(config)
    registered = read(path)
    _not_reserved(config)
    if registered is None:
        return ""
    since = f"registered {registered['registered']}, {registered['replicates']} replicates"
    if stage == DRAWN:
        parts: State = {part: registered[part] for part in PARTS}
        now = parts | {"parameters": _parameters(config)}
    else:
        now = state(config, notebooks)
    if lines := differences(registered, now):
        more = f" (and {len(lines) - 5} more)" if len(lines) > 5 else ""
        raise ParameterError(
            f"{path}: study {config.study} was {since}; it is not as registered: "
            f"{'; '.join(lines[:5])}{more}. Take these changes back, or register another study: "
            "another `study`, another `seed`"
        )
    return f"{since}; as registered"


def _not_reserved(config: StudyConfig) -> None:
    """Raise ParameterError for a study whose replicates another registered one is to draw first."""
    for path in sorted(FOLDER.glob("*.json")) if config.replicates else ():
        other = read(path) or {}
        name = str(other.get("study", config.study))
        published = Path("results") / storage.slug(name)
        clash = name != config.study and other.get("seed") == config.seed
        if clash and not published.is_dir():
            raise ParameterError(
                f"{config.file}: seed: got {config.seed}, whose indices 0 to {RESERVED - 1} are "
                f"reserved for study {name} ({path}), which is not published yet; give study "
                f"{config.study} another seed"
            )


def compared(path: Path, records: Iterable[Mapping[str, Any]]) -> tuple[list[str], str]:
    """(what records do not agree on with a registration, a line of what was compared)."""
    try:
        registered = read(path)
    except ParameterError as error:
        return [str(error)], ""
    if registered is None:
        return [], ""
    wrong: dict[str, None] = {}
    seen: dict[str, dict[str, Any]] = {}
    count = 0
    for record in records:
        if record.get("stage") not in stages.STAGES or record.get("stage") == DRAWN:
            continue
        count += 1
        for line in _of_record(registered, record, seen):
            wrong[f"{path}: {line}"] = None
    said = f"{count} records against the registration of {registered['registered']}"
    return list(wrong), said


def _of_record(
    registered: Mapping[str, Any], record: Mapping[str, Any], seen: dict[str, dict[str, Any]]
) -> Iterable[str]:
    """What one record and the registration do not agree on. seen: parameters by digest."""
    stage, key = record["stage"], record.get("key") or {}
    if record.get("started", "") < registered["registered"]:
        yield f"{stage}: begun {record.get('started')}, before the registration"
    digest = str(record.get("parameter_digest"))
    if digest not in seen:
        try:
            seen[digest] = _parameters(checked(record["parameters"], "record"))
        except (ParameterError, KeyError) as error:
            yield f"{stage}: its parameters cannot be read: {error}"
            return
    now = {"parameters": seen[digest], "notebooks": {stage: key.get("notebook")}}
    now |= {part: key.get(part, {}) for part in ("sources", "code")}
    old = {part: {n: registered[part].get(n, "(none)") for n in now[part]} for part in PARTS[1:]}
    yield from differences({**old, "parameters": registered["parameters"]}, now)
