"""Ordinary machines: locales, users without a name, odd file systems, foreign packages, shells."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import odd_machine
from tests.conftest import ROOT
from varireal_utils.core import storage, surroundings


def failing(number: int):
    def call(*_) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("call", "number"),
    [("fsync", errno.EINVAL), ("fsync", errno.ENOSYS), ("chmod", errno.EPERM)],
)
def test_a_file_system_without_rights_or_flushing_is_written(
    monkeypatch, tmp_path: Path, call: str, number: int
) -> None:
    monkeypatch.setattr(os, call, failing(number))
    storage.write_text(tmp_path / "a.txt", "whole")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize(("call", "number"), [("fsync", errno.EIO), ("fsync", errno.ENOSPC)])
def test_a_disk_that_fails_is_no_such_file_system(
    monkeypatch, tmp_path: Path, call: str, number: int
) -> None:
    monkeypatch.setattr(os, call, failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        storage.write_text(tmp_path / "a.txt", "half")
    assert not list(tmp_path.iterdir())


PREPARED = """
import getpass, os, sys
from varireal_utils.core import surroundings
surroundings.prepare()
"""


def prepared(code: str, machine: str = "", **more: str) -> subprocess.CompletedProcess:
    """What a process prints that has put its surroundings right, on an odd machine."""
    return subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        cwd=ROOT,
        env=odd_machine.environment(machine, **more),
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
    )


def test_packages_of_a_cluster_s_module_do_not_come_before_our_own(tmp_path: Path) -> None:
    foreign, other = tmp_path / "foreign", tmp_path / "other"
    (foreign / "yaml").mkdir(parents=True)
    (foreign / "yaml/__init__.py").write_text("raise ImportError('the foreign one')")
    other.mkdir()
    (other / "only_there.py").touch()
    path = os.pathsep.join([str(foreign), str(other), str(ROOT)])
    code = "import yaml, only_there; print(yaml.dump(1)); print(os.environ['PYTHONPATH'])"
    done = prepared(code, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{other}{os.pathsep}{ROOT}"
    assert f"PYTHONPATH: {foreign} is left out; its yaml would come before" in done.stderr
    assert prepared(code, PYTHONPATH=f"{other}{os.pathsep}{ROOT}").stderr == ""


def test_the_command_line_looks_for_packages_when_its_surroundings_are_right() -> None:
    lines = ast.parse((ROOT / "varireal_utils/__main__.py").read_text(encoding="utf-8")).body
    at = [ast.unparse(line) for line in lines].index("surroundings.prepare()")
    before = [line for line in lines[:at] if isinstance(line, ast.Import | ast.ImportFrom)]
    assert {ast.unparse(line) for line in before} == {
        "from __future__ import annotations",
        "from .core import surroundings",
    }


@pytest.mark.parametrize("home", ["/proc/nowhere", "/", ""])
def test_a_user_without_name_and_home_gets_a_home_for_caches(tmp_path: Path, home: str) -> None:
    code = "from pathlib import Path; print(getpass.getuser(), Path('~/x').expanduser())"
    odd = {"HOME": home, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = prepared(code, "user without a name", **odd)
    number = os.getuid()
    own = tmp_path / f"varireal-{number}/home"
    assert done.stdout == f"user{number} {own}/x\n", done.stderr
    assert "cannot be written; caches go to" in done.stderr
    assert own.stat().st_mode & 0o777 == own.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_another_user_put_there_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"varireal-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    made = surroundings.own_folder()
    assert made.is_dir() and made.name.startswith("varireal-") and not made.is_symlink()
    assert made.resolve() != (tmp_path / "elsewhere").resolve()


@pytest.mark.parametrize("machine", ["Latin-1 locale", "POSIX locale"])
def test_what_a_locale_cannot_print_becomes_an_escape(machine: str) -> None:
    done = prepared("print('\\u4e2d dog')", machine, PYTHONPATH=str(ROOT))
    assert done.stdout == "\\u4e2d dog\n", done.stderr


def test_jupyterlab_starts_as_root_and_says_how(monkeypatch, capsys) -> None:
    from varireal_utils import __main__ as command_line

    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: started.append(words))
    for user, wanted in ((0, ["--port", "9999", "--allow-root"]), (1000, ["--port", "9999"])):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        assert command_line.main(["lab", "--port", "9999"]) == 0
        assert started[-1][1:] == ["-m", "jupyter", "lab", *wanted]
        assert ("You are root" in capsys.readouterr().out) is (user == 0)
