"""The pooled effect of feasibility by other methods, and single trainings by McNemar's test.

    method                what varies                     estimated by
    replicates            everything                      inference.estimate, where the study has
                                                          replicates; else
    two-level bootstrap   seeds and test images           bootstrap.interval, of one draw
    clustered regression  replicates; of one draw seeds   linear probability model, clustered errors
                          and test images                 (statsmodels)
    mixed model           replicates or seeds; the        REML over data sets, attributes, trainings
                          images are given                and units (`mixed_model`)

All estimate one number, the mean over data sets, attributes and trainings, and give it exactly in
a balanced study, so equal estimates are no agreement; their intervals answer different questions.
Of one draw none of them covers another draw of photographs, phrases or edits.
Source of the clustered errors: Cameron, Gelbach, Miller 2011.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats as sps

from . import bootstrap
from .contrasts import (
    POOLED,
    REPLICATE,
    Members,
    attributes_of,
    by_dataset,
    cells_of,
    feasibility_cells,
    has_replicates,
)

COLUMNS = ["attribute", "method", "estimate", "low", "high", "note"]
MCNEMAR = ["dataset", "attribute", "training", "seed", "only_feasible", "only_infeasible", "p"]
MIXED = ["term", "estimate", "low", "high", "note"]


def clustered(members: Members) -> dict:
    """estimate, low, high (points, 95 %, t) of the mean of contrasts, with clustered errors.

    members: (dataset, ...) -> (units, images) float, as by_dataset takes. Data sets weigh
    the same whatever their number of images. Clusters are replicates; of one draw, where the units
    are seeds, a data set's seed and a data set's image.
    """
    parts, single = [], True
    for name, table in zip(sorted({k[0] for k in members}), by_dataset(members), strict=True):
        s, n = table.shape
        single = table.index.name != REPLICATE
        unit = f"{name} " if single else ""
        parts.append(
            pd.DataFrame(
                {
                    "d": 100 * table.to_numpy().ravel(),
                    "dataset": name,
                    "seed": np.repeat([f"{unit}{k}" for k in table.index], n),
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
    clusters = ("seed", "image") if single else ("seed",)
    groups = np.column_stack([pd.factorize(rows[c])[0] for c in clusters])
    covariance = np.asarray(fit.get_robustcov_results("cluster", groups=groups).cov_params())
    variance = float(covariance.mean())  # of the mean of the data sets' means
    df = rows["seed"].nunique() - (own.shape[1] if single else 1)  # the fewer clusters
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
    effect of all).
    """
    cells, rows = cells_of(df), []
    own_method = "replicates" if has_replicates(df) else "two-level bootstrap"
    found = feasibility_cells(cells)
    for attribute in (*attributes_of(cells), POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if not members:
            continue
        own = effects[(effects["dataset"] == POOLED) & (effects["attribute"] == attribute)]
        own = own.iloc[-1]
        base = {"estimate": own["difference"], "low": own["low"], "high": own["high"], "note": ""}
        methods = {own_method: base, "clustered regression": clustered(members)}
        mean = model[model["term"] == "mean"]
        if attribute == POOLED and len(mean):
            methods["mixed model"] = mean.iloc[0][["estimate", "low", "high", "note"]].to_dict()
        rows += [{"attribute": attribute, "method": name, **one} for name, one in methods.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def mcnemar(df: pd.DataFrame) -> pd.DataFrame:
    """Single trainings: the feasible against the infeasible arm of every data set, attribute,
    training and seed. MCNEMAR; only_feasible, only_infeasible: images that one arm alone gets
    right; p: exact, two-sided, not corrected. Empty for a study of replicates, whose starts are
    averaged."""
    if has_replicates(df):
        return pd.DataFrame(columns=MCNEMAR)
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
    alone = frame.groupby("unit").size().max() == 1  # intercept and residual are one
    if frame["unit"].nunique() < 3 or frame["points"].var() == 0 or alone:
        return pd.DataFrame(columns=MIXED)
    terms = [f"C({k}, Sum)" for k in ("attribute", "training") if frame[k].nunique() > 1]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            fit = smf.mixedlm(f"points ~ {' + '.join(terms) or '1'}", frame, groups="unit").fit()
        except np.linalg.LinAlgError:  # too little to fit; a cross-check stops no study
            return pd.DataFrame(columns=MIXED)
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
