"""Is one training set better than another: intervals, equivalence, and what would settle it.

The reference reports one seed per arm and reads differences of 0.3 points
(docs/protocol.md, C4, 24).
Here an arm is a table of right and wrong answers, seeds x test images, and both arms of a
comparison share seeds and images.

symbols   S, N     seeds, test images
          correct  (S, N)     bool, did the classifier of this seed get this image right
          d        (S, N)     float, correct_a - correct_b, in {-1, 0, 1}
          margin   float      half width of the equivalence band, in points (0.3)
          points              percentage points of top-1 accuracy: 100 * mean

**Two-level bootstrap.** A new study would draw new seeds and new test images, so both are drawn
again, with replacement; the same images for all seeds and for both arms. Left like this it counts
the seed x image noise three times and, with few seeds, seed noise too little (Owen 2007, "The
pigeonhole bootstrap"). So its deviations are scaled to the unbiased variance of the two-way table,

    V = (MS_seeds - MS_residual)+ / (S N)  +  MS_images / (S N),

and by t / z at Satterthwaite's degrees of freedom, as a few seeds say little of their own spread.
With one seed only the images vary, and the interval speaks of that one training.

Invariant: identical arms give 0 [0, 0]; an interval does not depend on the order of the images.
A list of tables is a pooled comparison: each table (a data set, say) has the same weight, its own
images, and is drawn independently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as sps
from statsmodels.stats import contingency_tables

CELLS = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True)
class Interval:
    """mean and bounds in points; se: standard error; low90, high90: for the equivalence test; df:
    degrees of freedom of the variance; p: of the two-sided test that the mean is 0."""

    mean: float
    low: float
    high: float
    low90: float
    high90: float
    se: float
    seeds: int
    images: int
    df: float = math.inf
    p: float = math.nan


@dataclass(frozen=True)
class Variance:
    """Of the mean over one table, split: seeds and images (1.0 = per seed, per image)."""

    seeds: float  # sigma_a^2: between seeds, beyond what the images explain
    images: float  # sigma_b^2: between images, shared by the seeds
    residual: float  # sigma_e^2: seed x image
    of_mean: float  # V
    df: float  # Satterthwaite's


def variance(table: np.ndarray) -> Variance:
    """Unbiased two-way analysis of (S, N); components below zero count as zero in V."""
    s, n = table.shape
    if s == 1:
        b = float(table[0].var(ddof=1)) if n > 1 else 0.0
        return Variance(0.0, b, 0.0, b / n, max(n - 1, 1))
    rows, columns, grand = table.mean(1), table.mean(0), table.mean()
    ms_a = n * rows.var(ddof=1)
    ms_b = s * columns.var(ddof=1) if n > 1 else 0.0
    rest = table - rows[:, None] - columns[None] + grand
    ms_e = (rest**2).sum() / max((s - 1) * (n - 1), 1)
    extra = max(ms_a - ms_e, 0.0)
    of_mean = (extra + ms_b) / (s * n)
    spread = ms_b**2 / max(n - 1, 1)
    if extra > 0:
        spread += ms_a**2 / (s - 1) + ms_e**2 / max((s - 1) * (n - 1), 1)
    df = (extra + ms_b) ** 2 / spread if spread > 0 else float(n)
    return Variance(
        float(extra / n),
        float(max(ms_b - ms_e, 0.0) / s),
        float(ms_e),
        float(of_mean),
        float(max(df, 1.0)),
    )


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
        rng = np.random.default_rng([seed, i])
        s, n = table.shape
        of_seeds = rng.multinomial(s, np.full(s, 1 / s), size=resamples)  # (R, S)
        of_images = rng.multinomial(n, np.full(n, 1 / n), size=resamples)  # (R, N)
        total += np.einsum("rn,rn->r", of_seeds @ table, of_images) / (s * n)
    return total / len(tables)


def interval(
    cells: CELLS, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean and two-level bootstrap interval, in points, of (S, N) right and wrong answers."""
    tables = _tables(cells)
    parts = [variance(t) for t in tables]
    mean = float(np.mean([t.mean() for t in tables]))
    v = sum(p.of_mean for p in parts) / len(parts) ** 2
    df = sum(p.of_mean for p in parts) ** 2 / (sum(p.of_mean**2 / p.df for p in parts) or 1.0)
    deviations = draws(tables, resamples, seed) - mean
    spread = float(deviations.std())
    bounds = []
    for level in (confidence, 0.90):
        upper = (1 + level) / 2
        scale = math.sqrt(v) / spread if spread > 0 else 0.0
        scale *= float(sps.t.ppf(upper, max(df, 1.0)) / sps.norm.ppf(upper)) if v > 0 else 0.0
        bounds += list(mean + scale * np.quantile(deviations, [1 - upper, upper]))
    low, high, low90, high90 = (100 * float(b) for b in bounds)
    df = max(df, 1.0)
    p = 2 * float(sps.t.sf(abs(mean) / math.sqrt(v), df)) if v > 0 else float(mean == 0)
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
        p,
    )


