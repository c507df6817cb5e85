"""Parts of the effect by attribute, and how many replicates a further study needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.unit.test_claims import ATTRIBUTES, VALUES, study
from varireal_utils.analysis import claim_file, claims, inference, parts, sizing
from varireal_utils.core import shown


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    rng, gain = np.random.default_rng(0), {"zero_shot": -20.0, "real": 0.0}
    for a in ATTRIBUTES:
        for r in ("", "real+"):
            names = [f"{r}{m}({a},{v})" for m in ("edit", "perfect") for v in VALUES]
            names.append(f"{r}perfect({a},familiar,half=2)")
            gain |= {name: round(rng.normal(0, 1), 1) for name in names}
    return study(gain, replicates=5, images=1000, datasets=("cars", "pets"), noise=1.0)


def test_means_over_attributes_are_the_claims_own_estimates(answers):
    listed = claim_file.load()
    for only in ((), ("F1", "F2", "F3", "P0")):
        asked = claim_file.chosen(listed, only)
        table = parts.by_attribute(answers, asked)
        whole = claims.evaluate(answers, listed, only=only).set_index("claim")
        means = table[table["replicate"].isna()].groupby("claim")["difference"].mean()
        names = ["F1", "F2", "F3"] if only else ["E1", "E2", "E3"]
        assert list(means.index) == names  # E4 has no arms here
        for claim in names:
            assert means[claim] == pytest.approx(whole.loc[claim, "ours"], abs=1e-9)


def test_a_width_follows_from_the_spread_over_replicates(answers):
    listed = claim_file.load()
    table = sizing.table([answers], listed).set_index("claim")
    assert list(table.index) == ["E1", "E2", "E3", "F1", "F2", "F3", "P0"]
    whole = claims.evaluate(answers, listed).set_index("claim")
    for claim in ("E1", "E2", "E3", "P0"):  # of five replicates, the claim's own interval
        half = sizing.half_width(table.loc[claim, "spread"], 5)
        found = whole.loc[claim]
        assert half == pytest.approx((found["high90"] - found["low90"]) / 2, abs=1e-9)
    assert table.loc["F1", "spread"] == pytest.approx(table.loc["E1", "spread"])
    assert table.loc["F2", "spread"] != pytest.approx(table.loc["E2", "spread"])
    for spread in (0.4, 0.65, 0.9):
        count = sizing.needed(spread)
        assert sizing.half_width(spread, count) <= sizing.WANTED
        assert sizing.half_width(spread, count - 1) > sizing.WANTED
        assert sizing.half_width(spread, count) == stats.t.ppf(0.95, count - 1) * spread / np.sqrt(
            count
        )


def test_the_placebos_spread_is_pooled_over_studies(answers):
    """Each with its degrees of freedom; the arms of the others come from the first alone."""
    listed = claim_file.load()
    few = answers[answers["replicate"] < 3]
    table = sizing.table([answers, few], listed).set_index("claim")
    alone = sizing.table([answers], listed).set_index("claim")
    less = sizing.table([few], listed).set_index("claim")
    squares = 4 * alone.loc["P0", "spread"] ** 2 + 2 * less.loc["P0", "spread"] ** 2
    assert table.loc["P0", "spread"] == pytest.approx(np.sqrt(squares / 6))
    assert table.drop("P0").drop(columns="came").equals(alone.drop("P0").drop(columns="came"))
    asked = ["F1", "F2", "F3"]
    assert list(table.index[table["came"].notna()]) == asked and alone["came"].isna().all()
    assert table.loc[asked, "came"].to_numpy() == pytest.approx(less.loc[asked, "spread"])
    assert table["passes_27"].notna().sum() == 1


@pytest.mark.parametrize(("replicates", "spread"), [(12, 0.65), (27, 0.65), (4, 0.4), (12, 2.0)])
def test_how_many_null_studies_pass_the_placebo(replicates, spread):
    """By the rule itself, in 20,000 simulated studies."""
    drawn = np.random.default_rng(1).normal(0, spread, (20_000, replicates))
    found = inference.estimate(drawn, 0.5)
    passed = ((found.low90 > -0.5) & (found.high90 < 0.5)).mean()
    assert sizing.passing(spread, replicates, 0.5) == pytest.approx(passed, abs=0.012)


def test_the_table_that_is_shown_is_that_of_the_published_studies():
    kept = sizing.kept()
    published = [
        pd.read_parquet(f"results/{name}/answers.parquet") for name in shown.names(Path("."))
    ]
    again = sizing.table(published, claim_file.load())
    assert list(kept["claim"]) == list(again["claim"])
    assert np.allclose(kept["spread"], again["spread"])
    assert list(kept["needed"]) == list(again["needed"])
