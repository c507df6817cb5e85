"""The statistics on simulated studies whose truth is known: 1000 of each kind, binomial limits.

A study draws its seeds and its test images from the model that stats.variance describes,
d = truth + seed + image + seed x image, and then only right and wrong answers are kept, so that
nothing is normal but everything is known: the truth is the mean of d over all studies.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps

from tests.unit.test_stats import decided
from tests.unit.test_tables import asked_for
from varireal_utils.analysis import bootstrap, effects, load, sample_size
from varireal_utils.analysis.contrasts import ATTRIBUTES
from varireal_utils.core import storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.training import recipes

STUDIES = 1000
SURE = 1e-4  # a correct program fails one of these tests this seldom
SHAPES = [(3, 200, 0.02), (5, 150, 0.0), (10, 100, 0.03)]  # seeds, test images, sd between seeds


def studies(
    seeds: int, images: int, between: float, truth: float, start: int, count: int = STUDIES
):
    """`count` pairs of (seeds, images) bool answers; truth: mean of first minus second, 0..1.

    For each image and seed one uniform number is compared with both arms' chances, so arms agree
    mostly, as two classifiers of one seed do. Chances stay inside 0..1: nothing is clipped.
    """
    rng = np.random.default_rng(start)
    for _ in range(count):
        ease = rng.uniform(0.3, 0.7, images)
        suits = rng.uniform(-0.15, 0.15, images)  # what an image gives to one arm
        luck = np.clip(rng.normal(0, between, (seeds, 1)), -0.1, 0.1)  # symmetric: mean 0
        same = rng.random((seeds, images))
        own = rng.random((2, seeds, images)) < 0.3  # answers that the other arm does not share
        fresh = rng.random((2, seeds, images))
        gain = (truth + suits + luck) / 2
        yield (
            np.where(own[0], fresh[0], same) < ease + gain,
            np.where(own[1], fresh[1], same) < ease - gain,
        )


def within(count: int, rate: float, total: int = STUDIES) -> bool:
    """Is `count` of `total` compatible with `rate`?"""
    return sps.binomtest(count, total, rate).pvalue > SURE


def no_more_than(count: int, rate: float, total: int = STUDIES) -> bool:
    return sps.binomtest(count, total, rate, alternative="greater").pvalue > SURE


def estimates(seeds, images, between, truth, start, count=STUDIES):
    return [
        bootstrap.difference(a, b, resamples=200, seed=i)
        for i, (a, b) in enumerate(studies(seeds, images, between, truth, start, count))
    ]


@pytest.mark.parametrize(("seeds", "images", "between"), SHAPES)
def test_intervals_cover_the_truth_and_equivalence_errs_in_five_percent(seeds, images, between):
    """At a true difference equal to the margin, the hardest case for "equivalent"."""
    found = estimates(seeds, images, between, 0.04, start=seeds)
    for level, low, high in ((0.95, "low", "high"), (0.90, "low90", "high90")):
        inside = sum(getattr(d, low) <= 4.0 <= getattr(d, high) for d in found)
        # A t approximation with few seeds is a little too wide, never too narrow.
        assert no_more_than(STUDIES - inside, 1 - level), (level, inside)
        assert inside <= STUDIES * (level + (1 - level) * 0.8), (level, inside)
    wrong = sum(decided(d, 4.0) == "equivalent" for d in found)
    assert no_more_than(wrong, 0.05), wrong
    right = sum(decided(d, 40.0) == "equivalent" for d in found)
    assert right == STUDIES  # and the test does say "equivalent" where the margin is wide


@pytest.mark.parametrize(("seeds", "images", "between"), SHAPES)
def test_no_difference_is_called_different_in_five_percent(seeds, images, between):
    found = estimates(seeds, images, between, 0.0, start=10 + seeds)
    wrong = sum(decided(d, 0.01) == "different" for d in found)
    assert no_more_than(wrong, 0.05), wrong
    assert wrong >= 1  # the error rate is a rate, not a refusal to answer
    far = estimates(seeds, images, 0.0, 0.2, start=20 + seeds, count=100)
    assert sum(decided(d, 0.01) == "different" for d in far) >= 95


def components(between, seed=0):
    """A large first study, whose variance components are as good as known."""
    a, b = next(studies(60, 4000, between, 0.0, start=seed))
    return a.astype(float) - b


def test_the_size_needed_for_equivalence_has_the_power_promised():
    first, margin = components(0.01), 4.0
    images = sample_size.least(
        lambda n: sample_size.chance(*sample_size.expected(first, 5, n), margin) >= 0.8
    )
    assert 150 < images < 3000
    found = estimates(5, images, 0.01, 0.0, start=31)
    said = sum(decided(d, margin) == "equivalent" for d in found)
    assert 0.76 * STUDIES <= said <= 0.87 * STUDIES, said
    half = estimates(5, images // 2, 0.01, 0.0, start=32, count=300)
    assert sum(decided(d, margin) == "equivalent" for d in half) < 0.7 * 300


def test_the_size_needed_to_find_a_difference_has_the_power_promised():
    first = components(0.02)
    seeds = sample_size.least(
        lambda s: (
            sample_size.chance(*sample_size.expected(first, s, 400), 0.3, "different", 6.0) >= 0.8
        )
    )
    assert 2 <= seeds <= 20
    found = estimates(seeds, 400, 0.02, 0.06, start=41)
    said = sum(decided(d, 0.3) == "different" for d in found)
    assert 0.74 * STUDIES <= said <= 0.93 * STUDIES, (seeds, said)  # seeds are whole numbers


def test_expected_error_is_that_of_the_study_itself():
    """At a study's own size the forecast is the analysis; components below zero count as zero."""
    for cells in (
        [x - y.astype(float) for x, y in studies(4, 300, 0.03, 0.0, 3, count=3)],
        [components(0.02)],
    ):
        got = bootstrap.interval(cells, resamples=50)
        assert sample_size.expected(cells)[0] == pytest.approx(got.se, rel=0.02)


