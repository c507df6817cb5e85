"""The study's tables: accuracy by arm, feasible minus infeasible, and the paper's claims.

Reads classify/<dataset>/<recipe>/seed<k>/{metrics.json, predictions.parquet} of a study and turns
them into tidy frames (PROTOCOL.md, A: the paper's tables cannot be read, its claims can).

symbols   answers   long frame  dataset, recipe, seed, image_id, correct: one row per test image
          arm       feasible, infeasible, mixed; real and zero-shot where nothing is edited
          training  edited only, real + edited, none
          points    percentage points of top-1 accuracy; every interval is stats.interval's

Invariant: a comparison uses exactly the seeds that both arms have, and the same test images in the
same order; arms tested on different images are an error, never an intersection.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from . import recipes, stats, store

ARM_ORDER = ["zero-shot", "real", "feasible", "infeasible", "mixed"]
TRAINING_ORDER = ["none", "edited only", "real + edited"]
ATTRIBUTES = ("background", "color", "texture")
POOLED = "pooled"
ANSWERS = ["dataset", "recipe", "seed", "image_id", "correct"]


def collect(study_dir: str | Path) -> pd.DataFrame:
    """All answers of a study, ANSWERS, sorted. Raises FileNotFoundError where there are none."""
    parts = []
    for path in sorted((Path(study_dir) / "classify").glob("*/*/*/metrics.json")):
        metrics = store.read_json(path)
        rows = store.read_table(path.with_name("predictions.parquet"))[["image_id", "correct"]]
        parts.append(rows.assign(
            dataset=metrics["dataset"], seed=int(metrics["seed"]),
            recipe=str(recipes.parse(metrics["recipe"])))[ANSWERS])
    if not parts:
        raise FileNotFoundError(f"No metrics.json under {Path(study_dir) / 'classify'}: run "
                                "06_classify first.")
    frame = pd.concat(parts, ignore_index=True).astype({"correct": bool})
    double = frame.duplicated(ANSWERS[:4])
    if double.any():
        raise ValueError(f"Two answers for one test image: {frame[double].iloc[0].to_dict()}.")
    return frame.sort_values(ANSWERS[:4], ignore_index=True)


def by_seed(df: pd.DataFrame) -> pd.DataFrame:
    """dataset, recipe, seed, top1 (0..1): a row for each training."""
    keys = ["dataset", "recipe", "seed"]
    table = df.groupby(keys, as_index=False, observed=True)["correct"].mean()
    return table.rename(columns={"correct": "top1"})


def curves(study_dir: str | Path) -> pd.DataFrame:
    """Loss and validation accuracy of every training over its steps: dataset, recipe, attribute,
    arm, training, seed, step, quantity ("loss", or "val_top1" 0..1), value."""
    rows = []
    for path in sorted((Path(study_dir) / "classify").glob("*/*/*/metrics.json")):
        one = store.read_json(path)
        what = {"dataset": one["dataset"], "recipe": one["recipe"], **describe(one["recipe"]),
                "seed": one["seed"]}
        rows += [{**what, "step": step, "quantity": quantity, "value": value}
                 for quantity, curve in (("loss", enumerate(one["loss_curve"], 1)),
                                         ("val_top1", one["val_curve"]))
                 for step, value in curve]
    return pd.DataFrame(rows, columns=["dataset", "recipe", "attribute", "arm", "training", "seed",
                                       "step", "quantity", "value"])


def describe(recipe: str) -> dict:
    """attribute, arm and training of a recipe, in the tables' words."""
    r = recipes.parse(recipe)
    if r.kind in ("zero_shot", "real"):
        return {"attribute": "", "arm": "zero-shot" if r.kind == "zero_shot" else "real",
                "training": "none" if r.kind == "zero_shot" else "real"}
    arm = r.arm or f"datadream {r.variant}"
    if r.kind == "mix" and r.fraction != 0.5:
        arm = f"mixed {r.fraction:g}"
    return {"attribute": r.attribute or "", "arm": arm,
            "training": "real + edited" if r.with_real else "edited only"}


