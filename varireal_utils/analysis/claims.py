"""Evaluates claims: estimate, interval and verdict of each.

The rules stand in claim_rules.py, the verdicts in verdict.py. A claim whose recipes have no
predictions is "not run"; its `detail` names them. With `exclusions: {unequal: ...}`, data sets
whose arms differ in one of these numbers of metrics.json are left out. Cells of one data set share
its images, so they are averaged before data sets are pooled with equal weights.

A study of one draw has numbers but no verdicts: its seeds are not replicates. The interval that it
shows is bootstrap.interval's, over seeds and test images, and its column `unit` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import inference
from .claim_file import Claim, chosen, load
from .claim_rules import RULES, Evidence, Outcome
from .contrasts import REPLICATE, Cells, Members, canonical, cells_of, contrast, estimate, spelled
from .gates import Gates
from .verdict import PLACEBO, Finding, decide

COLUMNS = [
    "claim",
    "says",
    "estimand",
    "population",
    "family",
    "reported",
    "source",
    "ours",
    "low",
    "high",
    "low90",
    "high90",
    "confidence",
    "margin",
    "unit",
    "units",
    "datasets",
    "cells",
    "share",
    "share_low",
    "share_high",
    "p",
    "p_holm",
    "verdict",
    "because",
    "detail",
    "again",
]
WORDS = ("says", "estimand", "population", "family", "reported", "source", "margin", "again")
NOT_ASKED = "not asked by this study"


def evaluate(
    df: pd.DataFrame,
    listed: list[Claim] | None = None,
    trainings: pd.DataFrame | None = None,
    gates: Gates | None = None,
    planned: int | None = None,
    only: Sequence[str] = (),
    **options,
) -> pd.DataFrame:
    """One row per claim, COLUMNS; ours and the bounds in points; confidence: level of low and high.

    df: load.predictions, those of other studies with their recipes behind "name:"; listed: of
    claim_file.load, None for claims.yaml; trainings: of load.trainings, which claims with
    exclusions need; gates: None where none was measured; planned: replicates of the study's
    parameters, without which no verdict is given; only: `claims.only`, claim_file.chosen; options:
    of contrasts.estimate.
    """
    cells = cells_of(df)
    listed = load() if listed is None else listed
    rows, findings, whole = [], [], _complete(cells)
    asked = {c.id for c in chosen(listed, only)}
    for claim in listed:
        if claim.id not in asked:
            rows.append(_words(claim) | {"detail": NOT_ASKED})
            findings.append(Finding(claim.id, claim.family))
            continue
        row, finding = _row(claim, _comparable(claim, cells, trainings), gates or Gates(), options)
        rows.append(row)
        if finding.get("replicates"):
            finding["replicates"] = min(finding["replicates"], whole)
        findings.append(Finding(**{**finding, "planned": planned}))
    found = decide(findings)
    for row in rows:
        got = found[row["claim"]]
        row |= {"verdict": got.word, "because": got.because, "p": got.p, "p_holm": got.p_holm}
    out = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return out.astype({c: "Int64" for c in ("units", "datasets", "cells")})


def _complete(cells: Cells) -> int:
    """Replicates that have every recipe which some replicate has: a claim whose own arms are there
    waits for those of the others, so that no verdict is a look in between."""
    tables = [t for (_, recipe), t in cells.items() if ":" not in recipe]
    return len(set.intersection(*(set(t.index) for t in tables))) if tables else 0


def _comparable(claim: Claim, cells: Cells, trainings: pd.DataFrame | None) -> Cells:
    """The cells without those data sets in which a claim's arms are not of equal size."""
    numbers = claim.exclusions.unequal
    if not numbers:
        return cells
    if trainings is None:
        return {}
    unequal = set()
    for _, weights in claim.cells():
        for dataset, own in trainings.groupby("dataset"):
            names = [spelled(cells, str(dataset), r) for r in weights]
            rows = own[own["recipe"].isin(names)]
            if (rows[list(numbers)].nunique() > 1).any():
                unequal.add(dataset)
    return {key: table for key, table in cells.items() if key[0] not in unequal}


def _words(claim: Claim) -> dict[str, Any]:
    """What a row says of a claim, whatever came out."""
    return {"claim": claim.id} | {k: getattr(claim, k) for k in WORDS}


