"""A changed module makes exactly its stages stale, until somebody says that it alters no result."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit import test_reruns as reruns
from varireal_utils.__main__ import main
from varireal_utils.core import code, storage
from varireal_utils.core.config import StudyConfig
from varireal_utils.workflow import code_changes, seal, status, verify
from varireal_utils.workflow import study as driver

home = reruns.home


@pytest.fixture
def study(home: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """A finished study of records, made by a copy of the packages that can be changed."""
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__py*"))
    monkeypatch.setattr(code, "ROOT", home)
    config = reruns.checked(reruns.base(home), "base")
    for job in reruns.stages.jobs(config):
        reruns.make(job)
    (home / "study.yaml").write_text(yaml.safe_dump(reruns.base(home)))
    assert reruns.stale(config) == set()
    return config


def change(module: str) -> None:
    path = Path("varireal_utils", f"{module}.py")
    path.write_text(path.read_text() + "\nMORE = 1\n")


def test_a_changed_module_reruns_the_stages_that_import_it_and_is_named(
    home: Path, study: StudyConfig
) -> None:
    path = home / "varireal_utils/training/train_step.py"
    path.write_text("# a comment\n" + path.read_text())
    assert reruns.stale(study) == set()
    change("training/train_step")
    assert reruns.stale(study) == reruns.downstream(study, {"classify/mine"})
    lines = status.lines(status.states(study))
    line = "06_classify    stale: code varireal_utils.training.train_step: changed"
    assert line in lines, lines
    note = "1 of {} modules are not as these records were made with, as varireal_utils.training"
    notes = verify.verify(study.paths.root).notes
    assert any(note.split("{}")[1] in n for n in notes), notes


def test_an_accepted_change_makes_its_jobs_current_until_the_next(
    home: Path, study: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    seal.write(study)
    before = {j.name: j.record.read_bytes() for j in reruns.stages.jobs(study)}
    change("training/train_step")
    words = ["accept-code", "06_classify", "--params", str(home / "study.yaml")]
    assert main(words) == 2 and "--why: wanted a reason" in capsys.readouterr().err
    assert main([*words, "--why", "a name alone"]) == 0
    assert "accepted for 1 jobs: classify/mine" in capsys.readouterr().out
    assert reruns.stale(study) == set()
    assert {j.name: j.record.read_bytes() for j in reruns.stages.jobs(study)} == before
    check = verify.verify(study.paths.root)
    assert check.wrong == []
    said = "a change of code was accepted for 1 jobs by "
    assert any(n.startswith(said) and n.endswith(": a name alone") for n in check.notes)
    path = code_changes.path_of(study.paths.root)
    storage.write_text(path, path.read_text().replace("a name alone", "nothing"))
    assert "not the acceptances that were sealed" in verify.verify(study.paths.root).wrong[0]
    change("training/train_step")
    assert reruns.stale(study) == reruns.downstream(study, {"classify/mine"})


def test_only_what_code_alone_made_stale_is_accepted(
    home: Path, study: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    change("core/seeds")
    words = ["accept-code", "--params", str(home / "study.yaml"), "--why", "w"]
    assert main([*words, "--set", "classify.lr=0.5"]) == 0
    assert "classify/mine" not in capsys.readouterr().out.split(": ")[1].split(", ")
    assert reruns.stale(study) == reruns.downstream(study, {"classify/mine"})
    assert main(words) == 0 and reruns.stale(study) == set()
    assert main(["accept-code", "04_edits", "--why", "w"]) == 2
    assert "04_edits: no such stage" in capsys.readouterr().err


def test_records_without_code_say_so_and_can_be_accepted(home: Path, study: StudyConfig) -> None:
    for job in reruns.stages.jobs(study):
        record = storage.read_json(job.record)
        del record["key"]["code"]
        record["upstream"] = status.upstream_digests(job)
        storage.write_json(job.record, record)
    found = status.states(study)
    assert all("code: not recorded, made by an earlier version" in s.reasons for s in found)
    assert main(["accept-code", "--params", str(home / "study.yaml"), "--why", "by hand"]) == 0
    assert reruns.stale(study) == set()


def test_code_that_changes_while_a_study_runs_is_named_and_nothing_runs_again(
    home: Path,
    study: StudyConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def snakemake(words: list[str]) -> int:
        calls.append(1)
        change("training/train_step")
        return 0

    monkeypatch.setattr(driver, "_snakemake", snakemake)
    assert driver._run(study, "notebooks", True, []) == 1 and len(calls) == 1
    said = capsys.readouterr().err
    assert "code changed while the study ran" in said and "accept-code" in said
    assert "code varireal_utils.training.train_step: changed" in said
    assert not seal.path_of(study.paths.root).exists()


def test_an_input_that_changes_while_a_study_runs_gives_another_turn(
    home: Path, study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def snakemake(words: list[str]) -> int:
        if not calls:
            reruns.replace_photograph(home)
        else:
            for job in reruns.stages.jobs(study):
                if not job.record.exists():
                    reruns.make(job, "again")
        calls.append(1)
        return 0

    monkeypatch.setattr(driver, "_snakemake", snakemake)
    assert driver._run(study, "notebooks", True, []) == 0 and len(calls) == 2
    assert seal.path_of(study.paths.root).exists() and reruns.stale(study) == set()
