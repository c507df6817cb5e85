"""Evaluates claims.yaml: what each claim is about, and by which rule it is decided.

    test               reproduced if ...                    different if ...
    mostly_equivalent  more than half of the cells are      at least half of the cells are
                       equivalent (Holm)                    different (Holm)
    equivalent         the pooled quantity is equivalent    the pooled quantity is different
    widest             the widest of the first key's        (never: no single contrast denies it)
                       contrasts excludes 0, by a
                       Bonferroni interval
    all_gain           pooled gain above 0, and every       pooled gain below 0
                       cell's mean above 0
    some_do_not_gain   some cell's gain is less than the    every cell's gain is above 0
                       margin (one-sided, Holm)

"equivalent" and "different" of pooled quantities are stats.verdict's; above and below 0 are said
of 95 % intervals. "(Holm)": by the t tests' p values after Holm's correction over the claim's
cells, at 5 %, so that a cell is wrongly counted in at most one of twenty studies; "every cell"
needs no correction. Verdicts of different claims are not corrected for each other.

A claim that is neither is *equivalent* where its pooled quantity lies within the margin (for
`widest`: every contrast), else *inconclusive*, and `settle` says how many more seeds, or test
images, would give one of the two other verdicts with 80 % power (sizes.table). A claim whose
recipes have no answers is "not run"; its `detail` names them. One that has some of its cells is
decided by these, and `settle` and `detail` say that it is. With `equal`, arms whose trainings
differ in one of these numbers of metrics.json are not compared. Cells of one data set share its
images, so they are averaged before data sets are pooled with equal weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from ..core.config_errors import ParameterError
from ..training import recipes
from . import sample_size, tables

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
    "margin",
    "seeds",
    "datasets",
    "cells",
    "verdict",
    "settle",
    "detail",
]
KEYS = {
    "id": str,
    "says": str,
    "quantity": str,
    "contrast": dict,
    "over": dict,
    "test": str,
    "margin": (int, float),
    "reported": str,
    "source": str,
    "equal": list,
}
OPTIONAL = ("over", "margin", "equal")
EQUAL = ("n_train_images", "steps")  # of metrics.json


def load(path: str | Path = "claims.yaml") -> list[dict[str, Any]]:
    """The claims of a file, checked. Raises ParameterError that names claim, key and remedy."""
    path = Path(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParameterError(f"{path}: not there; it stands in the repository's root") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("claims"), list):
        raise ParameterError(f"{path}: wanted a list under the key claims")
    for number, claim in enumerate(found["claims"], 1):
        _check(claim, f"{path}: claim {number}")
    ids = [c["id"] for c in found["claims"]]
    if len(set(ids)) < len(ids):
        raise ParameterError(f"{path}: an id stands twice: {sorted(ids)}")
    return found["claims"]


def _check(claim: Any, where: str) -> None:
    if not isinstance(claim, dict):
        raise ParameterError(f"{where}: got {claim!r}, wanted keys and values")
    where = f"{where} ({claim.get('id', 'without id')})"
    for key, kind in KEYS.items():
        if key not in claim and key not in OPTIONAL:
            raise ParameterError(f"{where}: {key} is missing")
        if key in claim and (not isinstance(claim[key], kind) or isinstance(claim[key], bool)):
            raise ParameterError(f"{where}: {key}: got {claim[key]!r}")
    unknown = sorted(set(claim) - set(KEYS))
    if unknown:
        raise ParameterError(f"{where}: unknown key {unknown[0]!r}; known are {sorted(KEYS)}")
    if claim["test"] not in RULES:
        raise ParameterError(
            f"{where}: test: got {claim['test']!r}, wanted one of {', '.join(RULES)}"
        )
    if claim.get("margin", 1) <= 0:
        raise ParameterError(f"{where}: margin: got {claim['margin']}, wanted points above 0")
    if any(e not in EQUAL for e in claim.get("equal", [])):
        raise ParameterError(f"{where}: equal: got {claim['equal']!r}, wanted some of {EQUAL}")
    try:
        for _, weights in cells_of(claim):
            for recipe in weights:
                recipes.parse(recipe.rpartition(":")[2])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParameterError(f"{where}: contrast or over: {error}") from error


def cells_of(claim: dict[str, Any]) -> list[tuple[tuple[str, ...], dict[str, float]]]:
    """(values, {recipe: weight}) of every combination of `over`. A key of several words takes
    values of as many words."""
    out = []
    keys = [k.split() for k in claim.get("over", {})]
    for values in product(*claim.get("over", {}).values()):
        words: dict[str, str] = {}
        for names, value in zip(keys, values):
            parts = [value] if len(names) == 1 else value.split()
            if len(parts) != len(names):
                raise ValueError(f"{value!r} has not one word for each of {' '.join(names)!r}")
            words |= dict(zip(names, parts))
        out.append(
            (
                tuple(values),
                {
                    re.sub(r"\{(\w+)\}", lambda m, w=words: w[m[1]], recipe): float(weight)
                    for recipe, weight in claim["contrast"].items()
                },
            )
        )
    return out


def evaluate(
    df: pd.DataFrame,
    margin: float,
    listed: list[dict[str, Any]] | None = None,
    trainings: pd.DataFrame | None = None,
    **options,
) -> pd.DataFrame:
    """One row per claim, COLUMNS; ours and the bounds in points.

    df: the answers (tables.collect), those of other studies with their recipes behind "name:";
    margin: for claims without one; listed: of `load`; trainings: of tables.trainings, which claims
    with `equal` need; options: of stats.interval.
    """
    cells = tables.answers(df)
    listed = load() if listed is None else listed
    out = pd.DataFrame(
        [_row(claim, _comparable(claim, cells, trainings), margin, options) for claim in listed]
    )
    out = out.reindex(columns=COLUMNS)
    return out.astype({c: "Int64" for c in ("seeds", "datasets", "cells")})


def _comparable(claim: dict, cells: dict, trainings: pd.DataFrame | None) -> dict:
    """The cells without those data sets in which a claim's arms are not of `equal` size."""
    names = claim.get("equal", [])
    if not names or trainings is None:
        return {} if names else cells
    unequal = set()
    for _, weights in cells_of(claim):
        rows = trainings[trainings["recipe"].isin([tables.canonical(r) for r in weights])]
        count = rows.groupby("dataset")[list(names)].nunique()
        unequal |= set(count.index[(count > 1).any(axis=1)])
    return {key: table for key, table in cells.items() if key[0] not in unequal}


