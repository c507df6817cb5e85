import time

import numpy as np
import pytest

from varireal_utils.analysis import bootstrap


def study(rng, seeds=5, images=400, shift=0.0, between_seeds=0.01, hard=1.0):
    """Two arms that share seeds' luck on images; `shift` is the true difference in accuracy."""
    difficulty = rng.normal(0, hard, images)  # shared by arms and seeds
    arm = rng.normal(0, 0.3, (2, images))  # an image may suit one arm

    def table(i, gain):
        luck = rng.normal(0, between_seeds, (seeds, 1))
        p = np.clip(0.7 + gain + luck + 0.1 * (difficulty + arm[i]), 0.0, 1.0)
        return rng.random((seeds, images)) < p

    return table(0, shift), table(1, 0.0)


def test_identical_arms_have_a_null_interval():
    a, _ = study(np.random.default_rng(0))
    d = bootstrap.difference(a, a)
    assert (d.mean, d.low, d.high, d.low90, d.high90, d.se) == (0, 0, 0, 0, 0, 0)


def test_a_known_shift_is_recovered():
    rng = np.random.default_rng(1)
    b = rng.random((5, 2000)) < 0.6
    a = b.copy()
    flips = [rng.choice(np.flatnonzero(~row), 100, replace=False) for row in b]
    for row, where in zip(a, flips, strict=True):
        row[where] = True  # exactly five points
    d = bootstrap.difference(a, b)
    assert d.mean == pytest.approx(5.0)
    assert 3.5 < d.low < 5 < d.high < 6.5


@pytest.mark.parametrize(("seeds", "between"), [(5, 0.0), (5, 0.03), (2, 0.0), (2, 0.02), (1, 0.0)])
def test_coverage_of_the_interval(seeds, between):
    """300 simulated studies: never too short, also with two seeds whose spread is below what
    chance gives (88 % where it was subtracted and cut at 0), but too wide."""
    rng = np.random.default_rng(7)
    inside = 0
    for i in range(300):
        a, b = study(rng, seeds, 150, shift=0.04, between_seeds=between, hard=0.5)
        d = bootstrap.difference(a, b, resamples=300, seed=i)
        inside += d.low <= 4.0 <= d.high
    assert 0.92 * 300 <= inside, inside / 300


def test_coverage_of_a_single_arm():
    rng = np.random.default_rng(3)
    # with Beta accuracies per image the true mean is known: 0.75
    inside = 0
    for i in range(300):
        p = rng.beta(3, 1, 150)
        got = bootstrap.interval(rng.random((4, 150)) < p, resamples=300, seed=i)
        inside += got.low <= 75 <= got.high
    assert 0.93 * 300 <= inside, inside / 300


def test_order_of_images_and_arms_does_not_matter():
    a, b = study(np.random.default_rng(2))
    order = np.random.default_rng(0).permutation(a.shape[1])
    d, e = (
        bootstrap.difference(a, b, resamples=20000),
        bootstrap.difference(a[:, order], b[:, order], resamples=20000),
    )
    assert d.se == pytest.approx(e.se)
    assert d.low == pytest.approx(e.low, abs=0.1)
    assert bootstrap.difference(b, a).mean == pytest.approx(-d.mean)


def test_pooling_weights_tables_equally_and_narrows():
    rng = np.random.default_rng(4)
    pairs = [study(rng, 5, n, shift=0.03) for n in (200, 400, 800)]
    one = [bootstrap.difference(a, b) for a, b in pairs]
    pooled = bootstrap.difference([a for a, _ in pairs], [b for _, b in pairs])
    assert pooled.mean == pytest.approx(np.mean([d.mean for d in one]))
    assert pooled.se == pytest.approx(np.sqrt(sum(d.se**2 for d in one)) / 3)
    assert pooled.images == 1400


def test_mcnemar_is_the_exact_binomial():
    a = np.array([1] * 30 + [0] * 10 + [1] * 9 + [0] * 1, bool)
    b = np.array([1] * 30 + [0] * 10 + [0] * 9 + [1] * 1, bool)
    got = bootstrap.mcnemar(a, b)
    assert (got["only_a"], got["only_b"]) == (9, 1)
    assert got["p"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert bootstrap.mcnemar(a, a)["p"] == 1.0


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="not paired"):
        bootstrap.difference(np.ones((2, 5)), np.ones((3, 5)))
    with pytest.raises(ValueError, match="at least one"):
        bootstrap.interval(np.ones((0, 5)))


def test_speed_of_a_whole_study():
    a, b = study(np.random.default_rng(0))
    start = time.perf_counter()
    for _ in range(20):
        bootstrap.difference(a, b, resamples=2000)
    assert time.perf_counter() - start < 10