def test_seeds_alone_may_not_do_and_one_seed_says_nothing_of_seeds():
    rng = np.random.default_rng(6)
    same = np.tile(rng.choice([-1.0, 1.0], 600), (4, 1))  # every seed says the same of an image
    assert sample_size.needed(same, 3.0)["seeds"] is None
    assert sample_size.needed(same, 3.0)["images"] > 600
    assert sample_size.needed(same[:1], 3.0)["seeds"] is None
    with pytest.raises(ValueError, match="One seed says nothing"):
        sample_size.expected(same[:1], seeds=3)
    with pytest.raises(ValueError, match="verdict is 'same'"):
        sample_size.chance(1.0, 5.0, 3.0, "same")
    assert sample_size.needed(np.zeros((3, 50)), 0.3) == {"seeds": 1, "images": 1}


def test_the_table_names_the_shorter_way_to_a_verdict():
    a, b = next(studies(3, 200, 0.0, 0.02, start=5))
    cells = [a.astype(float) - b]
    row = sample_size.table({("color",): cells}, 1.0, ["attribute"]).iloc[0]
    assert row["images_equivalent"] == sample_size.needed(cells, 1.0)["images"]
    more = min(row["images_equivalent"], row["images_different"]) - 200
    assert f"{more:,} more test images a data set" in row["settles"]
    assert sample_size.table({}, 1.0, ["attribute"]).empty


def test_two_arms_of_the_same_images_are_equivalent(tmp_path):
    """The same answers under both arms' names, read from files as 07_claims reads a study."""
    rng = np.random.default_rng(8)
    ease = rng.random(120)
    paths = StudyPaths(tmp_path)
    arms = [f"edit({a},{arm})" for a in ATTRIBUTES for arm in recipes.ARMS]
    names = ["real", *arms, *(f"real+{a}" for a in arms)]
    for recipe in names:
        for seed in range(3):
            # one training a seed, whatever the recipe is called; seeds differ a good deal
            right = ease < 0.6 + np.random.default_rng(seed).normal(0, 0.1, 120)
            storage.write_table(
                paths.predictions("pets", recipe, seed),
                pd.DataFrame(
                    {"image_id": [f"i{k:03d}" for k in range(120)], "label": 0, "correct": right}
                ),
            )
            storage.write_json(
                paths.metrics("pets", recipe, seed),
                {"dataset": "pets", "recipe": recipe, "seed": seed},
            )
    found = load.predictions(paths, asked_for(names, range(3), ["pets"]))
    got = effects.effects(found, 0.3, resamples=100)
    assert len(got) > 6 and (got["verdict"] == "equivalent").all()
    assert (got[["difference", "low", "high", "low90", "high90"]] == 0).all(axis=None)
