"""Begins a study of a user's own photographs: looks at them, writes its parameter and phrase files.

    look      folder or CSV -> classes with their numbers of photographs, and what is wrong
    propose   the two files, as text, and the commands to run next
    write     both files, neither over an existing one unless asked

Nothing is written for photographs that cannot make a study. Phrases of a study with real models
are places to fill in; 02_attributes refuses a file that still holds one.

Invariant (tests/unit/test_new_study.py): a file that is written loads as a configuration.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from ..core import storage
from ..core.config import ParameterError, load_config
from ..core.config_base import written
from ..data import datasets, enough, registry
from ..data.image_record import DatasetError
from ..prompts.phrase_bank import ARMS, TO_FILL

MICRO, REAL = "params/prompts/custom.yaml", "params/prompts/oxford_pets.yaml"
GPUS = {16: "weekend.yaml", 24: "weekend.yaml", 80: "paper.yaml"}  # GB -> settings that fit
SMALL_GPU = {
    "plan": {"card": "T4", "card_gb": 16},
    "datadream": {"batch_size": 4},
}
PLACES = 4  # phrases of an arm to fill in
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


@dataclass(frozen=True)
class Look:
    """What lies in a folder or list. spec: of the data set; counts: class -> usable photographs;
    notes: what a user should know; faults: what keeps it from being a study."""

    spec: dict[str, Any]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Proposal:
    """Text of the files by path, the commands that come next, and what to do in them.

    A command is one that every shell takes: zsh takes no comment behind it.
    """

    files: dict[Path, str]
    commands: list[str]
    notes: list[str]


def look(name: str, place: Path, csv: Path | None = None) -> Look:
    """Look at the photographs below `place`, or of the list `csv`; opens each, decodes none.

    Raises ParameterError for a name that cannot be a folder's, a place that is none, or photographs
    that no reader takes.
    """
    if not name or name != storage.slug(name):
        raise ParameterError(
            f"new: the name {name!r} becomes a folder: lower-case letters, digits, _ and -, please"
        )
    notes: list[str] = []
    if csv is not None:
        spec: dict[str, Any] = {"source": "csv", "path": _written(csv)}
    else:
        inner = _inner(place, notes)
        spec = {"source": "imagefolder", "root": _written(inner)}
    skipped: list[dict[str, str]] = []
    try:
        entries = registry.entries(name, registry.parse(name, spec), skipped)
    except DatasetError as error:
        raise ParameterError(f"new: {error}") from error
    counts: Counter[str] = Counter()
    for entry in entries:
        fault = _unusable(entry.file)
        if fault:
            skipped.append({"file": entry.image_id, "reason": fault})
        else:
            counts[entry.class_name] += 1
    notes += [f"left out: {storage.shown(s['file'])}: {s['reason']}" for s in skipped[:10]]
    notes += [f"... and {len(skipped) - 10} more"] if len(skipped) > 10 else []
    notes += enough.thin_classes(dict(sorted(counts.items()))) if _whole(counts) >= 2 else []
    ordered = dict(sorted(counts.items()))
    return Look(spec, ordered, notes, _faults(ordered, place))


def _inner(place: Path, notes: list[str]) -> Path:
    """The folder above the classes: a lone folder of folders around all is stepped into."""
    if place.is_file():
        remedy = f": unpack it first (python -m zipfile -e {place.name} FOLDER)"
        what = "an archive" + remedy if place.suffix.lower() in ARCHIVES else "a file"
        raise ParameterError(f"new: --images {place}: wanted a folder, this is {what}")
    if not place.is_dir():
        raise ParameterError(f"new: --images {place}: no such folder")
    while True:
        folders, files = _visible(place)
        if files or len(folders) != 1 or not _visible(folders[0])[0]:
            return place
        place = folders[0]
        notes.append(f"one folder holds all others: the classes are taken from {place}")


def _visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files, without what operating systems add."""
    inside = [
        p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.name != "__MACOSX"
    ]
    return [p for p in inside if p.is_dir()], [p for p in inside if p.is_file()]


def _unusable(file: Path) -> str:
    """Why a file is no photograph for a study, by its header; "" if it is one."""
    try:
        with Image.open(file) as picture:
            size = picture.size
    except FileNotFoundError:
        return "a link that leads nowhere" if file.is_symlink() else "no such file"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read as an image ({type(error).__name__})"
    least = datasets.SMALLEST
    return "" if min(size) >= least else f"{size[0]} x {size[1]} pixels, wanted {least} a side"


def _faults(counts: dict[str, int], place: Path) -> list[str]:
    if not counts:
        return [f"no photograph below {place} can be read"]
    if len(counts) == 1:
        only = next(iter(counts))
        return [f"a second class; there is {only!r} alone, and a classifier needs at least two"]
    return enough.thin_classes(counts) if _whole(counts) < 2 else []


def _whole(counts: dict[str, int]) -> int:
    """Classes with enough photographs."""
    return sum(count >= enough.NEEDED for count in counts.values())


def _written(path: Path) -> str:
    """A path as a parameter file gives it: relative where it lies below the working folder."""
    whole = path.resolve()
    here = Path.cwd().resolve()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


@dataclass(frozen=True)
class Begun:
    """What `begin` says, and whether it wrote the files."""

    lines: list[str]
    written: bool


