"""From the trainings of replicates to tables, figures and README: every recipe of the registered
study, on predictions and pictures that no model made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from tests.conftest import ROOT
from tests.study_folder import picture
from varireal_utils.analysis import claim_file, printing, study_tables
from varireal_utils.analysis.stage import ClaimsStage
from varireal_utils.core import arms, shown, storage
from varireal_utils.core.config import load_config
from varireal_utils.reporting import (
    answer,
    figures,
    first_page,
    image_grids,
    publishing,
    replicate_figures,
    report,
    result_blocks,
)
from varireal_utils.reporting.stage import FiguresStage
from varireal_utils.training import recipes
from varireal_utils.workflow import overview

R, CLASSES, IMAGES = 4, 3, 24
FAMILIES = ("micro_cars", "micro_pets")


def _replicate(config, number: int, rng: np.random.Generator) -> None:
    paths, names = config.whole.replicate(number), [f"class {c}" for c in range(CLASSES)]
    for dataset in config.datasets:
        folder = f"data/{dataset}/images"
        images = [
            {
                "image_id": f"{split}{i}",
                "label": i % CLASSES,
                "class_name": names[i % CLASSES],
                "split": split,
                **picture(paths.root, f"{folder}/{split}{i}.png", i),
            }
            for split, count in (("train", CLASSES), ("test", IMAGES))
            for i in range(count)
        ]
        storage.write_table(paths.images_table(dataset), pd.DataFrame(images))
        _edits(config, paths, dataset, images[:CLASSES])
        _generated(paths, dataset, names)
        hard = rng.random(IMAGES)
        for recipe in config.classify.recipes:
            out = paths.classify(dataset, recipe, 0)
            chance = 0.3 if recipe == "zero_shot" else 0.6
            correct = hard < chance + 0.02 * rng.standard_normal()
            table = pd.DataFrame({"image_id": [f"test{i}" for i in range(IMAGES)]})
            storage.write_table(out / "predictions.parquet", table.assign(correct=correct))
            metrics = {
                "dataset": dataset,
                "recipe": recipe,
                "seed": 0,
                "replicate": number,
                "n_train_images": CLASSES,
                "steps": 2,
                "val_curve": [[1, 0.5], [2, 0.6]],
                "loss_curve": [1.0, 0.5],
            }
            if recipes.parse(recipe).maker in recipes.MATCHED:
                metrics |= {"gap": 0.01, "gap_of_all": 0.02, "distance": 0.1}
            storage.write_json(out / "metrics.json", metrics)
            if recipe == "real":
                shown = [("color", v, i) for v in replicate_figures.VALUES for i in range(8)]
                table = pd.DataFrame(shown, columns=["attribute", "value", "image_id"])
                table["correct"] = rng.random(len(table)) < 0.5
                storage.write_table(out / "edited_test.parquet", table)


def _edits(config, paths, dataset: str, images: list[dict]) -> None:
    for attribute in config.attributes:
        for arm in recipes.arms_read(config.classify.recipes, attribute, "all", True):
            folder = f"edits/{dataset}/{attribute}/{arm}"
            rows = [
                {
                    "edit_id": f"{arm}{i['image_id']}",
                    **{k: i[k] for k in ("image_id", "label", "class_name")},
                    "attribute": attribute,
                    "feasibility": arm,
                    "k": 0,
                    "phrase": arms.value(arm),
                    **dict.fromkeys(("accepted", "attribute_passed", "identity_passed"), True),
                    "identity": 0.9,
                    **picture(paths.root, f"{folder}/images/{i['image_id']}.png", n),
                }
                for n, i in enumerate(images)
            ]
            storage.write_table(paths.root / folder / "edits.parquet", pd.DataFrame(rows))
            if not arms.perfect(arm):
                strip = paths.root / folder / "strip"
                picture(paths.root, f"{folder}/strip/0_source.png", 1)
                about = {"attribute": attribute, "feasibility": arm, "phrase": "x"}
                storage.write_json(strip / "about.json", about)


def _generated(paths, dataset: str, names: list[str]) -> None:
    out = paths.datadream(dataset, "dset")
    folder = out.relative_to(paths.root).as_posix()
    rows = [
        {
            "class_name": name,
            "label": c,
            "k": k,
            **picture(paths.root, f"{folder}/images/{c}-{k}.png", k),
        }
        for c, name in enumerate(names)
        for k in range(2)
    ]
    for row in rows:
        picture(paths.root, f"{folder}/unadapted/{Path(row['path']).name}", 3)
    storage.write_table(out / "samples.parquet", pd.DataFrame(rows))
    shots = [
        {"image_id": f"train{c}", "class_name": n, "sha256": ""}  # as 05_datadream writes it
        for c, n in enumerate(names)
    ]
    storage.write_table(out / "few_shot.csv", pd.DataFrame(shots))
    shares = {"unadapted": 0.1, "adapted": 0.4, "photographs": 0.6}
    learned = [{"model": m, "class_named": s, "images": 8} for m, s in shares.items()]
    record = {
        "stage": "05_datadream",
        "own": {"dataset": dataset, "variant": "dset"},
        **{"started": "2026-01-01T00:00:00Z", "seconds": 1.0, "peak_memory_mb": 1},
        **{"commit": None, "outputs": {}, "metrics": {"learned": learned}},
        "parameters": {"replicate": int(paths.root.name)},
    }
    storage.write_json(out / "run.json", record)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(configuration, slice of the claims, tables) of a study of four replicates."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(
            "params/registered.yaml",
            {"study": "drawn", "seed": 991, "replicates": R, "runs_dir": str(folder / "runs")},
        )
        both = [*config.classify.recipes, "datadream(dset)", "real+datadream(dset)"]
        classify = config.classify.model_copy(update={"recipes": both})
        config = config.model_copy(update={"classify": classify})
        kept = {d: s for d, s in config.datasets.items() if d in FAMILIES}
        config = config.model_copy(update={"datasets": kept})
        rng = np.random.default_rng(0)
        for number in range(R):
            _replicate(config, number, rng)
        asked = ClaimsStage.of(config)
        found = study_tables.Kept.of_study(config.whole, asked, {})
        tables = study_tables.statistics(found, asked) | found.given
        for name, table in tables.items():
            storage.write_table(config.whole.results / f"{name}.csv", table)
        yield config, asked, tables


def test_every_claim_is_decided_or_says_why_not(study):
    _, _, tables = study
    claims = tables["claims"].set_index("claim")
    later = [c.id for c in claim_file.load() if c.again or c.by_name]
    assert (claims.loc[later, "verdict"] == "not run").all()
    claims = claims.drop(index=later)
    assert set(claims["verdict"]) <= {"inconclusive", "no verdict", "not valid", "withheld"}
    assert (claims["units"] == R).all() and claims["detail"].str.len().gt(0).any()
    assert claims.loc["A1", "verdict"] == "no verdict"  # needs eight replicates
    for name in ("D1", "D2"):
        assert "10 % of unadapted dset images, 60 % of photographs" in claims.loc[name, "because"]
    assert not claims["because"].fillna("").str.contains("matched pairs").any()
    assert set(printing.files(tables)) >= {"claims.md", "effects.tex"}


def test_parts_are_the_claims_own_estimates(study):
    _, asked, tables = study
    parts = tables["decomposition"]
    assert set(parts["claim"]) == {c.id for c in claim_file.load() if c.family == "decomposition"}
    means = parts[parts["replicate"].isna()].groupby("claim")["difference"].mean()
    claims = tables["claims"].set_index("claim")["ours"]
    for claim, mean in means.items():
        assert mean == pytest.approx(claims[claim], abs=1e-9)
    each = parts[parts["replicate"].notna()].groupby(["claim", "attribute"]).size()
    assert (each == R).all()
    true = tables["true_effects"]
    assert len(true) == 3 * 2 * len(FAMILIES) and (true["true_low"] < true["true_high"]).all()
    assert true["true"].std() < true["difference"].std()  # drawn towards their mean


@pytest.fixture(scope="module")
def gathered(study):
    """Settings of 08_figures, and the folder of the pictures that it gathered."""
    config, _, _ = study
    settings = FiguresStage.of(config)
    return settings, publishing.gather(config.whole, settings, overview.runs(config.whole.root))


def test_every_figure_of_the_stage_is_drawn(study, gathered):
    (config, _, tables), (settings, folder) = study, gathered
    grid, strips = publishing.gathered(folder)
    drawn = {
        "grid": image_grids.qualitative_grid(grid),
        "strips": image_grids.pipeline_strip(strips),
        "generated": image_grids.generated_grid(publishing.generated(folder)),
        "accuracy": figures.accuracy_by_arm(
            tables["main_table"], tables["seeds"], tables["effects"]
        ),
        "forest": figures.claim_forest(tables["claims"]),
        "effects": figures.effect_forest(tables["effects"], 0.3),
        "share": figures.infeasible_share(tables["main_table"], tables["effects"]),
        "acceptance": figures.acceptance(tables["acceptance"]),
        "decomposition": figures.decomposition(tables["decomposition"], 0.3),
        "edited": figures.edited_test(tables["edited_test"]),
        "true": figures.true_effects(tables["true_effects"]),
        "curves": figures.learning_curves(
            tables["curves"][tables["curves"]["dataset"] == FAMILIES[0]]
        ),
        "cost": figures.cost(publishing.tables_of(folder)["runs"]),
    }
    assert set(drawn["grid"][1]["arm"]) == {"feasible", "infeasible"}
    assert {t["title"].split(", ")[1] for t in strips} == {"familiar", "infeasible"}
    arms_shown = set(drawn["accuracy"][1]["arm"])
    assert "feasible" in arms_shown and not any("perfect" in a for a in arms_shown)
    assert len(publishing.gathered_files(config.whole, settings)) > 10
    assert set(drawn["generated"][1]["kind"]) == set(publishing.GENERATED)
    for name, (fig, table) in drawn.items():
        assert len(table), name
        plt.close(fig)
    assert set(overview.runs(config.whole.root)["replicate"]) == set(range(R))


def test_readme_and_warnings_read_a_study_of_replicates(study, gathered, tmp_path):
    config, _, tables = study
    storage.write_text(tmp_path / shown.FILE, "drawn\n")
    (tmp_path / "results" / "drawn").symlink_to(config.whole.results)
    text = answer.answer(tmp_path, "")
    assert "no verdict" in text and "4 replicates" in text
    table = first_page.claims(tmp_path, "")
    assert all(claim in table for claim in ("A1", "E4", "P0"))
    said = result_blocks.warnings(result_blocks.gates(config.whole.results))
    assert any("unadapted dset" in line for line in said)
    assert report._images(config.whole)
    tables = {t["name"]: t for t in report._tables(config.whole.results, {})}
    assert ("seeds", "replicates") in tables["main_table"]["columns"]


def test_the_report_lists_notebooks_of_the_whole_and_of_one_example(study):
    """Of the first replicate's first data set: all would be thousands of pages."""
    config, _, _ = study
    for paths in (config.whole.replicate(0), config.whole.replicate(1)):
        for name in (
            "01_data-micro_cars",
            "04_edit-micro_cars-color-familiar",
            "01_data-micro_pets",
        ):
            storage.write_text(paths.notebooks / f"{name}.ipynb", "{}")
    storage.write_text(config.whole.notebooks / "07_claims.ipynb", "{}")
    first = config.whole.replicate(0).notebooks
    assert report._books(config.whole) == [
        first / "01_data-micro_cars.ipynb",
        first / "04_edit-micro_cars-color-familiar.ipynb",
        config.whole.notebooks / "07_claims.ipynb",
    ]
    assert report._title("learning_curves_micro_cars") == "Learning curves, Micro cars"