def _row(
    claim: Claim, cells: Cells, gates: Gates, options: dict
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(row without its verdict, what verdict.Finding takes) of one claim."""
    row = _words(claim)
    finding: dict[str, Any] = {"claim": claim.id, "family": claim.family, "margin": claim.margin}
    members, lacking, planned = _members(claim, cells)
    if not members:
        unequal = f"no data set whose arms are equal in {' and '.join(claim.exclusions.unequal)}"
        return row | {"detail": _lack(lacking) if cells else unequal}, finding
    replicates, evidence = _evidence(claim, members, options)
    if claim.test == "varies" and len(names := evidence.groups()[0]) < 2:
        return row | {"detail": f"{' '.join(names)} alone: nothing to compare it with"}, finding
    outcome = RULES[claim.test](evidence)
    row |= _shown(outcome, members, options) if not replicates else _of_replicates(outcome)
    detail = "; ".join(filter(None, (outcome.detail if replicates else "", _lack(lacking))))
    row |= {"datasets": len({k[0] for k in members}), "cells": len(members), "detail": detail}
    finding |= {
        "p_holds": outcome.p_holds,
        "p_denied": outcome.p_denied,
        "cells": len(members),
        "of": planned,
        "replicates": replicates,
        "least": outcome.least,
        "bound": inference.exact_bound(*_disagreements(members)) if replicates else 0.0,
        "failing": gates.failing({k[0] for k in members}, claim.recipe_names(), claim.gates),
        "placebo": PLACEBO in claim.gates,
    }
    return row, finding


def _evidence(claim: Claim, members: Members, options: dict) -> tuple[int, Evidence]:
    """(number of replicates, 0 for one draw; the cells as a rule takes them)."""
    of = all(t.index.name == REPLICATE for t in members.values())
    means = [100 * t.mean(axis=1) for t in members.values()]
    if of:
        values = pd.concat(means, axis=1, join="inner").to_numpy()
    else:
        values = np.array([[m.mean() for m in means]])
    keys = list(members)
    names = [claim_training(claim, key) for key in keys]
    return (len(values) if of else 0), Evidence(
        values,
        keys,
        claim.places(),
        claim.margin,
        options.get("confidence", 0.95),
        names,
        claim.rule_prior(),
    )


def claim_training(claim: Claim, key: tuple[str, ...]) -> str:
    """What a cell was trained on, "real+" or "", where a claim's `over` names it."""
    names = list(claim.over)
    return key[1 + names.index("real")] if "real" in names else ""


def _of_replicates(outcome: Outcome) -> dict[str, Any]:
    """The numbers of a row from its rule's estimate."""
    got, share = outcome.estimate, outcome.share
    return {
        "ours": float(got.mean),
        **{k: float(getattr(got, k)) for k in ("low", "high", "low90", "high90")},
        "confidence": got.confidence,
        "unit": "replicates",
        "units": got.df + 1,
        **dict(zip(("share", "share_low", "share_high"), share, strict=True)),
    }


def _shown(outcome: Outcome, members: Members, options: dict) -> dict[str, Any]:
    """The numbers of a row of one draw: the same quantity, with an interval over seeds and test
    images. Data sets are drawn apart, so each has a table of its own."""
    parts: dict[str, Any] = {}
    for (dataset, *_), table, weight in zip(members, members.values(), outcome.shown, strict=True):
        if weight:
            own = parts.get(dataset)
            seeds = table.index if own is None else own.index.intersection(table.index)
            more = weight * table.loc[seeds]
            parts[dataset] = more if own is None else own.loc[seeds] + more
    tables = [len(parts) * t for t in parts.values()]  # `estimate` takes their mean
    got = estimate(tables, **options)
    return {
        "ours": got["difference"],
        **{k: got[k] for k in ("low", "high", "low90", "high90", "unit", "units")},
        "confidence": options.get("confidence", 0.95),
    }


def _disagreements(members: Members) -> tuple[int, int]:
    """(test images on which some cell's arms disagree, test images), over data sets and
    replicates."""
    differ, images = 0, 0
    for name in {key[0] for key in members}:
        tables = [t for key, t in members.items() if key[0] == name]
        common = sorted(set.intersection(*(set(t.index) for t in tables)))
        unequal = np.logical_or.reduce([np.abs(t.loc[common].to_numpy()) > 1e-9 for t in tables])
        differ, images = differ + int(unequal.sum()), images + unequal.size
    return differ, images


def _members(claim: Claim, cells: Cells) -> tuple[Members, set[str], int]:
    """(cell -> contrast of those that were run, recipes that are lacking, number of cells)."""
    members: Members = {}
    lacking: set[str] = set()
    planned = 0
    for dataset in sorted({d for d, _ in cells if d}):
        for values, weights in claim.cells():
            planned += 1
            lacking |= {r for r in weights if (dataset, spelled(cells, dataset, r)) not in cells}
            table = contrast(cells, dataset, weights)
            if table is not None:
                members[dataset, *values] = table
    return members, lacking, planned


def _lack(names: set[str]) -> str:
    if not names:
        return ""
    ordered = sorted({canonical(n) for n in names}, key=lambda r: (":" not in r, r))
    more = f" and {len(ordered) - 3} more (`plan` names all)" if len(ordered) > 3 else ""
    return f"no answers of {', '.join(ordered[:3])}{more}"
