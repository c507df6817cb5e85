"""Machines as other people have them: every door, a stage, a whole graph whose paths are odd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import odd_machine
from tests.conftest import ROOT, tiny_params
from tests.faults import studies
from tests.unit import test_runner as stubs

pytestmark = pytest.mark.faults
INPUTS = os.environ.get("VARIREAL_MACHINE_INPUTS", "30")


@pytest.mark.parametrize("machine", odd_machine.MACHINES)
def test_every_door_on_an_odd_machine(
    machine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARIREAL_INPUTS", INPUTS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = odd_machine.run(machine, [*words, "tests/unit/test_fuzz_inputs.py"], cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    tried = [int(n.replace(",", "")) for n in re.findall(r": ([\d,]+) inputs", done.stdout)]
    assert len(tried) > 15
    with capsys.disabled():
        print(f"\n{machine}: {len(tried)} doors, {sum(tried):,} inputs")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs whose folders and names are in other scripts."""
    from microworld import render
    from varireal_utils.core import storage

    folder = tmp_path_factory.mktemp("photographs") / "b\u00e9t\u00e9s"
    for number in range(8):
        shown = render.photograph("pets", "train", number)
        label = ("chien d\u2019or", "\u732b")[number % 2]
        storage.write_image(folder / label / f"\u00fc{number}.png", shown.image)
    return folder


def first_stage(machine: str, photographs: Path, runs: Path) -> dict[str, str]:
    words = [sys.executable, "-m", "varireal_utils", "run", "01_data", "--set", "dataset=mine"]
    for setting in (
        f"runs_dir={runs}",
        f"datasets={{mine: {{source: imagefolder, root: {photographs}}}}}",
    ):
        words += ["--set", setting]
    words += ["--params", "tests/faults/kills.yaml"]
    done = odd_machine.run(machine, words, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return studies.digests(runs / "kills")


@pytest.fixture(scope="module")
def plain(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return first_stage("", photographs, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("machine", odd_machine.MACHINES)
def test_a_stage_gives_the_same_bytes_on_every_machine(
    machine: str, photographs: Path, plain: dict[str, str], tmp_path: Path
) -> None:
    assert first_stage(machine, photographs, tmp_path / "r\u00fcns") == plain
    assert len(plain) > 8


def test_a_downloaded_zip_runs_whatever_its_paths_are_called(tmp_path: Path) -> None:
    """A copy without .git; stubs in place of stages. A second call does nothing."""
    home = tmp_path / "a {b} \"c' #\u00e9 [x] $HOME"
    for name in ("varireal_utils", "microworld", "params", "profiles"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "pyproject.toml", "claims.yaml", "known.yaml"):
        shutil.copy(ROOT / name, home / name)
    (home / "models").symlink_to(ROOT / "models")
    books = home / "books {s} '"
    books.mkdir()
    stubs.write_stubs(books)
    values = tiny_params(Path("runs {r} '")) | {"attributes": []}
    params = home / "my {p} '\u00e9.yaml"
    params.write_text(yaml.safe_dump(values), encoding="utf-8")
    words = [sys.executable, "-m", "varireal_utils", "study", "--params", params.name]
    words += ["--notebooks", books.name, "--cores", "2"]
    for jobs in (["01_data", "06_classify", "07_claims", "07_quality", "08_figures"], []):
        done = subprocess.run(
            words,
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(home)},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(stubs.jobs_run(done.stdout)) == jobs, done.stdout
    assert len(list((home / "runs {r} '").rglob("run.json"))) == 5
