"""A tiny whole study as a process of its own: started, disturbed, compared byte by byte."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.conftest import ROOT
from varireal_utils.core import storage
from varireal_utils.core.cores import cores

# What tells the time or the machine and so differs between two undisturbed runs
TIMED = ("results/runs.csv", "figures/cost.", "results/cost", "run.json", "run.sha256")
CORES = cores()


def command(runs: Path, *settings: str, params: str = "tests/faults/kills.yaml") -> list[str]:
    more = [w for s in (f"runs_dir={runs}", *settings) for w in ("--set", s)]
    return [sys.executable, "-m", "varireal_utils", "study", "--params", params, *more]


def start(runs: Path, *settings: str) -> subprocess.Popen:
    runs.mkdir(parents=True, exist_ok=True)
    log = open(runs / "driver.log", "ab")  # noqa: SIM115 - the child's
    return subprocess.Popen(
        command(runs, *settings), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
    )


def finish(runs: Path, *settings: str) -> None:
    """Run to the end; a driver that fails shows its log."""
    driver = start(runs, *settings)
    assert driver.wait(3600) == 0, (runs / "driver.log").read_text(errors="replace")[-4000:]


def members(driver: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The processes of a driver by role."""
    found: dict[str, list[psutil.Process]] = {"driver": [driver], "runner": [], "kernel": []}
    for process in driver.children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "ipykernel_launcher" in words:
            found["kernel"].append(process)
        elif "run" in words and "varireal_utils" in words and "python" in Path(words[0]).name:
            found["runner"].append(process)
    return found


def strike(driver: subprocess.Popen, role: str, rng: random.Random) -> str:
    """SIGKILL one process of a role, the driver where there is none; returns whom it hit."""
    try:
        found = members(psutil.Process(driver.pid))
        victims = found[role]
        if not victims:
            role, victims = "driver", found["driver"]
        rng.choice(victims).kill()
    except psutil.NoSuchProcess:
        return ""
    return role


def settle(driver: subprocess.Popen, runs: Path, patience: float = 120) -> None:
    """Wait until nothing of a struck study is at work any more; it must end by itself."""
    until = time.time() + patience
    while time.time() < until:
        if driver.poll() is not None and not left_over(runs):
            return
        time.sleep(0.2)
    os.killpg(driver.pid, signal.SIGKILL)
    raise AssertionError(f"{patience} s after the kill these were still at work: {left_over(runs)}")


def left_over(runs: Path) -> list[str]:
    """Command lines of processes that work on a folder: by argument or by an open file."""
    out = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            busy = any(str(runs) in w for w in words) and process.pid != os.getpid()
            if not busy and "ipykernel_launcher" in words:
                busy = any(str(runs) in f.path for f in process.open_files())
        except psutil.Error:
            continue
        if busy and "pytest" not in " ".join(words):
            out.append(" ".join(words)[:160])
    return out


def digests(study: Path) -> dict[str, str]:
    """Every output that the study's records name, but for those that tell the time."""
    names = {n for p in study.rglob("run.json") for n in storage.read_json(p)["outputs"]}
    assert names, f"{study}: no records"
    return {
        n: hashlib.sha256((study / n).read_bytes()).hexdigest()
        for n in sorted(names)
        if not any(n.startswith(t) or n.endswith(t) for t in TIMED)
    }
