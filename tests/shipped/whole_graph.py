"""Runs every job of a parameter file through the cells of its notebooks, in a fork a job.

    python -m tests.shipped.whole_graph FILE...

A file fails at the first cell that raises, with the notebook, the cell and the job; its log holds
the seconds of each job. Files run in forks of one process that has imported what their notebooks
import: imports, a quarter of a small study's time, are paid once.

    Server(environment)       that process, with the variables given over those of this one
    Server.run(file, log)     0 where every cell of every job ran
"""

from __future__ import annotations

import gc
import os
import pkgutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.interactiveshell import InteractiveShell

import varireal_utils
from tests.conftest import ROOT
from varireal_utils.core.config import load_config
from varireal_utils.workflow import stages, status
from varireal_utils.workflow.completeness import complete


def run(job: stages.Job, params: str) -> None:
    """The code cells of a job's notebook, with its parameters."""
    shell = InteractiveShell()
    own = {} if job.config.replicate is None else {"replicate": job.config.replicate}
    given: dict[str, Any] = {"params": params, "overrides": own, **job.target}
    book = nbformat.read(ROOT / "notebooks" / f"{job.stage.name}.ipynb", as_version=4)
    for number, cell in enumerate(book.cells):
        if cell.cell_type != "code":
            continue
        text = "\n".join(s for s in cell.source.splitlines() if not s.startswith("%"))
        result = shell.run_cell(text, silent=False)
        if (error := result.error_before_exec or result.error_in_exec) is not None:
            raise RuntimeError(f"{job.name}: cell {number} of {job.stage.name}") from error
        if "parameters" in cell.metadata.get("tags", ()):
            assert set(given) == set(shell.user_ns) & set(given), job.stage.name
            shell.user_ns.update(given)


def in_fork(call: Callable[[], None]) -> int:
    """Call in a fork of this process; 0 where it did not raise."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 0
    try:
        call()
    except BaseException:  # whatever it is, the fork ends here
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def whole(params: str) -> None:
    """All jobs, parts before what is collected from them, each in a fork as it is a process of its
    own in a study; then nothing is left to run."""
    config = load_config(params)
    complete(config)
    for state in status.states(config):
        job = state.job
        if state.word == "current":  # as after a kill: what was done stays
            continue
        begun, used = time.time(), of_a_core()
        if code := in_fork(partial(run, job, params)):
            raise RuntimeError(f"{job.name}: ended with {code}")
        took = f"{time.time() - begun:.1f} s, of a core {of_a_core() - used:.1f} s"
        print(f"-- {job.stage.name} {job.what} {took}", file=sys.stderr)
    left = [(s.job.name, s.word) for s in status.states(config) if s.word != "current"]
    assert not left, left


def of_a_core() -> float:
    """Seconds that this process and its children have computed."""
    return sum(os.times()[:4])


MODULES = (  # what stages import when they need it
    "matplotlib.pyplot",
    "open_clip",
    "peft",
    "statsmodels.stats.inter_rater",
    "torchmetrics.functional.image",
)
CLASSES = {
    "diffusers": (
        "AutoencoderKL AutoPipelineForInpainting AutoPipelineForText2Image ControlNetModel "
        "StableDiffusionPipeline StableDiffusionXLControlNetInpaintPipeline "
        "StableDiffusionXLControlNetPipeline StableDiffusionXLInpaintPipeline"
    ),
    "transformers": (
        "AutoModelForImageTextToText AutoModelForZeroShotObjectDetection AutoProcessor "
        "CLIPTextModelWithProjection CLIPVisionModelWithProjection "
        "GroundingDinoForObjectDetection LlavaNextForConditionalGeneration Sam2Model"
    ),
}


class Server:
    """A process that runs files in forks of itself; for use as a context."""

    def __init__(self, environment: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.shipped.whole_graph", "--serve"],
            cwd=ROOT,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, file: Path, log: Path) -> int:
        """Run a file; its exit code. log: gets what it prints."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{file}\t{log}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline() or -1)


def prepare() -> None:
    """Import what jobs import, and leave it out of every later collection of garbage."""
    own = [m.name for m in pkgutil.walk_packages(varireal_utils.__path__, "varireal_utils.")]
    for name in [*MODULES, *(n for n in own if not n.endswith("__main__"))]:
        import_module(name)
    for library, names in CLASSES.items():
        for name in names.split():
            getattr(import_module(library), name)
    gc.collect()
    gc.freeze()


def serve() -> None:
    """Answer each line of standard input, a file and its log, with the exit code of its fork."""
    for line in sys.stdin:
        file, log = line.rstrip("\n").split("\t")
        print(in_fork(partial(_logged, file, log)), flush=True)


def _logged(file: str, log: str) -> None:
    """Run a file with its output in the log."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(opened, stream)
    timed(file)


def timed(path: str) -> None:
    """Run a file and say how long it took."""
    begun, used = time.time(), of_a_core()
    whole(path)
    took = f"{time.time() - begun:.1f} s, of a core {of_a_core() - used:.1f} s"
    print(f"{Path(path).name}: {took}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    prepare()
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        for given in sys.argv[1:]:
            timed(given)
