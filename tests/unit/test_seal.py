"""The list of what a study must hold: tampering that forges no digest, copies, links, archives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from tests.unit import test_reruns as reruns
from varireal_utils.core import storage
from varireal_utils.core.config import StudyConfig, checked
from varireal_utils.workflow import provenance, recompute, run_record, seal, stages, status, verify

home, study = reruns.home, reruns.study


def book(config: StudyConfig, name: str = "06_classify-mine.ipynb") -> Path:
    path = config.paths.notebooks / name
    storage.write_text(path, nbformat.writes(nbformat.v4.new_notebook()))
    provenance.seal(path)
    return path


@pytest.fixture
def sealed(study: StudyConfig) -> StudyConfig:
    """The finished study of records, with an executed notebook, sealed."""
    book(study)
    assert seal.write(study) == study.paths.root / "seal.json"
    assert verify.verify(study.paths.root).wrong == []
    return study


def delete_record_with_its_files(folder: Path) -> None:
    shutil.rmtree(folder / "figures")


def delete_an_upstream_record(folder: Path) -> None:
    shutil.rmtree(folder / "quality/mine")


def delete_notebook(folder: Path) -> None:
    for path in (folder / "notebooks").iterdir():
        path.unlink()


def edit_notebook(folder: Path) -> None:
    for path in (folder / "notebooks").iterdir():
        path.unlink() if path.suffix == ".sha256" else path.write_text("{}")


def edit_notebook_and_its_sum(folder: Path) -> None:
    (folder / "notebooks/06_classify-mine.ipynb").write_text("{}")
    provenance.seal(folder / "notebooks/06_classify-mine.ipynb")


def edit_record(folder: Path, repaired: bool = True) -> None:
    path = folder / "figures/run.json"
    storage.write_json(path, storage.read_json(path) | {"machine": "a faster one"})
    path.with_suffix(".sha256").unlink()
    if repaired:
        provenance.seal(path)


def decoy(folder: Path) -> None:
    """The original below the stage's folder, another file in its place."""
    made = folder / "edits/mine/color/feasible/made.txt"
    storage.write_text(folder / "edits/mine/color/feasible" / made.relative_to(folder), "x")
    made.write_text("y")


def decoy_at_the_root(folder: Path) -> None:
    made = folder / "edits/mine/color/feasible/made.txt"
    storage.write_text(Path.cwd() / made.relative_to(folder), "x")
    made.unlink()


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (delete_record_with_its_files, "figures/run.json: missing; the seal lists it with 1 files"),
        (delete_an_upstream_record, "quality/mine/run.json: missing; results was made from it"),
        (delete_notebook, "06_classify-mine.ipynb: missing; the seal lists it"),
        (edit_notebook, "06_classify-mine.ipynb: its sum 06_classify-mine.sha256 is missing"),
        (edit_notebook_and_its_sum, "06_classify-mine.ipynb: not the notebook that was sealed"),
        (edit_record, "figures/run.json: not the record that was sealed"),
        (lambda f: edit_record(f, False), "figures/run.json: its sum run.sha256 is missing"),
        (decoy, "edits/mine/color/feasible/made.txt: sha256"),
        (decoy_at_the_root, "edits/mine/color/feasible/made.txt: missing"),
        (lambda f: (f / "seal.sha256").unlink(), "seal.sha256: missing"),
        (lambda f: (f / "seal.json").write_text("[]"), "seal.json: not a seal"),
    ],
)
def test_tampering_that_forges_no_digest_is_named(
    sealed: StudyConfig, tamper: Callable[[Path], Any], words: str
) -> None:
    tamper(sealed.paths.root)
    wrong = verify.verify(sealed.paths.root).wrong
    assert any(words in line for line in wrong), wrong


def test_without_a_seal_the_parameters_say_which_jobs_lack(study: StudyConfig) -> None:
    shutil.rmtree(study.paths.root / "figures")
    check = verify.verify(study.paths.root)
    count = len([j for j in stages.jobs(study) if not j.target.get("shard")])
    assert check.wrong == []
    assert f"unfinished: 1 of {count} jobs have no record, as figures" in check.notes


def test_records_of_other_settings_in_one_study_are_named(home: Path, sealed: StudyConfig) -> None:
    other = checked(reruns.put(reruns.base(home), "classify.lr", 0.5), "other")
    for job in stages.jobs(other):
        if job.stage.name in ("07_quality", "07_claims", "08_figures"):
            reruns.make(job)
    seal.write(other)
    wrong = verify.verify(sealed.paths.root).wrong
    assert any(
        "classify/mine/run.json: made with training.lr 0.0001, the study's parameters say 0.5" in w
        for w in wrong
    ), wrong


def test_a_change_of_code_or_claims_alone_leaves_records_of_one_study(
    home: Path, sealed: StudyConfig
) -> None:
    other = checked(reruns.put(reruns.base(home), "claims.margin", 0.5), "other")
    for job in stages.jobs(other):
        if job.stage.name in ("07_claims", "08_figures"):
            reruns.make(job)
    assert seal.write(other) and verify.verify(sealed.paths.root).wrong == []


