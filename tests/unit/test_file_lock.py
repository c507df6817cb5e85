"""One holder of a file at a time, with the system's locks and without them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import odd_machine
from tests.conftest import ROOT
from varireal_utils.core import file_lock

HOLD = """
import sys, time
from pathlib import Path
from varireal_utils.core import file_lock
try:
    with file_lock.exclusive(Path(sys.argv[1])):
        print("in", flush=True)
        sys.stdin.read()
    print("out", flush=True)
except file_lock.Held as held:
    print(held.by, flush=True)
"""


@pytest.fixture(params=["locks", "no locks"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def begin(machine: str, path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=ROOT,
        env=odd_machine.environment(machine),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(machine: str, path: Path) -> str:
    """What a process says that finds the place taken, or takes it and leaves."""
    return begin(machine, path).communicate("")[0]


def test_a_second_process_is_refused_until_the_first_has_left(machine, tmp_path) -> None:
    holder = begin(machine, tmp_path / "lock")
    assert holder.stdout.readline() == "in\n"
    assert f"process {holder.pid} on {socket.gethostname()}" in ask(machine, tmp_path / "lock")
    assert holder.communicate("")[0] == "out\n"
    assert ask(machine, tmp_path / "lock") == "in\nout\n"
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]


def test_the_place_of_a_killed_process_is_free_at_once(machine, tmp_path) -> None:
    holder = begin(machine, tmp_path / "lock")
    assert holder.stdout.readline() == "in\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert ask(machine, tmp_path / "lock") == "in\nout\n"


@pytest.fixture
def no_locks(monkeypatch) -> None:
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(file_lock, "BEAT", 0.05)
    monkeypatch.setattr(file_lock, "SETTLE", 0.05)


def write(path: Path, host: str, pid: int, age: float) -> None:
    path.write_text(json.dumps({"token": "other", "pid": pid, "host": host}))
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize(
    ("host", "pid", "age", "held"),
    [
        ("elsewhere", 1, 5, True),
        ("elsewhere", 1, file_lock.STALE + 5, False),
        (socket.gethostname(), os.getpid(), 5, True),
        (socket.gethostname(), os.getpid(), file_lock.STALE + 5, False),  # its number, used anew
        (socket.gethostname(), 2**22 + 1, 0, False),  # above the largest number of a process
    ],
    ids=["elsewhere", "elsewhere, silent", "here", "here, silent", "gone"],
)
def test_who_has_gone_holds_nothing(no_locks, tmp_path, host, pid, age, held) -> None:
    write(tmp_path / "lock.holder", host, pid, age)
    if held:
        with pytest.raises(file_lock.Held, match=f"process {pid} on {host}"):
            with file_lock.exclusive(tmp_path / "lock"):
                pass
    else:
        with file_lock.exclusive(tmp_path / "lock"):
            assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()


def test_a_holder_that_waits_touches_its_file(no_locks, tmp_path) -> None:
    with file_lock.exclusive(tmp_path / "lock"):
        path = tmp_path / "lock.holder"
        os.utime(path, (0, 0))
        until = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


def test_one_that_waits_comes_in_when_the_holder_has_left(no_locks, tmp_path) -> None:
    write(tmp_path / "lock.holder", "elsewhere", 1, file_lock.STALE - 0.5)
    with file_lock.exclusive(tmp_path / "lock", wait=True):
        assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()


def test_a_holder_that_was_taken_over_ends(tmp_path) -> None:
    code = HOLD.replace("try:", "file_lock.BEAT = 0.05\ntry:", 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        cwd=ROOT,
        env=odd_machine.environment("no locks"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "in\n"
    write(tmp_path / "lock.holder", "elsewhere", 1, 0)
    assert holder.wait(20) == 1 and "taken over by process 1 on elsewhere" in holder.stdout.read()


def test_another_fault_is_no_other_holder(tmp_path, monkeypatch) -> None:
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        with file_lock.exclusive(tmp_path / "lock"):
            pass
