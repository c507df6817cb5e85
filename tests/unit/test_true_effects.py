"""The share of true effects within a margin, against statsmodels and on known worlds."""

import numpy as np
import pytest
from statsmodels.stats.meta_analysis import combine_effects

from varireal_utils.analysis import true_effects


def test_independent_cells_are_a_meta_analysis():
    rng = np.random.default_rng(0)
    for tau in (0.0, 0.3, 1.0):
        variance = rng.uniform(0.02, 0.2, 18)
        y = 0.2 + rng.normal(0, tau, 18) + rng.normal(0, np.sqrt(variance))
        known = combine_effects(y, variance, method_re="iterated")
        mu, se, tau2 = true_effects.combined(y, np.diag(variance))
        table = known.summary_frame()
        assert tau2 == pytest.approx(known.tau2, abs=1e-4)
        assert mu == pytest.approx(table.loc["random effect", "eff"], abs=1e-4)
        assert se == pytest.approx(table.loc["random effect", "sd_eff"], rel=1e-3)


def test_shared_noise_is_not_taken_for_agreement():
    """Noise that moves all cells together says nothing of their spread, but much of their mean."""
    y = np.full(6, 1.0)
    shared = 0.25 * (0.95 * np.ones((6, 6)) + 0.05 * np.eye(6))
    alone = 0.25 * np.eye(6)
    assert true_effects.combined(y, shared)[1] > 2 * true_effects.combined(y, alone)[1]
    first, second = (
        true_effects.posterior(y, s, 0.3, 0.5, 0.5, seed=1).probability for s in (shared, alone)
    )
    assert first > second


def test_the_posterior_finds_shares_that_are_known():
    s = 0.01 * np.eye(18)
    near = true_effects.posterior(np.zeros(18), s, 0.3, 0.5, 0.5)
    assert near.share > 0.95 and near.probability > 0.99
    far = true_effects.posterior(np.full(18, 1.0), s, 0.3, 0.5, 0.5)
    assert far.share < 0.01 and far.probability < 0.01
    half = np.where(np.arange(18) < 9, 0.0, 1.5)
    split = true_effects.posterior(half, s, 0.3, 0.5, 0.5)
    assert split.share == pytest.approx(0.5, abs=0.1)
    assert {round(18 * split.share_low), round(18 * split.share_high)} <= {8, 9, 10}
    wide = true_effects.posterior(np.zeros(18), 9 * np.eye(18), 0.3, 0.5, 0.5)
    assert 0.05 < wide.probability < 0.95  # no information, no verdict


def test_the_posterior_mean_is_that_of_the_draws_when_tau_is_known():
    """A prior that leaves no spread: all effects equal mu, which is normal around the GLS mean."""
    y, s = np.array([0.1, 0.4, 0.2]), np.diag([0.01, 0.02, 0.04])
    weight = 1 / np.diag(s)
    mu = weight @ y / weight.sum()
    found = true_effects.posterior(y, s, mu, 1e-4, 0.5)
    assert found.mu == pytest.approx(mu, abs=0.01)
    assert found.share == pytest.approx(0.5, abs=0.03)  # the margin is the mean itself


def test_noise_has_a_variance_for_each_training_and_one_correlation_within_data_sets():
    rng = np.random.default_rng(1)
    datasets, groups = ["a"] * 4 + ["b"] * 4, ["", "real+"] * 4
    draw = rng.normal(0, 1.0, (4000, 2))[:, [0] * 4 + [1] * 4]
    scale = np.array([2.0, 1.0] * 4)
    cells = scale * (np.sqrt(0.3) * draw + np.sqrt(0.7) * rng.normal(size=(4000, 8)))
    s = 4000 * true_effects.noise(cells, datasets, groups)
    assert np.diag(s) == pytest.approx(scale**2, rel=0.05)
    assert s[0, 1] == pytest.approx(0.3 * 2, rel=0.1) and (s[:4, 4:] == 0).all()
    few = true_effects.noise(cells[:4], datasets, groups)
    assert np.linalg.eigvalsh(few).min() > 0
    with pytest.raises(ValueError, match="one replicate"):
        true_effects.noise(cells[:1], datasets, groups)
