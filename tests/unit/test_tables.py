from itertools import product

import numpy as np
import pandas as pd
import pytest

from varireal_utils.analysis import (
    contrasts,
    effects,
    load,
    printing,
    robustness,
    tables,
)
from varireal_utils.analysis.stage import ClaimsStage
from varireal_utils.core import storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.training import recipes

GAIN = {"zero_shot": -0.2, "real": 0.0}


def asked_for(recipes_, seeds=(0,), datasets=("cars", "pets"), **other):
    """The slice of 07_claims that names these trainings."""
    return ClaimsStage(
        **{
            "protocol": "controlled",
            "datasets": list(datasets),
            "attributes": list(contrasts.ATTRIBUTES),
            "verify": {"keep": "all"},
            "classify": {"recipes": list(recipes_), "seeds": list(seeds)},
            "claims": {"margin": 0.3, "bootstrap": 100, "confidence": 0.95},
            **other,
        }
    )


def study(gain=None, images=400, seeds=4, datasets=("cars", "pets"), noise=0.3, start=0):
    """Answers with a true gain (in accuracy) per recipe; noise: share of answers that vary by seed.

    noise=0 makes recipes of equal gain answer alike."""
    gain = GAIN | (gain or {})
    rng, parts = np.random.default_rng(start), []
    for dataset in datasets:
        ease, chance = rng.random(images), rng.random((seeds, images))
        for recipe, g in gain.items():
            own = rng.random((seeds, images))
            luck = np.where(own < noise, own / noise, ease) if noise else ease
            luck = np.where(chance < 0.1, chance * 10, luck)
            right = luck < 0.7 + g
            for s in range(1 if recipe == "zero_shot" else seeds):
                parts.append(
                    pd.DataFrame(
                        {
                            "dataset": dataset,
                            "recipe": str(recipes.parse(recipe)),
                            "seed": s,
                            "image_id": [f"i{k:04d}" for k in range(images)],
                            "correct": right[s],
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def arms(attribute, feasible, infeasible, mixed=None, prefixes=("", "real+")):
    mixed = (feasible + infeasible) / 2 if mixed is None else mixed
    return {
        p + name: g
        for p in prefixes
        for name, g in (
            (f"edit({attribute},feasible)", feasible),
            (f"edit({attribute},infeasible)", infeasible),
            (f"mix({attribute},0.5)", mixed),
        )
    }


def test_collect_reads_what_classify_writes(tmp_path):
    df = study(arms("color", 0.0, 0.0), images=5, seeds=2)
    for (dataset, recipe, seed), rows in df.groupby(["dataset", "recipe", "seed"]):
        folder = tmp_path / "classify" / dataset / storage.slug(recipe) / f"seed{seed}"
        folder.mkdir(parents=True)
        storage.write_table(
            folder / "predictions.parquet",
            rows.assign(label=0)[["image_id", "label", "correct"]].reset_index(drop=True),
        )
        storage.write_json(
            folder / "metrics.json", {"dataset": dataset, "recipe": recipe, "seed": int(seed)}
        )
    paths, every = StudyPaths(tmp_path), df["recipe"].unique()
    got = load.predictions(paths, asked_for(every, range(4)))
    want = df.sort_values(load.PREDICTIONS[:4], ignore_index=True)
    assert got.astype({"recipe": str}).equals(want.astype({"recipe": str}))
    some = asked_for(
        ["real", "edit(color,feasible)", "edit(texture,feasible)"], [1], datasets=["pets"]
    )
    found = load.predictions(paths, some)  # trainings of earlier parameters are not mixed in
    assert set(map(tuple, found[["dataset", "recipe", "seed"]].to_numpy())) == {
        ("pets", "real", 1),
        ("pets", "edit(color,feasible)", 1),
    }
    fewer = asked_for(every, range(4), attributes=["texture"])  # nor those of an attribute left out
    assert set(load.predictions(paths, fewer)["recipe"]) == {"real", "zero_shot"}
    assert {p.name for p in load.prediction_files(paths, fewer)} == {"predictions.parquet"}
    with pytest.raises(FileNotFoundError, match="06_classify"):
        load.predictions(StudyPaths(tmp_path / "nothing"), some)


def test_edits_of_a_data_set_or_attribute_left_out_are_not_collected(tmp_path):
    paths = StudyPaths(tmp_path)
    for d, a, arm in product(("cars", "pets"), ("color", "texture"), recipes.ARMS):
        storage.write_table(
            paths.edits_table(d, a, arm), pd.DataFrame({"attribute": [a], "models": ["m"]})
        )
    got = load.edits(paths, asked_for(["real"], datasets=["pets"], attributes=["color"]))
    assert len(got) == 2 and set(got["dataset"]) == {"pets"} and set(got["attribute"]) == {"color"}
    assert list(load.drop_model_columns(got)) == ["attribute", "dataset"]


def test_main_table_has_a_row_per_cell_and_the_right_means():
    df = study(arms("color", 0.05, -0.05))
    table = tables.main_table(df, resamples=200)
    assert len(table) == 2 * (2 + 6)
    row = table[(table["dataset"] == "pets") & (table["recipe"] == "real+edit(color,feasible)")]
    row = row.iloc[0]
    words = (row["attribute"], row["arm"], row["training"])
    assert words == ("color", "feasible", "real + edited")
    answers = df[(df["dataset"] == "pets") & (df["recipe"] == row["recipe"])]
    assert row["mean"] == pytest.approx(100 * answers["correct"].mean())
    assert row["low"] < row["mean"] < row["high"]
    assert (row["seeds"], row["n"]) == (4, 400)
    edited = ["feasible", "infeasible", "mixed"]
    assert list(table["arm"][:8]) == ["zero-shot", "real", *edited, *edited]
    shown = printing.wide(table)
    assert list(shown.columns) == [
        "dataset",
        "attribute",
        "training",
        "zero-shot",
        "real",
        "feasible",
        "infeasible",
        "mixed",
        "seeds",
        "n",
    ]
    assert len(shown) == 4 and (shown["zero-shot"] != "").all()
    assert len(printing.wide(tables.main_table(study(), resamples=50))) == 2  # no edits yet


def test_effects_recover_a_known_difference_and_pool():
    df = study(arms("color", 0.04, 0.0) | arms("texture", 0.0, 0.0), noise=0.1)
    got = effects.effects(df, resamples=300)
    cells = got[got["dataset"] != "pooled"]
    assert len(cells) == 8
    color = got[(got["dataset"] == "pooled") & (got["attribute"] == "color")]
    assert set(color["training"]) == {"edited only", "real + edited", "pooled"}
    last = color.iloc[-1]
    assert last["low"] < 4 < last["high"] and last["unit"] == "seeds of one draw"
    whole = got.iloc[-1]
    assert (whole["dataset"], whole["attribute"], whole["training"]) == ("pooled",) * 3
    assert whole["difference"] == pytest.approx(cells["difference"].mean())
    assert whole["cells"] == 8 and whole["n"] == 800


def test_identical_arms_differ_nowhere():
    got = effects.effects(study(arms("color", 0.0, 0.0), noise=0), resamples=100)
    assert (got[["difference", "low", "high"]] == 0).all(axis=None)


def test_only_common_seeds_are_compared_and_other_images_are_an_error():
    df = study(arms("color", 0.1, 0.0, prefixes=("",)), datasets=("cars",))
    hit = df["recipe"] == "edit(color,feasible)"
    got = effects.effects(df[~(hit & (df["seed"] == 3))], resamples=100)
    assert (got["units"] == 3).all()
    moved = df.assign(image_id=df["image_id"].where(~hit, df["image_id"] + "x"))
    with pytest.raises(ValueError, match="other images"):
        effects.effects(moved)
    with pytest.raises(ValueError, match="different images"):
        contrasts.cells_of(df.drop(df[hit].index[0]))


def test_markdown_and_latex():
    table = pd.DataFrame(
        {
            "recipe": ["a_b", "c%"],
            "mean": [1.234, np.nan],
            "seeds": pd.array([5, None], dtype="Int64"),
        }
    )
    text = printing.to_markdown(table)
    assert "| a_b" in text and "1.23" in text and "nan" not in text and "<NA>" not in text
    tex = printing.to_latex(table, caption="C", label="tab:x")
    assert r"a\_b & 1.23 & 5 \\" in tex and r"c\% &  &  \\" in tex
    odd = printing.to_latex(pd.DataFrame({"a$": ["x^2 {$y$}"]}))
    assert r"a\$" in odd and r"x\textasciicircum 2 \{\$y\$\}" in odd
    assert r"\toprule" in tex and r"\begin{tabular}{lrr}" in tex


def test_cross_checks_agree_with_the_pooled_effect():
    df = study(arms("color", 0.05, 0.0) | arms("texture", 0.05, 0.0), seeds=5)
    pooled = effects.effects(df, resamples=200).iloc[-1]
    model = robustness.mixed_model(df).set_index("term")
    assert model.loc["mean", "estimate"] == pytest.approx(pooled["difference"])
    assert model.loc["mean", "low"] < 5 < model.loc["mean", "high"]
    assert robustness.mixed_model(study(seeds=1)).empty
    pairs = robustness.mcnemar(df)
    one = pairs.iloc[0]
    cells = contrasts.cells_of(df)
    a, b = (cells["cars", f"edit(color,{arm})"].loc[0] for arm in ("feasible", "infeasible"))
    assert (one["only_feasible"], one["only_infeasible"]) == ((a & ~b).sum(), (b & ~a).sum())
    checked = robustness.compare(df, effects.effects(df, resamples=200), model.reset_index())
    assert "agrees" not in checked  # one estimate by all methods is no agreement
    assert set(checked["method"]) == {"two-level bootstrap", "clustered regression", "mixed model"}


def test_seeds_and_curves(tmp_path):
    df = study(arms("color", 0.05, -0.05), images=40, seeds=2, datasets=("pets",))
    each = tables.by_seed(df).set_index(["recipe", "seed"])["top1"]
    one = df[(df["recipe"] == "real") & (df["seed"] == 1)]
    assert each["real", 1] == one["correct"].mean() and ("zero_shot", 1) not in each.index
    for recipe, loss, val in (("zero_shot", [], []), ("real", [2.0, 1.5, 1.0], [[3, 0.5]])):
        storage.write_json(
            tmp_path / f"classify/pets/{recipe}/seed0/metrics.json",
            {"dataset": "pets", "recipe": recipe, "seed": 0, "loss_curve": loss, "val_curve": val},
        )
    asked = asked_for(["zero_shot", "real"], datasets=["pets"])
    curves = load.curves(StudyPaths(tmp_path), asked)
    assert list(curves["arm"]) == ["real"] * 4 and set(curves["training"]) == {"real"}
    assert list(curves["step"]) == [1, 2, 3, 3]
    assert list(curves["value"]) == [2.0, 1.5, 1.0, 0.5]
    assert list(curves["quantity"]) == ["loss"] * 3 + ["val_top1"]


def test_fewer_photographs_have_a_table_of_their_own(tmp_path):
    names = [f"edit(all,{arm}){end}" for end in ("", "@2") for arm in recipes.ARMS]
    df = study(
        dict(zip(["real@2", *names], (-0.3, 0.1, 0.0, -0.1, -0.2), strict=True)),
        noise=0,
        datasets=("cars",),
        seeds=2,
    )
    storage.write_table(
        tmp_path / "data/cars/images.parquet",
        pd.DataFrame({"split": ["train"] * 8 + ["test"] * 4, "label": [0, 1] * 6}),
    )
    table = tables.by_shots(df, StudyPaths(tmp_path), resamples=50)
    assert "@" not in "".join(tables.main_table(df, resamples=50)["recipe"])
    got = table.set_index(["arm", "shots"])["mean"]
    assert sorted(got.index) == sorted(
        (arm, n)
        for n in (2.0, 4.0)
        for arm in ("real", "feasible", "infeasible", "feasible − infeasible")
    )
    right = df.groupby("recipe")["correct"].mean() * 100
    assert got["real", 2] == pytest.approx(right["real@2"])
    assert got["feasible", 4] == pytest.approx(right["edit(all,feasible)"])
    for end, n in (("", 4), ("@2", 2)):
        assert got["feasible − infeasible", n] == pytest.approx(
            right[f"edit(all,feasible){end}"] - right[f"edit(all,infeasible){end}"]
        )
    assert tables.by_shots(study(), StudyPaths(tmp_path), resamples=50).empty


def test_studies_that_were_not_run_stand_beside_nothing(tmp_path):
    """A claim that needs them is not run; the study itself is never set against itself; of the
    places where another study may lie, the first that is there counts."""
    df = pd.DataFrame(
        [{"dataset": "d", "recipe": "real", "seed": 0, "image_id": "a", "correct": True}]
    )
    for folder in (
        "runs/own/results",
        "results/own",
        "results/one",
        "runs/two/results",
        "results/two",
    ):
        storage.write_table(tmp_path / folder / "answers.parquet", df.assign(image_id=folder))
    places = {
        "same": [f"{tmp_path}/runs/own", f"{tmp_path}/results/own"],
        "none": f"{tmp_path}/nowhere",
        "one": [f"{tmp_path}/runs/one", f"{tmp_path}/results/one"],
        "two": [f"{tmp_path}/runs/two", f"{tmp_path}/results/two"],
    }
    slice_ = asked_for(
        ["real"],
        root=f"{tmp_path}/runs/own",
        claims={"margin": 0.3, "bootstrap": 100, "confidence": 0.95, "against": places},
    )
    assert {p.parent.name for p in slice_.source_files() if p.suffix == ".parquet"} == {
        "one",
        "results",
    }
    got = load.add_other_studies(df, slice_.other_studies())
    assert list(got["recipe"]) == ["real", "one:real", "two:real"]
    assert list(got["image_id"]) == ["a", "results/one", "runs/two/results"]


def test_effects_by_protocol_are_the_mean_of_both_trainings_of_each_study():
    own, other = study(arms("color", 0.04, 0.0), noise=0.1), study(arms("color", 0.0, 0.04))
    both = pd.concat(
        [
            own,
            other.assign(recipe="faithful:" + other["recipe"]),
            own.assign(recipe="controlled:" + own["recipe"]),
        ]
    )
    got = effects.by_protocol(both, "controlled", resamples=200)
    assert list(got["protocol"]) == ["controlled", "faithful"] * 3
    assert list(got["dataset"]) == ["cars"] * 2 + ["pets"] * 2 + ["pooled"] * 2
    single = effects.effects(own, resamples=200)
    cells = single[(single["dataset"] == "pets") & (single["attribute"] == "color")]
    row = got[(got["dataset"] == "pets") & (got["protocol"] == "controlled")].iloc[0]
    assert row["difference"] == pytest.approx(cells["difference"].mean()) and row["cells"] == 2
    pooled = got[got["dataset"] == "pooled"]["difference"]
    assert pooled.iloc[0] > 0 > pooled.iloc[1]
    half = own.assign(correct=own["correct"] ^ (own["recipe"] == "real+edit(color,feasible)"))
    both = pd.concat([own, half.assign(recipe="filtered:" + half["recipe"])])
    got = effects.by_protocol(both, "controlled", resamples=50).set_index(["dataset", "protocol"])
    assert got.loc[("pets", "filtered"), "cells"] == 1  # the arms that are the same say nothing
    same = pd.concat([own, own.assign(recipe="filtered:" + own["recipe"])])
    assert set(effects.by_protocol(same, "controlled", resamples=50)["protocol"]) == {"controlled"}
    assert asked_for(["real"], protocol="faithful").protocol_name == "faithful"
    assert asked_for(["real"], verify={"keep": "paired"}).protocol_name == "filtered"


def test_a_study_without_edits_has_empty_tables_with_their_columns():
    df = study()
    for table, what in (
        (effects.effects(df), "training"),
        (effects.by_protocol(df, "controlled"), "protocol"),
    ):
        assert table.empty and {"dataset", "attribute", what, "low90", "unit"} <= set(table)


def test_generated_images_stand_in_the_row_of_their_training():
    gain = arms("color", 0.05, 0.0) | {"datadream(dset)": -0.3, "real+datadream(dset)": 0.1}
    df = study(gain, noise=0)
    shown = printing.wide(tables.main_table(df, resamples=50)).set_index(["dataset", "training"])
    right = 100 * df.groupby(["dataset", "recipe"])["correct"].mean()
    for dataset in ("cars", "pets"):
        for training, recipe in (
            ("edited only", "datadream(dset)"),
            ("real + edited", "real+datadream(dset)"),
        ):
            cell = shown.loc[(dataset, training), "datadream dset"]
            assert cell.startswith(f"{right[dataset, recipe]:.1f} [")
        assert shown.loc[dataset, "real"].str.startswith(f"{right[dataset, 'real']:.1f} [").all()
    alone = study({"datadream(dset)": -0.3, "real+datadream(dset)": 0.1}, noise=0)
    shown = printing.wide(tables.main_table(alone, resamples=50))  # no edits: rows of its own
    assert list(shown["training"]) == ["edited only", "real + edited"] * 2
    assert (shown[["real", "datadream dset"]] != "").all(axis=None)


def test_an_accuracy_stays_within_0_and_100_percent():
    images, parts = 8, []
    for seed, right in enumerate((8, 6)):
        ids = [f"i{k}" for k in range(images)]
        parts.append(pd.DataFrame({"seed": seed, "image_id": ids, "correct": np.arange(8) < right}))
    df = pd.concat(parts, ignore_index=True).assign(dataset="d", recipe="real")
    row = tables.main_table(df, resamples=200).iloc[0]
    assert row["high"] == 100 and 0 <= row["low"] < row["mean"] == 87.5
    wrong = tables.main_table(df.assign(correct=~df["correct"]), resamples=200).iloc[0]
    assert wrong["low"] == 0 and wrong["high"] > wrong["mean"] == 12.5


def test_the_effect_by_class_has_the_noise_of_seeds(tmp_path):
    """Every image of a seed moves together: images alone would give an interval of no width."""
    parts = []
    for seed, gain in enumerate((0, 1, 1, 0)):
        for arm in recipes.ARMS:
            right = np.full(20, bool(gain) and arm == "feasible")
            ids = [f"i{k:02d}" for k in range(20)]
            name = f"edit(color,{arm})"
            parts.append(
                pd.DataFrame({"recipe": name, "seed": seed, "image_id": ids, "correct": right})
            )
    df = pd.concat(parts, ignore_index=True).assign(dataset="d")
    storage.write_table(
        StudyPaths(tmp_path).images_table("d"),
        pd.DataFrame({"image_id": [f"i{k:02d}" for k in range(20)], "class_name": ["a", "b"] * 10}),
    )
    got = effects.by_class(df, StudyPaths(tmp_path), resamples=200)
    assert list(got["class_name"]) == ["a", "b"] and (got["n"] == 10).all()
    assert (got["difference"] == 50).all() and (got["units"] == 4).all()
    assert effects.counted(got.drop(columns="units"), df).equals(got)  # published before the column
    assert (got["low"] < 0).all() and (got["high"] > 100).all()  # four seeds, half of them 0
