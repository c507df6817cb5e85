"""Accuracy tables: by data set and recipe, by shots, by seed; the verifier's acceptance rates.

symbols   df       load.predictions: one row per test image of each training
          points   percentage points of top-1 accuracy; intervals are contrasts.estimate's

Invariant (tests/unit/test_tables.py): an accuracy and its interval lie within 0 and 100 %.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from ..core import storage
from ..core.study_paths import StudyPaths
from ..training import recipes
from .contrasts import (
    ARM_ORDER,
    REPLICATE,
    TRAINING_ORDER,
    Cells,
    cells_of,
    contrast,
    describe,
    estimate,
    has_replicates,
)

BY_SHOTS = [
    "dataset",
    "attribute",
    "training",
    "arm",
    "shots",
    "mean",
    "low",
    "high",
    "unit",
    "seeds",
    "n",
    "recipe",
]
DIFFERENCE = "feasible − infeasible"


def by_seed(df: pd.DataFrame) -> pd.DataFrame:
    """dataset, recipe, seed, top1 (0..1): a row for each training; with its replicate, if any."""
    keys = ["dataset", *([REPLICATE] if has_replicates(df) else []), "recipe", "seed"]
    table = df.groupby(keys, as_index=False, observed=True)["correct"].mean()
    return table.rename(columns={"correct": "top1"})


def acceptance(edits: pd.DataFrame) -> pd.DataFrame:
    """dataset, attribute, feasibility, edits (their number), and the verifier's means, 0..1."""
    each = edits.groupby(["dataset", "attribute", "feasibility"])
    table = each[["accepted", "attribute_passed", "identity_passed", "identity"]].mean()
    table.insert(0, "edits", each.size())
    return table.reset_index()


def _accuracy(table: pd.DataFrame, options: dict) -> dict[str, Any]:
    """mean, low, high, seeds, n of a cell. An interval that is made symmetric by t can reach
    beyond what an accuracy can be; there it ends."""
    got = _interval(table, options)
    return got | {"low": max(got["low"], 0.0), "high": min(got["high"], 100.0)}


def _interval(table: pd.DataFrame, options: dict) -> dict[str, Any]:
    """mean, low, high in points; unit, seeds (how many units) and n (test images of one)."""
    got = estimate([table.astype(float)], **options)
    return {
        "mean": got["difference"],
        "low": got["low"],
        "high": got["high"],
        "unit": got["unit"],
        "seeds": got["units"],
        "n": got["n"],
    }


def main_table(df: pd.DataFrame, **options) -> pd.DataFrame:
    """One row per data set and recipe: dataset, attribute, training, arm, mean, low, high
    (points), unit, seeds (how many units), n (test images of one), recipe. Recipes with
    a number of shots (@4) are in `by_shots` instead.

    options: of contrasts.estimate.
    """
    rows = [
        {"dataset": dataset, **describe(recipe), **_accuracy(table, options), "recipe": recipe}
        for (dataset, recipe), table in cells_of(df).items()
        if recipes.parse(recipe).shots is None
    ]
    table = pd.DataFrame(rows)
    rank = table["arm"].map({a: i for i, a in enumerate(ARM_ORDER)}).fillna(len(ARM_ORDER))
    head = ~table["arm"].isin(["zero-shot", "real"])
    training = table["training"].map({t: i for i, t in enumerate(TRAINING_ORDER)}).fillna(0)
    table = table.assign(_h=head, _t=training, _r=rank)
    table = table.sort_values(
        ["dataset", "_h", "attribute", "_t", "_r", "recipe"], ignore_index=True
    )
    return table.drop(columns=["_h", "_t", "_r"])


def by_shots(df: pd.DataFrame, paths: StudyPaths, **options) -> pd.DataFrame:
    """BY_SHOTS: accuracy by the number of shots, for each recipe that was trained with fewer (@4)
    as well as with all, and the effect of feasibility (arm DIFFERENCE) where both arms are there.

    shots of "all" is the mean number of train photographs of a class. Empty without such recipes.
    """
    cells, rows = cells_of(df), []
    whole = {
        (d, str(replace(recipes.parse(r), shots=None)))
        for d, r in cells
        if recipes.parse(r).shots is not None
    }
    most = {d: _shots(paths, d) for d in {d for d, _ in whole}}
    for (dataset, recipe), table in cells.items():
        one = recipes.parse(recipe)
        if (dataset, str(replace(one, shots=None))) not in whole:
            continue
        own = {"dataset": dataset, **describe(recipe), "shots": one.shots or most[dataset]}
        rows.append(own | _accuracy(table, options) | {"recipe": recipe})
        effect = _effect_at(cells, dataset, one, options)
        if effect:
            rows.append(own | {"arm": DIFFERENCE} | effect)
    return pd.DataFrame(rows, columns=BY_SHOTS).sort_values(
        ["dataset", "attribute", "training", "arm", "shots"], ignore_index=True
    )


def _effect_at(
    cells: Cells, dataset: str, one: recipes.Recipe, options: dict
) -> dict[str, Any] | None:
    """Feasible minus infeasible at the shots of a feasible recipe; None for other recipes."""
    if one.kind != "edit" or one.arm != "feasible":
        return None
    other = str(replace(one, fraction=1.0, value="infeasible"))
    pair = contrast(cells, dataset, {str(one): 1.0, other: -1.0})
    if pair is None:
        return None
    return _interval(pair, options) | {"recipe": f"{one} - {other}"}


def _shots(paths: StudyPaths, dataset: str) -> float:
    """Mean number of train photographs of a class."""
    images = storage.read_table(paths.images_table(dataset))
    return float(images[images["split"] == "train"].groupby("label").size().mean())