def begin(
    name: str,
    images: Path | None,
    csv: Path | None,
    models: str = "micro",
    gpu: int = 24,
    llm: str = "",
    force: bool = False,
) -> Begun:
    """Look, propose and write; llm: a parameter file whose `prompts` ask a language model.

    Raises ParameterError for what cannot be looked at or written.
    """
    if (images is None) == (csv is None):
        raise ParameterError("new: wanted --images DIR or --csv FILE, one of them")
    if gpu not in GPUS:
        raise ParameterError(f"new: --gpu {gpu}: wanted one of {sorted(GPUS)} (GB)")
    found = look(name, images or Path("."), csv)
    said = list(lines(name, found))
    if found.faults:
        return Begun([*said, "Nothing was written."], False)
    proposal = propose(name, found, models, gpu, _language_model(llm) if llm else None)
    write(proposal, force)
    said += [f"written: {path}" for path in proposal.files] + proposal.notes
    return Begun([*said, "next:", *(f"  {command}" for command in proposal.commands)], True)


def _language_model(file: str) -> dict[str, Any]:
    """The section `prompts` of a file that asks a language model."""
    prompts = written(load_config(file))["prompts"]
    if not isinstance(prompts, dict) or prompts.get("source") != "llm":
        raise ParameterError(
            f"new: --llm {file}: its prompts name no language model; params/custom_llm.yaml does"
        )
    return prompts


def propose(
    name: str, found: Look, models: str = "micro", gpu: int = 24, llm: dict[str, Any] | None = None
) -> Proposal:
    """The files and commands of a study.

    models: micro (rendered world; shows the way) or real; gpu: GB of its memory; llm: a section
    `prompts` that asks a language model for the phrases, or None.
    """
    params, phrases = Path(f"params/{name}.yaml"), Path(f"params/prompts/{name}.yaml")
    micro = models == "micro"
    own: dict[str, Any] = {
        "include": "micro.yaml" if micro else GPUS[gpu],
        "study": name,
        "datasets": {name: found.spec | {"max_size": 256 if micro else 1024}},
        "prompts": llm | {"base": phrases.as_posix()} if llm else phrases.as_posix(),
    }
    if micro:
        own["edit"] = {"canvas": 128}
    elif gpu == 16:
        own |= SMALL_GPU
    total, classes = sum(found.counts.values()), len(found.counts)
    head = (
        f"# {total} photographs of {classes} classes, with "
        + ("the micro models, which know a drawn world only." if micro else f"{gpu} GB of GPU.")
        + f"\n# Its phrases: {phrases}. `make study PARAMS={params}`\n"
    )
    files = {params: head + _yaml(own), phrases: _phrases(name, micro, bool(llm))}
    real = [
        f"python -m varireal_utils {c} --params {params}" for c in ("fetch-models", "preflight")
    ]
    edit = [] if micro or llm else [f"vi {phrases}"]
    notes = [f"replace each {TO_FILL} in {phrases}; its head says by what"] if edit else []
    commands = [*edit, *([] if micro else real), f"make study PARAMS={params}"]
    return Proposal(files, commands, notes)


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _phrases(name: str, micro: bool, llm: bool) -> str:
    """A phrase file: templates and colours of a shipped one, phrases to fill in or the world's."""
    shipped = yaml.safe_load(Path(MICRO).read_text(encoding="utf-8"))
    data = shipped if micro else yaml.safe_load(Path(REAL).read_text(encoding="utf-8"))
    family = shipped["families"]["my_images"]
    if micro:
        head = (
            "# Feasible and infeasible phrases, for every class alike; change them to what holds\n"
            "# for your photographs. These words are the micro models' own.\n"
        )
    else:
        places = {a: {arm: _places(a, arm) for arm in ARMS} for a in data["templates"]}
        family = places | {"color": family["color"]}
        head = (
            "# Phrases for every class alike: what a photograph may well show (feasible) and what\n"
            "# no photograph shows (infeasible), as they stand in the sentences under templates.\n"
            "# Lists of an attribute are equally long. A colour stands under colors with its red,\n"
            "# green and blue. docs/own_images.md shows lists by class.\n"
        )
        if llm:
            head += "# A language model writes the phrases; those below are not read.\n"
    used = [p for arm in family["color"].values() for p in arm]
    data["colors"] = {c: shipped["colors"][c] for c in used}
    return head + _yaml({**data, "families": {name: family}})


def _places(attribute: str, arm: str) -> list[str]:
    return [f"{TO_FILL} {arm} {attribute} {i + 1}" for i in range(PLACES)]


def write(proposal: Proposal, force: bool = False) -> None:
    """Write both files. Raises ParameterError where one is there already and `force` is not given,
    or where the parameter file would not load; then nothing is written."""
    there = [str(path) for path in proposal.files if path.exists()]
    if there and not force:
        raise ParameterError(
            f"new: {', '.join(there)}: there already; choose another name, or --force"
        )
    _check(proposal)
    for path, text in proposal.files.items():
        storage.write_text(path, text)


def _check(proposal: Proposal) -> None:
    """Load the parameter file from beside those that it includes."""
    params = next(iter(proposal.files))
    with tempfile.NamedTemporaryFile(
        "w", suffix=".yaml", dir=params.parent, encoding="utf-8"
    ) as file:
        file.write(proposal.files[params])
        file.flush()
        load_config(file.name)


def lines(name: str, found: Look) -> Iterable[str]:
    """What was found, as text: classes, notes, faults."""
    counts = found.counts
    sizes = sorted(counts.values())
    span = f"{sizes[0]} to {sizes[-1]}" if sizes and sizes[0] != sizes[-1] else f"{sizes[:1]}"
    noun = "class" if len(counts) == 1 else "classes"
    yield f"{name}: {len(counts)} {noun}, {sum(sizes)} photographs ({span.strip('[]')} a class)"
    yield from (f"  {note}" for note in found.notes)
    yield from (f"  missing: {fault}" for fault in found.faults)
