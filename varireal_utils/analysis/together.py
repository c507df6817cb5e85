"""What two studies of one quantity say together: an estimate, never a verdict.

A claim that stays undecided is asked again of other replicates, and each study keeps its verdict.
That both would be pooled was not registered, and the second exists because the first was undecided,
so the estimate here decides nothing.

symbols   n      replicates of a study
          se     standard error of a study's mean over its replicates, points
          df     degrees of freedom

The mean weighs every replicate alike, whatever its study's spread; df by Satterthwaite 1946, since
spreads differ where the second study takes the mean of two halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy import stats

SAME = ("F1", "F2", "F3")  # ask for the first claim's number; F4 asks it of other edits
TRUSTED = ("reproduced", "different", "inconclusive")  # verdicts of a study whose gates hold


@dataclass(frozen=True)
class Together:
    """mean, se and bounds in points; low, high: 95 %; low90, high90: 90 %; units: replicates."""

    mean: float
    se: float
    df: float
    units: int
    low: float
    high: float
    low90: float
    high90: float


def comparable(first: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Whether two rows of claims.csv are of one quantity, each of a study that may be trusted."""
    return again["claim"] in SAME and all(row["verdict"] in TRUSTED for row in (first, again))


def both(first: Mapping[str, Any], again: Mapping[str, Any]) -> Together:
    """Two rows of claims.csv (ours, low90, high90 in points; units: replicates, at least two)."""
    rows = (first, again)
    counts = [int(row["units"]) for row in rows]
    whole = sum(counts)
    mean = sum(n * row["ours"] for n, row in zip(counts, rows, strict=True)) / whole
    parts = [(n / whole * _se(row)) ** 2 for n, row in zip(counts, rows, strict=True)]
    variance = sum(parts)
    df = variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, counts, strict=True))
    se = variance**0.5
    half, half90 = (float(stats.t.ppf((1 + level) / 2, df)) * se for level in (0.95, 0.90))
    bounds = (mean - half, mean + half, mean - half90, mean + half90)
    return Together(float(mean), float(se), float(df), whole, *map(float, bounds))


def _se(row: Mapping[str, Any]) -> float:
    """The standard error behind a 90 % interval of a t distribution."""
    return (row["high90"] - row["low90"]) / 2 / float(stats.t.ppf(0.95, row["units"] - 1))
