"""One notebook, run to the end or reported as failed. The only module that knows papermill.

    job          checked before any kernel starts (invocation.py)
    kernel       always python3, always this interpreter, over IPC sockets (TCP ports clash)
    success      a run.json written last by record.finish, fresh and with this run's own id; the
                 executed notebook proves nothing (after a kill or a time-out its cells read
                 "completed")
    notebook     executed under a temporary name; renamed on success, *.failed.ipynb on failure
    chain        several notebooks, one after another in one kernel, each with a record of its own

Invariant: `run` returns a record of this very run, or raises. A notebook without a `params`
parameter is no stage and writes no record; it has succeeded when a last, added cell has run.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.cores import thread_limit
from . import gpu_slots, provenance
from .invocation import Job, freeze

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# glibc hands large arrays back to the system at once and gets new, empty pages for the next one,
# which costs editing on a CPU some of its time. With these it keeps up to 1 GiB.
KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
POINTER = "pointer"  # the file into which run_record.finish writes where the record is
_RENEW = """import gc, os
os.environ.update({})
get_ipython().reset(new_session=True, aggressive=False)
__import__("gc").collect()
get_ipython().execution_count = 0"""
_REACHED_END = "import os, pathlib\npathlib.Path(os.environ['VARIREAL_RUN_POINTER']).touch()"


class RunFailed(RuntimeError):
    """A notebook that did not succeed; the message says which, where, why, and where to look."""


def run(job: Job, timeout: float | None = None, show: bool = False) -> dict[str, Any]:
    """Run a notebook and return its record ({} for a notebook that is no stage).

    timeout: seconds for one cell, None for no limit. show: copy what cells print to the terminal.
    Raises RunFailed.
    """
    return list(run_chain([job], timeout, show))[0]


def run_chain(
    jobs: Sequence[Job], timeout: float | None = None, show: bool = False
) -> Iterator[dict[str, Any]]:
    """Run notebooks one after another in one kernel, which loads its modules once; the record of
    each as it ends. Their variables are not shared: each finds an empty namespace.

    peak_memory_mb of a record is of the kernel so far. Raises RunFailed; what ended before stays.
    """
    with _kernel() as (kernel, folder):
        for number, job in enumerate(jobs):
            run_id = uuid.uuid4().hex
            environment = _environment(run_id, job, folder)
            if number == 0:
                _describe(folder, environment)
            else:
                (folder / POINTER).unlink(missing_ok=True)
                _renew(kernel, environment)
            yield _execute(job, kernel, folder / POINTER, run_id, (timeout, show))


def _renew(kernel: Any, environment: dict[str, str]) -> None:
    """Empty a kernel's namespace and tell it the run that comes next."""
    import nbclient
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(_RENEW.format(environment))])
    nbclient.NotebookClient(book, km=kernel, timeout=300).execute()


def _execute(
    job: Job, kernel: Any, pointer: Path, run_id: str, how: tuple[float | None, bool]
) -> dict[str, Any]:
    """Run one notebook in a kernel. how: timeout and show, as of `run`."""
    import nbformat
    import papermill

    timeout, show = how
    temporary = job.executed.with_name(f".{job.executed.name}")
    failed = job.executed.with_suffix(".failed.ipynb")
    job.executed.parent.mkdir(parents=True, exist_ok=True)
    book = nbformat.read(job.notebook, as_version=4)
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    if not job.is_stage:
        book.cells.append(nbformat.v4.new_code_cell(_REACHED_END))
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            book,
            _literal(temporary),
            job.arguments,
            kernel_name="python3",
            language="python",
            km=kernel,
            progress_bar=False,
            cwd=str(Path.cwd()),
            start_timeout=300,
            execution_timeout=timeout,
            stdout_file=sys.stdout if show else None,
            stderr_file=sys.stderr if show else None,
        )
        record = _record(pointer, run_id, job)
    except BaseException as error:
        where = ""
        if temporary.exists():
            os.replace(temporary, failed)
            where = f"\n  notebook: {failed}"
        if not isinstance(error, Exception):  # Ctrl-C, or a signal to end
            raise
        seconds = time.monotonic() - started
        raise RunFailed(
            f"{job.stage} failed after {seconds:.1f} s: {_reason(error, kernel, timeout)}{where}"
        ) from error
    os.replace(temporary, job.executed)
    provenance.seal(job.executed)
    failed.unlink(missing_ok=True)
    return record


