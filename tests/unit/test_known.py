"""Other papers' numbers, and the effect by other methods."""

import numpy as np
import pandas as pd
import pytest

from tests.unit.test_stats import study as two_arms
from tests.unit.test_tables import arms, study
from varireal_utils.analysis import bootstrap, effects, published, robustness, tables
from varireal_utils.core.config_errors import ParameterError


def test_known_numbers_stand_beside_ours():
    df = study(arms("color", 0.0, 0.0), datasets=("oxford_pets", "micro_cars"))
    main = tables.main_table(df, resamples=50)
    got = published.with_ours(main).set_index(["dataset", "recipe"])
    pets = got.loc[("oxford_pets", "real")]
    assert pets["published"] == 94.0 and pets["mark"] == "[V2]" and "16" in pets["conditions"]
    assert pets["ours"] == pytest.approx(
        main.loc[(main["dataset"] == "oxford_pets") & (main["recipe"] == "real"), "mean"].item()
    )
    assert (
        got.loc[("stanford_cars", "zero_shot"), "ours"]
        != got.loc[("stanford_cars", "zero_shot"), "ours"]
    )  # not run here
    assert got.loc[("oxford_pets", "edit(color,feasible)"), "mark"] == "not found"
    assert got.loc[("micro_cars", "real"), "mark"] == "not published"
    assert got["published"].notna().sum() == len(published.load())
    assert (
        len(got) == len(published.load()) + len(main) - 2
    )  # zero-shot and real of pets are joined


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("known: [{dataset: a}]", r"\$.known\[0\].*required"),
        (
            "known: [{dataset: a, recipe: real, top1: 940, mark: '[V]', source: s, conditions: c}]",
            r"top1.*940 is greater",
        ),
        (
            "known: [{dataset: a, recipe: real, top1: 9, mark: sure, source: s, conditions: c}]",
            "mark",
        ),
        (
            "known: [{dataset: a, recipe: rael, top1: 9, mark: '[V]', source: s, conditions: c}]",
            "rael",
        ),
        ("known: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_row_and_key(tmp_path, text, message):
    path = tmp_path / "known.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=f"(?s)known.yaml.*{message}"):
        published.load(path)
    with pytest.raises(ParameterError, match="not there"):
        published.load(tmp_path / "other.yaml")


def test_all_methods_agree_on_the_pooled_effect():
    df = study(arms("color", 0.05, 0.0) | arms("texture", 0.05, 0.0), seeds=5)
    model = robustness.mixed_model(df)
    got = robustness.compare(df, effects.effects(df, resamples=300), model)
    assert set(got["method"]) == {"two-level bootstrap", "clustered regression", "mixed model"}
    for _, rows in got.groupby("attribute"):
        assert np.ptp(rows["estimate"]) < 1e-6
    alone = study(arms("color", 0.05, 0.0), seeds=1)
    one = robustness.compare(
        alone, effects.effects(alone, resamples=50), robustness.mixed_model(alone)
    )
    assert one.loc[one["method"] != "two-level bootstrap", "note"].str.contains("one seed").any()


def test_the_bootstrap_of_one_draw_is_no_shorter_than_clustered_regression():
    """Two estimates of one standard error, over simulated studies of eight seeds; the bootstrap's
    counts the residual twice."""
    ratios, rng = [], np.random.default_rng(3)
    for a, b in (two_arms(rng, 8, 300, 0.02, 0.04) for _ in range(40)):
        d = a.astype(float) - b
        table = pd.DataFrame(d, index=range(8), columns=[f"i{k}" for k in range(300)])
        fit = robustness.clustered({("pets", "color"): table})
        want = bootstrap.interval(d, resamples=200)
        assert fit["estimate"] == pytest.approx(want.mean)
        ratios.append((fit["high"] - fit["low"]) / (want.high - want.low))
    assert 0.6 < np.median(ratios) < 1.05
