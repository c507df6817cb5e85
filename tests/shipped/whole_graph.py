"""Runs every job of a parameter file through the cells of its notebooks, in this one process.

    python -m tests.shipped.whole_graph FILE...

Fails at the first cell that raises, with the notebook, the cell and the job.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.interactiveshell import InteractiveShell

from tests.conftest import ROOT
from varireal_utils.core.config import load_config
from varireal_utils.workflow import stages, status
from varireal_utils.workflow.completeness import complete


def run(job: stages.Job, params: str) -> None:
    """The code cells of a job's notebook, with its parameters."""
    shell = InteractiveShell()
    given: dict[str, Any] = {"params": params, "overrides": {}, **job.target}
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


def whole(params: str) -> None:
    """All jobs, parts before what is collected from them; then nothing is left to run."""
    config = load_config(params)
    complete(config)
    for state in status.states(config):
        job = state.job
        if state.word == "current":  # as after a kill: what was done stays
            continue
        begun, used = time.time(), time.process_time()
        run(job, params)
        took = f"{time.time() - begun:.1f} s, of a core {time.process_time() - used:.1f} s"
        print(f"-- {job.stage.name} {job.what} {took}", file=sys.stderr)
    left = [(s.job.name, s.word) for s in status.states(config) if s.word != "current"]
    assert not left, left


if __name__ == "__main__":
    for path in sys.argv[1:]:
        start = time.time()
        whole(path)
        print(f"{Path(path).name}: {time.time() - start:.1f} s", file=sys.stderr, flush=True)
