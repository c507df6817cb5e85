"""Counts the cores that this process may use: by its affinity and by SLURM's allotment.

`os.cpu_count` counts the machine's. A container, `taskset` or a batch system gives a process
fewer, and threads beyond them wait for each other.
"""

from __future__ import annotations

import os

ALLOTTED = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")  # the first that is given counts
THREADS = "OMP_NUM_THREADS"
SIDE_BY_SIDE = "VARIREAL_SIDE_BY_SIDE"  # the driver says how many trainings a job runs at once


def cores() -> int:
    """Cores that this process may use, at least 1."""
    return min(_own(), allotted() or _own())


def allotted() -> int | None:
    """Cores that SLURM gave to this job on this machine; None outside a job."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    given = (os.environ.get(name, "") for name in ALLOTTED)
    return next((int(n) for n in given if n.isdecimal() and int(n) > 0), None)


def threads() -> int | None:
    """Threads that this process was told to compute with; None where nobody said."""
    asked = os.environ.get(THREADS, "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else None


def side_by_side() -> int:
    """Computations, each with threads of its own, that this process was told to run at once; 1
    where nobody said."""
    asked = os.environ.get(SIDE_BY_SIDE, "")
    return max(1, int(asked)) if asked.isdecimal() else 1


def thread_limit() -> dict[str, str]:
    """Environment of a child process: no more threads than SLURM allotted; {} outside a job.

    A smaller number of threads that is asked for stays.
    """
    if allotted() is None:
        return {}
    return {THREADS: str(min(threads() or cores(), cores()))}


def _own() -> int:
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:  # macOS and Windows know no affinity
        return os.cpu_count() or 1
