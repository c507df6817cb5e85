"""Two studies of one quantity: every replicate weighs alike, and the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from varireal_utils.analysis import inference, together


def row(values: np.ndarray) -> dict:
    """A row of claims.csv of a study with these numbers of its replicates."""
    got = inference.estimate(values, 0.3)
    return {"ours": got.mean, "low90": got.low90, "high90": got.high90, "units": len(values)}


def test_the_mean_is_that_of_all_replicates_and_the_spread_is_each_studys_own():
    rng = np.random.default_rng(0)
    first, again = rng.normal(0.5, 0.9, 27), rng.normal(0.5, 0.6, 36)
    got = together.both(row(first), row(again))
    everything = np.concatenate([first, again])
    assert got.mean == pytest.approx(everything.mean()) and got.units == 63
    sums = 27 * first.var(ddof=1) + 36 * again.var(ddof=1)
    assert got.se == pytest.approx(np.sqrt(sums) / 63)
    even = together.both(row(first * 36), row(again * 27))  # weighs as a difference of means does
    assert even.df == pytest.approx(stats.ttest_ind(first, again, equal_var=False).df)
    assert got.high - got.mean == pytest.approx(stats.t.ppf(0.975, got.df) * got.se)
    assert got.mean - got.low90 == pytest.approx(stats.t.ppf(0.95, got.df) * got.se)


def test_its_interval_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(1), 0
    for _ in range(2000):
        got = together.both(row(rng.normal(0.2, 1.2, 6)), row(rng.normal(0.2, 0.5, 12)))
        held += got.low < 0.2 < got.high
    assert stats.binomtest(held, 2000, 0.95).pvalue > 0.001


def test_only_trusted_studies_of_one_quantity_are_comparable():
    first, again = ({"claim": c, "verdict": "inconclusive"} for c in ("E1", "F1"))
    assert together.comparable(first, again)
    assert not together.comparable(first, again | {"claim": "F4"})
    for verdict in ("withheld", "not valid", "no verdict", "not run"):
        assert not together.comparable(first | {"verdict": verdict}, again)
        assert not together.comparable(first, again | {"verdict": verdict})
