"""Evaluates claims: estimate, interval and verdict of each, and what would settle it.

The rules stand in claim_rules.py, the gates and the verdict in verdict.py. A claim whose recipes
have no predictions is "not run"; its `detail` names them. One that has some of its cells is decided
by these, and `settle` and `detail` say so. With `equal`, arms whose trainings differ in one of
these numbers of metrics.json are not compared. Cells of one data set share its images, so they are
averaged before data sets are pooled with equal weights. `settle` states how many more seeds, or
test images, would give "equivalent" or "different" with 80 % power (sample_size.table).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from . import sample_size
from .claim_file import Claim, load
from .claim_rules import RULES, Evidence, Outcome
from .contrasts import Cells, Members, by_dataset, canonical, cells_of, contrast
from .verdict import Gates, verdict

COLUMNS = [
    "claim",
    "says",
    "quantity",
    "reported",
    "source",
    "ours",
    "low",
    "high",
    "low90",
    "high90",
    "confidence",
    "margin",
    "seeds",
    "datasets",
    "cells",
    "verdict",
    "not_valid_because",
    "settle",
    "detail",
]


def evaluate(
    df: pd.DataFrame,
    margin: float,
    listed: list[Claim] | None = None,
    trainings: pd.DataFrame | None = None,
    gates: Gates | None = None,
    **options,
) -> pd.DataFrame:
    """One row per claim, COLUMNS; ours and the bounds in points; confidence: level of low and high.

    df: load.predictions, those of other studies with their recipes behind "name:"; margin: for
    claims without one; listed: of claim_file.load, None for claims.yaml; trainings: of
    load.trainings, which claims with `equal` need; gates: None where no gate is to be held;
    options: of bootstrap.interval.
    """
    cells = cells_of(df)
    listed = load() if listed is None else listed
    rows = [
        _row(claim, _comparable(claim, cells, trainings), margin, gates or Gates(), options)
        for claim in listed
    ]
    out = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return out.astype({c: "Int64" for c in ("seeds", "datasets", "cells")})


def _comparable(claim: Claim, cells: Cells, trainings: pd.DataFrame | None) -> Cells:
    """The cells without those data sets in which a claim's arms are not of `equal` size."""
    if not claim.equal:
        return cells
    if trainings is None:
        return {}
    unequal = set()
    for _, weights in claim.cells():
        rows = trainings[trainings["recipe"].isin([canonical(r) for r in weights])]
        count = rows.groupby("dataset")[list(claim.equal)].nunique()
        unequal |= set(count.index[(count > 1).any(axis=1)])
    return {key: table for key, table in cells.items() if key[0] not in unequal}


def _row(claim: Claim, cells: Cells, margin: float, gates: Gates, options: dict) -> dict[str, Any]:
    margin = float(claim.margin or margin)
    row: dict[str, Any] = {
        "claim": claim.id,
        "margin": margin,
        **{k: getattr(claim, k) for k in ("says", "quantity", "reported", "source")},
    }
    members, lacking, planned = _members(claim, cells)
    if not members:
        row |= {"found": "not run", "not_valid_because": "", "settle": ""}
        unequal = f"no data set whose arms are equal in {' and '.join(claim.equal)}"
        return row | {"verdict": verdict(row), "detail": _lack(lacking) if cells else unequal}
    outcome = RULES[claim.test](Evidence.of(members, margin, options))
    row |= {
        "found": outcome.found,
        "not_valid_because": gates.not_valid_because(
            (k[0] for k in outcome.members), claim.recipe_names()
        ),
    }
    word, detail = verdict(row), outcome.detail
    settle = _settle(claim, outcome, margin) if word == "inconclusive" else ""
    if lacking:
        part = f"{len(members)} of {planned} cells were run"
        settle, detail = "; ".join(filter(None, (part, settle))), f"{detail}; {_lack(lacking)}"
    return row | {
        "ours": outcome.pooled["difference"],
        **{k: outcome.pooled[k] for k in ("low", "high", "low90", "high90", "seeds")},
        "confidence": outcome.confidence,
        "datasets": len({k[0] for k in outcome.members}),
        "cells": len(members),
        "verdict": word,
        "settle": settle,
        "detail": detail,
    }


def _members(claim: Claim, cells: Cells) -> tuple[Members, set[str], int]:
    """(cell -> contrast of those that were run, recipes that are lacking, number of cells)."""
    members: Members = {}
    lacking: set[str] = set()
    planned = 0
    for dataset in sorted({d for d, _ in cells if d}):
        for values, weights in claim.cells():
            planned += 1
            lacking |= {r for r in weights if (dataset, canonical(r)) not in cells}
            table = contrast(cells, dataset, weights)
            if table is not None:
                members[dataset, *values] = table
    return members, lacking, planned


def _lack(names: set[str]) -> str:
    ordered = sorted(names, key=lambda r: (":" not in r, r))  # a whole study first
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"no answers of {', '.join(ordered[:3])}{more}"


def _settle(claim: Claim, outcome: Outcome, margin: float) -> str:
    """What would settle a claim: the size that gives a verdict on its pooled quantity or, for
    mostly_equivalent, the verdict "equivalent" on just more than half of its cells."""
    members = outcome.members
    if claim.test != "mostly_equivalent":
        table = sample_size.table({(): by_dataset(members)}, margin, [])
        return str(table["settles"].iloc[0])
    needs = [
        sample_size.needed(t.to_numpy(), margin, alpha=0.05 / len(members))
        for t in members.values()
    ]
    row: dict[str, Any] = {
        "seeds": outcome.pooled["seeds"],
        "seeds_different": None,
        "images": min(t.shape[1] for t in members.values()),
        "images_different": None,
    }
    for what in ("seeds", "images"):
        found = sorted(n[what] for n in needs if n[what] is not None)
        enough = len(members) // 2  # the cell with which more than half are equivalent
        row[f"{what}_equivalent"] = found[enough] if len(found) > enough else None
    return sample_size.settles(row)