def answers(df: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(dataset, recipe) -> bool frame (seeds, images), both sorted. Checks that it is complete."""
    cells = {}
    for (dataset, recipe), rows in df.groupby(["dataset", "recipe"], sort=True):
        table = rows.pivot(index="seed", columns="image_id", values="correct")
        if table.isna().any(axis=None):
            raise ValueError(f"{dataset}, {recipe}: its seeds were tested on different images.")
        cells[dataset, recipe] = table.astype(bool)
    return cells


def contrast(cells: dict, dataset: str, weights: dict[str, float]) -> pd.DataFrame | None:
    """Weighted sum of recipes' answers, (seeds, images) floats, on the seeds that all have.

    {"edit(color,feasible)": 1, "edit(color,infeasible)": -1} is the effect of feasibility. None
    where a recipe, or a common seed, is lacking. Raises ValueError for different test images.
    """
    found = {r: cells.get((dataset, str(recipes.parse(r)))) for r in weights}
    if any(t is None for t in found.values()):
        return None
    first = next(iter(found.values()))
    other = [r for r, t in found.items() if not t.columns.equals(first.columns)]
    if other:
        raise ValueError(f"{dataset}: {other[0]} was tested on other images than "
                         f"{next(iter(found))}. Run 06_classify again for both.")
    seeds = sorted(set.intersection(*(set(t.index) for t in found.values())))
    if not seeds:
        return None
    return sum(w * found[r].loc[seeds].astype(float) for r, w in weights.items())


def average(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean of several contrasts of one data set on their common seeds: they share its images, so
    they are not independent and must not be pooled like data sets."""
    seeds = sorted(set.intersection(*(set(t.index) for t in tables)))
    if not seeds:
        raise ValueError("The cells to be averaged have no seed in common: run the same seeds.")
    return sum(t.loc[seeds] for t in tables) / len(tables)


def estimate(tables: list[pd.DataFrame], margin: float, **options) -> dict:
    """Mean of contrasts of one or more data sets in points, interval, verdict, size wanted."""
    arrays = [t.to_numpy() for t in tables]
    got, need = stats.interval(arrays, **options), stats.needed(arrays, margin)
    return {"difference": got.mean, "low": got.low, "high": got.high, "low90": got.low90,
            "high90": got.high90, "se": got.se, "seeds": got.seeds, "n": got.images,
            "verdict": stats.verdict(got, margin), "seeds_needed": need["seeds"],
            "images_needed": need["images"]}


def main_table(df: pd.DataFrame, **options) -> pd.DataFrame:
    """One row per data set and recipe: dataset, attribute, training, arm, mean, low, high
    (points), seeds, n (test images), recipe. `options` go to stats.interval."""
    rows = []
    for (dataset, recipe), table in answers(df).items():
        got = stats.interval(table.to_numpy(), **options)
        rows.append({"dataset": dataset, **describe(recipe), "mean": got.mean, "low": got.low,
                     "high": got.high, "seeds": got.seeds, "n": got.images, "recipe": recipe})
    table = pd.DataFrame(rows)
    rank = table["arm"].map({a: i for i, a in enumerate(ARM_ORDER)}).fillna(len(ARM_ORDER))
    head = ~table["arm"].isin(["zero-shot", "real"])
    training = table["training"].map({t: i for i, t in enumerate(TRAINING_ORDER)}).fillna(0)
    table = table.assign(_h=head, _t=training, _r=rank)
    table = table.sort_values(["dataset", "_h", "attribute", "_t", "_r", "recipe"],
                              ignore_index=True)
    return table.drop(columns=["_h", "_t", "_r"])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The main table as one reads it: a row per dataset, attribute and training, a column per arm,
    cells 'mean [low, high]'; zero-shot and real stand in every row of their data set."""
    text = table.apply(lambda r: f"{r['mean']:.1f} [{r['low']:.1f}, {r['high']:.1f}]", axis=1)
    table = table.assign(cell=text)
    base = table[table["attribute"] == ""].drop_duplicates(["dataset", "arm"])
    base = base.pivot(index="dataset", columns="arm", values="cell")
    rows = table[table["attribute"] != ""]
    out = rows.pivot(index=["dataset", "attribute", "training"], columns="arm", values="cell")
    counts = rows.groupby(out.index.names)[["seeds", "n"]].min()
    out = out.reset_index().merge(base.reset_index(), on="dataset", how="outer")
    out = out.merge(counts.reset_index(), on=list(counts.index.names), how="left")
    arms = [a for a in ARM_ORDER if a in out] + sorted(
        set(out) - set(ARM_ORDER) - {"dataset", "attribute", "training", "seeds", "n"})
    out = out[["dataset", "attribute", "training", *arms, "seeds", "n"]]
    return out.astype({"seeds": "Int64", "n": "Int64"}).fillna({c: "" for c in arms})


def feasibility(attribute: str, training: str) -> dict[str, float]:
    """Weights of the contrast feasible minus infeasible."""
    real = "real+" * (training == "real + edited")
    return {f"{real}edit({attribute},{arm})": sign
            for arm, sign in (("feasible", 1.0), ("infeasible", -1.0))}


def effects(df: pd.DataFrame, margin: float, **options) -> pd.DataFrame:
    """Feasible minus infeasible, in points: a row per data set, attribute and training, then rows
    with "pooled" in place of one, two or all of them (equal weight for each data set; the recipes
    of attribute "all" have rows of their own and are not pooled).

    Columns: difference, low, high (95 %), low90, high90 (for the equivalence test), se, seeds, n,
    verdict, seeds_needed, images_needed (to show equivalence within `margin` with 80 % power; <NA>
    where no number would do), cells (pooled from), mcnemar_p (exact, the median over seeds).
    """
    cells, single, rows = answers(df), {}, []
    for dataset in sorted(df["dataset"].unique()):
        for attribute in (*ATTRIBUTES, "all"):
            for training in TRAINING_ORDER[1:]:
                table = contrast(cells, dataset, feasibility(attribute, training))
                if table is not None:
                    single[dataset, attribute, training] = table
    for (dataset, attribute, training), d in single.items():
        p = np.median([stats.mcnemar(row > 0, row < 0)["p"] for row in d.to_numpy()])
        rows.append({"dataset": dataset, "attribute": attribute, "training": training,
                     **estimate([d], margin, **options), "cells": 1, "mcnemar_p": float(p)})
    trainings = [t for t in TRAINING_ORDER[1:] if any(k[2] == t for k in single)]
    for attribute in (*ATTRIBUTES, POOLED):
        for training in [*trainings, POOLED]:
            members = {k: t for k, t in single.items() if k[1] in ATTRIBUTES
                       and attribute in (k[1], POOLED) and training in (k[2], POOLED)}
            if members and (training != POOLED or len(trainings) > 1):
                rows.append({"dataset": POOLED, "attribute": attribute, "training": training,
                             **estimate(by_dataset(members), margin, **options),
                             "cells": len(members), "mcnemar_p": np.nan})
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64", "images_needed": "Int64"}) \
        if rows else pd.DataFrame()


def by_dataset(members: dict[tuple, pd.DataFrame]) -> list[pd.DataFrame]:
    """One averaged table for each data set (the first part of the keys)."""
    names = sorted({key[0] for key in members})
    return [average([t for key, t in members.items() if key[0] == name]) for name in names]


def to_markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A pipe table; floats with `digits` decimals, missing values empty."""
    return _texts(table, digits).to_markdown(index=False) + "\n"


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "", digits: int = 2) -> str:
    """A booktabs table (the document needs \\usepackage{booktabs})."""
    escape = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})
    body = _texts(table, digits).map(lambda t: t.translate(escape))
    lines = [" & ".join(row) + r" \\" for row in body.itertuples(index=False)]
    head = " & ".join(str(c).translate(escape) for c in body.columns) + r" \\"
    numeric = [pd.api.types.is_numeric_dtype(table[c]) for c in table]
    out = [r"\begin{table}", r"\centering", *([rf"\caption{{{caption}}}"] if caption else []),
           *([rf"\label{{{label}}}"] if label else []),
           rf"\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
           r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}",
           r"\end{table}"]
    return "\n".join(out) + "\n"


def _texts(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    def text(value) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            return ""
        if isinstance(value, (float, np.floating)):
            return f"{value:.{digits}f}"
        return str(value)
    return pd.DataFrame({c: [text(v) for v in table[c]] for c in table.columns}, dtype=str)
