"""Weighted differences of trainings on the same seeds and test images, and their estimates.

symbols   cells      (dataset, recipe) -> bool frame (seeds, images): was the prediction correct
          contrast   float frame (seeds, images): weighted sum of the cells of several recipes
          members    (dataset, ...) -> contrast
          arm        feasible, infeasible, mixed; real and zero-shot where nothing is edited
          training   edited only, real + edited, none
          points     percentage points of top-1 accuracy; intervals are bootstrap.interval's

Invariant (tests/unit/test_tables.py): a comparison uses exactly the seeds that both arms have, and
the same test images in the same order; arms tested on different images are an error, never an
intersection.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd

from ..core.attributes import ATTRIBUTES as REGISTERED
from ..training import recipes
from . import bootstrap
from .verdict import of_interval

Cells = dict[tuple[str, str], pd.DataFrame]
Members = dict[tuple[str, ...], pd.DataFrame]
ARM_ORDER = ["zero-shot", "real", *recipes.VALUES, "mixed"]
TRAINING_ORDER = ["none", "edited only", "real + edited"]
ATTRIBUTES = tuple(REGISTERED)  # in the order of tables
POOLED = "pooled"
ESTIMATE = [  # columns of `estimate`
    "difference",
    "low",
    "high",
    "low90",
    "high90",
    "se",
    "df",
    "seeds",
    "n",
    "p",
    "p_equivalence",
    "verdict",
    "seeds_needed",
    "images_needed",
]
NULLABLE = {"seeds_needed": "Int64", "images_needed": "Int64"}


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


def cells_of(df: pd.DataFrame) -> Cells:
    """(dataset, recipe) -> bool frame (seeds, images), both sorted, of load.predictions.

    Raises ValueError where the seeds of a recipe were tested on different images.
    """
    cells = {}
    for (dataset, recipe), rows in df.groupby(["dataset", "recipe"], sort=True):
        table = rows.pivot(index="seed", columns="image_id", values="correct")
        if table.isna().any(axis=None):
            raise ValueError(f"{dataset}, {recipe}: its seeds were tested on different images.")
        cells[dataset, recipe] = table.astype(bool)
    return cells


def attributes_of(cells: Cells) -> tuple[str, ...]:
    """The attributes that recipes of these cells edit, in the order of the
    registry; "all" is none."""
    parsed = {recipes.parse(recipe.rpartition(":")[2]).attribute for _, recipe in cells}
    found = {a for a in parsed if a and a != "all"}
    return (*(a for a in ATTRIBUTES if a in found), *sorted(found - set(ATTRIBUTES)))


def contrast(cells: Cells, dataset: str, weights: dict[str, float]) -> pd.DataFrame | None:
    """Weighted sum of recipes' cells, (seeds, images) floats, on the seeds that all have.

    {"edit(color,feasible)": 1, "edit(color,infeasible)": -1} is the effect of feasibility. None
    where a recipe, or a common seed, is lacking. Raises ValueError for different test images.
    """
    there = {r: cells.get((dataset, canonical(r))) for r in weights}
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
    """Mean of several contrasts of one data set on their common seeds: they share its images, so
    they are not independent and must not be pooled like data sets. Raises ValueError where they
    have no seed in common."""
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


def estimate(tables: list[pd.DataFrame], margin: float, **options) -> dict[str, Any]:
    """ESTIMATE: mean of contrasts of one or more data sets in points, interval, size wanted.

    verdict: by the intervals alone, before any gate; options: of bootstrap.interval.
    """
    arrays = [t.to_numpy() for t in tables]
    got, need = bootstrap.interval(arrays, **options), bootstrap.needed(arrays, margin)
    return {
        "difference": got.mean,
        "low": got.low,
        "high": got.high,
        "low90": got.low90,
        "high90": got.high90,
        "se": got.se,
        "df": got.df,
        "seeds": got.seeds,
        "n": got.images,
        "p": got.p,
        "p_equivalence": bootstrap.p_equivalence(got, margin),
        "verdict": of_interval(got.low, got.high, got.low90, got.high90, margin),
        "seeds_needed": need["seeds"],
        "images_needed": need["images"],
    }
