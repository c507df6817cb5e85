"""verify, of tables: what a committed number says follows from the answers beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from varireal_utils.analysis import printing
from varireal_utils.core import storage
from varireal_utils.workflow import provenance, publication, recompute, seal

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted(p.parent for p in ROOT.glob("results/*/answers.parquet"))
ALIKE = (
    "main_table",
    "known",
    "effects",
    "claims",
    "mcnemar",
    "mixed_model",
    "cross_checks",
    "seeds",
)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def _marked(folder: Path) -> Any:
    """The folder as a test's value: one of many edits takes long."""
    large = (folder / "edits.parquet").stat().st_size > 10e6
    return pytest.param(folder, id=folder.name, marks=[pytest.mark.slow] * large)


@pytest.mark.parametrize("folder", [_marked(folder) for folder in KEPT])
def test_committed_tables_follow_from_the_committed_answers(folder: Path) -> None:
    check = recompute.verify(folder)
    assert not check.wrong, check.wrong
    assert {f"{n}.csv" for n in ALIKE} | {"claims.md", "effects.tex"} <= set(check.recomputed)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The smallest published study, elsewhere and without bootstrap, as its record then says."""
    if not KEPT:
        pytest.skip("no answers are published")
    folder = tmp_path / "results" / KEPT[0].name
    shutil.copytree(KEPT[0], folder)
    record = storage.read_json(folder / "run.json")
    record["parameters"]["claims"] |= {"bootstrap": 50, "against": {}}
    record["inputs"] = {}
    storage.write_json(folder / "run.json", record)
    found = recompute.statistics(folder, record)
    for name, table in found.items():
        storage.write_table(folder / f"{name}.csv", table)
    for name, text in printing.files(found).items():
        storage.write_text(folder / name, text)
    assert recompute.compare(folder)[0] == []
    return folder


def test_predictions_of_trainings_stay_in_the_study_and_are_counted(copy: Path) -> None:
    record = storage.read_json(copy / "run.json")
    own = ["classify/a/real/seed0/predictions.parquet"]
    own += [f"replicates/0{i}/{own[0]}" for i in range(3)]
    record["inputs"] = dict.fromkeys([*own, "elsewhere.csv"], "0" * 64)
    check = publication.verify(copy, record)
    assert check.absent == own
    of_inputs = [line for line in check.wrong if "input of" in line]
    assert len(of_inputs) == 1 and of_inputs[0].startswith("elsewhere.csv: missing")


def test_a_changed_number_is_named_with_what_it_should_be(copy: Path) -> None:
    for name, column in (
        ("effects", "difference"),
        ("claims", "ours"),
        ("main_table", "low"),
        ("mcnemar", "p"),
    ):
        path = copy / f"{name}.csv"
        good, table = path.read_bytes(), pd.read_csv(path)
        row = int(table[column].first_valid_index())
        table.loc[row, column] += 0.01
        table.to_csv(path, index=False)
        wrong, _ = recompute.compare(copy)
        assert len(wrong) == 1 and f"{name}.csv: row {row + 1}, {column}" in wrong[0], wrong
        path.write_bytes(good)


def test_changed_answers_words_and_files_are_found(copy: Path) -> None:
    claims_, answers = copy / "claims.csv", copy / "answers.parquet"
    good = claims_.read_bytes()
    claims_.write_bytes(good.replace(b",no verdict,", b",reproduced,", 1))
    assert "verdict" in recompute.compare(copy)[0][0]
    claims_.write_bytes(good[:-1] + b",,,\n")
    assert "claims.csv" in recompute.compare(copy)[0][0]
    claims_.unlink()
    assert "claims.csv: missing" in recompute.compare(copy)[0][0]
    claims_.write_bytes(good)
    (copy / "claims.md").write_text("| all is well |\n")
    assert "claims.md: recomputed, it reads otherwise" in recompute.compare(copy)[0][0]
    storage.write_table(
        answers, storage.read_table(answers).assign(correct=lambda t: t["correct"] ^ (t.index == 0))
    )
    wrong = recompute.verify(copy).wrong
    assert any("answers.parquet: not as recorded" in w for w in wrong)
    assert any("seeds.csv: row" in w for w in wrong)


def alter(name: str) -> Callable[[Path], None]:
    """Change a file where it stays readable: a comma more, or a bit of a picture's end."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes() + b" ")

    return change


def another_picture(folder: Path) -> None:
    one, two = sorted(folder.glob("pictures/grid0_color_*.png"))
    one.write_bytes(two.read_bytes())
    seal.publish(folder)  # whoever changes the picture may seal the folder again


def repaired_record(folder: Path) -> None:
    alter("run.json")(folder)
    provenance.seal(folder / "run.json")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (alter("runs.csv"), "runs.csv: not as sealed"),
        (alter("pictures/index.json"), "index.json: not as sealed"),
        (alter("pictures/grid0_source.png"), "grid0_source.png: not as sealed"),
        (alter("notebooks/07_claims.ipynb"), "07_claims.ipynb: not as sealed"),
        (lambda f: (f / "pictures/grid0_source.png").unlink(), "missing; the seal lists it"),
        (lambda f: (f / "more.csv").write_text("a"), "more.csv: not in the seal"),
        (repaired_record, "run.json: not as sealed"),
        (another_picture, "no edit of the study with the phrase"),
    ],
)
def test_a_changed_file_of_a_published_folder_is_named(
    tmp_path: Path, tamper: Callable[[Path], Any], words: str
) -> None:
    folder = Path(shutil.copytree(KEPT[0], tmp_path / "elsewhere"))
    record = provenance.read(folder / "run.json")
    assert publication.verify(folder, record).wrong == []
    tamper(folder)
    wrong = publication.verify(folder, record).wrong
    assert any(words in line for line in wrong), wrong


def test_a_published_folder_says_which_code_made_it() -> None:
    for folder in KEPT:
        record = provenance.read(folder / "run.json")
        again = record.pop("recomputed", {"commit": "1" * 40})
        said = f"tables computed again by commit {again['commit'][:10]}"
        for known in (record, record | {"recomputed": again}):
            notes = publication.verify(folder, known).notes
            assert f"made by commit {record['commit'][:10]} (1)" in notes
            assert sum(n.startswith(said) for n in notes) == ("recomputed" in known)


def test_another_studys_answers_are_known_by_their_digest(tmp_path: Path) -> None:
    place = tmp_path / "results/other"
    storage.write_table(place / "answers.parquet", pd.DataFrame({"correct": [True]}))
    against = {"faithful": [f"{tmp_path}/runs/other", str(place)]}
    digest = storage.sha256_file(place / "answers.parquet")
    record = {
        "parameters": {"claims": {"against": against}},
        "inputs": {f"{tmp_path}/runs/other/results/answers.parquet": digest},
    }
    assert recompute._others(record) == {"faithful": place / "answers.parquet"}
    assert recompute._others(record | {"inputs": {}}) == {}
    storage.write_table(place / "answers.parquet", pd.DataFrame({"correct": [False]}))
    with pytest.raises(FileNotFoundError, match="runs/other/results/answers.parquet is not there"):
        recompute._others(record)
