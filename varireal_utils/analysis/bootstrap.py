"""Intervals of one draw: over seeds and test images, for given training photographs and edits.

The reference reports one seed per arm and reads differences of 0.3 points
(docs/protocol.md, C4, 24).
Here an arm is a table of right and wrong answers, seeds x test images, and both arms of a
comparison share seeds and images.

symbols   S, N     seeds, test images
          correct  (S, N)     bool, did the classifier of this seed get this image right
          d        (S, N)     float, correct_a - correct_b, in {-1, 0, 1}
          points              percentage points of top-1 accuracy: 100 * mean

**Two-level bootstrap.** For a study of one draw: another one would draw new seeds and new test
images, so both are drawn again, with replacement; the same images for all seeds and for both arms.
Left like this it counts the seed x image noise three times and, with few seeds, seed noise too
little (Owen 2007, "The pigeonhole bootstrap"). So its deviations are scaled to

    V = (MS_seeds + MS_images) / (S N)

and by t / z at Satterthwaite's degrees of freedom, as a few seeds say little of their own spread.
V counts the residual twice, by MS_residual / (S N) too much. The unbiased V subtracts it, and where
the difference falls below zero its interval is too short: 88 % in place of 95 % at two seeds. With
one seed only the images vary, and the interval speaks of that one training.

No such interval covers another draw of training photographs, phrases or edits. Verdicts rest on
replicates (inference.py) alone.

Invariant: identical arms give 0 [0, 0]; an interval does not depend on the order of the images.
A list of tables is a pooled comparison: each table (a data set, say) has the same weight, its own
images, and is drawn independently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats as sps
from statsmodels.stats import contingency_tables

CELLS = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True)
class Interval:
    """mean and bounds in points; se: standard error; df: degrees of freedom of the variance."""

    mean: float
    low: float
    high: float
    low90: float
    high90: float
    se: float
    seeds: int
    images: int
    df: float = math.inf


def variance(table: np.ndarray) -> tuple[float, float]:
    """(V of the mean over a table (S, N), Satterthwaite's degrees of freedom)."""
    s, n = table.shape
    if s == 1:
        return (float(table[0].var(ddof=1)) / n if n > 1 else 0.0), max(n - 1, 1)
    ms_seeds = n * float(table.mean(1).var(ddof=1))
    ms_images = s * float(table.mean(0).var(ddof=1)) if n > 1 else 0.0
    spread = ms_seeds**2 / (s - 1) + ms_images**2 / max(n - 1, 1)
    df = (ms_seeds + ms_images) ** 2 / spread if spread > 0 else float(n)
    return (ms_seeds + ms_images) / (s * n), max(df, 1.0)


def _tables(cells: CELLS) -> list[np.ndarray]:
    tables = [cells] if isinstance(cells, np.ndarray) else list(cells)
    tables = [np.atleast_2d(np.asarray(t, dtype=np.float64)) for t in tables]
    if not tables or any(t.size == 0 or t.ndim != 2 for t in tables):
        raise ValueError(
            "Wanted one or more tables (seeds, images) with at least one entry; got "
            f"shapes {[t.shape for t in tables]}."
        )
    return tables


def draws(cells: CELLS, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """(resamples,) means of the plain two-level bootstrap, in the unit of the table."""
    tables, total = _tables(cells), np.zeros(resamples)
    for i, table in enumerate(tables):
        s, n = table.shape
        of_seeds, of_images = _counts(seed, i, s, n, resamples)
        total += np.einsum("rn,rn->r", of_seeds @ table, of_images) / (s * n)
    return total / len(tables)


@lru_cache(maxsize=8)
def _counts(seed: int, i: int, s: int, n: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (resamples, S) and each image (resamples, N) is drawn. Kept: the same
    for all tables of one shape, and drawing them takes longer than all the rest."""
    rng = np.random.default_rng([seed, i])
    return (
        rng.multinomial(s, np.full(s, 1 / s), size=resamples),
        rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64),
    )


def interval(
    cells: CELLS, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean and two-level bootstrap interval, in points, of (S, N) right and wrong answers."""
    tables = _tables(cells)
    parts = [variance(t) for t in tables]
    mean = float(np.mean([t.mean() for t in tables]))
    v = sum(of_mean for of_mean, _ in parts) / len(parts) ** 2
    squares = sum(of_mean**2 / df for of_mean, df in parts)
    df = max(sum(of_mean for of_mean, _ in parts) ** 2 / (squares or 1.0), 1.0)
    deviations = draws(tables, resamples, seed) - mean
    spread = float(deviations.std())
    bounds = []
    for level in (confidence, 0.90):
        upper = (1 + level) / 2
        scale = math.sqrt(v) / spread if spread > 0 else 0.0
        scale *= float(sps.t.ppf(upper, df) / sps.norm.ppf(upper)) if v > 0 else 0.0
        bounds += list(mean + scale * np.quantile(deviations, [1 - upper, upper]))
    low, high, low90, high90 = (100 * float(b) for b in bounds)
    return Interval(
        100 * mean,
        low,
        high,
        low90,
        high90,
        100 * math.sqrt(v),
        min(len(t) for t in tables),
        sum(t.shape[1] for t in tables),
        df,
    )


def difference(
    a: CELLS, b: CELLS, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Accuracy of `a` minus that of `b`, in points; same seeds and images, in the same order."""
    return interval(paired(a, b), confidence, resamples, seed)


def paired(a: CELLS, b: CELLS) -> list[np.ndarray]:
    """The tables a - b. Raises ValueError where the arms do not have the same shape."""
    first, second = _tables(a), _tables(b)
    shapes = [t.shape for t in first], [t.shape for t in second]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"The arms are not paired: shapes (seeds, images) {shapes[0]} against "
            f"{shapes[1]}. Use the seeds and images that both have."
        )
    return [x - y for x, y in zip(first, second, strict=True)]


def mcnemar(a: np.ndarray, b: np.ndarray) -> dict:
    """Exact McNemar test of one training against another on the same N test images.

    Returns only_a, only_b (images that only one of them gets right) and the two-sided p value.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"Wanted two vectors of equal length, got {a.shape} and {b.shape}.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = contingency_tables.mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue
    return {"only_a": only_a, "only_b": only_b, "p": float(p)}