def test_a_small_study_shows_its_seeds_over_the_published_interval(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = FiguresStage.of(load_config("params/micro.yaml"))
    assert ROOT / settings.published in [ROOT / p for p in settings.source_files()]
    tables = publishing.tables_of(Path("results/micro"))
    units, published = publishing.beside(tables, settings)
    row = tables["effects"].iloc[0]
    keys = ["dataset", "attribute", "training"]
    own = units.set_index(keys).loc[tuple(row[keys])]
    assert own["difference"].mean() == pytest.approx(row["difference"])
    fig, rows = figures.dots_over_published(units, published, 0.3)
    assert set(rows["dataset"]) == {"micro_cars"} and len(rows) == 6
    plt.close(fig)
    full = publishing.tables_of(shown.folder())
    assert publishing.beside(full, settings) is None  # it has intervals of its own
    itself = load_config("params/micro.yaml", {"study": shown.name()})
    assert FiguresStage.of(itself).published == ""  # else its publication would change its source
    names = tables["seeds"]["recipe"]
    alone = tables["seeds"][names.str.contains("background") & names.str.contains("edit")]
    every = alone.assign(recipe=alone["recipe"].str.replace("background", "all"))
    assert publishing.beside(tables | {"seeds": alone}, settings) is not None
    assert publishing.beside(tables | {"seeds": every}, settings) is None  # as in micro_shots.yaml
