"""Inference from replicates: known answers, borders, and the exact bound."""

import numpy as np
import pytest
from scipy import stats as sps
from statsmodels.stats.weightstats import DescrStatsW

from varireal_utils.analysis import inference


def test_estimate_is_the_t_test_and_the_two_one_sided_tests():
    values = np.random.default_rng(0).normal(0.1, 0.4, 12)
    got = inference.estimate(values, 0.3)
    known = DescrStatsW(values)
    assert (got.low, got.high) == pytest.approx(known.tconfint_mean(0.05))
    assert (got.low90, got.high90) == pytest.approx(known.tconfint_mean(0.10))
    assert got.p == pytest.approx(known.ttest_mean(0)[1]) and got.df == 11
    assert got.p_within == pytest.approx(known.ttost_mean(-0.3, 0.3)[0])
    beyond = sps.ttest_1samp(values, 0.3, alternative="greater").pvalue
    assert got.p_beyond == pytest.approx(min(1, 2 * beyond))


def test_bounds_and_p_values_say_the_same():
    """One distribution: an interval excludes a value exactly if the p value is under its level."""
    many = np.random.default_rng(1).normal(0.15, 0.4, (4000, 8))
    got = inference.estimate(many, 0.3)
    assert np.array_equal((got.low > 0) | (got.high < 0), got.p < 0.05)
    assert np.array_equal((got.low90 > -0.3) & (got.high90 < 0.3), got.p_within < 0.05)
    assert np.array_equal((got.low > 0.3) | (got.high < -0.3), got.p_beyond < 0.05)


def test_one_replicate_says_nothing_and_no_spread_is_no_error():
    alone = inference.estimate(np.array([0.7]), 0.3)
    assert alone.low == -np.inf and alone.p == alone.p_within == alone.p_beyond == 1
    still = inference.estimate(np.zeros(5), 0.3)
    assert (still.low, still.high, still.p, still.p_within, still.p_beyond) == (0, 0, 1, 0, 1)
    at_the_margin = inference.estimate(np.full(5, 0.3), 0.3)
    assert at_the_margin.p_within == at_the_margin.p_beyond == 1


def test_hotelling_is_the_paired_t_test_for_two_and_manova_for_more():
    rng = np.random.default_rng(2)
    two = rng.normal(size=(9, 2))
    p, above, free = inference.hotelling(two)
    assert p == pytest.approx(sps.ttest_rel(two[:, 0], two[:, 1]).pvalue)
    assert (above, free) == (1, 8)
    shape = rng.normal(size=(4, 4))
    null = rng.normal(size=(4000, 12, 4)) @ shape.T + rng.normal(size=(4000, 12, 1))
    p, above, free = inference.hotelling(null)  # correlated, and a shift shared by all
    assert (above, free) == (3, 9)
    assert sps.kstest(p, "uniform").pvalue > 1e-3
    few, _, free = inference.hotelling(null[:, :3])
    assert free == 0 and (few == 1).all()


def test_scheffe_intervals_hold_zero_for_every_contrast_exactly_if_hotelling_does():
    rng = np.random.default_rng(3)
    for _ in range(50):
        cells = rng.normal(0, 1, (10, 3)) + rng.normal(0, 0.8, 3)
        p, _, _ = inference.hotelling(cells)
        steps = cells[:, 1:] - cells[:, :1]
        best = np.linalg.solve(np.cov(steps.T), steps.mean(0))  # the contrast that differs most
        value = steps @ best
        t = abs(value.mean()) / (value.std(ddof=1) / np.sqrt(10))
        assert (t > inference.scheffe(cells)) == (p < 0.05)


def test_the_exact_bound_is_the_rule_of_three_and_grows_with_few_disagreements():
    assert inference.exact_bound(0, 1000) == pytest.approx(0.3, abs=0.002)
    assert inference.exact_bound(0, 16) > 15  # four photographs in four replicates
    assert inference.exact_bound(1, 1200) == pytest.approx(0.394, abs=0.01)
    assert inference.exact_bound(5000, 48_000) == inference.exact_bound(0, 48_000) < 0.01
    assert inference.exact_bound(0, 0) == np.inf


def test_all_pairs_are_compared():
    cells = np.arange(12.0).reshape(3, 4)
    assert inference.spreads(cells).shape == (6, 3)
    assert inference.spreads(cells)[0].tolist() == [-1, -1, -1]
