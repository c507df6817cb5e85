"""Simulated studies whose truth is known: coverage and false verdicts, within binomial limits.

Every study has draw effects: another draw of photographs, phrases and edits moves the difference by
1 point (SD), whatever the number of starts and test images.
"""

import numpy as np
import pytest
from scipy import stats as sps

from varireal_utils.analysis import bootstrap, claim_file, inference, operating
from varireal_utils.analysis.verdict import decide

STUDIES = 2000
SURE = 1e-4  # a correct program fails one of these tests this seldom
COUNTS = (4, 6, 10, 20, 40)


def replicates(count, truth, start, draw=1.0, starts=1.0, images=300, studies=STUDIES):
    """(studies, R) estimates in points: draw and start effects, then the right and wrong answers
    of two arms on `images` test images, one in ten of which they answer otherwise."""
    rng = np.random.default_rng([start, count])
    shift = truth + draw * rng.standard_normal((studies, count))
    shift += starts * rng.standard_normal((studies, count))
    share = 0.1 * np.ones_like(shift)
    gain = np.clip(0.5 + shift / 100 / share / 2, 0, 1)  # of the images on which the arms differ
    differ = rng.binomial(images, share)
    return 100 * (2 * rng.binomial(differ, gain) - differ) / images


def within(count, rate, total=STUDIES):
    """Is `count` of `total` compatible with `rate`?"""
    return sps.binomtest(int(count), total, rate).pvalue > SURE


def no_more_than(count, rate, total=STUDIES):
    return sps.binomtest(int(count), total, rate, alternative="greater").pvalue > SURE


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("starts", [0.0, 1.0])  # 0: no variance but the draw's and the images'
def test_intervals_cover_the_truth_and_errors_are_as_stated(count, starts):
    found = inference.estimate(replicates(count, 0.3, 1, starts=starts), 0.3)
    assert within(((found.low <= 0.3) & (found.high >= 0.3)).sum(), 0.95)
    assert within(((found.low90 <= 0.3) & (found.high90 >= 0.3)).sum(), 0.90)
    assert no_more_than((found.p_within < 0.05).sum(), 0.05)  # at the margin, the hardest case
    assert no_more_than((found.p_beyond < 0.05).sum(), 0.05)
    null = inference.estimate(replicates(count, 0.0, 2, starts=starts), 0.3)
    assert within((null.p < 0.05).sum(), 0.05)


def test_seeds_of_one_draw_find_differences_that_are_not_there():
    """Why they get no verdict: 20 seeds on one draw, true difference 0, draws of SD 1 point."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(100):
        shift = 0.01 * rng.standard_normal()  # one draw of photographs, phrases and edits
        answers = rng.choice(
            [-1.0, 0.0, 1.0], (20, 800), p=[0.05 - shift / 2, 0.9, 0.05 + shift / 2]
        )
        got = bootstrap.interval(answers, resamples=100)
        wrong += got.low > 0 or got.high < 0
    assert wrong > 0.3 * 100, wrong


def test_no_spread_between_few_replicates_is_not_certainty():
    """Truncation: where replicates happen to agree, the interval shrinks but its errors do not."""
    values = replicates(4, 0.3, 4, draw=0.0, starts=0.0, images=400)
    found = inference.estimate(values, 0.3)
    small = found.se < np.quantile(found.se, 0.05)
    assert no_more_than((found.p_within < 0.05).sum(), 0.05)
    assert (found.high90 - found.low90)[small].max() < np.median(found.high90 - found.low90)


def false(claim):
    """The verdicts that are wrong where nothing differs from anything: equivalences hold; effects
    do not vary; gains of 0 are neither above nor below 0."""
    if claim in ("A2", "A5"):
        return ("reproduced",)
    return ("reproduced", "different") if claim in ("A4", "D1", "D2") else ("different",)


def family_errors(count, studies, noise=operating.PILOT):
    """Family -> studies with a false verdict, of null studies: nothing differs from anything."""
    listed = claim_file.load()
    names = operating.arms(listed)
    designs = [operating.Design.of(claim, names) for claim in listed]
    rng = np.random.default_rng([7, count])
    wrong: dict[str, int] = {}
    for study in operating.accuracies(names, {}, (studies, count), noise, rng):
        words = decide([d.finding(study, placebo=False) for d in designs])
        for family in {c.family for c in listed if words[c.id].word in false(c.id)}:
            wrong[family] = wrong.get(family, 0) + 1
    return wrong


def test_null_studies_err_in_five_percent_of_each_family():
    wrong = family_errors(8, 120)
    assert all(no_more_than(n, 0.05, 120) for n in wrong.values()), wrong


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 12, 20, 40])
def test_null_studies_err_in_five_percent_of_each_family_at_every_size(count):
    wrong = family_errors(count, 1000)
    assert all(no_more_than(n, 0.05, 1000) for n in wrong.values()), wrong


@pytest.mark.slow
@pytest.mark.parametrize("claim", operating.RULE_CLAIMS)
def test_each_rule_errs_in_five_percent_at_every_truth_and_finds_what_is_there(claim):
    found = operating.table((4, 8, 20, 40), studies=500, which=[claim])
    wrong = found[~found["false"].map(lambda s: no_more_than(500 * s, 0.05, 500))]
    assert wrong.empty, wrong
    large = found[found["replicates"] == 40].set_index("truth")
    right = {"A1": (0.0, "reproduced"), "A2": (1.0, "reproduced"), "A3": (0.0, "reproduced")}
    right |= {"A4": (1.0, "reproduced")}
    truth, word = right[claim]
    assert large.loc[truth, word] > 0.5, large


def test_the_kept_table_is_of_the_registered_rules():
    """results/operating.csv is made by `python -m varireal_utils.analysis.operating`."""
    kept = operating.kept()
    assert set(kept["claim"]) == set(operating.RULE_CLAIMS)
    tests = {c.id: c.test for c in claim_file.load()}
    assert all(tests[c] == t for c, t in zip(kept["claim"], kept["test"], strict=True))
    part = kept[(kept["claim"] == "A3") & (kept["replicates"] == 8)].reset_index(drop=True)
    again = operating.table((8,), which=["A3"])
    assert np.allclose(part[list(operating.WORDS)], again[list(operating.WORDS)])