def _row(claim: dict, cells: dict, margin: float, options: dict) -> dict:
    margin = float(claim.get("margin", margin))
    row = {
        "claim": claim["id"],
        "margin": margin,
        **{k: claim[k] for k in ("says", "quantity", "reported", "source")},
    }
    members, lacking, planned = {}, set(), 0
    for dataset in sorted({d for d, _ in cells if d}):
        for values, weights in cells_of(claim):
            planned += 1
            lacking |= {r for r in weights if (dataset, tables.canonical(r)) not in cells}
            table = tables.contrast(cells, dataset, weights)
            if table is not None:
                members[dataset, *values] = table
    if not members:
        why = (
            _lack(lacking)
            if cells
            else (f"no data set whose arms are equal in {' and '.join(claim['equal'])}")
        )
        return row | {"verdict": "not run", "settle": "", "detail": why}
    single = {k: tables.estimate([t], margin, **options) for k, t in members.items()}
    for cell in single.values():
        cell["p_no_gain"] = _p_no_gain(cell, margin)
    pooled = tables.estimate(tables.by_dataset(members), margin, **options)
    if claim["test"] == "widest":
        pooled, contrasts, detail, members = _widest(members, margin, options)
        verdict = (
            "reproduced"
            if pooled["low"] > 0 or pooled["high"] < 0
            else "equivalent"
            if all(c["verdict"] == "equivalent" for c in contrasts)
            else "inconclusive"
        )
    else:
        verdict, detail = RULES[claim["test"]](pooled, list(single.values()))
        if verdict == "inconclusive" and pooled["verdict"] == "equivalent":
            verdict = "equivalent"
    settle = _settle(claim, members, pooled, margin) if verdict == "inconclusive" else ""
    if lacking:
        part = f"{len(single)} of {planned} cells were run"
        settle, detail = "; ".join(filter(None, (part, settle))), f"{detail}; {_lack(lacking)}"
    return row | {
        "ours": pooled["difference"],
        **{k: pooled[k] for k in ("low", "high", "low90", "high90")},
        "seeds": pooled["seeds"],
        "datasets": len({k[0] for k in members}),
        "cells": len(single),
        "verdict": verdict,
        "settle": settle,
        "detail": detail,
    }


def _lack(recipes_: set[str]) -> str:
    names = sorted(recipes_, key=lambda r: (":" not in r, r))  # a whole study first
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"no answers of {', '.join(names[:3])}{more}"


