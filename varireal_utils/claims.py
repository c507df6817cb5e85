"""Evaluates claims.yaml: what each claim is about, and by which rule it is decided.

    test               reproduced if ...                    different if ...
    mostly_equivalent  more than half of the cells are      at least half of the cells are
                       equivalent                           different
    equivalent         the pooled quantity is equivalent    the pooled quantity is different
    widest             the widest of the first key's        (never: no single contrast denies it)
                       contrasts excludes 0, by a
                       Bonferroni interval
    all_gain           pooled gain above 0, and every       pooled gain below 0
                       cell's mean above 0
    some_do_not_gain   some cell's gain is below 0, or      every cell's gain is above 0
                       equivalent to 0

"equivalent" and "different" of cells and pooled quantities are stats.verdict's; above and below 0
are said of 95 % intervals. A claim that is neither is *equivalent* where its pooled quantity lies
within the margin (for `widest`: every contrast), else *inconclusive*, and `settle` says which size
of study would show equivalence with 80 % power, were there no difference. A claim whose recipes
have no answers is "not run"; its `detail` names them. Cells of one data set share its images, so
they are averaged before data sets are pooled with equal weights.
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

from . import recipes, tables
from .params import ParameterError

COLUMNS = ["claim", "says", "quantity", "reported", "source", "ours", "low", "high", "low90",
           "high90", "margin", "seeds", "datasets", "cells", "verdict", "settle", "detail"]
KEYS = {"id": str, "says": str, "quantity": str, "contrast": dict, "over": dict, "test": str,
        "margin": (int, float), "reported": str, "source": str}
OPTIONAL = ("over", "margin")


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
        raise ParameterError(f"{where}: test: got {claim['test']!r}, wanted one of "
                             f"{', '.join(RULES)}")
    if claim.get("margin", 1) <= 0:
        raise ParameterError(f"{where}: margin: got {claim['margin']}, wanted points above 0")
    try:
        for _, weights in cells_of(claim):
            for recipe in weights:
                recipes.parse(recipe.rpartition(":")[2])
    except (ValueError, KeyError, TypeError) as error:
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
        out.append((tuple(values), {
            re.sub(r"\{(\w+)\}", lambda m, w=words: w[m[1]], recipe): float(weight)
            for recipe, weight in claim["contrast"].items()}))
    return out


def evaluate(df: pd.DataFrame, margin: float, listed: list[dict[str, Any]] | None = None,
             **options) -> pd.DataFrame:
    """One row per claim, COLUMNS; ours and the bounds in points.

    df: the answers (tables.collect), those of other studies with their recipes behind "name:";
    margin: for claims without one; listed: of `load`; options: of stats.interval.
    """
    cells = tables.answers(df)
    out = pd.DataFrame([_row(claim, cells, margin, options)
                        for claim in (load() if listed is None else listed)])
    out = out.reindex(columns=COLUMNS)
    return out.astype({c: "Int64" for c in ("seeds", "datasets", "cells")})


def _row(claim: dict, cells: dict, margin: float, options: dict) -> dict:
    margin = float(claim.get("margin", margin))
    row = {"claim": claim["id"], "margin": margin,
           **{k: claim[k] for k in ("says", "quantity", "reported", "source")}}
    members, lacking = {}, set()
    for dataset in sorted({d for d, _ in cells if d}):
        for values, weights in cells_of(claim):
            lacking |= {r for r in weights if (dataset, tables.canonical(r)) not in cells}
            table = tables.contrast(cells, dataset, weights)
            if table is not None:
                members[dataset, *values] = table
    if not members:
        return row | {"verdict": "not run", "settle": "", "detail": _lack(lacking)}
    single = {k: tables.estimate([t], margin, **options) for k, t in members.items()}
    pooled = tables.estimate(tables.by_dataset(members), margin, **options)
    if claim["test"] == "widest":
        pooled, contrasts, detail = _widest(members, margin, options)
        verdict = "reproduced" if pooled["low"] > 0 or pooled["high"] < 0 else \
            "equivalent" if all(c["verdict"] == "equivalent" for c in contrasts) else "inconclusive"
    else:
        verdict, detail = RULES[claim["test"]](pooled, list(single.values()))
        if verdict == "inconclusive" and pooled["verdict"] == "equivalent":
            verdict = "equivalent"
    return row | {
        "ours": pooled["difference"], **{k: pooled[k] for k in ("low", "high", "low90", "high90")},
        "seeds": pooled["seeds"], "datasets": len({k[0] for k in members}), "cells": len(members),
        "verdict": verdict, "settle": settle(pooled) if verdict == "inconclusive" else "",
        "detail": detail}


def _lack(recipes_: set[str]) -> str:
    names = sorted(recipes_, key=lambda r: (":" not in r, r))  # a whole study first
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"no answers of {', '.join(names[:3])}{more}"


def settle(pooled: dict) -> str:
    """What would show equivalence with 80 % power, were there no difference."""
    seeds, images = pooled["seeds_needed"], pooled["images_needed"]
    if seeds is not None and not pd.isna(seeds):
        more = int(seeds) - int(pooled["seeds"])
        return f"{more} more seeds" if more > 0 else "enough seeds for no difference; there is one"
    if images is not None and not pd.isna(images):
        return f"{int(images):,} test images a data set; seeds alone would not do"
    return "more seeds and more test images; neither alone would do"


def _widest(members: dict, margin: float, options: dict) -> tuple[dict, list[dict], str]:
    """The widest contrast of the first key's values, at a Bonferroni level."""
    names = list(dict.fromkeys(k[1] for k in members))
    level = options.get("confidence", 0.95)
    sharp = options | {"confidence": 1 - (1 - level) / len(names)}
    found = [tables.estimate(tables.by_dataset({k: t for k, t in members.items() if k[1] == n}),
                             margin, **sharp) for n in names]
    top = max(range(len(names)), key=lambda i: abs(found[i]["difference"]))
    return found[top], found, (f"{names[top].replace(' ', ' minus ')}; interval at "
                               f"{100 * sharp['confidence']:.1f} % for {len(names)} contrasts")


