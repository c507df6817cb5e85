"""Every path of a study: below its folder, of one target alone, and its name found again."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from varireal_utils.core.storage import unslug
from varireal_utils.core.study_paths import StudyPaths

NAMES = st.lists(st.text(max_size=40), min_size=2, max_size=3, unique=True)
ROOT = Path("runs/tiny")


def targets(paths: StudyPaths, dataset: str, recipe: str) -> dict[tuple, Path]:
    """The folder of every target of one data set and one recipe."""
    out: dict[tuple, Path] = {
        ("data", dataset): paths.data(dataset),
        ("attributes", dataset): paths.attributes(dataset),
        ("guidance", dataset): paths.guidance(dataset),
        ("quality", dataset): paths.quality(dataset),
        ("datadream", dataset, "cls"): paths.datadream(dataset, "cls"),
        ("classify", dataset, recipe): paths.classify(dataset, recipe, 0),
        ("classify", dataset, recipe, 1): paths.classify(dataset, recipe, 1),
    }
    for attribute, arm, shard in itertools.product(
        ("color", "texture"), ("feasible", "infeasible"), ("", "1/2", "2/2")
    ):
        out["edits", dataset, attribute, arm, shard] = paths.edits(dataset, attribute, arm, shard)
    return out


@given(NAMES, NAMES)
def test_two_targets_never_share_a_folder(datasets: list[str], recipes: list[str]) -> None:
    paths = StudyPaths(ROOT)
    found: dict[tuple, Path] = {}
    for dataset, recipe in itertools.product(datasets, recipes):
        if recipe:
            found |= targets(paths, dataset, recipe)
    for one in (paths.results, paths.figures, paths.notebooks, paths.report):
        found[(one.name,)] = one
    assert len({p.as_posix().lower() for p in found.values()}) == len(found)
    assert all(p.is_relative_to(ROOT) and ".." not in p.parts for p in found.values())


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_a_name_is_found_again_from_its_folder(dataset: str, recipe: str) -> None:
    paths = StudyPaths(ROOT)
    data, training = paths.data(dataset).name, paths.classify(dataset, recipe, 3)
    if "%%" not in data:  # an overlong name's slug is short; its table knows it
        assert unslug(data) == dataset
    if "%%" not in training.parent.name:
        assert unslug(training.parent.name) == recipe and training.name == "seed3"


def test_tables_lie_in_their_targets_folder() -> None:
    paths = StudyPaths(ROOT)
    assert paths.edits_table("d", "color", "feasible").parent == paths.edits(
        "d", "color", "feasible"
    )
    assert paths.predictions("d", "r", 0).parent == paths.classify("d", "r", 0)
    assert paths.samples_table("d", "cls").parent == paths.datadream("d", "cls")
    assert paths.images_table("d").parent == paths.data("d")


def test_records_are_found_but_in_hidden_folders(tmp_path: Path) -> None:
    for name in ("data/a/run.json", "results/run.json", ".trash/run.json", "data/.old/run.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in StudyPaths(tmp_path).records()]
    assert found == ["data/a/run.json", "results/run.json"]
