"""The pooled effect of feasibility by other methods, single trainings by McNemar's test, and power.

    method                what varies                     estimated by
    two-level bootstrap   seeds and test images           bootstrap.interval (the study's own)
    clustered regression  seeds and test images           linear probability model, errors clustered
                                                          both by seed and by image (statsmodels)
    mixed model           seeds; the images are given     REML over data sets, attributes, trainings
                                                          and seeds (`mixed_model`)

All three estimate one number, the mean over data sets, attributes and trainings, and give it
exactly in a balanced study. Their intervals answer different questions: the mixed model's is
of these test images, hence narrower. Source of the clustered errors: Cameron, Gelbach, Miller 2011.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats as sps

from . import bootstrap
from .contrasts import POOLED, Members, attributes_of, by_dataset, cells_of, feasibility_cells

COLUMNS = ["attribute", "method", "estimate", "low", "high", "agrees", "note"]
MCNEMAR = ["dataset", "attribute", "training", "seed", "only_feasible", "only_infeasible", "p"]
MIXED = ["term", "estimate", "low", "high", "note"]


def clustered(members: Members) -> dict:
    """estimate, low, high (points, 95 %, t) of the mean of contrasts, by two-way clustering.

    members: (dataset, ...) -> (seeds, images) float, as by_dataset takes. Data sets weigh
    the same whatever their number of images. Clusters are a data set's seed and a data set's image.
    """
    parts = []
    for name, table in zip(sorted({k[0] for k in members}), by_dataset(members), strict=True):
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

    df: of load.predictions; effects: of effects.effects; model: of `mixed_model` (its mean is the
    effect of all). agrees: the interval lies above 0, below 0, or holds 0 as the bootstrap's does;
    <NA> for the bootstrap itself, and where there is no interval. The estimates say nothing of
    agreement: a balanced study gives one number by all methods.
    """
    cells, rows = cells_of(df), []
    found = feasibility_cells(cells)
    for attribute in (*attributes_of(cells), POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if not members:
            continue
        own = effects[(effects["dataset"] == POOLED) & (effects["attribute"] == attribute)]
        own = own.iloc[-1]
        base = {"estimate": own["difference"], "low": own["low"], "high": own["high"], "note": ""}
        others = {"clustered regression": clustered(members)}
        mean = model[model["term"] == "mean"]
        if attribute == POOLED and len(mean):
            others["mixed model"] = mean.iloc[0][["estimate", "low", "high", "note"]].to_dict()
        rows.append({"attribute": attribute, "method": "two-level bootstrap", **base})
        rows += [
            {"attribute": attribute, "method": name, **one, "agrees": _agrees(base, one)}
            for name, one in others.items()
        ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"agrees": "boolean"})


def _agrees(base: dict, other: dict) -> bool | None:
    """Whether two intervals say the same of 0."""
    if np.isnan(other["low"]):
        return None
    return _side(base) == _side(other)


def _side(interval: dict) -> int:
    """1 for an interval above 0, -1 below, 0 for one that holds 0."""
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def mcnemar(df: pd.DataFrame) -> pd.DataFrame:
    """Single trainings: the feasible against the infeasible arm of every data set, attribute,
    training and seed. MCNEMAR; only_feasible, only_infeasible: images that one arm alone gets
    right; p: exact, two-sided, not corrected."""
    cells, rows = cells_of(df), []
    for key, table in feasibility_cells(cells, (*attributes_of(cells), "all")).items():
        for seed, row in table.iterrows():
            got = bootstrap.mcnemar(row > 0, row < 0)
            rows.append(
                {
                    **dict(zip(("dataset", "attribute", "training"), key)),
                    "seed": seed,
                    "only_feasible": got["only_a"],
                    "only_infeasible": got["only_b"],
                    "p": got["p"],
                }
            )
    return pd.DataFrame(rows, columns=MCNEMAR)


def mixed_model(df: pd.DataFrame) -> pd.DataFrame:
    """A cross-check of the pooled effect: feasible minus infeasible accuracy of every data set,
    attribute, training and seed, in points, by restricted maximum likelihood (statsmodels).

    Fixed: a mean, and what each attribute and training differ from it (sums are zero); random: an
    intercept of each data set and seed, since the two arms of a seed vary together. Returns MIXED
    (95 % intervals, normal); no rows where there is too little to fit.
    """
    rows = [
        {
            "unit": f"{dataset} {seed}",
            "attribute": attribute,
            "training": training,
            "points": 100 * row.mean(),
        }
        for (dataset, attribute, training), table in feasibility_cells(cells_of(df)).items()
        for seed, row in table.iterrows()
    ]
    frame = pd.DataFrame(rows, columns=["unit", "attribute", "training", "points"])
    if frame["unit"].nunique() < 3 or frame["points"].var() == 0:
        return pd.DataFrame(columns=MIXED)
    terms = [f"C({k}, Sum)" for k in ("attribute", "training") if frame[k].nunique() > 1]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = smf.mixedlm(f"points ~ {' + '.join(terms) or '1'}", frame, groups="unit").fit()
    note = "" if fit.converged else "did not converge"
    if any("boundary" in str(w.message) for w in said):
        note = (note + "; " if note else "") + "no variance between seeds left"
    bounds = fit.conf_int()
    return pd.DataFrame(
        [
            {
                "term": "mean" if k == "Intercept" else k,
                "estimate": fit.params[k],
                "low": bounds.loc[k, 0],
                "high": bounds.loc[k, 1],
                "note": note,
            }
            for k in fit.fe_params.index
        ],
        columns=MIXED,
    )


def power_table(
    df: pd.DataFrame, margin: float, seeds: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 50, 100)
) -> pd.DataFrame:
    """Power by number of seeds, from this study's variance components: for the effect of each
    attribute (both trainings, all data sets) and of all, seeds, se (points), equivalent (chance of
    that verdict were there no difference), detectable (points; found with 80 % power)."""
    cells = cells_of(df)
    found, rows = feasibility_cells(cells), []
    for attribute in (*attributes_of(cells), POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if members:
            arrays = [t.to_numpy() for t in by_dataset(members)]
            rows += [{"attribute": attribute, **bootstrap.power(arrays, margin, s)} for s in seeds]
    return pd.DataFrame(rows)