def _settle(claim: dict, members: dict, pooled: dict, margin: float) -> str:
    """What would settle a claim: the way to a verdict on its pooled quantity or, for
    mostly_equivalent, to the verdict "equivalent" on just more than half of its cells."""
    if claim["test"] != "mostly_equivalent":
        return str(
            sample_size.table({(): tables.by_dataset(members)}, margin, [])["settles"].iloc[0]
        )
    needs = [
        sample_size.needed(t.to_numpy(), margin, alpha=0.05 / len(members))
        for t in members.values()
    ]
    row: dict[str, Any] = {
        "seeds": pooled["seeds"],
        "seeds_different": None,
        "images": min(t.shape[1] for t in members.values()),
        "images_different": None,
    }
    for what in ("seeds", "images"):
        found = sorted(n[what] for n in needs if n[what] is not None)
        enough = len(members) // 2  # the cell with which more than half are equivalent
        row[f"{what}_equivalent"] = found[enough] if len(found) > enough else None
    return sample_size.settles(row)


def _widest(members: dict, margin: float, options: dict) -> tuple[dict, list[dict], str, dict]:
    """The widest contrast of the first key's values, at a Bonferroni level; and its members."""
    names = list(dict.fromkeys(k[1] for k in members))
    level = options.get("confidence", 0.95)
    sharp = options | {"confidence": 1 - (1 - level) / len(names)}
    found = [
        tables.estimate(
            tables.by_dataset({k: t for k, t in members.items() if k[1] == n}), margin, **sharp
        )
        for n in names
    ]
    top = max(range(len(names)), key=lambda i: abs(found[i]["difference"]))
    own = {k: t for k, t in members.items() if k[1] == names[top]}
    return (
        found[top],
        found,
        (
            f"{names[top].replace(' ', ' minus ')}; interval at "
            f"{100 * sharp['confidence']:.1f} % for {len(names)} contrasts"
        ),
        own,
    )


def _mostly_equivalent(pooled: dict, single: list[dict]) -> tuple[str, str]:
    same, other = (_rejected([s[p] for s in single]) for p in ("p_equivalence", "p"))
    other &= ~same
    same, other = int(same.sum()), int(other.sum())
    found = (
        "reproduced"
        if 2 * same > len(single)
        else "different"
        if 2 * other >= len(single)
        else "inconclusive"
    )
    size = np.abs([s["difference"] for s in single])
    return found, (
        f"{same} cells equivalent, {other} different of {len(single)}; median size "
        f"{np.median(size):.2f}"
    )


def _equivalent(pooled: dict, single: list[dict]) -> tuple[str, str]:
    words = {"equivalent": "reproduced", "different": "different"}
    return words.get(
        pooled["verdict"], "inconclusive"
    ), f"90 % interval [{pooled['low90']:.2f}, {pooled['high90']:.2f}]"


def _all_gain(pooled: dict, single: list[dict]) -> tuple[str, str]:
    rising = all(s["difference"] > 0 for s in single)
    found = (
        "reproduced"
        if pooled["low"] > 0 and rising
        else "different"
        if pooled["high"] < 0
        else "inconclusive"
    )
    return found, _gains(single)


def _some_do_not_gain(pooled: dict, single: list[dict]) -> tuple[str, str]:
    found = (
        "reproduced"
        if _rejected([s["p_no_gain"] for s in single]).any()
        else "different"
        if all(s["low"] > 0 for s in single)
        else "inconclusive"
    )
    return found, _gains(single)


def _rejected(p: list[float]) -> np.ndarray:
    """Which of a claim's cells pass at 5 % after Holm's correction."""
    return multipletests(p, alpha=0.05, method="holm")[0]


def _p_no_gain(cell: dict, margin: float) -> float:
    """p value of the one-sided t test that a gain is less than the margin."""
    if cell["se"] == 0:
        return float(cell["difference"] >= margin)
    return float(sps.t.sf((margin - cell["difference"]) / cell["se"], cell["df"]))


def _gains(single: list[dict]) -> str:
    return (
        f"{sum(s['difference'] > 0 for s in single)} of {len(single)} cells gain, "
        f"{sum(s['low'] > 0 for s in single)} surely, "
        f"{sum(s['high'] < 0 for s in single)} surely lose"
    )


RULES: dict[str, Callable | None] = {
    "mostly_equivalent": _mostly_equivalent,
    "equivalent": _equivalent,
    "widest": None,
    "all_gain": _all_gain,
    "some_do_not_gain": _some_do_not_gain,
}
