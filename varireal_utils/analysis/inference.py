"""Inference from replicates: estimate, interval and p values of one t distribution.

A replicate draws everything again that a new study would draw: photographs for training,
validation and test, phrases, noise of the edits, few-shot list and the classifier's starts. Its
estimate is one number, the mean over starts and test images; so the estimates are independent,
whatever varies from draw to draw, and their mean has a t distribution with R - 1 degrees of
freedom.

symbols   R       replicates
          values  (..., R)      estimates of one quantity, points
          cells   (..., R, k)   estimates of k quantities that belong together
          margin  half width of the equivalence band, points
          points  percentage points of top-1 accuracy

Every function works on the last axis or axes, so thousands of simulated studies are one call.

    p              two-sided, of no effect
    p_within       |effect| >= margin, by two one-sided tests: small where it lies within
    p_beyond       |effect| <= margin, two-sided: small where it lies beyond
    p_equal        all k quantities are equal (Hotelling's T squared)

Sources: Schuirmann 1987 (two one-sided tests); Hotelling 1931; Clopper and Pearson 1934.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats as sps
from statsmodels.stats.proportion import proportion_confint

from .few import LEAST as LEAST  # replicates without which no verdict is given

FEW = 10  # disagreements below which an exact bound is asked for, since t is not to be trusted


@dataclass(frozen=True)
class Estimate:
    """mean, se and bounds in points, from R - 1 degrees of freedom; low, high: two-sided at
    `confidence`; low90, high90: of the equivalence test. Arrays where several were estimated."""

    mean: Any
    se: Any
    df: int
    confidence: float
    low: Any
    high: Any
    low90: Any
    high90: Any
    p: Any
    p_within: Any
    p_beyond: Any


def estimate(values: np.ndarray, margin: float, confidence: float = 0.95) -> Estimate:
    """Mean, intervals and p values of replicates' estimates, (..., R).

    One replicate has no spread: its bounds are infinite and its p values 1.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1]
    mean = values.mean(-1)
    if count < 2:
        wide, one = np.full_like(mean, math.inf), np.ones_like(mean)
        return Estimate(mean, wide, 0, confidence, -wide, wide, -wide, wide, one, one, one)
    se, df = values.std(-1, ddof=1) / math.sqrt(count), count - 1
    half, half90 = (float(sps.t.ppf((1 + level) / 2, df)) * se for level in (confidence, 0.90))
    return Estimate(
        mean,
        se,
        df,
        confidence,
        mean - half,
        mean + half,
        mean - half90,
        mean + half90,
        _plain(2 * above(np.abs(mean), se, df)),
        above(margin - np.abs(mean), se, df),
        _plain(2 * above(np.abs(mean) - margin, se, df)),
    )


def _plain(p: np.ndarray) -> np.ndarray:
    """Twice a one-sided p value is at most 1."""
    return np.minimum(p, 1.0)


def above(distance: Any, se: Any, df: int) -> Any:
    """One-sided p value that a quantity is above a border which its estimate exceeds by `distance`;
    without spread 0 or 1, and 1 at the border."""
    distance, se = np.asarray(distance, dtype=np.float64), np.asarray(se, dtype=np.float64)
    if df < 1:
        return np.ones(np.broadcast(distance, se).shape)
    ratio = np.divide(distance, se, out=np.zeros(np.broadcast(distance, se).shape), where=se > 0)
    return np.where(se > 0, sps.t.sf(ratio, df), np.where(distance > 0, 0.0, 1.0))


def hotelling(cells: np.ndarray) -> tuple[Any, int, int]:
    """(p value that the k quantities of `cells`, (..., R, k), are equal, and F's two degrees of
    freedom). With R < k the test does not exist: p is 1."""
    cells = np.asarray(cells, dtype=np.float64)
    count, k = cells.shape[-2:]
    free = count - (k - 1)
    if free < 1 or k < 2:
        return np.ones(cells.shape[:-2]), k - 1, free
    steps = cells[..., 1:] - cells[..., :1]
    mean = steps.mean(-2)
    rest = steps - mean[..., None, :]
    covariance = np.einsum("...ri,...rj->...ij", rest, rest) / (count - 1)
    inverse = np.linalg.pinv(covariance, hermitian=True)  # quantities may be equal throughout
    squared = count * np.einsum("...i,...ij,...j->...", mean, inverse, mean)
    return sps.f.sf(squared * free / ((k - 1) * (count - 1)), k - 1, free), k - 1, free


def scheffe(cells: np.ndarray, confidence: float = 0.95) -> float:
    """The t quantile that makes intervals of all contrasts of k quantities simultaneous, so that
    they agree with `hotelling`; infinite where that test does not exist."""
    count, k = np.asarray(cells).shape[-2:]
    free = count - (k - 1)
    if free < 1:
        return math.inf
    return math.sqrt((k - 1) * (count - 1) / free * sps.f.ppf(confidence, k - 1, free))


def pairs(k: int) -> list[tuple[int, int]]:
    """Every pair of k quantities."""
    return [(i, j) for i in range(k) for j in range(i + 1, k)]


def spreads(cells: np.ndarray) -> np.ndarray:
    """(..., k (k - 1) / 2, R) differences of every pair of the quantities of (..., R, k)."""
    first, second = zip(*pairs(cells.shape[-1]), strict=True)
    return np.swapaxes(cells[..., list(first)] - cells[..., list(second)], -1, -2)


def exact_bound(disagreements: int, images: int) -> float:
    """What a study of so many test images cannot exclude, in points: the upper 95 % bound
    (Clopper and Pearson, one-sided) of the share of test images on which the arms disagree.

    Without a disagreement that is the rule of three, about 300 / images. Where arms disagree
    often, gains and losses cancel, and the bound says nothing of their difference: it is 300 /
    images then, the share that could have been missed altogether.
    """
    if images < 1:
        return math.inf
    seen = disagreements if disagreements < FEW else 0
    return 100 * float(proportion_confint(seen, images, alpha=0.10, method="beta")[1])
