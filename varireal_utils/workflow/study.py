"""A whole study: what is left of it is run by Snakemake on the Snakefile, or planned.

    drive    take the study's lock, compare records with keys, run the graph, name what was made
    plan     the jobs that are still to run and the images that the study makes

Invariant (tests/unit/test_runner.py): a killed study goes on where it stopped, and a job whose key
has not changed and whose upstream jobs have not run again does not run again.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

from ..core.config import ParameterError, StudyConfig, written
from ..core.cores import cores as available_cores
from ..core.stage import SourceDigests
from . import code_changes, gpus, graph, invocation, registration, seal, status
from . import plan as planning
from .completeness import complete
from .invocation import configured
from .lock import StudyBusy, end_with_reader, lock
from .summary import summary

__all__ = ["LOCAL", "StudyBusy", "drive", "plan"]
LOCAL = "profiles/default"
FROZEN = ".parameters.json"  # the configuration as the driver read it, below the study's folder
CODE = (
    "error: code changed while the study ran, so stages are of two states of it. Where the change "
    "alters no result, accept-code keeps them; else the same command runs again what it changes:"
)
SAID = (
    "Select jobs to execute",
    "Execute ",
    "Using shell",
    "Assuming unrestricted",
    "Rules claiming",
)
SAID_HERE = ("Finished jobid",)  # where each job has a line of its own
TURNS = 3  # how often inputs may change before the driver gives up


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
    config, _ = configured(file, settings)
    complete(config)
    if (registered := registration.hold(config, notebooks)) and not dry:
        print(registered, flush=True)
    if not Path(profile, "config.yaml").is_file():
        raise ParameterError(
            f"--profile {profile}: no config.yaml there; the repository has "
            f"{LOCAL} and profiles/slurm"
        )
    here, apart = profile == LOCAL, graph.apart(config.paths.root)
    count = cores or (available_cores() if here else None)
    words = ["--profile", profile, "--nolock", *(["--cores", str(count)] if count else [])]
    words += _elsewhere(config, dry) if apart else []
    devices = gpus.found(config) if here and not dry else gpus.Gpus()
    words += devices.limit()
    words += [
        "--config",
        *devices.told(),
        graph.word("params", file),
        graph.word("settings", *settings),
    ]
    words += [graph.word("notebooks", str(notebooks))]
    words += [f"threads={count}"] * here + [graph.word("home", str(Path.cwd()))] * apart
    if dry:
        return _snakemake([*words, *_forced(status.states(config, notebooks, here), apart)])
    with lock(config.paths.root):
        frozen = invocation.freeze(config, config.paths.root / FROZEN)
        code = _run(config, notebooks, here, [*words, graph.word("frozen", str(frozen))])
    print(
        summary(config.paths.root)
        if code == 0
        else f"study {config.study} stopped before its end. What was done stays; the same "
        "command goes on from there.",
        flush=True,
    )
    if changed := _edited(config, file, settings):
        print(changed, flush=True)
    return code


def _elsewhere(config: StudyConfig, dry: bool) -> list[str]:
    """Words under which Snakemake works in the study's folder, or in one of its own where there is
    none yet and none is to be made."""
    root = config.paths.root
    place = tempfile.mkdtemp(prefix="varireal-") if dry and not root.is_dir() else str(root)
    return ["--directory", place, "--snakefile", str(Path("Snakefile").resolve())]


def _run(config: StudyConfig, notebooks: str, here: bool, words: list[str]) -> int:
    """Run the graph until every job is current, then seal the study; Snakemake's exit code.

    An input that changes while the graph runs makes the jobs stale that had read it: they run again
    with those that follow, so that the end is the study of one state of its inputs. Where only code
    changed, nothing runs again by itself: people pull and edit while long studies run.
    """
    os.environ["VARIREAL_DRIVER"] = f"{socket.gethostname()} {os.getpid()}"
    threading.Thread(target=end_with_reader, daemon=True).start()
    for turn in range(TURNS):
        found = status.states(config, notebooks, here)
        stale = [s for s in found if s.word != "current"]
        if turn and code_changes.alone(stale):
            print("\n".join([CODE, *status.details(stale)]), file=sys.stderr)
            return 1
        if turn:
            lines = status.details(stale)
            print("\n".join(["inputs changed while the study ran:", *lines]), flush=True)
        else:
            print("\n".join(status.lines(found)), flush=True)
        status.settle(found)
        status.settle_others(config)
        seal.remove(config.paths.root)
        if code := _snakemake(words):
            return code
        if all(s.word == "current" for s in status.states(config, notebooks, here)):
            seal.write(config)
            return 0
    print(
        f"error: inputs of study {config.study} changed in each of {TURNS} turns; leave them as "
        "they are and run the same command again",
        file=sys.stderr,
    )
    return 1


def _edited(config: StudyConfig, file: str, settings: list[str]) -> str:
    """A line where the parameter file is no longer what the study was begun with."""
    try:
        now = configured(file, settings)[0]
        same = written(now) == written(config)
    except ParameterError:
        same = False
    return (
        ""
        if same
        else f"{file} was edited while the study ran; its runs are of the file as it was when the "
        "study began. The same command runs what the edit changes."
    )


def accept_code(config: StudyConfig, notebooks: str, stage: str, why: str) -> list[str]:
    """Accept changes of code that alter no result (code_changes.accept) for a stage, or all; seal
    the study again where it was sealed. Returns the jobs. Raises StudyBusy."""
    root = config.paths.root
    with lock(root):
        found = status.states(config, notebooks)
        chosen = [s for s in found if not stage or s.job.stage.name == stage]
        digests = SourceDigests(Path(config.runs_dir) / status.DIGESTS)
        jobs = code_changes.accept(config, chosen, digests, Path(notebooks), why)
        if jobs and seal.path_of(root).is_file():
            seal.remove(root)
            seal.write(config)
    return jobs


def _forced(found: list[status.State], apart: bool) -> list[str]:
    """Words for a dry run: the records that a run would set aside count as absent."""
    stale = [s.job for s in found if s.word != "current" and s.job.record.is_file()]
    names = [graph.record(job, apart) for job in stale]
    return ["--dry-run", *(["--forcerun", *names] if names else [])]


def _snakemake(words: list[str]) -> int:
    """Snakemake's exit code. Of what it says of its own doings, SAID is left out."""
    from snakemake.cli import main
    from snakemake.logging import logger

    said = SAID + SAID_HERE * (LOCAL in words)
    logger.addFilter(lambda record: not str(record.msg).startswith(said))
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def plan(file: str, settings: list[str], notebooks: str = "notebooks") -> int:
    """Print the study's models, jobs, images, hours and disk, how its stages stand, then
    Snakemake's table of the jobs that are still to run. Raises ParameterError for what the study
    could not run with."""
    print(planning.report(configured(file, settings)[0]), flush=True)
    print("\nstill to run:", flush=True)
    return drive(file, settings, notebooks=notebooks, dry=True)
