"""Decides every verdict, from what the rules, the gates and the placebo say.

    reproduced      the claim holds by its rule (claim_rules.py)
    different       its opposite holds
    inconclusive    neither is shown
    not valid       a condition of the comparison fails (gates.py), whatever the numbers say
    withheld        the placebo is not shown to be null, so no difference can be trusted
    no verdict      one draw, replicates that are too few or not all there, or cells missing
    not run         recipes that the claim needs were not trained

README, CSV, report and figures print the column `verdict` that `decide` fills; no other number has
a verdict. Within a registered family the p values are corrected by Holm's method, over all claims
of the family; one that has no verdict counts with p = 1, so a family never shrinks.

A claim's gates are conditions, fixed before the runs: the placebo's is decided here, those that
are measured in gates.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .inference import LEAST

ALPHA = 0.05
PLACEBO = "placebo"  # gate, and family of the claim that it asks
VERDICTS = (
    "reproduced",
    "different",
    "inconclusive",
    "not valid",
    "withheld",
    "no verdict",
    "not run",
)
ONE_DRAW = (
    "one draw: its seeds are further starts on the same photographs, phrases and edits, "
    "not replicates"
)


@dataclass(frozen=True)
class Finding:
    """What is known of one claim before its verdict.

    p_holds, p_denied: of its rule, 1 where it was not asked; cells, of: cells found and planned;
    replicates: that are all there, 0 for a study of one draw; planned: by the parameters, None
    where they do not say; least: replicates that the rule needs; bound: inference.exact_bound,
    points; failing: gates that fail, in words, "" for none; placebo: whether the claim asks for
    one.
    """

    claim: str
    family: str
    p_holds: float = 1.0
    p_denied: float = 1.0
    cells: int = 0
    of: int = 0
    replicates: int = 0
    planned: int | None = None
    least: int = LEAST
    bound: float = 0.0
    margin: float = 0.3
    failing: str = ""
    placebo: bool = True


@dataclass(frozen=True)
class Verdict:
    """word: one of VERDICTS; because: why none of the first three, else ""; p: the smaller p value
    of the claim's two directions, and after Holm's correction over its family; NaN without one."""

    word: str
    because: str = ""
    p: float = float("nan")
    p_holm: float = float("nan")


def decide(findings: Sequence[Finding], alpha: float = ALPHA) -> dict[str, Verdict]:
    """Claim -> verdict, of all claims of a study together: families and placebo need them all."""
    out = {f.claim: _without_a_test(f) for f in findings}
    for family in dict.fromkeys(f.family for f in findings):
        members = [f for f in findings if f.family == family]
        p = [1.0 if out[f.claim] else min(f.p_holds, f.p_denied, 1.0) for f in members]
        corrected = holm(p)
        for f, raw, adjusted in zip(members, p, corrected, strict=True):
            if out[f.claim] is None:
                word = "reproduced" if f.p_holds < f.p_denied else "different"
                word = word if adjusted <= alpha else "inconclusive"
                out[f.claim] = Verdict(word, "", float(raw), float(adjusted))
    held = _placebo_because(findings, out)
    for f in findings:
        found = out[f.claim]
        if held and f.placebo and found and found.word in VERDICTS[:3]:
            out[f.claim] = Verdict("withheld", held, found.p, found.p_holm)
    return {claim: found for claim, found in out.items() if found}


def holm(p: Sequence[float]) -> np.ndarray:
    """p values after Holm's correction, as statsmodels' multipletests gives them; that one collects
    garbage at every call, a quarter of a second, which simulations cannot afford."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw)
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    out = np.empty_like(raw)
    out[order] = np.minimum(stepped, 1.0)
    return out


def _without_a_test(f: Finding) -> Verdict | None:
    """The verdict that no p value can change, or None."""
    if not f.cells:
        return Verdict("not run")
    if f.failing:
        return Verdict("not valid", f.failing)
    if not f.replicates:
        return Verdict("no verdict", ONE_DRAW)
    if f.planned is not None and f.replicates != f.planned:
        said = f"{f.replicates} of {f.planned} planned replicates: no look before the last"
        return Verdict("no verdict", said)
    if f.replicates < f.least:
        return Verdict("no verdict", f"too few replicates: {f.replicates}, wanted {f.least}")
    if f.cells < f.of:
        return Verdict("no verdict", f"incomplete: {f.cells} of {f.of} cells were run")
    if f.bound > f.margin:
        said = (
            f"too few replicates: their test images cannot exclude a difference of {f.bound:.2f} "
            f"points, the margin is {f.margin:g}"
        )
        return Verdict("no verdict", said)
    return None


def _placebo_because(findings: Sequence[Finding], found: Mapping[str, Verdict | None]) -> str:
    """Why the placebo does not carry other verdicts; "" where it does."""
    asked = [f for f in findings if f.family == PLACEBO]
    if not asked:
        return "no placebo is registered"
    words = {f.claim: v.word for f in asked if (v := found[f.claim])}
    poor = [f"{claim} is {word}" for claim, word in words.items() if word != "reproduced"]
    return f"the placebo fails: {', '.join(poor)}" if poor else ""


def interval_text(row: Mapping[str, Any]) -> str:
    """An estimate with its interval and level, as "-0.77 [-2.23, +0.94]" at the usual 95 %, else
    "-0.77 [-2.23, +0.94] (98.3 %)"; without bounds (few.without_few) "-0.77", and "" where there
    is no estimate.

    row: ours, low, high (points), confidence (0..1).
    """
    if pd.isna(row["ours"]):
        return ""
    if pd.isna(row["low"]):
        return f"{row['ours']:+.2f}"
    level = row.get("confidence", 0.95)
    usual = pd.isna(level) or abs(level - 0.95) < 1e-9
    end = "" if usual else f" ({100 * level:.1f} %)"
    return f"{row['ours']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]{end}"
