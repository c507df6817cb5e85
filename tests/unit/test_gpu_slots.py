"""Devices of a machine that has none: who gets which, who waits, and what a kill leaves."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from varireal_utils.core import config_base
from varireal_utils.workflow import gpu_slots

JOB = """import json, os, sys, time
from pathlib import Path
out, seconds = Path(sys.argv[1]), float(sys.argv[2])
seen = {"devices": os.environ["CUDA_VISIBLE_DEVICES"], "pid": os.getpid()}
seen |= {"begin": time.monotonic()}
out.with_suffix(".begun").write_text(json.dumps(seen))
time.sleep(seconds)
out.with_suffix(".ended").write_text(json.dumps(seen | {"end": time.monotonic()}))
"""


class Machine:
    """Jobs on fake devices. start: begin one; seen: what a job has written, once it has."""

    def __init__(self, folder: Path):
        self.folder, self.jobs = folder, []
        (folder / "job.py").write_text(JOB)

    def start(
        self,
        name: str,
        seconds: float,
        devices: str = "0,1",
        count: int = 1,
        units: int = 12,
        **env,
    ) -> subprocess.Popen:
        words = [sys.executable, "-m", "varireal_utils.workflow.gpu_slots", "--devices", devices]
        words += ["--count", str(count), "--units", str(units), "--"]
        words += [sys.executable, str(self.folder / "job.py"), str(self.folder / name)]
        process = subprocess.Popen(
            [*words, str(seconds)], cwd=ROOT, env=os.environ | {"TMPDIR": str(self.folder)} | env
        )
        self.jobs.append(process)
        return process

    def seen(self, name: str, word: str = "begun", patience: float = 120) -> dict:
        path, until = self.folder / f"{name}.{word}", time.monotonic() + patience
        while time.monotonic() < until:
            try:
                return json.loads(path.read_text())
            except (OSError, ValueError):
                time.sleep(0.05)
        raise AssertionError(f"{name}: nothing {word}")

    def begun(self, *names: str) -> list[str]:
        return [n for n in names if (self.folder / f"{n}.begun").exists()]


@pytest.fixture
def machine(tmp_path: Path):
    found = Machine(tmp_path)
    yield found
    for process in found.jobs:
        process.kill()
        process.wait()


def test_jobs_alone_get_a_device_each_and_the_third_waits(machine: Machine) -> None:
    a, b = machine.start("a", 600), machine.start("b", 600)
    assert {machine.seen(n)["devices"] for n in "ab"} == {"0", "1"}
    c = machine.start("c", 0)
    time.sleep(1)
    assert not machine.begun("c")
    freed = machine.seen("b")["devices"]
    os.kill(b.pid, signal.SIGKILL)  # the job itself: the program that took the lock became it
    assert machine.seen("b")["pid"] == b.pid
    assert machine.seen("c")["devices"] == freed and c.wait(60) == 0
    a.kill()


def test_trainings_share_and_a_job_alone_is_not_starved(machine: Machine) -> None:
    """Six units each: two on a device, on both before any third; one that wants a device alone
    keeps newer ones off until it has one."""
    for name in "abc":
        machine.start(name, 600, units=6)
        machine.seen(name)
    used = sorted(machine.seen(name)["devices"] for name in "abc")
    assert sorted(machine.seen(n)["devices"] for n in "ab") == ["0", "1"] and len(set(used)) == 2
    lone = next(n for n in "ab" if used.count(machine.seen(n)["devices"]) == 1)
    machine.start("whole", 600)
    time.sleep(1)  # it waits behind the emptier device's door
    machine.start("late", 0, units=6)
    time.sleep(1)
    assert not machine.begun("whole", "late")
    os.kill(machine.seen(lone)["pid"], signal.SIGKILL)
    assert machine.seen("whole")["devices"] == machine.seen(lone)["devices"]
    time.sleep(1)
    assert not machine.begun("late")
    other = next(n for n in "abc" if machine.seen(n)["devices"] != machine.seen(lone)["devices"])
    os.kill(machine.seen(other)["pid"], signal.SIGKILL)
    assert machine.seen("late")["devices"] == machine.seen(other)["devices"]


def test_two_jobs_that_want_both_devices_take_turns(machine: Machine) -> None:
    jobs = [machine.start(n, 0.5, devices="MIG-a/1/0,GPU-b", count=2) for n in "abc"]
    assert [job.wait(120) for job in jobs] == [0, 0, 0]
    spans = sorted((s["begin"], s["end"]) for s in (machine.seen(n, "ended") for n in "abc"))
    assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:]))
    assert {machine.seen(n)["devices"] for n in "abc"} == {"MIG-a/1/0,GPU-b"}


@pytest.mark.slow
def test_many_jobs_never_have_more_than_a_device(machine: Machine) -> None:
    """Of all kinds, in random order, some killed: at no instant more than twelve units of one."""
    rng, asked = random.Random(3), {}
    for n in range(12):
        count, units = rng.choice([(1, 3), (1, 4), (1, 6), (1, 12), (2, 12)])
        name = f"{n}x{count * units}"
        asked[name] = (units, machine.start(name, 0.3, count=count, units=units))
    killed = [name for name in asked if rng.random() < 0.2]
    for name in killed:
        asked[name][1].kill()  # while it waits, or runs
    assert all(job.wait(240) == 0 for name, (_, job) in asked.items() if name not in killed)
    ran = {name: machine.seen(name, "ended") for name in asked if name not in killed}
    for device in "01":
        own = [(s, asked[n][0]) for n, s in ran.items() if device in s["devices"].split(",")]
        for instant in (s["begin"] for s, _ in own):
            assert sum(u for s, u in own if s["begin"] <= instant < s["end"]) <= 12
    assert killed and len(ran) > 6


def test_children_that_inherit_the_locks_hold_them_too(machine: Machine) -> None:
    """As a kernel whose runner was killed, until it has noticed."""
    child = machine.folder / "child.py"
    child.write_text(
        "import subprocess, sys, os\n"
        "from varireal_utils.workflow.gpu_slots import inherited\n"
        "keep = inherited() if sys.argv[2] == 'keeps' else ()\n"
        "one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " pass_fds=keep)\n"
        "open(sys.argv[1], 'w').write(str(one.pid)); one.wait()\n"
    )
    for how in ("keeps", "forgets"):
        file = machine.folder / how
        words = ["-m", "varireal_utils.workflow.gpu_slots", "--devices", how, "--"]
        runner = subprocess.Popen(
            [sys.executable, *words, sys.executable, str(child), str(file), how],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(machine.folder), "PYTHONPATH": str(ROOT)},
        )
        until = time.monotonic() + 120
        while not (file.exists() and file.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        runner.kill()
        runner.wait()
        machine.start(f"next-{how}", 0, devices=how)
        if how == "keeps":
            time.sleep(1)
            assert not machine.begun(f"next-{how}")
        os.kill(int(file.read_text()), signal.SIGKILL if how == "keeps" else 0)
        assert machine.seen(f"next-{how}")["devices"] == how
        if how == "forgets":
            os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_job_that_waits_ends_with_its_driver(machine: Machine) -> None:
    import socket

    machine.start("a", 600, devices="0")
    machine.seen("a")
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    told = {"VARIREAL_DRIVER": f"{socket.gethostname()} {driver.pid}"}
    waiting = machine.start("b", 0, devices="0", **told)
    time.sleep(1)
    driver.kill()
    driver.wait()
    assert waiting.wait(60) == -signal.SIGKILL and not machine.begun("b")


def test_a_place_of_another_user_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert gpu_slots.folder().stat().st_mode & 0o777 == 0o700
    gpu_slots.folder().rename(tmp_path / "elsewhere")
    (tmp_path / f"varireal-gpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="set TMPDIR"):
        gpu_slots.folder()


def test_a_place_without_locks_is_named(tmp_path: Path, monkeypatch) -> None:
    def fails(number: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(OSError, match=r"no locks on this file system; set TMPDIR .*0\.door"):
        gpu_slots._offers(tmp_path, ["0"])


def test_bad_words_are_refused(capsys) -> None:
    for words in (["--units", "13"], ["--count", "3"], ["--units", "0"]):
        with pytest.raises(SystemExit):
            gpu_slots.main(["--devices", "0,1", *words, "--", "true"])
    with pytest.raises(SystemExit):
        gpu_slots.main(["--devices", "0"])
    assert capsys.readouterr().err.count("wanted a command, 1 to 12 units") == 4


def test_the_parameters_allow_what_a_device_is_divided_into() -> None:
    (bound,) = [m.le for m in config_base.Slots.__metadata__[0].metadata if hasattr(m, "le")]
    assert bound == gpu_slots.UNITS


def test_a_kernel_holds_the_locks_of_its_job(monkeypatch, tmp_path: Path) -> None:
    """Its runner may be killed before it: the device is free when both have ended."""
    from jupyter_core.utils import run_sync

    from varireal_utils.workflow import runner

    number = gpu_slots._locked(tmp_path / "unit")
    monkeypatch.setenv(gpu_slots.LOCKS, str(number))
    with runner._kernel() as (kernel, folder):
        runner._describe(folder, {})
        run_sync(kernel.start_kernel)()
        os.close(number)
        assert gpu_slots._locked(tmp_path / "unit") is None
    assert gpu_slots._locked(tmp_path / "unit") is not None
