"""A whole study: driven by Snakemake on the Snakefile, planned, summed up.

    drive    take the study's lock, run the graph, name what was made, print the claim table
    needs    what makes one stage run again, for the Snakefile
    plan     the jobs that are still to run and the images that the study makes

Invariant: one driver to a study. The lock is the operating system's, so that it ends with its
holder, however that ends; the pid in it serves the message only. Snakemake's own lock would
outlive a kill, so it is not used.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.params import ParameterError, editing, load_params, loaded_parts, phrase_file
from ..core.study_paths import StudyPaths
from ..training import recipes
from . import plan as planning
from . import provenance
from .runner import find_notebook, split_settings

USED = {
    "01_data": (),
    "02_attributes": ("attributes", "prompts"),
    "03_guidance": ("guidance",),
    "04_edit": ("models", "guidance", "verify", "prompts"),
    "05_datadream": ("models",),
    "06_classify": ("classify", "verify"),
    "07_quality": ("models", "verify", "prompts"),
    "07_claims": ("claims", "classify"),
    "08_figures": ("claims",),
}
PICTURES, TABLES = {".png", ".pdf"}, {".csv", ".tex"}


class StudyBusy(RuntimeError):
    """Another driver of the same study is at work."""


def needs(
    stage: str, params: dict[str, Any], notebooks: Path, dataset: str = "", attribute: str = ""
) -> str:
    """Digest of a stage's notebook and of the parameters that it reads."""
    models = loaded_parts(params.get("models", {}))
    used: dict[str, Any] = {key: models if key == "models" else params[key] for key in USED[stage]}
    used |= {key: params[key] for key in ("seed", "protocol")}
    if dataset:
        used["dataset"] = params["datasets"][dataset]
    if stage == "03_guidance" and "detector" in models:
        used["models"] = {k: models.get(k) for k in ("detector", "segmenter")}
    if stage == "04_edit":
        used["edit"] = {
            k: v
            for k, v in params["edit"].items()
            if (not isinstance(v, dict) or k == attribute)
            and k not in ("shards", "processes", "reuse")
        }
        used["models"] = editing(models)
    if stage == "05_datadream":
        used["models"] = {k: models.get(k) for k in ("datadream", "prior", "clip")}
        used["datadream"] = params.get("datadream")
    if stage == "06_classify":
        elsewhere = {"dataset": (), "seed": ("seeds",), "recipe": ("recipes", "seeds")}
        others = elsewhere[params["classify"]["job"]]  # what is another job changes none
        used["classify"] = {k: v for k, v in params["classify"].items() if k not in others}
        used["clip"] = models.get("clip")
        used["classifier"] = models.get("classifier")
    files = [phrase_file(params)] if "prompts" in used else []
    if stage == "07_claims":
        files += ["claims.yaml", "known.yaml", *map(str, _others(params))]
    for name in files:
        if Path(name).is_file():
            used[f"file {name}"] = storage.sha256_file(name)
    return storage.sha256_json([storage.notebook_digest(find_notebook(stage, notebooks)), used])


def _others(params: dict[str, Any]) -> list[Path]:
    paths = StudyPaths(storage.study_dir(params))
    return list(paths.other_studies(params["claims"].get("against", {})).values())


def edited(params: dict[str, Any], recipe: str = "") -> list[str]:
    """The attributes whose edits a recipe reads ("" for all recipes of the study)."""
    names = [recipe] if recipe else params["classify"]["recipes"]
    try:
        return recipes.edited_attributes(names, params["attributes"])
    except ValueError as error:
        raise ParameterError(f"{params['_file']}: {error}") from error


def dreamed(params: dict[str, Any], recipe: str = "") -> list[str]:
    """The variants of DataDream that a recipe reads ("" for all recipes of the study)."""
    found = recipes.generators([recipe] if recipe else params["classify"]["recipes"])
    if found and "datadream" not in params:
        raise ParameterError(
            f"{params['_file']}: recipes ask for datadream, whose settings "
            "(`datadream`) are missing"
        )
    return found


LOCAL = "profiles/default"


