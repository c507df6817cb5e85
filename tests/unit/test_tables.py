import numpy as np
import pandas as pd
import pytest

from varireal_utils import claims, recipes, store, tables

GAIN = {"zero_shot": -0.2, "real": 0.0}


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
                parts.append(pd.DataFrame({
                    "dataset": dataset, "recipe": str(recipes.parse(recipe)), "seed": s,
                    "image_id": [f"i{k:04d}" for k in range(images)], "correct": right[s]}))
    return pd.concat(parts, ignore_index=True)


def arms(attribute, feasible, infeasible, mixed=None, prefixes=("", "real+")):
    mixed = (feasible + infeasible) / 2 if mixed is None else mixed
    return {p + name: g for p in prefixes for name, g in (
        (f"edit({attribute},feasible)", feasible), (f"edit({attribute},infeasible)", infeasible),
        (f"mix({attribute},0.5)", mixed))}


def test_collect_reads_what_classify_writes(tmp_path):
    df = study(arms("color", 0.0, 0.0), images=5, seeds=2)
    for (dataset, recipe, seed), rows in df.groupby(["dataset", "recipe", "seed"]):
        folder = tmp_path / "classify" / dataset / store.slug(recipe) / f"seed{seed}"
        folder.mkdir(parents=True)
        store.write_table(folder / "predictions.parquet", rows.assign(label=0)[
            ["image_id", "label", "correct"]].reset_index(drop=True))
        store.write_json(folder / "metrics.json", {"dataset": dataset, "recipe": recipe,
                                                   "seed": int(seed)})
    got = tables.collect(tmp_path)
    want = df.sort_values(tables.ANSWERS[:4], ignore_index=True)
    assert got.astype({"recipe": str}).equals(want.astype({"recipe": str}))
    with pytest.raises(FileNotFoundError, match="06_classify"):
        tables.collect(tmp_path / "nothing")


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
    shown = tables.wide(table)
    assert list(shown.columns) == ["dataset", "attribute", "training", "zero-shot", "real",
                                   "feasible", "infeasible", "mixed", "seeds", "n"]
    assert len(shown) == 4 and (shown["zero-shot"] != "").all()
    assert len(tables.wide(tables.main_table(study(), resamples=50))) == 2  # no edits yet


def test_effects_recover_a_known_difference_and_pool():
    df = study(arms("color", 0.04, 0.0) | arms("texture", 0.0, 0.0), noise=0.1)
    got = tables.effects(df, 0.3, resamples=300)
    cells = got[got["dataset"] != "pooled"]
    assert len(cells) == 8
    color = got[(got["dataset"] == "pooled") & (got["attribute"] == "color")]
    assert set(color["training"]) == {"edited only", "real + edited", "pooled"}
    last = color.iloc[-1]
    assert last["low"] < 4 < last["high"] and last["verdict"] == "different"
    whole = got.iloc[-1]
    assert (whole["dataset"], whole["attribute"], whole["training"]) == ("pooled",) * 3
    assert whole["difference"] == pytest.approx(cells["difference"].mean())
    assert whole["cells"] == 8 and whole["n"] == 800


def test_identical_arms_are_equivalent_everywhere():
    got = tables.effects(study(arms("color", 0.0, 0.0), noise=0), 0.3, resamples=100)
    assert (got["verdict"] == "equivalent").all()
    assert (got[["difference", "low", "high"]] == 0).all(axis=None)


def test_only_common_seeds_are_compared_and_other_images_are_an_error():
    df = study(arms("color", 0.1, 0.0, prefixes=("",)), datasets=("cars",))
    hit = df["recipe"] == "edit(color,feasible)"
    got = tables.effects(df[~(hit & (df["seed"] == 3))], 0.3, resamples=100)
    assert (got["seeds"] == 3).all()
    moved = df.assign(image_id=df["image_id"].where(~hit, df["image_id"] + "x"))
    with pytest.raises(ValueError, match="other images"):
        tables.effects(moved, 0.3)
    with pytest.raises(ValueError, match="different images"):
        tables.answers(df.drop(df[hit].index[0]))


def test_markdown_and_latex():
    table = pd.DataFrame({"recipe": ["a_b", "c%"], "mean": [1.234, np.nan],
                          "seeds": pd.array([5, None], dtype="Int64")})
    text = tables.to_markdown(table)
    assert "| a_b" in text and "1.23" in text and "nan" not in text and "<NA>" not in text
    tex = tables.to_latex(table, caption="C", label="tab:x")
    assert r"a\_b & 1.23 & 5 \\" in tex and r"c\% &  &  \\" in tex
    assert r"\toprule" in tex and r"\begin{tabular}{lrr}" in tex


def verdicts(gain, **options):
    df = study(gain, **options)
    effects = tables.effects(df, 0.3, resamples=200)
    table = claims.claims(df, effects, 0.3, resamples=200)
    assert list(table["claim"]) == ["A1", "A2", "A3", "A4", "A5"]
    return table.set_index("claim")


def test_claims_hold_in_a_world_like_the_papers():
    table = verdicts(arms("background", 0.05, 0.05) | arms("color", 0.0, 0.0)
                     | arms("texture", -0.05, -0.1), noise=0)
    want = {"A1": "supported", "A2": "supported", "A3": "supported", "A4": "supported",
            "A5": "supported"}
    assert table["verdict"].to_dict() == want
    assert table.loc["A2", "ours"] == pytest.approx(-5, abs=1.5)
    assert table.loc["A4", "ours"] == pytest.approx(5, abs=1.5)


def test_claims_fail_in_the_opposite_world():
    table = verdicts(arms("background", -0.05, -0.10, 0.1) | arms("color", 0.1, 0.05, 0.2)
                     | arms("texture", 0.1, 0.05, 0.2), noise=0, images=3000)
    assert table.loc[["A1", "A3", "A4", "A5"], "verdict"].eq("contradicted").all()


def test_small_noisy_studies_are_inconclusive_and_missing_recipes_not_run():
    table = verdicts(arms("background", 0.0, 0.0) | arms("color", 0.0, 0.0), images=100, seeds=2,
                     noise=0.5, start=1)
    assert table.loc[["A1", "A3"], "verdict"].eq("inconclusive").all()
    assert (verdicts({})["verdict"] == "not run").all()


def test_seeds_and_curves(tmp_path):
    df = study(arms("color", 0.05, -0.05), images=40, seeds=2, datasets=("pets",))
    each = tables.by_seed(df).set_index(["recipe", "seed"])["top1"]
    one = df[(df["recipe"] == "real") & (df["seed"] == 1)]
    assert each["real", 1] == one["correct"].mean() and ("zero_shot", 1) not in each.index
    for recipe, loss, val in (("zero_shot", [], []), ("real", [2.0, 1.5, 1.0], [[3, 0.5]])):
        store.write_json(tmp_path / f"classify/pets/{recipe}/seed0/metrics.json",
                         {"dataset": "pets", "recipe": recipe, "seed": 0, "loss_curve": loss,
                          "val_curve": val})
    curves = tables.curves(tmp_path)
    assert list(curves["arm"]) == ["real"] * 4 and set(curves["training"]) == {"real"}
    assert list(curves["step"]) == [1, 2, 3, 3]
    assert list(curves["value"]) == [2.0, 1.5, 1.0, 0.5]
    assert list(curves["quantity"]) == ["loss"] * 3 + ["val_top1"]
