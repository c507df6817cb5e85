"""A whole study: what is left of it is run by Snakemake on the Snakefile, or planned.

    drive    take the study's lock, compare records with keys, run the graph, name what was made
    plan     the jobs that are still to run and the images that the study makes

Invariant (tests/unit/test_runner.py): a killed study goes on where it stopped, and a job whose key
has not changed and whose upstream jobs have not run again does not run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

from ..core.config import ParameterError
from ..core.cores import cores as available_cores
from . import plan as planning
from . import seal, status
from .completeness import complete
from .lock import StudyBusy, end_with_reader, lock
from .runner import configured
from .summary import summary

__all__ = ["LOCAL", "StudyBusy", "drive", "plan"]
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
    config, _ = configured(file, settings)
    complete(config)
    if not Path(profile, "config.yaml").is_file():
        raise ParameterError(
            f"--profile {profile}: no config.yaml there; the repository has "
            f"{LOCAL} and profiles/slurm"
        )
    folder = config.paths.root
    with contextlib.nullcontext() if dry else lock(folder):
        found = status.states(config, notebooks, here=profile == LOCAL)
        if not dry:
            print("\n".join(status.lines(found)), flush=True)
            status.settle(found)
            seal.remove(folder)
        words = ["--profile", profile, "--nolock"]
        count = cores or (available_cores() if profile == LOCAL else None)
        words += ["--cores", str(count)] if count else []
        words += ["--config", f"params={json.dumps(file)}", f"settings={json.dumps(settings)}"]
        words += [f"notebooks={json.dumps(str(notebooks))}"]
        words += [f"threads={count}"] if profile == LOCAL else []
        code = _snakemake([*words, *_forced(found)] if dry else words)
        if code == 0 and not dry:
            seal.write(config)
    if not dry:
        print(
            summary(folder)
            if code == 0
            else f"study {config.study} stopped before its end. What was done stays; the same "
            "command goes on from there.",
            flush=True,
        )
    return code


def _forced(found: list[status.State]) -> list[str]:
    """Words for a dry run: the records that a run would set aside count as absent."""
    stale = [s.job.record for s in found if s.word != "current" and s.job.record.is_file()]
    return ["--dry-run", *(["--forcerun", *map(str, stale)] if stale else [])]


def _snakemake(words: list[str]) -> int:
    """Snakemake's exit code."""
    from snakemake.cli import main

    os.environ["VARIREAL_DRIVER"] = f"{socket.gethostname()} {os.getpid()}"
    threading.Thread(target=end_with_reader, daemon=True).start()
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
