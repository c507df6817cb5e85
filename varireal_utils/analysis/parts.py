"""What the figures of a study of replicates show beside the claims: numbers without verdicts.

    by_attribute   the claims of FAMILIES, by attribute, a row for each replicate too
    true_effects   the cells of the claim "mostly within", and the true effects behind their noise

Invariant (tests/unit/test_parts.py): means over attributes are the claims' own estimates.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from . import inference
from . import true_effects as posterior
from .claim_file import Claim
from .claims import claim_training
from .contrasts import REPLICATE, Cells, Members, by_dataset, by_replicate, cells_of, contrast

FAMILIES = ("decomposition", "parts")
BOUNDS = ("low", "high", "low90", "high90")


def by_attribute(
    df: pd.DataFrame,
    listed: list[Claim],
    confidence: float = 0.95,
    families: tuple[str, ...] = FAMILIES,
) -> pd.DataFrame:
    """claim, estimand, attribute, replicate (<NA> for the mean), difference and bounds in points,
    units; empty for a study of one draw.

    A claim's trainings are averaged, then data sets, on the replicates that have all of them.
    """
    cells, rows = cells_of(df), []
    for claim in listed:
        if claim.family not in families or "attribute" not in claim.over:
            continue
        place = 1 + list(claim.over).index("attribute")
        found = _members(claim, cells)
        for attribute in claim.over["attribute"]:
            own = {key: table for key, table in found.items() if key[place] == attribute}
            rows += _rows(
                {"claim": claim.id, "estimand": claim.estimand}, attribute, own, confidence
            )
    columns = ["claim", "estimand", "attribute", REPLICATE, "difference", *BOUNDS, "units"]
    return pd.DataFrame(rows, columns=columns).astype({REPLICATE: "Int64", "units": "Int64"})


def _members(claim: Claim, cells: Cells) -> Members:
    """Cell of a claim -> its contrast, of those whose units are replicates."""
    out: Members = {}
    for dataset in sorted({d for d, _ in cells}):
        for values, weights in claim.cells():
            table = contrast(cells, dataset, weights)
            if table is not None and table.index.name == REPLICATE:
                out[dataset, *values] = table
    return out


def _rows(
    names: dict[str, str], attribute: str, members: Members, confidence: float
) -> list[dict[str, Any]]:
    """The mean over replicates, then each replicate; nothing without a replicate that has all."""
    if not members:
        return []
    tables = by_dataset(members)
    common = sorted(set.intersection(*(set(t.index) for t in tables)))
    if not common:
        return []
    values = by_replicate(tables)
    got = inference.estimate(values, 1.0, confidence)
    head = {**names, "attribute": attribute}
    mean = {"difference": float(got.mean), **{k: float(getattr(got, k)) for k in BOUNDS}}
    each = [{**head, REPLICATE: r, "difference": float(v)} for r, v in zip(common, values)]
    return [{**head, **mean, "units": len(values)}, *each]


def true_effects(df: pd.DataFrame, listed: list[Claim], confidence: float = 0.95) -> pd.DataFrame:
    """claim, dataset, attribute, training ("real+" or ""), difference, low, high (points), true,
    true_low, true_high (posterior mean and 95 % bounds), margin: a row for each cell of the claims
    with test mostly_within; empty with fewer than four replicates."""
    cells, rows = cells_of(df), []
    for claim in listed:
        found = _members(claim, cells) if claim.prior else {}
        values = pd.concat([100 * t.mean(axis=1) for t in found.values()] or [pd.Series()], axis=1)
        values = values.dropna()
        if claim.prior is None or len(values) < inference.LEAST:
            continue
        keys, numbers = list(found), values.to_numpy(float)
        trainings = [claim_training(claim, key) for key in keys]
        noise = posterior.noise(numbers, [k[0] for k in keys], trainings)
        prior = claim.prior
        got = posterior.posterior(
            numbers.mean(0), noise, claim.margin, prior.scale, prior.threshold
        )
        each = inference.estimate(numbers.T, claim.margin, confidence)
        for i, (key, training) in enumerate(zip(keys, trainings, strict=True)):
            named = dict(zip(("dataset", *claim.over), key, strict=True))
            bounds = {"difference": each.mean[i], "low": each.low[i], "high": each.high[i]}
            true = dict(zip(("true", "true_low", "true_high"), got.effects[i], strict=True))
            names = {k: named.get(k, "") for k in ("dataset", "attribute")}
            head = {"claim": claim.id, **names, "training": training}
            rows.append({**head, **bounds, **true, "margin": claim.margin})
    return pd.DataFrame(rows)
