"""Feasible minus infeasible: by cell, pooled, under other protocols, and by class.

symbols   cell      (dataset, attribute, training); a pooled row has "pooled" for what is pooled
          members   cell -> contrast, float frame (units, images)
          points    percentage points of top-1 accuracy

These numbers have no verdict and no p value: the registered claims do (claims.py). Feasible stands
for familiar in studies of three values. Invariant: cells of one data set share its images, so they
are averaged before data sets are pooled with equal weights.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from ..core import storage
from ..core.study_paths import StudyPaths
from ..training import recipes
from . import bootstrap
from .contrasts import (
    ATTRIBUTES,
    ESTIMATE,
    POOLED,
    TRAINING_ORDER,
    Cells,
    Members,
    attributes_of,
    average,
    by_dataset,
    cells_of,
    estimate,
    feasibility,
    feasibility_cells,
    has_replicates,
)

BY_CLASS = ["dataset", "class_name", "difference", "low", "high", "units", "n"]


def effects(df: pd.DataFrame, **options) -> pd.DataFrame:
    """Feasible minus infeasible, in points: a row per data set, attribute and training, then rows
    with "pooled" in place of one, two or all of them (equal weight for each data set; the recipes
    of attribute "all" have rows of their own and are not pooled).

    Columns: dataset, attribute, training, those of `contrasts.estimate`, and cells (pooled from).
    options: of contrasts.estimate.
    """
    cells = cells_of(df)
    attributes = attributes_of(cells)
    single = feasibility_cells(cells, (*attributes, "all"))
    rows = [_row(key, {key: table}, options) for key, table in single.items()]
    trainings = [t for t in TRAINING_ORDER[1:] if any(k[2] == t for k in single)]
    for attribute, training in product((*attributes, POOLED), (*trainings, POOLED)):
        members = {
            k: t
            for k, t in single.items()
            if k[1] in attributes and attribute in (k[1], POOLED) and training in (k[2], POOLED)
        }
        if members and (training != POOLED or len(trainings) > 1):
            rows.append(_row((POOLED, attribute, training), members, options))
    return pd.DataFrame(rows, columns=["dataset", "attribute", "training", *ESTIMATE, "cells"])


def by_unit(seeds: pd.DataFrame) -> pd.DataFrame:
    """Feasible minus infeasible in points of each seed, or start of a replicate, alone: dataset,
    attribute, training, seed (and replicate), difference. seeds: of tables.by_seed."""
    units = [c for c in ("replicate", "seed") if c in seeds]
    cells = {r: t.set_index(["dataset", *units])["top1"] for r, t in seeds.groupby("recipe")}
    three = recipes.three_values(list(cells))
    rows = []
    for attribute, training in product((*ATTRIBUTES, "all"), TRAINING_ORDER[1:]):
        names = list(feasibility(attribute, training))
        if three:
            names[0] = names[0].replace(",feasible", ",familiar")
        if all(name in cells for name in names):
            both = 100 * (cells[names[0]] - cells[names[1]]).dropna()
            rows.append(
                both.rename("difference")
                .reset_index()
                .assign(attribute=attribute, training=training)
            )
    columns = ["dataset", "attribute", "training", *units, "difference"]
    return pd.concat(rows)[columns] if rows else pd.DataFrame(columns=columns)


def _row(key: tuple[str, ...], members: Members, options: dict) -> dict:
    """The estimate over all members, under the names of a cell."""
    names = dict(zip(("dataset", "attribute", "training"), key, strict=True))
    return names | estimate(by_dataset(members), **options) | {"cells": len(members)}


def by_protocol(df: pd.DataFrame, own: str, **options) -> pd.DataFrame:
    """Feasible minus infeasible in points, the mean of both trainings, for this study (its
    protocol is `own`) and for other studies (load.add_other_studies): protocol, dataset, attribute,
    cells and the columns of `estimate`; rows with dataset "pooled" come last.

    Another study that has the name `own` is left out, and so are cells in which every answer of
    another study is this study's: its arms were the same, so they say nothing of its protocol.
    """
    others = {r.rpartition(":")[0] for r in df["recipe"].unique()} - {"", own}
    cells, rows = cells_of(df), []
    found = {own: feasibility_cells(cells)}
    for name in sorted(others):
        each = feasibility_cells(cells, study=name)
        found[name] = {k: t for k, t in each.items() if not _same(cells, name, k)}
    datasets = sorted({key[0] for each in found.values() for key in each})
    attributes = attributes_of(cells)
    for dataset, attribute, (name, each) in product([*datasets, POOLED], attributes, found.items()):
        members = {k: t for k, t in each.items() if dataset in (k[0], POOLED) and k[1] == attribute}
        if members:
            row = _row((dataset, attribute, ""), members, options)
            rows.append(row | {"protocol": name})
    return pd.DataFrame(rows, columns=["dataset", "attribute", "protocol", *ESTIMATE, "cells"])


def _same(cells: Cells, study: str, key: tuple[str, ...]) -> bool:
    """Whether both arms of a cell answer in another study exactly as in this one, on the seeds
    that both have."""
    for recipe in feasibility(key[1], key[2]):
        own, other = cells.get((key[0], recipe)), cells.get((key[0], f"{study}:{recipe}"))
        if own is None or other is None:
            return False
        units = own.index.intersection(other.index)
        if units.empty or not own.loc[units].equals(other.loc[units]):
            return False
    return True


def by_class(df: pd.DataFrame, paths: StudyPaths, **options) -> pd.DataFrame:
    """BY_CLASS: feasible minus infeasible in points by class, the mean of all attributes and
    trainings, with the interval over seeds (units: how many) and the class's n test images of one
    draw; <NA> bounds for one image. Empty for a study of replicates, each of which has other
    test images."""
    if has_replicates(df):
        return pd.DataFrame(columns=BY_CLASS)
    found, rows = feasibility_cells(cells_of(df)), []
    for dataset in sorted({key[0] for key in found}):
        images = storage.read_table(paths.images_table(dataset))
        names = images.set_index("image_id")["class_name"]
        mean = average([t for key, t in found.items() if key[0] == dataset])
        for name, columns in mean.columns.groupby(names.reindex(mean.columns)).items():
            got = bootstrap.interval(mean[columns].to_numpy(), **options)
            low, high = (got.low, got.high) if len(columns) > 1 else (np.nan, np.nan)
            rows.append([dataset, name, got.mean, low, high, len(mean), len(columns)])
    return pd.DataFrame(rows, columns=BY_CLASS)


def counted(table: pd.DataFrame, df: pd.DataFrame) -> pd.DataFrame:
    """A table of `by_class` with its column units, counted from the predictions that it is of: one
    that was published before had none."""
    found = feasibility_cells(cells_of(df)) if len(table) else {}
    units = {
        name: len(average([t for key, t in found.items() if key[0] == name]))
        for name in table["dataset"].unique()
    }
    return table.assign(units=table["dataset"].map(units).astype("int64"))[BY_CLASS]