def _mostly_equivalent(pooled: dict, single: list[dict]) -> tuple[str, str]:
    same, other = (sum(s["verdict"] == v for s in single) for v in ("equivalent", "different"))
    found = "reproduced" if 2 * same > len(single) else \
        "different" if 2 * other >= len(single) else "inconclusive"
    size = np.abs([s["difference"] for s in single])
    return found, (f"{same} cells equivalent, {other} different of {len(single)}; median size "
                   f"{np.median(size):.2f}")


def _equivalent(pooled: dict, single: list[dict]) -> tuple[str, str]:
    words = {"equivalent": "reproduced", "different": "different"}
    return words.get(pooled["verdict"], "inconclusive"), \
        f"90 % interval [{pooled['low90']:.2f}, {pooled['high90']:.2f}]"


def _all_gain(pooled: dict, single: list[dict]) -> tuple[str, str]:
    rising = all(s["difference"] > 0 for s in single)
    found = "reproduced" if pooled["low"] > 0 and rising else \
        "different" if pooled["high"] < 0 else "inconclusive"
    return found, _gains(single)


def _some_do_not_gain(pooled: dict, single: list[dict]) -> tuple[str, str]:
    found = "reproduced" if any(s["high"] < 0 or s["verdict"] == "equivalent" for s in single) \
        else "different" if all(s["low"] > 0 for s in single) else "inconclusive"
    return found, _gains(single)


def _gains(single: list[dict]) -> str:
    return (f"{sum(s['difference'] > 0 for s in single)} of {len(single)} cells gain, "
            f"{sum(s['low'] > 0 for s in single)} surely, "
            f"{sum(s['high'] < 0 for s in single)} surely lose")


RULES: dict[str, Callable | None] = {
    "mostly_equivalent": _mostly_equivalent, "equivalent": _equivalent, "widest": None,
    "all_gain": _all_gain, "some_do_not_gain": _some_do_not_gain}