def _literal(path: Path) -> str:
    """A path for papermill, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def _kernel() -> Iterator[tuple[Any, Path]]:
    """A kernel manager for this interpreter, and its folder: `_describe` it before it starts.

    The kernel's name on this machine may be unknown or belong to another environment, so a folder
    of its own holds the only kernel description that is looked at.
    """
    from jupyter_client.channels import AsyncZMQSocketChannel
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    class Channel(AsyncZMQSocketChannel):
        """Looks again every few seconds: under load nbclient was seen to wait for ever beside an
        idle kernel, probably since a widget's message leaves by the socket at which the reply to
        a cell comes in, and takes its wake-up along."""

        async def get_msg(self, timeout: float | None = None) -> Any:  # type: ignore[override]
            return await _look_again(super().get_msg, timeout)

    class Manager(AsyncKernelManager):
        """Knows its clients: nbclient leaves the channels of a manager that it was given open."""

        async def start_kernel(self, **how: Any) -> None:  # type: ignore[override]
            """With the locks of the job's GPUs, which are free when the kernel has ended, too."""
            await super().start_kernel(pass_fds=gpu_slots.inherited(), **how)

        def client(self, **settings: Any) -> Any:
            clients.append(super().client(**settings))
            clients[-1].shell_channel_class = Channel
            return clients[-1]

    clients: list[Any] = []
    folder = _kernel_folder()
    kernel = Manager(
        kernel_name="python3",
        connection_file=str(folder / "k.json"),
        transport="tcp" if sys.platform == "win32" else "ipc",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")]),
    )
    try:
        yield kernel, folder
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)
        for client in clients:
            client.stop_channels()
        shutil.rmtree(folder, ignore_errors=True)


def _kernel_folder() -> Path:
    """A new folder for a kernel's description and sockets."""
    base = tempfile.gettempdir()  # a socket's path has 107 characters at most
    return Path(tempfile.mkdtemp(prefix="vr-", dir=base if len(base) < 60 else "/tmp"))


def _environment(run_id: str, job: Job, folder: Path) -> dict[str, str]:
    """What a kernel is told of the run of one notebook."""
    config = freeze(job.config, folder / f"{run_id}.json") if job.config else ""
    return {
        "VARIREAL_RUN_ID": run_id,
        "VARIREAL_RUN_POINTER": str(folder / POINTER),
        "VARIREAL_NOTEBOOK": str(job.notebook.resolve()),
        **({"VARIREAL_CONFIG": str(config)} if config else {}),
    }


def _describe(folder: Path, environment: dict[str, str]) -> None:
    """Write the description of the kernel: this interpreter, told its first run."""
    kept = {k: v for k, v in KEEPS.items() if k not in os.environ}
    told = {**environment, **kept, **thread_limit()}
    description = {
        "argv": [
            sys.executable,
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--HistoryManager.enabled=False",
        ],
        "display_name": "Python 3",
        "language": "python",
        # Jupyter fills in what follows a dollar sign
        "env": {key: value.replace("$", "$$") for key, value in told.items()},
    }
    home = folder / "kernels" / "python3"
    home.mkdir(parents=True)
    (home / "kernel.json").write_text(json.dumps(description), encoding="utf-8")


async def _look_again(get: Callable, timeout: float | None, every: float = 2.0) -> Any:
    """What get(timeout) brings; without a timeout get(every) until it brings something."""
    while timeout is None:
        with contextlib.suppress(queue.Empty):
            return await get(every)
    return await get(timeout)


def _record(pointer: Path, run_id: str, job: Job) -> dict[str, Any]:
    """The record that this run wrote. Raises RuntimeError if it wrote none."""
    if not pointer.exists():
        raise RuntimeError(
            "no record: the notebook ended before its last cell (did it call "
            "sys.exit, or does it lack record.finish?)"
        )
    if not job.is_stage:
        return {}
    path = Path(pointer.read_text(encoding="utf-8"))
    record = storage.read_json(path)
    if record.get("run_id") != run_id or record.get("finished") is not True:
        raise RuntimeError(
            f"{path}: not this run's record: run_id {record.get('run_id')!r}, "
            f"wanted {run_id!r}, finished {record.get('finished')!r}"
        )
    return record | {"_path": str(path)}


def _reason(error: Exception, kernel: Any, timeout: float | None) -> str:
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, DeadKernelError):
        code = getattr(getattr(kernel.provisioner, "process", None), "returncode", None)
        if code == -signal.SIGKILL:
            return "its kernel was killed (SIGKILL): most likely out of memory"
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        return f"its kernel died ({how})"
    if isinstance(error, CellTimeoutError):
        return f"a cell took longer than the time-out of {timeout:g} s"
    if isinstance(error, PapermillExecutionError):
        lines = _ANSI.sub("", "\n".join(error.traceback)).splitlines()[-15:]
        where = f"cell {error.cell_index}: {error.ename}: {error.evalue}".splitlines()[0]
        return "\n    ".join([where, *lines])
    return f"{type(error).__name__}: {error}"
