"""Weighted differences of trainings on the same seeds and test images, and their estimates.

symbols   cells      (dataset, recipe) -> frame (units, images): was the prediction correct
          units      replicates, each the mean over its starts; in a study of one draw its seeds
          contrast   float frame (units, images): weighted sum of the cells of several recipes
          members    (dataset, ...) -> contrast
          arm        feasible, infeasible, mixed; real and zero-shot where nothing is edited
          training   edited only, real + edited, none
          points     percentage points of top-1 accuracy

Intervals are of replicates (inference.estimate: t, R - 1 degrees of freedom) where the study has
them. The seeds of one draw are not replicates: their intervals (bootstrap.interval) speak of other
seeds and test images for the same training photographs, phrases and edits, and of nothing else.

Invariant (tests/unit/test_tables.py): a comparison uses exactly the units that both arms have, and
the same test images in the same order; arms tested on different images are an error, never an
intersection. Images of two replicates are never paired: column j is the j-th image of each.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ..core.attributes import ATTRIBUTES as REGISTERED
from ..training import recipes
from . import bootstrap, inference

Cells = dict[tuple[str, str], pd.DataFrame]
Members = dict[tuple[str, ...], pd.DataFrame]
ARM_ORDER = ["zero-shot", "real", *recipes.VALUES, "mixed"]
TRAINING_ORDER = ["none", "edited only", "real + edited"]
ATTRIBUTES = tuple(REGISTERED)  # in the order of tables
POOLED = "pooled"
REPLICATE = "replicate"
ESTIMATE = ["difference", "low", "high", "low90", "high90", "se", "df", "unit", "units", "n"]


def describe(recipe: str) -> dict[str, str]:
    """attribute, arm and training of a recipe, in the tables' words (its shots are not in them)."""
    r = recipes.parse(recipe)
    if r.kind in ("zero_shot", "real"):
        return {
            "attribute": "",
            "arm": "zero-shot" if r.kind == "zero_shot" else "real",
            "training": "none" if r.kind == "zero_shot" else "real",
        }
    arm = r.arm or f"datadream {r.variant}"
    if r.kind == "mix" and r.fraction != 0.5:
        arm = f"mixed {r.fraction:g}"
    if r.maker != "edit":
        arm = f"{r.maker} {arm}"
    if r.half:
        arm = f"{arm}, half {r.half}"
    return {
        "attribute": r.attribute or "",
        "arm": arm,
        "training": "real + edited" if r.with_real else "edited only",
    }


def canonical(recipe: str) -> str:
    """A recipe in its one spelling; a recipe of another study keeps that study's name and colon."""
    study, colon, own = recipe.rpartition(":")
    return f"{study}{colon}{recipes.parse(own)}"


def has_replicates(df: pd.DataFrame) -> bool:
    """Whether predictions are of replicates, not of one draw."""
    return REPLICATE in df and bool(df[REPLICATE].notna().all()) and len(df) > 0


def cells_of(df: pd.DataFrame) -> Cells:
    """(dataset, recipe) -> frame (units, images), both sorted, of load.predictions.

    Of one draw: bool, a row for each seed. Of replicates: floats, a row for each replicate, the
    mean over its starts. Raises ValueError where units of a recipe were tested on different images.
    """
    if has_replicates(df):
        return _replicates_of(df)
    cells = {}
    for (dataset, recipe), rows in df.groupby(["dataset", "recipe"], sort=True):
        table = rows.pivot(index="seed", columns="image_id", values="correct")
        if table.isna().any(axis=None):
            raise ValueError(f"{dataset}, {recipe}: its seeds were tested on different images.")
        cells[dataset, recipe] = table.astype(bool)
    return cells


def _replicates_of(df: pd.DataFrame) -> Cells:
    """`cells_of` replicates; arms of one replicate must have been tested on the same images."""
    names = ["dataset", "recipe", REPLICATE, "image_id", "seed"]
    coded, values = zip(*(pd.factorize(df[n], sort=True) for n in names), strict=True)
    key = np.zeros(len(df), dtype=np.int64)
    for code, found_values in zip(coded, values, strict=True):
        key = key * len(found_values) + code
    order = np.argsort(key, kind="stable")  # quick, since predictions come in long sorted runs
    codes, correct = np.stack(coded)[:, order], df["correct"].to_numpy(float)[order]
    edges = np.flatnonzero((np.diff(codes[:3]) != 0).any(0)) + 1
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    tested: dict[tuple[str, int], np.ndarray] = {}
    for rows in np.split(np.arange(len(order)), edges):
        dataset, recipe, replicate = (values[i][codes[i, rows[0]]] for i in range(3))
        images, starts = np.unique(codes[3, rows]), len(np.unique(codes[4, rows]))
        if len(rows) != starts * len(images):
            raise ValueError(
                f"{dataset}, {recipe}, replicate {replicate}: its starts were tested on "
                "different images."
            )
        if not np.array_equal(tested.setdefault((dataset, replicate), images), images):
            raise ValueError(
                f"{dataset}, replicate {replicate}: {recipe} was tested on other images than "
                "the recipes before it. Run 06_classify again for them."
            )
        means = correct[rows].reshape(-1, starts).mean(1)
        found.setdefault((dataset, recipe), {})[int(replicate)] = means
    return {key: _frame(key, rows) for key, rows in found.items()}


