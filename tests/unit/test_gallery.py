"""What of a study is published: its tables, its answers, some executed notebooks, nothing stale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import study_folder
from varireal_utils.core import shown, storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.reporting import publishing
from varireal_utils.reporting.stage import FiguresStage
from varireal_utils.workflow import provenance


def test_a_publication_replaces_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "runs/mine"
    storage.write_text(shown.FILE, "mine\n")
    for name in ("claims.csv", "answers.parquet", "pictures/a.png", "run.sha256"):
        storage.write_text(study / "results" / name, name)
    for name in (
        "04_edit-cars-color-feasible",
        "04_edit-cars-color-infeasible",
        "04_edit-cars-texture-infeasible",
        "04_edit-pets-color-infeasible",
        "01_data-cars",
        "06_classify-cars-0",
        "06_classify-cars-1",
        "07_claims",
        "07_quality-cars",
        "07_quality-cars2",
        "01_data-cars.failed",
        "explore",
    ):
        storage.write_text(study / f"notebooks/{name}.ipynb", name)
        provenance.seal(study / f"notebooks/{name}.ipynb")
    for name in ("cars", "pets"):
        storage.write_text(study / f"data/{name}/images.parquet", "")
    storage.write_text(Path("results/mine/old.csv"), "of another time")
    storage.write_text(Path("results/other/kept.csv"), "of another study")
    publishing.publish(StudyPaths(study), study / "results", [])
    home = Path("results/mine")
    assert {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()} == {
        "claims.csv",
        "answers.parquet",
        "pictures/a.png",
        *(
            f"notebooks/{n}.{end}"
            for end in ("ipynb", "sha256")
            for n in (
                "01_data-cars",
                "04_edit-cars-color-infeasible",
                "04_edit-cars-texture-infeasible",
                "06_classify-cars-0",
                "07_claims",
                "07_quality-cars",
            )
        ),
    }
    assert Path("results/other/kept.csv").exists()
    storage.write_text(Path("figures/old.png"), "of another study")
    publishing.publish(StudyPaths(study), home, [home / "pictures/a.png"])  # redrawn: figures alone
    assert not Path("figures/old.png").exists()
    assert (home / "claims.csv").exists() and Path("figures/a.png").exists()
    Path("figures/a.png").unlink()
    storage.write_text(shown.FILE, "another\n")  # figures/ is of it
    publishing.publish(StudyPaths(study), study / "results", [home / "pictures/a.png"])
    assert not Path("figures/a.png").exists()
    assert [p.name for p in (home / "notebooks").iterdir() if p.suffix == ".ipynb"] == [
        "07_claims.ipynb"
    ]
    storage.write_text(shown.FILE, "another\nmine\n")  # a further study: a folder of its own
    for old in ("a.png", "mine/old.png", "gone/b.png"):
        storage.write_text(Path("figures") / old, "of before")
    publishing.publish(StudyPaths(study), study / "results", [home / "pictures/a.png"])
    figures = {p.relative_to("figures").as_posix() for p in Path("figures").rglob("*.png")}
    assert figures == {"a.png", "gone/b.png", "mine/a.png"}
    assert len(list((home / "notebooks").glob("*.ipynb"))) > 1
    storage.write_text(shown.FILE, "mine\nanother\n")
    storage.write_text(Path("figures/another/c.png"), "of the further study")
    publishing.publish(StudyPaths(study), study / "results", [home / "pictures/a.png"])
    figures = {p.relative_to("figures").as_posix() for p in Path("figures").rglob("*.png")}
    assert figures == {"a.png", "another/c.png"}


def test_what_is_gathered_is_read_again_whole(tmp_path: Path) -> None:
    paths = StudyPaths(study_folder.make(tmp_path / "mine"))
    for path in paths.edits_tables():
        storage.write_table(path, storage.read_table(path).assign(k=0))
    monochrome = np.arange(16, dtype=np.uint8).reshape(4, 4)
    about = {"attribute": "color", "feasibility": "feasible", "phrase": "<b>"}
    folder = paths.edits("Mine / yours", "color", "feasible") / "strip"
    storage.write_json(folder / "about.json", about)
    storage.write_image(folder / "0_source.png", np.dstack([monochrome] * 3))
    storage.write_image(folder / "1_mask.png", monochrome)
    settings = FiguresStage(datasets=["Mine / yours"], attributes=["color"], margin=0.3)
    made, [strip] = publishing.grid_rows(paths, settings), publishing.strips(paths, settings)
    rows, [read] = publishing.gathered(publishing.gather(paths, settings, pd.DataFrame({"a": [1]})))
    assert len(rows) == len(made) == 4
    for was, now in zip(made, rows, strict=True):
        assert was["dataset"] == "Mine / yours" and was["name"] == now["name"]
        assert (was["source"] == now["source"]).all()
        for arm in ("feasible", "infeasible"):
            assert (was["color"][arm][0] == now["color"][arm][0]).all()
            assert was["color"][arm][1] == now["color"][arm][1]
    assert {r["color"]["feasible"][1] for r in rows} == {"<b>blue</b>", "<b>blue</b> (rejected)"}
    assert read["title"] == strip["title"] and list(read["steps"]) == ["source", "mask"]
    assert (read["steps"]["mask"] == monochrome).all()
    other = FiguresStage(datasets=["Mine / yours"], attributes=["texture"], margin=0.3)
    assert publishing.grid_rows(paths, other) == publishing.strips(paths, other) == []
    kept = storage.read_json(paths.pictures / "index.json")
    assert {entry["dataset"] for entry in kept["grid"]} == {"Mine / yours"}


def test_strips_show_every_attribute_in_both_arms_of_data_sets_by_turns(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    for dataset, attribute in (
        ("a", "background"),
        ("a", "color"),
        ("a", "texture"),
        ("b", "background"),
        ("b", "color"),
        ("b", "texture"),
        ("c", "background"),
        ("c", "texture"),
    ):
        for arm in ("feasible", "infeasible"):
            folder = tmp_path / f"edits/{dataset}/{attribute}/{arm}/strip"
            storage.write_json(
                folder / "about.json",
                {"attribute": attribute, "feasibility": arm, "phrase": dataset},
            )
            for number, name in ((0, "source"), (1, "mask"), (10, "result"), (2, "canny")):
                storage.write_image(folder / f"{number}_{name}.png", picture)
    settings = FiguresStage(
        datasets=["a", "b", "c"], attributes=["background", "color", "texture"], margin=0.3
    )
    found = publishing.strips(StudyPaths(tmp_path), settings)
    assert [(s["title"], s["phrase"]) for s in found] == [
        ("background, feasible", "a"),
        ("background, infeasible", "a"),
        ("color, feasible", "b"),
        ("color, infeasible", "b"),
        ("texture, feasible", "c"),
        ("texture, infeasible", "c"),
    ]
    assert list(found[0]["steps"]) == ["source", "mask", "canny", "result"]
    assert found[0]["steps"]["mask"].ndim == 2
    fewer = FiguresStage(datasets=["b", "c"], attributes=["color"], margin=0.3)
    assert {s["phrase"] for s in publishing.strips(StudyPaths(tmp_path), fewer)} == {"b"}
