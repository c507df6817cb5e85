"""The distribution of true effects behind noisy cells: how many lie within a margin.

A cell's estimate is its true effect plus noise, and the true effects differ from cell to cell:

    y | theta ~ N(theta, S)          theta_i ~ N(mu, tau^2)
    mu: flat                         tau: half-normal of the scale stated in claims.yaml

symbols   k      cells
          y      (k,)     their estimates, points
          S      (k, k)   covariance of the noise, known
          theta  (k,)     true effects, points
          share  of the k true effects that lie within +-margin, 0..1

The noise of cells is not independent: arms of one data set share test images, and the photographs'
draw moves all of them. S is estimated from the replicates (`noise`): a variance for each group of
cells, and one correlation for cells of one data set, none across; a free covariance of 18 cells
would need far more than 20 replicates.

Checked in tests/unit/test_true_effects.py against statsmodels.stats.meta_analysis.combine_effects,
where S is diagonal. Sources: Paule and Mandel 1982; Gelman 2006 (half-normal prior of a spread).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

GRID = 41  # values of tau
DRAWS = 4000  # of the true effects
FAR = 4.0  # scales of the prior that the grid covers


@dataclass(frozen=True)
class Posterior:
    """share: mean and 95 % bounds, 0..1; probability: that the share is above the threshold;
    mu, tau: posterior means, points; effects: (k, 3) mean and 95 % bounds of each true effect."""

    share: float
    share_low: float
    share_high: float
    probability: float
    mu: float
    tau: float
    effects: np.ndarray


def noise(cells: np.ndarray, datasets: list[str], groups: list[str]) -> np.ndarray:
    """Covariance (k, k) of the cells' means, from (R, k) estimates of R replicates.

    datasets, groups: of each cell; the variance is pooled within a group (a training), the
    correlation over pairs of one data set, and it is 0 across data sets, whose photographs are
    drawn apart. Raises ValueError for one replicate, which has no spread.
    """
    count, k = cells.shape
    if count < 2:
        raise ValueError("one replicate has no spread: the noise of its cells is not known")
    names = np.asarray(groups)
    own = cells.var(0, ddof=1)
    pooled = np.array([own[names == g].mean() for g in names])
    scale = np.sqrt(pooled)
    centred = (cells - cells.mean(0)) / np.where(scale > 0, scale, 1.0)
    correlation = centred.T @ centred / (count - 1)
    together = np.equal.outer(np.asarray(datasets), np.asarray(datasets))
    off = together & ~np.eye(k, dtype=bool)
    common = float(correlation[off].mean()) if off.any() else 0.0
    size = int(together.sum(1).max())
    common = np.clip(common, -0.9 / max(size - 1, 1), 0.95)  # so that S is positive definite
    shape = np.where(np.eye(k, dtype=bool), 1.0, np.where(together, common, 0.0))
    return np.outer(scale, scale) * shape / count


def combined(y: np.ndarray, s: np.ndarray) -> tuple[float, float, float]:
    """(mu, its standard error, tau^2) by generalised least squares, tau^2 by Paule and Mandel's
    equation: the weighted squares equal their expectation, k - 1."""
    eye, k = np.eye(len(y)), len(y)

    def squares(tau2: float) -> float:
        weight = np.linalg.inv(s + tau2 * eye)
        rest = y - weight.sum(0) @ y / weight.sum()
        return float(rest @ weight @ rest) - (k - 1)

    high = 10.0 * float(np.var(y) + np.trace(s) / k) + 1e-12
    tau2 = float(optimize.brentq(squares, 0.0, high)) if squares(0.0) > 0 else 0.0
    weight = np.linalg.inv(s + tau2 * eye)
    return float(weight.sum(0) @ y / weight.sum()), float(weight.sum() ** -0.5), tau2


def posterior(
    y: np.ndarray, s: np.ndarray, margin: float, scale: float, threshold: float, seed: int = 0
) -> Posterior:
    """The share of true effects within +-margin, by a grid over tau and draws of the rest.

    scale: of tau's half-normal prior, points; threshold: of the share, 0..1.
    """
    k, one = len(y), np.ones(len(y))
    floor = 1e-12 * max(float(np.trace(s)) / k, 1e-12)  # cells that never vary
    taus = np.linspace(0.0, FAR * scale, GRID)
    covariance = s[None] + (taus**2 + floor)[:, None, None] * np.eye(k)
    inverse = np.linalg.inv(covariance)
    precision = inverse.sum((1, 2))  # of mu
    mus = inverse.sum(1) @ y / precision
    rest = y - mus[:, None]
    squares = np.einsum("gi,gij,gj->g", rest, inverse, rest)
    log = -0.5 * (np.linalg.slogdet(covariance)[1] + squares + np.log(precision))
    log -= 0.5 * (taus / scale) ** 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(GRID), rng.multinomial(DRAWS, weight))
    mu = mus[which] + rng.standard_normal(DRAWS) / np.sqrt(precision[which])
    theta = np.empty((DRAWS, k))
    for g in np.unique(which):
        here = which == g
        shrink = taus[g] ** 2 * inverse[g]
        spread = taus[g] ** 2 * (np.eye(k) - shrink)
        centre = mu[here, None] * one + (y - mu[here, None]) @ shrink.T
        root = np.linalg.cholesky(spread + floor * np.eye(k))
        theta[here] = centre + rng.standard_normal((here.sum(), k)) @ root.T
    share = (np.abs(theta) < margin).mean(1)
    low, high = np.quantile(share, [0.025, 0.975], method="inverted_cdf")
    bounds = np.quantile(theta, [0.025, 0.975], axis=0)
    return Posterior(
        float(share.mean()),
        float(low),
        float(high),
        float((share > threshold).mean()),
        float(mu.mean()),
        float(taus @ weight),
        np.column_stack([theta.mean(0), *bounds]),
    )
