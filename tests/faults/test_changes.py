"""Inputs that change while a study runs: the end is the fresh study of the new inputs, or a refusal
that names the input; never a mixture.

    during     a photograph while 01_data reads, weights while 06_classify trains
    between    a photograph and its mask after 01_data, weights after the first arm of edits
    the file   parameters edited while the study runs: it ends as it was begun, and says so
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.faults import rendered_photographs as rendered
from tests.faults import studies

pytestmark = pytest.mark.faults
RECIPES = ["real", "edit(color,feasible)", "edit(color,infeasible)"]
REFUSED = re.compile(r"changed while (it|\S+) ran|written while it ran|changed in each of")
Change = tuple[Callable[[Path], bool], Callable[[Path], None]]


def inputs(folder: Path, runs: Path) -> Path:
    """Photographs, masks, weights and the parameter file of a study; returns that file."""
    table = rendered.photographs(folder)
    shutil.copytree(studies.ROOT / "models/micro/clip", folder / "clip", dirs_exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(
        f"include: {studies.ROOT}/tests/faults/kills.yaml\nruns_dir: {runs}\n"
        f"datasets: {{cars: {{source: csv, path: {table}}}}}\n"
        f"models: {{clip: {{name: 'local-dir:{folder}/clip'}}}}\n"
        f"classify: {{recipes: {RECIPES}}}\n"
    )
    return file


def replace_weights(folder: Path) -> None:
    """Other weights of the same shapes at the same path, at once."""
    path = next((folder / "clip").glob("*.safetensors"))
    other = {name: value * 1.01 for name, value in load_file(path).items()}
    save_file(other, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def change_all(folder: Path) -> None:
    for change in (rendered.replace_photograph, rendered.replace_mask, replace_weights):
        change(folder)


def begin(file: Path, log: Path) -> subprocess.Popen:
    out = open(log, "ab")  # noqa: SIM115 - the child's
    words = studies.command(log.parent, params=str(file))
    words = words[: words.index("--set")]
    return subprocess.Popen(words, cwd=studies.ROOT, stdout=out, stderr=out)


def disturb(file: Path, study: Path, changes: list[Change]) -> str:
    """Run a study to its end while its inputs change, again after each refusal; returns its log.

    changes: when to change (of the study's folder), and what (of the inputs' folder), in turn.
    """
    log, left = study.parent / "driver.log", list(changes)
    for _ in range(2 + len(changes)):
        driver = begin(file, log)
        while driver.poll() is None:
            if left and left[0][0](study):
                left.pop(0)[1](file.parent)
            time.sleep(0.02)
        if driver.returncode == 0:
            assert not left, "the study ended before its inputs changed"
            return log.read_text(errors="replace")
        text = log.read_text(errors="replace")
        assert REFUSED.search(text), text[-4000:]
    raise AssertionError(log.read_text(errors="replace")[-4000:])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the inputs: tables name the weights' place, so all studies have the same."""
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def fresh(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a study of the changed inputs that nobody disturbed."""
    runs = tmp_path_factory.mktemp("fresh")
    file = inputs(home, runs)
    change_all(home)
    disturb(file, runs / "kills", [])
    return studies.digests(runs / "kills")


def same(study: Path, fresh: dict[str, str]) -> None:
    got = studies.digests(study)
    assert got == fresh, sorted(n for n in got.keys() | fresh.keys() if got.get(n) != fresh.get(n))
    assert len(got) > 100


def test_inputs_that_change_during_a_stage(
    home: Path, fresh: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reading(study: Path) -> bool:
        return (
            any(study.glob("data/cars/images/*.png"))
            and not (study / "data/cars/run.json").exists()
        )

    def training(study: Path) -> bool:
        return (
            any(study.glob("classify/cars/real/*/checkpoint*"))
            and not (study / "classify/cars/run.json").exists()
        )

    def photograph_and_mask(folder: Path) -> None:
        rendered.replace_photograph(folder)
        rendered.replace_mask(folder)

    file = inputs(home, tmp_path)
    log = disturb(
        file,
        tmp_path / "kills",
        [(reading, photograph_and_mask), (training, replace_weights)],
    )
    same(tmp_path / "kills", fresh)
    said = REFUSED.findall(log)
    with capsys.disabled():
        print(f"\ninputs changed during 01_data and 06_classify: {len(said)} refusals, then equal")


def test_inputs_that_change_between_stages(
    home: Path, fresh: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(study: Path) -> bool:
        return (study / "data/cars/run.json").exists()

    def edited(study: Path) -> bool:
        return any(study.glob("edits/cars/color/*/run.json"))

    def photograph_and_mask(folder: Path) -> None:
        rendered.replace_photograph(folder)
        rendered.replace_mask(folder)

    file = inputs(home, tmp_path)
    log = disturb(
        file, tmp_path / "kills", [(read, photograph_and_mask), (edited, replace_weights)]
    )
    same(tmp_path / "kills", fresh)
    turns = log.count("inputs changed while the study ran")
    with capsys.disabled():
        print(f"\ninputs changed between stages: {turns} further turns, then equal")


def test_a_parameter_file_that_is_edited_while_the_study_runs(
    home: Path, fresh: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(study: Path) -> bool:
        return (study / "data/cars/run.json").exists()

    def edit(folder: Path) -> None:
        text = (folder / "study.yaml").read_text()
        text = text.replace("classify: {", "classify: {steps: 2, eval_every: 1, ")
        (folder / "study.yaml").write_text(text)

    file = inputs(home, tmp_path)
    change_all(home)
    log = disturb(file, tmp_path / "kills", [(read, edit)])
    assert f"{file} was edited while the study ran" in log
    same(tmp_path / "kills", fresh)
    disturb(file, tmp_path / "kills", [])
    assert studies.digests(tmp_path / "kills") != fresh
    with capsys.disabled():
        print(
            "\na parameter file edited while the study ran: it ended as it was begun, and said so"
        )