def test_a_copy_under_another_name_is_judged_by_what_lies_there(
    home: Path, sealed: StudyConfig
) -> None:
    copy = Path(shutil.copytree(sealed.paths.root, home / "elsewhere/renamed"))
    storage.write_text(copy / "classify/mine/real/seed0/more.txt", "x")
    assert recompute.verify(copy).wrong == []
    assert recompute.verify(copy).records == len(list(copy.rglob("run.json")))
    (copy / "edits/mine/color/feasible/made.txt").write_text("y")
    assert "made.txt: sha256" in recompute.verify(copy).wrong[0]
    assert "made.txt: sha256" in recompute.verify(copy / "results").wrong[0]


def test_edits_moved_to_another_disk_are_checked_and_counted_through_the_link(
    home: Path, sealed: StudyConfig
) -> None:
    root = sealed.paths.root
    before = verify.verify(root)
    shutil.move(root / "edits", home / "disk")
    (root / "edits").symlink_to(home / "disk")
    after = verify.verify(root)
    assert after.wrong == [] and (after.files, after.records) == (before.files, before.records)
    assert sealed.paths.records() == sorted(root / j.name / "run.json" for j in jobs_with(sealed))
    (home / "disk/mine/color/feasible/made.txt").write_text("y")
    assert "made.txt: sha256" in verify.verify(root).wrong[0]
    (root / "edits").unlink()
    (root / "edits").symlink_to(home / "gone")
    assert "edits: a link to" in verify.verify(root).wrong[0]


def jobs_with(config: StudyConfig) -> list[stages.Job]:
    return [j for j in stages.jobs(config) if j.record.is_file()]


def test_a_source_that_changed_since_is_named(home: Path, sealed: StudyConfig) -> None:
    reruns.replace_photograph(home)
    wrong = verify.verify(sealed.paths.root).wrong
    assert len(wrong) == 1 and "source changed since" in wrong[0] and "photos/1.png" in wrong[0]


def test_a_record_of_an_archive_reads_no_file_outside_it(home: Path, sealed: StudyConfig) -> None:
    (home / "secret.txt").write_text("s")
    folder = Path(shutil.copytree(sealed.paths.root, home / "box/study"))
    (home / "box/SHA256SUMS").touch()
    path = folder / "figures/run.json"
    record = storage.read_json(path)
    record["inputs"] = {str(home / "secret.txt"): "0", "../../secret.txt": "0"}
    record["outputs"] |= {"../../secret.txt": storage.sha256_file(home / "secret.txt")}
    storage.write_json(path, record)
    check = verify.verify(folder)
    assert any(
        "names '../../secret.txt' as its output, which lies outside" in w for w in check.wrong
    )
    assert {str(home / "secret.txt"), "../../secret.txt"} <= set(check.absent)


def test_a_stage_run_by_hand_breaks_the_seal_and_a_study_that_lacks_a_record_gets_none(
    home: Path, sealed: StudyConfig
) -> None:
    status.settle(status.states(checked(reruns.put(reruns.base(home), "seed", 9), "other")))
    seal.remove(sealed.paths.root)
    assert seal.write(sealed) is None and not (sealed.paths.root / "seal.json").exists()


def test_unknown_commits_and_changed_trees_are_said(study: StudyConfig) -> None:
    facts = [
        {"commit": "a" * 40, "dirty": False},
        {"commit": "b" * 40, "dirty": True},
        {"commit": None, "dirty": None, "git": "git rev-parse: dubious ownership"},
    ]
    for job, fact in zip(jobs_with(study), facts, strict=False):
        storage.write_json(job.record, storage.read_json(job.record) | fact)
    notes = verify.verify(study.paths.root).notes
    assert "made by commit aaaaaaaaaa (1), bbbbbbbbbb (1)" in notes
    assert "1 records were made with uncommitted changes" in notes
    assert "1 records without a known commit: git rev-parse: dubious ownership" in notes


def test_what_is_taken_out_of_the_file_counts_nowhere_and_comes_back(
    home: Path, sealed: StudyConfig
) -> None:
    fewer = reruns.base(home)
    fewer["classify"]["recipes"] = ["zero_shot", "real"]
    fewer["attributes"] = ["color", "texture"]
    config = checked(fewer, "fewer")
    gone = ["datadream/mine/dset", *(f"edits/mine/background/{a}" for a in stages.ARMS)]
    status.settle(status.states(config))
    assert status.settle_others(config) == sorted(gone)
    names = {p.parent.relative_to(config.paths.root).as_posix() for p in config.paths.records()}
    assert not names & set(gone) and "data/mine" in names
    status.settle(status.states(sealed))
    assert status.settle_others(sealed) == [] and reruns.stale(sealed) == set()


def test_figures_and_tables_of_earlier_settings_go_when_their_stage_begins(
    home: Path, sealed: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "study.yaml").write_text(yaml.safe_dump(reruns.base(home)))
    monkeypatch.setattr(run_record, "find_root", lambda: home)
    for name in ("figures/learning_curves_gone.png", "results/quality_sets.csv"):
        storage.write_text(sealed.paths.root / name, "x")
    storage.write_text(sealed.paths.pictures / "grid0.png", "x")
    for stage in ("07_claims", "08_figures"):
        run_record.begin(stage, str(home / "study.yaml"), source="")
    assert [p.name for p in sealed.paths.figures.iterdir()] == []
    assert [p.name for p in sealed.paths.results.iterdir()] == ["pictures"]
    assert not seal.path_of(sealed.paths.root).exists()
