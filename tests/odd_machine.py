"""Machines as other people have them, for one process: locales, users, file systems, cores.

    MACHINES           name -> what it changes
    environment(name)  variables under which a child process sees that machine

Odd file systems and users without a name come from a shim in C that is preloaded; without a
compiler these machines are skipped, with the reason.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
NO_HOME = {"HOME": "/proc/nowhere", "USER": "", "LOGNAME": "", "XDG_CACHE_HOME": ""}
MACHINES: dict[str, dict[str, str]] = {
    "Latin-1 locale": {"LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"},
    "POSIX locale": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no locks": {
        "ODD_FLOCK": str(errno.ENOSYS),
        "ODD_FSYNC": str(errno.EINVAL),
        "ODD_CHMOD": str(errno.EPERM),
    },
    "user without a name": NO_HOME,
    "one core": {},
}
SHIMMED = {"no locks", "user without a name"}


def environment(name: str, **more: str) -> dict[str, str]:
    """Variables of a child process on that machine. Skips the test where it cannot be had."""
    out = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    out |= MACHINES.get(name, {}) | more
    if name.startswith("Latin-1") and not _has("en_US.ISO-8859-1"):
        out["LOCPATH"] = latin1()
    return out | ({"LD_PRELOAD": shim()} if name in SHIMMED else {})


def words(name: str) -> list[str]:
    """What stands before a command on that machine."""
    return ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if name == "one core" else []


def run(name: str, command: list[str], **settings) -> subprocess.CompletedProcess:
    """Run a command on that machine; its output as text, whatever bytes it has."""
    return subprocess.run(
        [*words(name), *command],
        env=environment(name),
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        **settings,
    )


@functools.cache
def shim() -> str:
    """The path of the shim, built. Skips the test where it cannot be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("wanted a C compiler on Linux for the preloaded shim; apt-get install gcc")
    path = Path(tempfile.mkdtemp(prefix="odd-")) / "odd_machine.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, SOURCE], check=True)
    return str(path)


def _has(locale: str) -> bool:
    asked = subprocess.run(["locale", "-a"], capture_output=True, text=True, errors="replace")
    return locale.replace("-", "").lower() in asked.stdout.replace("-", "").lower().split()


@functools.cache
def latin1() -> str:
    """A folder with a Latin-1 locale, made. Skips the test where it cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="odd-"))
    words = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / "en_US.ISO-8859-1"]
    if not shutil.which("localedef") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("wanted a Latin-1 locale; apt-get install locales")
    return str(folder)
