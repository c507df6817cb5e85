"""Feasible minus infeasible: by cell, pooled, under other protocols, and by class.

symbols   cell      (dataset, attribute, training); a pooled row has "pooled" for what is pooled
          members   cell -> contrast, float frame (seeds, images)
          points    percentage points of top-1 accuracy

Invariant: cells of one data set share its images, so they are averaged before data sets are pooled
with equal weights.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from ..core import storage
from ..core.study_paths import StudyPaths
from . import bootstrap
from .contrasts import (
    ESTIMATE,
    NULLABLE,
    POOLED,
    TRAINING_ORDER,
    Members,
    attributes_of,
    average,
    by_dataset,
    cells_of,
    estimate,
    feasibility_cells,
)
from .verdict import Gates, verdict

BY_CLASS = ["dataset", "class_name", "difference", "low", "high", "n"]


def effects(df: pd.DataFrame, margin: float, gates: Gates | None = None, **options) -> pd.DataFrame:
    """Feasible minus infeasible, in points: a row per data set, attribute and training, then rows
    with "pooled" in place of one, two or all of them (equal weight for each data set; the recipes
    of attribute "all" have rows of their own and are not pooled).

    Columns: difference, low, high (95 %), low90, high90 (for the equivalence test), se, seeds, n,
    verdict, seeds_needed, images_needed (to show equivalence within `margin` with 80 % power; <NA>
    where no number would do), cells (pooled from), mcnemar_p (exact, the median over seeds),
    p and p_equivalence (of the two-sided test of no difference, and of two one-sided tests), and
    both by Holm's correction over the cells that are not pooled (<NA> in pooled rows).
    """
    cells = cells_of(df)
    attributes = attributes_of(cells)
    single, rows = feasibility_cells(cells, (*attributes, "all")), []
    for (dataset, attribute, training), d in single.items():
        p = np.median([bootstrap.mcnemar(row > 0, row < 0)["p"] for row in d.to_numpy()])
        rows.append(
            {"dataset": dataset, "attribute": attribute, "training": training}
            | _estimated({(dataset, attribute, training): d}, margin, gates, options)
            | {"mcnemar_p": float(p)}
        )
    trainings = [t for t in TRAINING_ORDER[1:] if any(k[2] == t for k in single)]
    for attribute, training in product((*attributes, POOLED), (*trainings, POOLED)):
        members = {
            k: t
            for k, t in single.items()
            if k[1] in attributes and attribute in (k[1], POOLED) and training in (k[2], POOLED)
        }
        if members and (training != POOLED or len(trainings) > 1):
            rows.append(
                {"dataset": POOLED, "attribute": attribute, "training": training}
                | _estimated(members, margin, gates, options)
                | {"mcnemar_p": np.nan}
            )
    columns = ["dataset", "attribute", "training", *ESTIMATE, "cells", "mcnemar_p"]
    return _holm(pd.DataFrame(rows, columns=columns).astype(NULLABLE))


def _estimated(members: Members, margin: float, gates: Gates | None, options: dict) -> dict:
    """Estimate over all members, with their number and the verdict after the gates."""
    found = estimate(by_dataset(members), margin, **options)
    because = gates.not_valid_because(k[0] for k in members) if gates else ""
    word = verdict({"found": found["verdict"], "not_valid_because": because})
    return found | {"verdict": word, "cells": len(members)}


def _holm(table: pd.DataFrame) -> pd.DataFrame:
    """With Holm's correction of both p values over the family of single cells."""
    own = table["dataset"] != POOLED
    for name in ("p", "p_equivalence"):
        table[f"{name}_holm"] = np.nan
        if own.any():
            corrected = multipletests(table.loc[own, name], method="holm")[1]
            table.loc[own, f"{name}_holm"] = corrected
    return table


def pooled_effects(df: pd.DataFrame) -> dict[tuple[str, ...], list[np.ndarray]]:
    """(dataset, attribute, training) -> tables of feasible minus infeasible, (seeds, images): each
    cell, then each attribute and all of them with "pooled" for what is pooled."""
    cells = cells_of(df)
    found = feasibility_cells(cells)
    out = {key: [table.to_numpy()] for key, table in found.items()}
    for attribute in (*attributes_of(cells), POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if members:
            out[POOLED, attribute, POOLED] = [t.to_numpy() for t in by_dataset(members)]
    return out


def by_protocol(
    df: pd.DataFrame, margin: float, own: str, gates: Gates | None = None, **options
) -> pd.DataFrame:
    """Feasible minus infeasible in points, the mean of both trainings, for this study (its
    protocol is `own`) and for other studies (load.add_other_studies): protocol, dataset, attribute,
    cells and the columns of `estimate`; rows with dataset "pooled" come last.

    Another study that has the name `own` is left out. Whether two protocols differ is tested by
    claims S1 and S2, in pairs.
    """
    others = {r.rpartition(":")[0] for r in df["recipe"].unique()} - {"", own}
    cells, rows = cells_of(df), []
    found = {
        name: feasibility_cells(cells, study="" if name == own else name)
        for name in [own, *sorted(others)]
    }
    datasets = sorted({key[0] for each in found.values() for key in each})
    attributes = attributes_of(cells)
    for dataset, attribute, (name, each) in product([*datasets, POOLED], attributes, found.items()):
        members = {k: t for k, t in each.items() if dataset in (k[0], POOLED) and k[1] == attribute}
        if members:
            rows.append(
                {"dataset": dataset, "attribute": attribute, "protocol": name}
                | _estimated(members, margin, gates, options)
            )
    columns = ["dataset", "attribute", "protocol", *ESTIMATE, "cells"]
    return pd.DataFrame(rows, columns=columns).astype(NULLABLE)


def by_class(df: pd.DataFrame, paths: StudyPaths, **options) -> pd.DataFrame:
    """BY_CLASS: feasible minus infeasible in points by class, the mean of all attributes and
    trainings, with the interval over seeds and the class's n test images; <NA> bounds for one
    image."""
    found, rows = feasibility_cells(cells_of(df)), []
    for dataset in sorted({key[0] for key in found}):
        images = storage.read_table(paths.images_table(dataset))
        names = images.set_index("image_id")["class_name"]
        mean = average([t for key, t in found.items() if key[0] == dataset])
        for name, columns in mean.columns.groupby(names.reindex(mean.columns)).items():
            got = bootstrap.interval(mean[columns].to_numpy(), **options)
            low, high = (got.low, got.high) if len(columns) > 1 else (np.nan, np.nan)
            rows.append([dataset, name, got.mean, low, high, len(columns)])
    return pd.DataFrame(rows, columns=BY_CLASS)
