"""The paper's claims A1 to A5 (PROTOCOL.md, A), each with a rule fixed before the runs.

    claim  says                                  rule: supported if ... / contradicted if ...
    A1     feasible against infeasible mostly    more than half of the cells equivalent /
           within `margin` points                at least half of the cells different
    A2     the attribute matters for it          the widest contrast of two attributes' effects
                                                 excludes 0 (Bonferroni) / lies within the margin
    A3     mixing does not matter                mixed minus the mean of both arms is
                                                 equivalent / different
    A4     background edits help over real only  pooled gain above 0, every cell's mean above 0 /
                                                 pooled gain below 0
    A5     colour and texture do not help        some cell's gain is below 0, or equivalent to 0 /
           uniformly                             every cell's gain is above 0

A cell is a data set x attribute x training (A1 to A3), or a data set x attribute x arm of
real + edited against real alone (A4, A5). "equivalent" and "different" are stats.verdict's; above
and below 0 are said of 95 % intervals. Whatever is neither supported nor contradicted is
inconclusive; a claim whose recipes were not run is "not run". The interval shown is always that of
the quantity pooled over data sets.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from . import tables
from .tables import ATTRIBUTES, POOLED, TRAINING_ORDER

TRAININGS = TRAINING_ORDER[1:]
COLUMNS = ["claim", "says", "quantity", "ours", "low", "high", "seeds", "datasets", "cells",
           "verdict", "detail"]


def claims(df: pd.DataFrame, effects: pd.DataFrame, margin: float, **options) -> pd.DataFrame:
    """One row per claim, COLUMNS; ours, low and high in points.

    df: the answers (tables.collect); effects: tables.effects(df, margin); options: of
    stats.interval (resamples, seed).
    """
    cells = tables.answers(df)
    rows = [_a1(effects, margin), _a2(cells, margin, options), _a3(cells, margin, options),
            _gain(cells, margin, options, "A4", "background edits help over real only",
                  ("background",)),
            _gain(cells, margin, options, "A5", "colour and texture edits do not help uniformly",
                  ("color", "texture"))]
    out = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return out.astype({c: "Int64" for c in ("seeds", "datasets", "cells")})


def _datasets(cells: dict) -> list[str]:
    return sorted({dataset for dataset, _ in cells})


def _a1(effects: pd.DataFrame, margin: float) -> dict:
    row = {"claim": "A1", "says": f"mostly less than {margin:g} points between the arms",
           "quantity": "feasible minus infeasible, pooled"}
    if effects.empty:
        return row | {"verdict": "not run"}
    single = effects[(effects["dataset"] != POOLED) & (effects["attribute"] != "all")]
    pooled = effects[(effects["dataset"] == POOLED) & (effects["attribute"] == POOLED)]
    if single.empty:
        return row | {"verdict": "not run"}
    pooled = pooled.iloc[-1]
    count = single["verdict"].value_counts()
    same, other = int(count.get("equivalent", 0)), int(count.get("different", 0))
    size = single["difference"].abs()
    found = "supported" if 2 * same > len(single) else \
        "contradicted" if 2 * other >= len(single) else "inconclusive"
    return row | {
        "ours": pooled["difference"], "low": pooled["low"], "high": pooled["high"],
        "seeds": pooled["seeds"], "datasets": single["dataset"].nunique(), "cells": len(single),
        "verdict": found,
        "detail": f"{same} cells equivalent, {other} different of {len(single)}; "
                  f"{int((size < margin).sum())} observed below {margin:g}, "
                  f"median {size.median():.2f}"}


def _a2(cells: dict, margin: float, options: dict) -> dict:
    row = {"claim": "A2", "says": "the attribute decides whether feasibility matters",
           "quantity": "widest contrast of two attributes' effects"}
    found = []
    pairs = list(combinations(ATTRIBUTES, 2))
    sharp = options | {"confidence": 1 - (1 - options.get("confidence", 0.95)) / len(pairs)}
    for a, b in pairs:
        members = {}
        for d in _datasets(cells):
            for t in TRAININGS:
                weights = tables.feasibility(a, t) | {
                    r: -w for r, w in tables.feasibility(b, t).items()}
                table = tables.contrast(cells, d, weights)
                if table is not None:
                    members[d, t] = table
        if members:
            found.append((a, b, len(members), len({k[0] for k in members}), tables.estimate(
                tables.by_dataset(members), margin, **sharp)))
    if not found:
        return row | {"verdict": "not run"}
    a, b, number, datasets, top = max(found, key=lambda f: abs(f[-1]["difference"]))
    significant = [f for f in found if f[-1]["low"] > 0 or f[-1]["high"] < 0]
    same = all(f[-1]["verdict"] == "equivalent" for f in found)
    return row | {
        "ours": top["difference"], "low": top["low"], "high": top["high"], "seeds": top["seeds"],
        "datasets": datasets, "cells": number,
        "verdict": "contradicted" if same else "supported" if significant else "inconclusive",
        "detail": f"{a} minus {b}; interval at {100 * sharp['confidence']:.1f} % for "
                  f"{len(found)} contrasts"}


def _a3(cells: dict, margin: float, options: dict) -> dict:
    row = {"claim": "A3", "says": "mixing both does not change performance",
           "quantity": "mixed minus the mean of feasible and infeasible"}
    members = {}
    for d in _datasets(cells):
        for a in ATTRIBUTES:
            for t in TRAININGS:
                weights = {r: -0.5 for r in tables.feasibility(a, t)}
                mixed = "real+" * (t == TRAININGS[1]) + f"mix({a},0.5)"
                table = tables.contrast(cells, d, {mixed: 1.0} | weights)
                if table is not None:
                    members[d, a, t] = table
    if not members:
        return row | {"verdict": "not run"}
    got = tables.estimate(tables.by_dataset(members), margin, **options)
    words = {"equivalent": "supported", "different": "contradicted"}
    return row | _numbers(got, members) | {
        "verdict": words.get(got["verdict"], "inconclusive"),
        "detail": f"90 % interval [{got['low90']:.2f}, {got['high90']:.2f}] against +-{margin:g}"}


def _gain(cells: dict, margin: float, options: dict, claim: str, says: str,
          attributes: tuple[str, ...]) -> dict:
    """A4 and A5: real + edited minus real, in both arms."""
    row = {"claim": claim, "says": says, "quantity": "real + edited minus real, pooled"}
    members = {}
    for d in _datasets(cells):
        for a in attributes:
            for arm in ("feasible", "infeasible"):
                table = tables.contrast(cells, d, {f"real+edit({a},{arm})": 1.0, "real": -1.0})
                if table is not None:
                    members[d, a, arm] = table
    if not members:
        return row | {"verdict": "not run"}
    got = tables.estimate(tables.by_dataset(members), margin, **options)
    single = {k: tables.estimate([t], margin, **options) for k, t in members.items()}
    low, high, mean, verdict = (np.array([s[c] for s in single.values()])
                                for c in ("low", "high", "difference", "verdict"))
    if claim == "A4":
        supported = got["low"] > 0 and (mean > 0).all()
        contradicted = got["high"] < 0
    else:
        supported = bool(((high < 0) | (verdict == "equivalent")).any())
        contradicted = bool((low > 0).all())
    worst = min(single, key=lambda k: single[k]["difference"])
    found = "supported" if supported else "contradicted" if contradicted else "inconclusive"
    return row | _numbers(got, members) | {
        "verdict": found,
        "detail": f"{int((mean > 0).sum())} of {len(mean)} cells gain, {int((low > 0).sum())} "
                  f"surely, {int((high < 0).sum())} surely lose; least "
                  f"{single[worst]['difference']:.2f} ({', '.join(worst)})"}


def _numbers(got: dict, members: dict) -> dict:
    return {"ours": got["difference"], "low": got["low"], "high": got["high"],
            "seeds": got["seeds"], "datasets": len({k[0] for k in members}),
            "cells": len(members)}
