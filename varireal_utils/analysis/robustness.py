"""The pooled effect of feasibility again, by other methods than the bootstrap.

    method                what varies                     estimated by
    two-level bootstrap   seeds and test images           stats.interval (the study's own)
    clustered regression  seeds and test images           linear probability model, errors clustered
                                                          both by seed and by image (statsmodels)
    mixed model           seeds; the images are given     REML over data sets, attributes, trainings
                                                          and seeds (tables.mixed_model)

All three estimate one number, the mean over data sets, attributes and trainings, and a balanced
study gives it exactly three times. Their intervals answer different questions: the mixed model's is
of these test images, hence narrower. Source of the clustered errors: Cameron, Gelbach, Miller 2011.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats as sps

from . import tables

COLUMNS = ["attribute", "method", "estimate", "low", "high", "agrees", "note"]


def clustered(members: dict[tuple, pd.DataFrame]) -> dict:
    """estimate, low, high (points, 95 %, t) of the mean of contrasts, by two-way clustering.

    members: (dataset, ...) -> (seeds, images) float, as tables.by_dataset takes. Data sets weigh
    the same whatever their number of images. Clusters are a data set's seed and a data set's image.
    """
    parts = []
    for name, table in zip(
        sorted({k[0] for k in members}), tables.by_dataset(members), strict=True
    ):
        s, n = table.shape
        parts.append(
            pd.DataFrame(
                {
                    "d": 100 * table.to_numpy().ravel(),
                    "dataset": name,
                    "seed": np.repeat([f"{name} {k}" for k in table.index], n),
                    "image": np.tile([f"{name} {k}" for k in table.columns], s),
                }
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    own = pd.get_dummies(rows["dataset"], dtype=float)  # data sets are given, not drawn
    fit = sm.OLS(rows["d"], own).fit()
    mean = float(fit.params.mean())
    if rows["d"].nunique() == 1:
        return {"estimate": mean, "low": mean, "high": mean, "note": "all answers equal"}
    if rows.groupby("dataset")["seed"].nunique().min() == 1:
        return {"estimate": mean, "low": np.nan, "high": np.nan, "note": "one seed: no clusters"}
    groups = np.column_stack([pd.factorize(rows[c])[0] for c in ("seed", "image")])
    covariance = np.asarray(fit.get_robustcov_results("cluster", groups=groups).cov_params())
    variance = float(covariance.mean())  # of the mean of the data sets' means
    df = rows["seed"].nunique() - own.shape[1]  # seeds are the fewer clusters
    half = float(sps.t.ppf(0.975, df)) * np.sqrt(variance) if variance > 0 else np.nan
    return {
        "estimate": mean,
        "low": mean - half,
        "high": mean + half,
        "note": "" if variance > 0 else "no positive variance: too few seeds",
    }


def compare(df: pd.DataFrame, effects: pd.DataFrame, model: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS: the pooled effect of each attribute and of all, by each method, in points.

    df: of tables.collect; effects: of tables.effects; model: of tables.mixed_model (its mean is
    the effect of all). agrees: the estimate lies in the bootstrap's 95 % interval, and the
    bootstrap's estimate in this one's; <NA> where there is no interval.
    """
    cells, rows = tables.feasibility_cells(tables.answers(df)), []
    for attribute in (*tables.ATTRIBUTES, tables.POOLED):
        members = {k: t for k, t in cells.items() if attribute in (k[1], tables.POOLED)}
        if not members:
            continue
        own = effects[(effects["dataset"] == tables.POOLED) & (effects["attribute"] == attribute)]
        own = own.iloc[-1]
        base = {"estimate": own["difference"], "low": own["low"], "high": own["high"], "note": ""}
        found = {"two-level bootstrap": base, "clustered regression": clustered(members)}
        mean = model[model["term"] == "mean"]
        if attribute == tables.POOLED and len(mean):
            found["mixed model"] = mean.iloc[0][["estimate", "low", "high", "note"]].to_dict()
        rows += [
            {"attribute": attribute, "method": name, **one, "agrees": _agrees(base, one)}
            for name, one in found.items()
        ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"agrees": "boolean"})


def _agrees(base: dict, other: dict) -> bool | None:
    if np.isnan(other["low"]):
        return None
    return bool(
        other["low"] <= base["estimate"] <= other["high"]
        and base["low"] <= other["estimate"] <= base["high"]
    )
