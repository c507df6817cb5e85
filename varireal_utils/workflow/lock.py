"""One driver to a study: its lock, its end without a reader, and the end of its jobs with it.

The lock is core/file_lock.py's and ends with its holder, however that ends. Snakemake's own lock
would outlive a kill, so it is not used.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..core import file_lock


class StudyBusy(RuntimeError):
    """Another driver of the same study is at work."""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a study's lock. Raises StudyBusy that names the holder."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock.exclusive(folder / ".driver"):
            yield
    except file_lock.Held as held:
        raise StudyBusy(
            f"{folder}: another driver is at work on this study ({held.by}). Wait for it or stop "
            "it; this command then goes on where it stopped."
        ) from held


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


def end_with_driver() -> None:
    """End when the study's driver has gone, so that a killed study leaves nothing at work.

    A driver on another machine cannot be watched; SLURM looks after its jobs itself.
    SIGTERM becomes SystemExit, so that the kernel is shut down and the notebook kept.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    host, _, driver = os.environ.get("VARIREAL_DRIVER", "").rpartition(" ")
    if not driver or host != socket.gethostname() or "SLURM_JOB_ID" in os.environ:
        return

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                os.kill(int(driver), 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGKILL)  # the kernel watches this process likewise

    threading.Thread(target=watch, daemon=True).start()
