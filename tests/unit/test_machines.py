"""Ordinary machines: locales, users without a name, odd file systems, foreign packages, shells."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import odd_machine
from tests.conftest import ROOT, tiny_config
from varireal_utils.core import storage, surroundings, walk
from varireal_utils.core.config_base import content, flattened
from varireal_utils.core.config_sections import ModelSpec
from varireal_utils.workflow import stages


@pytest.mark.parametrize("spelled", ["./{}", "{root}/{}", "params/../{}", "{root}//./{}"])
def test_the_spelling_of_a_path_in_a_file_changes_no_key(monkeypatch, spelled: str) -> None:
    monkeypatch.chdir(ROOT)

    def keys(spell) -> dict[str, dict]:
        config = tiny_config(
            Path("r"),
            datasets={"d": {"source": "imagefolder", "root": spell("docs")}},
            prompts=spell("params/prompts/micro.yaml"),
            models__clip={"name": f"local-dir:{spell('models/micro/clip')}"},
            models__inpaint={"path": spell("models/micro/inpaint")},
            classify__recipes=["real", "edit(color,feasible)"],
        )
        found = {}
        for job in stages.jobs(config):
            settings = job.settings()
            files = sorted(map(str, settings.source_files()))
            found[job.name] = {"settings": flattened(content(settings)), "files": files}
        return found

    plain = keys(str)
    assert keys(lambda path: spelled.format(path, root=ROOT)) == plain
    assert any("models/micro/clip" in name for name in plain["classify/d"]["files"])
    assert keys(lambda path: path.replace("docs", "params")) != plain


def test_a_hub_s_model_and_an_address_stay_as_they_are(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("owner/model", "./nowhere/model", "hf-hub:owner/model", "openai", ""):
        assert ModelSpec(path=name, weights=name).path == name
    for path in ("hf://owner/name/folder", "", "a\0b"):
        assert walk.spelled(path) == path
    assert walk.spelled("../elsewhere") == str(ROOT.parent / "elsewhere")


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
surroundings.prepare(restart=True)
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
    at = [ast.unparse(line) for line in lines].index(
        "surroundings.prepare(restart=__name__ == '__main__')"
    )
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


@pytest.mark.parametrize("machine", ["Latin-1 locale", "POSIX locale"])
def test_files_and_tables_have_one_name_in_every_locale(tmp_path: Path, machine: str) -> None:
    home = tmp_path / "caf\u00e9"
    home.mkdir()
    (home / "p.yaml").write_text("study: \u4e2d", encoding="utf-8")
    code = """
from pathlib import Path
from varireal_utils.core import config_file, storage
home = next(Path('.').iterdir())
values = config_file.read(home / 'p.yaml')
storage.write_text(home / 'named.txt', f"{home} {values['study']}")
"""
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        cwd=tmp_path,
        env=odd_machine.environment(machine, **path),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "named.txt").read_text(encoding="utf-8") == "caf\u00e9 \u4e2d"


def test_jupyterlab_starts_as_root_and_says_how(monkeypatch, capsys) -> None:
    from varireal_utils import __main__ as command_line

    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: started.append(words))
    for user, wanted in ((0, ["--port", "9999", "--allow-root"]), (1000, ["--port", "9999"])):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        assert command_line.main(["lab", "--port", "9999"]) == 0
        assert started[-1][1:] == ["-m", "jupyter", "lab", *wanted]
        assert ("You are root" in capsys.readouterr().out) is (user == 0)


def test_a_downloaded_zip_has_no_commit_whatever_repository_it_lies_in(
    tmp_path: Path, monkeypatch
) -> None:
    from varireal_utils.workflow import run_record

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], cwd=tmp_path, check=True)
    home = tmp_path / "varireal-main"
    (home / "varireal_utils").mkdir(parents=True)
    (home / "pyproject.toml").touch()
    monkeypatch.chdir(home)
    state = run_record.git_state()
    assert (state["commit"], state["dirty"]) == (None, None)
    assert state["git"] == f"{home} has no .git of its own; {tmp_path} is another repository"
    subprocess.run([*git, "init", "-q"], cwd=home, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], cwd=home, check=True)
    assert len(run_record.git_state()["commit"]) == 40


def commands() -> list[str]:
    """Every command in the code blocks of the pages, and those that `new` prints."""
    from varireal_utils.reporting import readme
    from varireal_utils.workflow import new_study

    lines = []
    for page in (*readme.pages(ROOT), ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
            if kind in ("", "sh", "bash"):
                lines += [line.strip() for line in block.splitlines() if line.strip()]
    found = new_study.Look({"source": "imagefolder", "root": "x"}, {"a": 3, "b": 3})
    for models in ("micro", "real"):
        lines += new_study.propose("mine", found, models).commands
    return sorted(set(lines))


def test_every_shell_takes_the_commands_of_the_pages(monkeypatch) -> None:
    """zsh takes no comment behind a command and ends at a pattern that matches nothing; fish has
    neither back quotes nor `VAR=x` alone nor here-documents."""
    monkeypatch.chdir(ROOT)
    found = commands()
    assert len(found) > 25 and "make setup" in found
    for line in found:
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|\\.", "Q", line)
        assert not re.search(r"[][#*?<>`{}!^|;&]|\$|(^|\s)=", bare), line
        assert not re.match(r"\w+=\S*$|export |source |\. ", line), line


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_shells_that_are_here_parse_them(monkeypatch, shell: str) -> None:
    monkeypatch.chdir(ROOT)
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here; apt-get install {shell}")
    done = subprocess.run(
        [shell, "-n"], input="\n".join(commands()), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