def p_equivalence(estimate: Interval, margin: float) -> float:
    """p value of two one-sided t tests: the larger of "below -margin" and "above margin"."""
    if estimate.se == 0:
        return float(abs(estimate.mean) >= margin)
    return float(
        max(
            sps.t.sf((estimate.mean + margin) / estimate.se, estimate.df),
            sps.t.sf((margin - estimate.mean) / estimate.se, estimate.df),
        )
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


def needed(cells: CELLS, margin: float, power: float = 0.8) -> dict:
    """How large a study would show equivalence within `margin` points, were there no difference.

    Normal approximation: the standard error must reach margin / (z_.95 + z_(1+power)/2). Returns
    se_wanted (points); seeds, with the images as they are; images (per table), with the seeds as
    they are. None where no number suffices, because the other source of noise alone is too large.
    """
    tables = _tables(cells)
    parts = [variance(t) for t in tables]
    wanted = margin / 100 / (sps.norm.ppf(0.95) + sps.norm.ppf((1 + power) / 2))
    target = wanted**2 * len(tables) ** 2  # for the sum over tables of V
    s = np.array([t.shape[0] for t in tables])
    n = np.array([t.shape[1] for t in tables])
    a, b, e = (np.array([getattr(p, k) for p in parts]) for k in ("seeds", "images", "residual"))
    left_for_seeds = target - (b / n).sum()
    left_for_images = target - (a / s).sum()
    seeds_ = (a + e / n).sum() / left_for_seeds if left_for_seeds > 0 else math.inf
    images = (b + e / s).sum() / left_for_images if left_for_images > 0 else math.inf
    whole = [None if math.isinf(x) else max(1, math.ceil(x - 1e-9)) for x in (seeds_, images)]
    return {"se_wanted": 100 * wanted, "seeds": whole[0], "images": whole[1]}


def power(cells: CELLS, margin: float, seeds: int) -> dict:
    """What a study of `seeds` seeds on the same images would give, by the variances of this one.

    Normal approximation, as `needed`. Returns seeds, se (points), equivalent (chance of that
    verdict were there no difference), detectable (points; the difference found with 80 % power).
    """
    parts = [(variance(t), t.shape[1]) for t in _tables(cells)]
    v = sum((p.seeds + p.residual / n) / seeds + p.images / n for p, n in parts)
    se = 100 * math.sqrt(v) / len(parts)
    z = (margin / se if se > 0 else math.inf) - sps.norm.ppf(0.95)
    return {
        "seeds": seeds,
        "se": se,
        "equivalent": max(0.0, 2 * float(sps.norm.cdf(z)) - 1),
        "detectable": float(sps.norm.ppf(0.975) + sps.norm.ppf(0.8)) * se,
    }
