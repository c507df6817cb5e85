"""The rules by which claims are decided. Adding one is one function and one line of RULES.

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

"equivalent" and "different" of pooled quantities are verdict.of_interval's; above and below 0 are
said of 95 % intervals. "(Holm)": by the t tests' p values after Holm's correction over the claim's
cells, at 5 %, so that a cell is wrongly counted in at most one of twenty studies; "every cell"
needs no correction. Verdicts of different claims are not corrected for each other.

A claim that is neither is *equivalent* where its pooled quantity lies within the margin (for
`widest`: every contrast), else *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from .contrasts import Members, by_dataset, estimate


@dataclass(frozen=True)
class Evidence:
    """What a rule decides by. members: cell -> contrast (seeds, images); margin in points;
    options: of bootstrap.interval; single: the estimate of each cell; pooled: of all."""

    members: Members
    margin: float
    options: dict[str, Any]
    single: list[dict[str, Any]]
    pooled: dict[str, Any]

    @classmethod
    def of(cls, members: Members, margin: float, options: dict[str, Any]) -> Evidence:
        """The evidence of a claim's cells."""
        single = [estimate([t], margin, **options) for t in members.values()]
        return cls(
            members, margin, options, single, estimate(by_dataset(members), margin, **options)
        )


@dataclass(frozen=True)
class Outcome:
    """What a rule found: the word, what the claim's row shows, and what it rests on.

    confidence: level of the bounds low and high of `pooled`, 0..1.
    """

    found: str
    detail: str
    pooled: dict[str, Any]
    members: Members
    confidence: float


Rule = Callable[[Evidence], Outcome]


def _outcome(evidence: Evidence, found: str, detail: str) -> Outcome:
    if found == "inconclusive" and evidence.pooled["verdict"] == "equivalent":
        found = "equivalent"
    level = evidence.options.get("confidence", 0.95)
    return Outcome(found, detail, evidence.pooled, evidence.members, level)


def mostly_equivalent(evidence: Evidence) -> Outcome:
    """Reproduced where more than half of the cells are equivalent."""
    single = evidence.single
    same, other = (_rejected([s[p] for s in single]) for p in ("p_equivalence", "p"))
    other &= ~same
    equal, unequal = int(same.sum()), int(other.sum())
    found = (
        "reproduced"
        if 2 * equal > len(single)
        else "different"
        if 2 * unequal >= len(single)
        else "inconclusive"
    )
    size = np.abs([s["difference"] for s in single])
    return _outcome(
        evidence,
        found,
        f"{equal} cells equivalent, {unequal} different of {len(single)}; median size "
        f"{np.median(size):.2f}",
    )


def equivalent(evidence: Evidence) -> Outcome:
    """Reproduced where the pooled quantity is equivalent."""
    pooled = evidence.pooled
    words = {"equivalent": "reproduced", "different": "different"}
    found = words.get(pooled["verdict"], "inconclusive")
    return _outcome(
        evidence, found, f"90 % interval [{pooled['low90']:.2f}, {pooled['high90']:.2f}]"
    )


def widest(evidence: Evidence) -> Outcome:
    """Reproduced where the widest contrast of the first key's values excludes 0, at a Bonferroni
    level; the claim's row shows that contrast and its simultaneous interval."""
    names = list(dict.fromkeys(k[1] for k in evidence.members))
    level = 1 - (1 - evidence.options.get("confidence", 0.95)) / len(names)
    parts = {n: {k: t for k, t in evidence.members.items() if k[1] == n} for n in names}
    found = {
        n: estimate(by_dataset(part), evidence.margin, **(evidence.options | {"confidence": level}))
        for n, part in parts.items()
    }
    top = max(names, key=lambda n: abs(found[n]["difference"]))
    best = found[top]
    word = (
        "reproduced"
        if best["low"] > 0 or best["high"] < 0
        else "equivalent"
        if all(c["verdict"] == "equivalent" for c in found.values())
        else "inconclusive"
    )
    detail = (
        f"{top.replace(' ', ' minus ')}; interval at {100 * level:.1f} % for {len(names)} contrasts"
    )
    return Outcome(word, detail, best, parts[top], level)


def all_gain(evidence: Evidence) -> Outcome:
    """Reproduced where the pooled gain and every cell's mean are above 0."""
    pooled = evidence.pooled
    found = (
        "reproduced"
        if pooled["low"] > 0 and all(s["difference"] > 0 for s in evidence.single)
        else "different"
        if pooled["high"] < 0
        else "inconclusive"
    )
    return _outcome(evidence, found, _gains(evidence.single))


def some_do_not_gain(evidence: Evidence) -> Outcome:
    """Reproduced where some cell's gain is less than the margin."""
    p = [_p_no_gain(s, evidence.margin) for s in evidence.single]
    found = (
        "reproduced"
        if _rejected(p).any()
        else "different"
        if all(s["low"] > 0 for s in evidence.single)
        else "inconclusive"
    )
    return _outcome(evidence, found, _gains(evidence.single))


def _rejected(p: list[float]) -> np.ndarray:
    """Which of a claim's cells pass at 5 % after Holm's correction."""
    return multipletests(p, alpha=0.05, method="holm")[0]


def _p_no_gain(cell: dict[str, Any], margin: float) -> float:
    """p value of the one-sided t test that a gain is less than the margin."""
    if cell["se"] == 0:
        return float(cell["difference"] >= margin)
    return float(sps.t.sf((margin - cell["difference"]) / cell["se"], cell["df"]))


def _gains(single: list[dict[str, Any]]) -> str:
    return (
        f"{sum(s['difference'] > 0 for s in single)} of {len(single)} cells gain, "
        f"{sum(s['low'] > 0 for s in single)} surely, "
        f"{sum(s['high'] < 0 for s in single)} surely lose"
    )


RULES: dict[str, Rule] = {
    "mostly_equivalent": mostly_equivalent,
    "equivalent": equivalent,
    "widest": widest,
    "all_gain": all_gain,
    "some_do_not_gain": some_do_not_gain,
}