def drive(
    file: str,
    settings: list[str],
    cores: int | None = None,
    notebooks: str = "notebooks",
    dry: bool = False,
    profile: str = LOCAL,
) -> int:
    """Run what is left of a study; returns Snakemake's exit code. Raises StudyBusy.

    profile: a folder with Snakemake's config.yaml; one that is not LOCAL names its own cores.
    """
    from snakemake.cli import main

    _, overrides = split_settings(settings, {}, load_params(file), file)
    params = load_params(file, overrides)
    planning.complete(params)
    folder = storage.study_dir(params)
    if not Path(profile, "config.yaml").is_file():
        raise ParameterError(
            f"--profile {profile}: no config.yaml there; the repository has "
            f"{LOCAL} and profiles/slurm"
        )
    if profile == LOCAL:
        cores = cores or os.cpu_count() or 1
    words = [
        "--profile",
        profile,
        *(["--cores", str(cores)] if cores else []),
        "--nolock",
        "--config",
        f"params={json.dumps(file)}",
        f"settings={json.dumps(settings)}",
        f"notebooks={json.dumps(str(notebooks))}",
    ]
    with contextlib.nullcontext() if dry else lock(folder):
        if not dry:
            mend(folder)
        os.environ["VARIREAL_DRIVER"] = f"{socket.gethostname()} {os.getpid()}"
        threading.Thread(target=end_with_reader, daemon=True).start()
        try:
            main([*words, "--dry-run"] if dry else words)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    if not dry:
        print(
            summary(folder)
            if code == 0
            else f"study {params['study']} stopped before its end. What was done stays; the same "
            "command goes on from there.",
            flush=True,
        )
    return code


def mend(folder: Path, now: float | None = None) -> list[str]:
    """Take back the records that are no longer true, and times that lie ahead of the clock.

    A record whose outputs were deleted is removed, so that its stage runs again. Records of the
    future, left by a clock that was ahead, would make every later stage run again at each call:
    they are moved back together, so that their order stays. Returns and prints what was done.
    """
    now, done, ahead = now or time.time(), [], []
    for path in sorted(folder.rglob("run.json")):
        try:
            names = provenance.read(path)["outputs"]
            gone = [n for n in names if not (folder / n).exists() and not Path(n).exists()]
            fault = f"{len(gone)} of its files are gone, as {gone[0]}" if gone else ""
        except (ValueError, KeyError, OSError) as error:
            fault = f"its record cannot be read ({type(error).__name__})"
        if fault:
            path.unlink()
            done.append(f"{path.parent}: {fault}; its stage runs again")
        elif path.stat().st_mtime > now + 1:
            ahead.append(path)
    if ahead:
        shift = max(p.stat().st_mtime for p in ahead) - now
        for path in ahead:
            moment = path.stat().st_mtime - shift
            os.utime(path, (moment, moment))
        done.append(f"{len(ahead)} records lay up to {shift:.0f} s ahead of the clock; moved back")
    for line in done:
        print(line, flush=True)
    return done


def end_with_reader() -> None:
    """End when nobody reads what this process prints, as in `make study | head`.

    Snakemake would wait for ever for a log that cannot be written, and hold the study's lock.
    """
    pipes = select.poll()
    for number in (1, 2):
        pipes.register(number, 0)  # errors alone
    while True:
        if any(event & select.POLLERR for _, event in pipes.poll(1000)):
            os._exit(141)
        time.sleep(1)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a study's lock. Raises StudyBusy that names the holder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".driver", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise StudyBusy(
                f"{folder}: another driver is at work on this study "
                f"({file.read().strip() or 'unknown process'}). Wait for it or stop "
                "it; this command then goes on where it stopped."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        file.truncate(0)


def plan(file: str, settings: list[str], notebooks: str = "notebooks") -> int:
    """Print the study's models, jobs, images, hours and disk, then Snakemake's table of the jobs
    that are still to run. Raises ParameterError for what the study could not run with."""
    _, overrides = split_settings(settings, {}, load_params(file), file)
    params = load_params(file, overrides)
    planning.complete(params)
    edited(params), dreamed(params)
    print(planning.report(params), flush=True)
    print("\nstill to run:", flush=True)
    return drive(file, settings, notebooks=notebooks, dry=True)


CLAIM = ("claim", "verdict", "ours", "low", "high", "seeds", "settle", "says")


def _short(text: str) -> str:
    """A number of a table with two decimals; anything else as it is."""
    try:
        return f"{float(text):.2f}" if "." in text else text
    except ValueError:
        return text


def summary(folder: Path) -> str:
    """The pictures and tables of a study, and its claim table if it has one."""
    lines = []
    for title, kinds in (("pictures", PICTURES), ("tables", TABLES)):
        found = sorted(
            p
            for sub in ("figures", "results")
            for p in (folder / sub).glob("*")
            if p.suffix in kinds
        )
        lines += [f"{title}:", *(f"  {p}" for p in found)] if found else []
    claims = folder / "results" / "claims.csv"
    if claims.exists():
        with open(claims, newline="") as file:
            rows = list(csv.DictReader(file))
        lines += [
            "",
            "claims (points):",
            *columns([list(CLAIM)] + [[_short(row.get(key, "")) for key in CLAIM] for row in rows]),
        ]
    return "\n".join(lines)


def columns(rows: list[list[str]], widest: int = 60) -> list[str]:
    """Rows of text as aligned lines; cells longer than `widest` are cut."""
    cut = [[c if len(c) <= widest else f"{c[: widest - 3]}..." for c in row] for row in rows]
    width = [max(len(c) for c in column) for column in zip(*cut, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip()
        for row in cut
    ]