def _frame(key: tuple[str, str], rows: dict[int, np.ndarray]) -> pd.DataFrame:
    """Replicates of one cell as a frame. Raises ValueError where they differ in length."""
    if len({len(v) for v in rows.values()}) > 1:
        raise ValueError(f"{', '.join(key)}: replicates differ in their number of test images.")
    return pd.DataFrame(np.stack(list(rows.values())), index=list(rows)).rename_axis(REPLICATE)


def attributes_of(cells: Cells) -> tuple[str, ...]:
    """The attributes that recipes of these cells edit, in the order of the
    registry; "all" is none."""
    parsed = {recipes.parse(recipe.rpartition(":")[2]).attribute for _, recipe in cells}
    found = {a for a in parsed if a and a != "all"}
    return (*(a for a in ATTRIBUTES if a in found), *sorted(found - set(ATTRIBUTES)))


def spelled(cells: Cells, dataset: str, recipe: str) -> str:
    """The canonical name of a recipe as a study spells it: the paper's feasible edits are the
    familiar ones of a study of three values."""
    name = canonical(recipe)
    other = name.replace(",feasible", ",familiar")
    return other if (dataset, name) not in cells and (dataset, other) in cells else name


def contrast(cells: Cells, dataset: str, weights: dict[str, float]) -> pd.DataFrame | None:
    """Weighted sum of recipes' cells, (units, images) floats, on the units that all have.

    {"edit(color,feasible)": 1, "edit(color,infeasible)": -1} is the effect of feasibility. None
    where a recipe, or a common unit, is lacking. Where a study has familiar values instead of
    feasible ones, "feasible" is read as "familiar" (`spelled`). Raises ValueError for different
    test images.
    """
    there = {r: cells.get((dataset, spelled(cells, dataset, r))) for r in weights}
    found = {r: t for r, t in there.items() if t is not None}
    if len(found) < len(there):
        return None
    first = next(iter(found.values()))
    other = [r for r, t in found.items() if not t.columns.equals(first.columns)]
    if other:
        raise ValueError(
            f"{dataset}: {other[0]} was tested on other images than "
            f"{next(iter(found))}. Run 06_classify again for both."
        )
    seeds = sorted(set.intersection(*(set(t.index) for t in found.values())))
    if not seeds:
        return None
    total: Any = sum(w * found[r].loc[seeds].astype(float) for r, w in weights.items())
    return total


def average(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean of several contrasts of one data set on their common units: they share its images, so
    they are not independent and must not be pooled like data sets. Raises ValueError where they
    have no unit in common."""
    seeds = sorted(set.intersection(*(set(t.index) for t in tables)))
    if not seeds:
        raise ValueError("The cells to be averaged have no seed in common: run the same seeds.")
    total: Any = sum(t.loc[seeds] for t in tables)
    return total / len(tables)


def by_dataset(members: Members) -> list[pd.DataFrame]:
    """One averaged table for each data set (the first part of the keys)."""
    names = sorted({key[0] for key in members})
    return [average([t for key, t in members.items() if key[0] == name]) for name in names]


def feasibility(attribute: str, training: str) -> dict[str, float]:
    """Weights of the contrast feasible minus infeasible."""
    real = "real+" * (training == "real + edited")
    return {
        f"{real}edit({attribute},{arm})": sign
        for arm, sign in (("feasible", 1.0), ("infeasible", -1.0))
    }


def feasibility_cells(
    cells: Cells, attributes: tuple[str, ...] | None = None, study: str = ""
) -> Members:
    """(dataset, attribute, training) -> feasible minus infeasible, (seeds, images), of all that
    were run.

    cells: of `cells_of`; attributes: None for `attributes_of` the cells; study: the name of
    another study (load.add_other_studies).
    """
    head = f"{study}:" if study else ""
    wanted = attributes_of(cells) if attributes is None else attributes
    found: Members = {}
    for key in product(sorted({d for d, _ in cells}), wanted, TRAINING_ORDER[1:]):
        weights = {f"{head}{recipe}": w for recipe, w in feasibility(*key[1:]).items()}
        table = contrast(cells, key[0], weights)
        if table is not None:
            found[key] = table
    return found


def by_replicate(tables: list[pd.DataFrame]) -> np.ndarray:
    """(R,) mean of contrasts of one or more data sets, points, on the replicates that all have."""
    means = pd.concat([100 * t.mean(axis=1) for t in tables], axis=1, join="inner")
    return means.mean(axis=1).to_numpy()


def estimate(tables: list[pd.DataFrame], **options) -> dict[str, Any]:
    """ESTIMATE: mean of contrasts of one or more data sets in points, with its intervals.

    unit: "replicates", or "seeds of one draw"; units: how many; n: test images of one unit.
    options: confidence, and resamples of bootstrap.interval.
    """
    got: inference.Estimate | bootstrap.Interval
    if all(t.index.name == REPLICATE for t in tables):
        values = by_replicate(tables)
        got = inference.estimate(values, 1.0, options.get("confidence", 0.95))
        unit, units = "replicates", len(values)
    else:
        got = bootstrap.interval([t.to_numpy() for t in tables], **options)
        unit, units = "seeds of one draw", min(len(t) for t in tables)
    return {
        "difference": float(got.mean),
        **{k: float(getattr(got, k)) for k in ("low", "high", "low90", "high90", "se", "df")},
        "unit": unit,
        "units": units,
        "n": sum(t.shape[1] for t in tables),
    }
