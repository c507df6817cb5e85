"""Rules, gates, families and verdicts, on studies of replicates whose truth is known."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from statsmodels.stats.multitest import multipletests

from varireal_utils.analysis import (
    claim_file,
    claim_rules,
    claims,
    contrasts,
    effects,
    load,
    robustness,
    study_tables,
    tables,
    verdict,
)
from varireal_utils.analysis.gates import Gates
from varireal_utils.analysis.stage import ClaimsStage
from varireal_utils.analysis.verdict import Finding, decide
from varireal_utils.core import storage
from varireal_utils.core.config_errors import ParameterError

ATTRIBUTES = ("background", "color", "texture")
VALUES = ("familiar", "unfamiliar", "infeasible")
BASE = {
    "id": "X",
    "says": "s",
    "estimand": "q",
    "population": "p",
    "unit": "replicate",
    "contrast": {"edit(color,feasible)": 1, "edit(color,infeasible)": -1},
    "test": "within",
    "margin": 0.3,
    "family": "own",
    "gates": [],
    "reported": "not published",
    "source": "",
}
PLACEBO = BASE | {
    "id": "P",
    "contrast": {"edit(color,familiar,half=1)": 1, "edit(color,familiar,half=2)": -1},
    "family": "placebo",
}


def study(gain, replicates=6, starts=2, images=1000, datasets=("cars", "pets"), noise=0.0, start=0):
    """Predictions of replicates; gain: recipe -> points over 70 % of the images, exactly where
    noise is 0; noise: points, SD of a recipe's own gain from replicate to replicate."""
    rng, keys, right = np.random.default_rng(start), [], []
    for dataset in datasets:
        for replicate in range(replicates):
            order = rng.permutation(images)
            for recipe, g in gain.items():
                own = g + noise * rng.standard_normal()
                keys += [(dataset, replicate, recipe, s) for s in range(starts)]
                right += [order < round(images * (0.7 + own / 100))] * starts
    names = ("dataset", "replicate", "recipe", "seed")
    columns = {n: np.repeat(np.array(c), images) for n, c in zip(names, zip(*keys), strict=True)}
    ids = np.tile(np.array([f"i{k:05d}" for k in range(images)], object), len(keys))
    return pd.DataFrame({**columns, "image_id": ids, "correct": np.concatenate(right)})


PAIR = {"edit(color,familiar,half=1)": 0.0, "edit(color,familiar,half=2)": 0.0}


def listed(*changes, placebo=True):
    made = [claim_file.checked(BASE | change, "claims.yaml: claim 1") for change in changes]
    return [*made, *([claim_file.checked(PLACEBO, "P")] if placebo else [])]


def evaluated(gain, *changes, planned=None, gates=None, trainings=None, **how):
    found = claims.evaluate(study(PAIR | gain, **how), listed(*changes), trainings, gates, planned)
    return found.set_index("claim")


def test_the_replicate_is_the_unit():
    """More starts, and more images, of the same replicates leave R - 1 degrees of freedom."""
    gain = {"edit(color,familiar)": 0.2, "edit(color,infeasible)": 0.0}
    few, many = (evaluated(gain, {}, noise=1.0, starts=s).loc["X"] for s in (1, 5))
    assert few["unit"] == "replicates" and few["units"] == many["units"] == 6
    assert (few["low"], few["high"]) == pytest.approx((many["low"], many["high"]))
    df = study(PAIR | gain, noise=1.0)
    means = df.groupby(["replicate", "recipe"])["correct"].mean().unstack() * 100
    steps = means["edit(color,familiar)"] - means["edit(color,infeasible)"]
    assert few["ours"] == pytest.approx(steps.mean())
    half = 2.5706 * steps.std() / np.sqrt(6)  # t, 5 degrees of freedom
    assert few["high"] - few["ours"] == pytest.approx(half, rel=1e-4)


def test_within_says_within_beyond_or_nothing():
    def found(truth, **how):
        gain = {"edit(color,feasible)": truth, "edit(color,infeasible)": 0.0}
        return evaluated(gain, {}, **how).loc["X", "verdict"]

    assert found(0.1, noise=0.05) == "reproduced"
    assert found(1.0, noise=0.05) == "different"
    assert found(0.1, noise=3.0) == "inconclusive"
    assert found(1.0, noise=0.05, replicates=3) == "no verdict"


def test_mostly_within_counts_true_effects():
    contrast = {"edit({a},feasible)": 1, "edit({a},infeasible)": -1}
    asked = {
        "contrast": contrast,
        "over": {"a": list(ATTRIBUTES)},
        "test": "mostly_within",
        "prior": {"scale": 0.5, "threshold": 0.5},
    }

    def found(*truths, replicates=8):
        gain = {f"edit({a},feasible)": t for a, t in zip(ATTRIBUTES, truths, strict=True)}
        gain |= {f"edit({a},infeasible)": 0.0 for a in ATTRIBUTES}
        return evaluated(gain, asked, noise=0.05, replicates=replicates).loc["X"]

    assert found(0.0, 0.1, -0.1, replicates=7)["verdict"] == "no verdict"  # S is too rough
    near = found(0.0, 0.1, -0.1)
    assert near["verdict"] == "reproduced" and near["share"] > 0.95
    assert found(0.0, 0.1, 2.0)["share"] == pytest.approx(2 / 3, abs=0.05)
    far = found(1.0, 2.0, 0.0)
    assert far["verdict"] == "different" and far["share"] == pytest.approx(1 / 3, abs=0.05)


def test_varies_compares_groups_and_not_cells():
    """Heterogeneity between attributes, never "some cell": a cell that is off alone is pooled."""
    asked = {
        "contrast": {"{real}edit({a},feasible)": 1, "{real}edit({a},infeasible)": -1},
        "over": {"a": list(ATTRIBUTES), "real": ["", "real+"]},
        "between": ["a"],
        "test": "varies",
    }

    def found(truths, **how):
        gain = {f"{r}edit({a},infeasible)": 0.0 for r in ("", "real+") for a in ATTRIBUTES}
        gain |= {
            f"{r}edit({a},feasible)": t + (1 if r else -1) * 0.5
            for r in ("", "real+")
            for a, t in zip(ATTRIBUTES, truths, strict=True)
        }
        return evaluated(gain, asked, **{"noise": 0.05, **how}).loc["X"]

    apart = found((0.0, 0.0, 1.0))
    assert apart["verdict"] == "reproduced" and "texture" in apart["detail"]
    assert abs(apart["ours"]) == pytest.approx(1.0, abs=0.1)
    assert (
        apart["low"] > 0 or apart["high"] < 0
    )  # Scheffe's interval says what Hotelling's test does
    assert found((0.0, 0.0, 0.05))["verdict"] in ("different", "reproduced")
    assert found((0.0, 0.0, 0.0), noise=3.0)["verdict"] == "inconclusive"
    few = found((0.0, 0.0, 1.0), replicates=4)
    assert few["verdict"] == "no verdict" and "too few replicates: 4, wanted 5" in few["because"]


def test_all_gain_asks_the_least_family():
    asked = {
        "contrast": {"real+edit(color,{arm})": 1, "real": -1},
        "over": {"arm": ["feasible", "infeasible"]},
        "between": ["dataset", "arm"],
        "test": "all_gain",
    }

    def found(feasible, infeasible):
        gain = {"real": 0, "real+edit(color,feasible)": feasible}
        gain |= {"real+edit(color,infeasible)": infeasible}
        return evaluated(gain, asked, noise=0.05).loc["X"]

    assert found(2.0, 1.0)["verdict"] == "reproduced"
    least = found(5.0, -1.0)  # the mean gains, one arm loses
    assert least["verdict"] == "different" and least["ours"] == pytest.approx(-1, abs=0.1)
    assert "infeasible" in least["detail"] and "2 of 4 gain" in least["detail"]


def test_seeds_of_one_draw_have_numbers_and_no_verdict():
    gain = {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0}
    one = study(gain, replicates=1, starts=20, noise=0.1).drop(columns="replicate")
    row = claims.evaluate(one, listed({}), resamples=50).set_index("claim").loc["X"]
    assert row["verdict"] == "no verdict" and row["because"].startswith("one draw")
    assert row["unit"] == "seeds of one draw" and row["units"] == 20
    assert row["ours"] > 4 and row["low"] < row["ours"] < row["high"] and np.isnan(row["p"])


def test_an_exact_bound_refuses_what_too_few_images_cannot_exclude():
    """No disagreement at all on four photographs was "equivalent", p = 0."""
    same = {"edit(color,feasible)": 0.0, "edit(color,infeasible)": 0.0}
    row = evaluated(same, {}, images=4).loc["X"]
    assert row["verdict"] == "no verdict" and "cannot exclude" in row["because"]
    assert evaluated(same, {}, images=2000).loc["X", "verdict"] == "reproduced"


def test_no_look_before_the_last_replicate():
    gain = {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0}
    row = evaluated(gain, {}, planned=20, noise=0.1).loc["X"]
    assert row["verdict"] == "no verdict" and row["because"].startswith("6 of 20 planned")
    assert evaluated(gain, {}, planned=6, noise=0.1).loc["X", "verdict"] == "different"


def test_cells_that_are_missing_leave_no_verdict():
    gain = {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0}
    over = {"over": {"a": ["color", "texture"]}}
    contrast = {"contrast": {"edit({a},feasible)": 1, "edit({a},infeasible)": -1}}
    row = evaluated(gain, over | contrast, noise=0.1).loc["X"]
    assert row["because"] == "incomplete: 2 of 4 cells were run"
    assert "edit(texture,feasible)" in row["detail"] and row["ours"] == pytest.approx(5, abs=0.2)


def test_the_placebo_withholds_every_verdict():
    asked = {"gates": ["placebo"]}
    gain = {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0}
    good = evaluated(gain, asked, noise=0.05)
    assert good["verdict"].to_dict() == {"X": "different", "P": "reproduced"}
    odd = gain | {"edit(color,familiar,half=1)": 2.0}
    bad = evaluated(odd, asked, noise=0.05)
    assert bad["verdict"].to_dict() == {"X": "withheld", "P": "different"}
    assert "P is different" in bad.loc["X", "because"]
    df = study(gain, noise=0.05)
    none = claims.evaluate(df, listed(asked, placebo=False)).iloc[0]
    assert none["verdict"] == "withheld" and "no placebo" in none["because"]
    idle = claims.evaluate(df, listed(asked)).set_index("claim")
    assert idle.loc["P", "verdict"] == "not run" and idle.loc["X", "verdict"] == "withheld"


def test_holm_is_within_families_and_counts_claims_without_a_verdict():
    def words(*p, family="one", idle=0):
        found = [
            Finding(f"{family}{i}", family, 1.0, each, 1, 1, 8, placebo=False)
            for i, each in enumerate(p)
        ]
        found += [Finding(f"{family} idle{i}", family) for i in range(idle)]
        return found

    alone = decide(words(0.02, 0.9))
    assert alone["one0"].word == "different" and alone["one0"].p_holm == pytest.approx(0.04)
    assert decide(words(0.02, 0.9, idle=1))["one0"].word == "inconclusive"  # 0.02 x 3
    many = np.random.default_rng(0).uniform(0, 0.2, 9)
    assert verdict.holm(many) == pytest.approx(multipletests(many, method="holm")[1])
    beside = decide(words(0.02, 0.9) + words(0.9, 0.9, 0.9, family="two"))
    assert beside["one0"].word == "different"


def test_gates_are_those_that_a_claim_names():
    gates = Gates({"cars": 2.0, "pets": 3.0}, {("cars", "dset", "unadapted dset"): (0.1, 0.8)})
    gain = {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0}
    row = evaluated(gain, {"gates": ["head_room"]}, gates=gates).loc["X"]
    assert row["verdict"] == "not valid" and "gains less than 10 points" in row["because"]
    assert row["ours"] == pytest.approx(5, abs=0.1)  # the number stays
    assert evaluated(gain, {}, gates=gates).loc["X", "verdict"] == "different"
    made = {"contrast": {"datadream(dset)": 1, "real": -1}, "gates": ["class_named"]}
    row = evaluated({"datadream(dset)": 1.0, "real": 0.0}, made, gates=gates).loc["X"]
    assert row["verdict"] == "not valid" and "cars 10 % of unadapted dset images" in row["because"]
    part = Gates({"cars": 2.0, "pets": 20.0})  # one data set with room: pooled numbers hold
    assert evaluated(gain, {"gates": ["head_room"]}, gates=part).loc["X", "verdict"] == "different"


def test_gates_measure_the_pictures_before_and_after_adaptation_over_replicates():
    main = pd.DataFrame({"dataset": ["cars"], "arm": ["real"], "mean": [50.0]})
    shares = {"unadapted": (0.1, 0.2), "adapted": (0.6, 0.9), "photographs": (0.5, 0.7)}
    rows = [
        {"dataset": "cars", "variant": "dset", "replicate": r, "model": m, "class_named": v[r]}
        for m, v in shares.items()
        for r in range(2)
    ]
    found = Gates.of(main, {"learned": pd.DataFrame(rows)})
    said = found.failing(["cars"], ["real+datadream(dset)"], ["class_named"])
    assert "cars 15 % of unadapted dset images, 60 % of photographs" in said
    assert "of adapted" not in said  # 75 % of them are named
    assert not found.failing(["cars"], ["datadream(cls)"], ["class_named"])
    better = pd.DataFrame(rows).assign(class_named=0.5)
    assert not Gates.of(main, {"learned": better}).failing(
        ["cars"], ["datadream(dset)"], ["class_named"]
    )


def test_matched_arms_must_be_matched():
    main = pd.DataFrame({"dataset": ["cars"], "arm": ["real"], "mean": [50.0]})
    arms = ["matched(color,familiar)", "matched(texture,familiar)", "unmatched(color,familiar)"]
    rows = pd.DataFrame({"dataset": "cars", "recipe": arms * 2, "distance": 0.1})
    found = Gates.of(main, {"trainings": rows.assign(gap=[0.03, 0.01, 0.09, 0.02, 0.01, 0.09])})
    asked = ["matched(color,familiar)", "unmatched(color,familiar)"]
    said = found.failing(["cars"], asked, ["equal_distance"])
    assert "by 25 % of their mean, more than 20 % (cars color by 25 %)" in said
    assert not found.failing(["cars"], ["matched(texture,familiar)"], ["equal_distance"])
    pooled = [*asked, "matched(texture,familiar)"]  # 25 and 10 %: their mean is what counts
    assert not found.failing(["cars"], pooled, ["equal_distance"])
    assert not found.failing(["cars"], asked, ["head_room"])


def test_a_half_finished_study_has_no_verdict(tmp_path):
    """Every claim waits for the last arm of the last replicate, also one that has all its own."""
    gain = PAIR | {"edit(color,feasible)": 5.0, "edit(color,infeasible)": 0.0, "real": 5.0}
    df = study(gain, replicates=4, images=200)
    file = tmp_path / "claims.yaml"
    texts = [BASE | {"gates": ["placebo"]}, PLACEBO]
    file.write_text(yaml.safe_dump({"version": 2, "claims": texts}))
    asked = ClaimsStage(
        protocol="controlled",
        datasets=["cars", "pets"],
        attributes=["color"],
        verify={"keep": "all"},
        classify={"recipes": list(gain), "seeds": [0, 1]},
        claims={"margin": 0.3, "bootstrap": 100, "confidence": 0.95},
        replicates=4,
        claims_file=str(file),
        known_file="known.yaml",
    )

    def verdicts(predictions):
        kept = study_tables.Kept(
            predictions, pd.DataFrame(columns=load.NO_EDITS), {"trainings": pd.DataFrame()}, {}
        )
        return study_tables.statistics(kept, asked)["claims"].set_index("claim")

    assert verdicts(df)["verdict"].to_dict() == {"X": "different", "P": "reproduced"}
    for lost in (
        df["replicate"] == 3,
        (df["replicate"] == 3) & (df["recipe"] == "real") & (df["dataset"] == "pets"),
    ):
        found = verdicts(df[~lost])
        assert set(found["verdict"]) == {"no verdict"}
        assert "3 of 4 planned replicates" in found.loc["X", "because"]


def test_arms_of_unequal_size_are_not_compared():
    gain = {"real": 0.0, "edit(color,feasible)": 2.0}
    asked = {
        "contrast": {"edit(color,feasible)": 1, "real": -1},
        "exclusions": {"unequal": ["n_train_images", "steps"]},
    }
    sizes = study(gain, replicates=1, images=2)[["dataset", "recipe"]].drop_duplicates()
    sizes = sizes.assign(n_train_images=16, steps=60)
    assert evaluated(gain, asked, trainings=sizes).loc["X", "datasets"] == 2
    other = (sizes["recipe"] == "real") & (sizes["dataset"] == "cars")
    got = evaluated(gain, asked, trainings=sizes.assign(n_train_images=16 + 16 * other)).loc["X"]
    assert got["datasets"] == 1
    got = evaluated(gain, asked, trainings=sizes.assign(steps=60 + (sizes["recipe"] == "real")))
    assert got.loc["X", "verdict"] == "not run"
    assert "equal in n_train_images and steps" in got.loc["X", "detail"]


def test_feasible_is_read_as_familiar_where_a_study_has_three_values():
    gain = {"edit(color,familiar)": 2.0, "edit(color,infeasible)": 0.0}
    gain |= {"edit(color,unfamiliar)": 1.0}
    got = evaluated(gain, {}).loc["X"]
    assert got["ours"] == pytest.approx(2.0) and got["detail"].startswith("90 %")
    table = effects.effects(study(gain, noise=0.2))
    assert (table["unit"] == "replicates").all() and table["difference"].iloc[0] > 1.5


def test_images_of_one_replicate_are_those_of_all_its_arms():
    df = study({"edit(color,feasible)": 1.0, "edit(color,infeasible)": 0.0}, images=20)
    hit = (df["recipe"] == "edit(color,feasible)") & (df["replicate"] == 3)
    moved = df.assign(image_id=df["image_id"].where(~hit, df["image_id"] + "x"))
    with pytest.raises(ValueError, match="replicate 3.*other images"):
        contrasts.cells_of(moved)
    with pytest.raises(ValueError, match="starts were tested on different images"):
        contrasts.cells_of(df.drop(df[hit].index[0]))
    lost = df[~hit]  # a replicate without an arm is in no comparison of it
    assert effects.effects(lost)["units"].iloc[0] == 5
    # the same names in two replicates are not the same photographs
    other = df.assign(image_id=df["image_id"] + "-" + df["replicate"].astype(str))
    pd.testing.assert_frame_equal(effects.effects(df), effects.effects(other))


def test_a_cross_check_that_cannot_be_fitted_stops_no_study():
    """Of one data set, attribute and training each replicate has one row alone."""
    gain = {"edit(color,familiar)": 1.0, "edit(color,infeasible)": 0.0}
    df = study(gain, replicates=4, datasets=("pets",), images=100, noise=2.0)
    assert robustness.mixed_model(df).empty
    assert len(robustness.mixed_model(study(gain | {f"real+{r}": 0.0 for r in gain}, noise=2.0)))


def test_no_number_but_a_claims_has_a_verdict():
    df = study({"real": 0.0, "edit(color,feasible)": 1.0, "edit(color,infeasible)": 0.0})
    both = pd.concat([df, df.assign(recipe="faithful:" + df["recipe"], correct=~df["correct"])])
    found = [effects.effects(df), effects.by_protocol(both, "controlled"), tables.main_table(df)]
    for table in found:
        assert len(table)
        assert not {"verdict", "p", "p_holm", "p_equivalence", "seeds_needed"} & set(table)
    assert "settle" not in claims.COLUMNS  # no sample size that invites another look


def test_the_registered_claims_are_read_and_decompose_the_papers_contrast():
    found = {c.id: c for c in claim_file.load()}
    assert " ".join(found) == "A1 A2 A3 A4 A5 E1 E2 E3 E4 F1 F2 F3 F4 D1 D2 D3 D4 D5 P0"
    gain = {"zero_shot": -20.0, "real": 0.0, "datadream(dset)": -5.0, "real+datadream(dset)": 1.0}
    rng = np.random.default_rng(0)
    for a in ATTRIBUTES:
        for r in ("", "real+"):
            made = {f"{r}{m}({a},{v})": 0.0 for m in ("edit", "perfect") for v in VALUES}
            made[f"{r}perfect({a},familiar,half=2)"] = 0.0
            made[f"{r}mix({a},0.5)"] = 0.0
            gain |= {name: round(rng.normal(0, 1), 1) for name in made}
        gain |= {f"{m}({a},{v})": 0.0 for m in ("matched", "unmatched") for v in VALUES}
    df = study(gain, replicates=8, images=1000, datasets=("cars",))
    sizes = df[["dataset", "recipe"]].drop_duplicates().assign(n_train_images=16, steps=60)
    got = claims.evaluate(df, trainings=sizes).set_index("claim")
    by_name = {c.id for c in found.values() if c.again or c.by_name}
    assert by_name == {"F1", "F2", "F3", "F4", "D3", "D4", "D5"}
    first = got.drop(index=list(by_name))
    assert set(first["verdict"]) <= {"reproduced", "different", "inconclusive", "withheld"}
    parts = got.loc[["E1", "E2", "E3"], "ours"].sum()
    assert got.loc["A1", "ours"] == pytest.approx(parts, abs=1e-6)
    assert (got.loc[list(by_name), "detail"] == claims.NOT_ASKED).all()
    own = claims.evaluate(df, trainings=sizes, only=["F1", "F2", "F3", "P0"]).set_index("claim")
    again = own.loc[["F1", "F2", "F3"]]
    assert again["ours"].sum() == pytest.approx(parts, abs=1e-6)
    assert list(again["again"]) == ["E1", "E2", "E3"] and (again["verdict"] != "not run").all()
    asked = own["verdict"] != "not run"
    assert set(own.index[asked]) == {"F1", "F2", "F3", "P0"}
    assert set(own.loc[~asked, "detail"]) == {claims.NOT_ASKED}


def test_a_claim_that_asks_again_is_asked_where_a_study_names_it_alone():
    """Nothing that was registered later is decided by a study that was seen before."""
    first, again = listed({"id": "X"}, {"id": "Y", "again": "X"}, placebo=False)
    assert claim_file.chosen([first, again]) == [first]
    late = first.model_copy(update={"id": "W", "by_name": True})
    assert claim_file.chosen([first, late]) == [first]
    assert claim_file.chosen([first, late], ["W"]) == [late]
    assert claim_file.chosen([first, again], ["Y"]) == [again]
    with pytest.raises(ParameterError, match="claims.only: 'Z' is no claim .*it has X, Y"):
        claim_file.chosen([first, again], ["Z"])
    gain = {"edit(color,familiar)": 2.0, "edit(color,infeasible)": 0.0}
    both = [*listed({}, {"id": "Y", "again": "X"})]
    words = [
        claims.evaluate(study(PAIR | gain, noise=0.1), both, only=only).set_index("claim")
        for only in ((), ("Y", "P"))
    ]
    assert list(words[0]["verdict"]) == ["different", "not run", "reproduced"]
    assert list(words[1]["verdict"]) == ["not run", "different", "reproduced"]
    # a study that asks no placebo has no verdict
    both[1] = both[1].model_copy(update={"gates": ["placebo"]})
    none = claims.evaluate(study(PAIR | gain, noise=0.1), both, only=["Y"]).set_index("claim")
    assert none.loc["Y", "verdict"] == "withheld"


def test_predictions_of_replicates_are_read_from_what_classify_writes(tmp_path):
    from tests.unit.test_tables import asked_for
    from varireal_utils.core.study_paths import StudyPaths

    paths = StudyPaths(tmp_path)
    for replicate in (4, 5):
        name = f"cars@{replicate}"
        storage.write_table(
            paths.predictions(name, "real", 0),
            pd.DataFrame({"image_id": ["a", "b"], "label": 0, "correct": [True, replicate == 4]}),
        )
        about = {"dataset": "cars", "recipe": "real", "seed": 0, "replicate": replicate}
        storage.write_json(paths.metrics(name, "real", 0), about)
    asked = asked_for(["real"], datasets=["cars@4", "cars@5"])
    df = load.predictions(paths, asked)
    assert contrasts.has_replicates(df) and set(df["replicate"]) == {4, 5}
    main = tables.main_table(df).iloc[0]
    assert (main["unit"], main["seeds"], main["mean"]) == ("replicates", 2, 75.0)


def test_a_claims_file_is_refused_by_claim_and_key(tmp_path):
    path = tmp_path / "claims.yaml"
    for change, message in (
        ({"test": "always"}, "test.*always.*all_gain"),
        ({"margin": 0}, "margin.*above 0"),
        ({"contrast": {"edit(hat,feasible)": 1}}, "contrast.*hat"),
        ({"over": {"a b": ["one"]}}, "one word for each"),
        ({"contrast": {"edit({b},feasible)": 1}, "over": {"a": ["x"]}}, "over"),
        ({"odd": 1}, "unknown key 'odd'"),
        ({"says": None}, "says"),
        ({"unit": "seed"}, "unit.*replicate"),
        ({"gates": ["luck"]}, "gates"),
        ({"test": "mostly_within"}, "prior"),
        ({"prior": {"scale": 1, "threshold": 0.5}}, "prior"),
        ({"test": "varies"}, "between"),
        ({"test": "varies", "between": ["color"]}, "between"),
        ({"exclusions": {"unequal": ["hours"]}}, "unequal"),
    ):
        path.write_text(json.dumps({"version": 2, "claims": [BASE | change]}))
        with pytest.raises(ParameterError, match=f"(?s)claim 1.*{message}"):
            claim_file.load(path)
    path.write_text(json.dumps({"version": 2, "claims": [BASE, BASE]}))
    with pytest.raises(ParameterError, match="twice"):
        claim_file.load(path)
    path.write_text(json.dumps({"claims": [BASE]}))
    with pytest.raises(ParameterError, match="version: 2"):
        claim_file.load(path)
    short = {k: v for k, v in BASE.items() if k not in ("margin", "gates")}
    common = {"margin": 0.5, "gates": ["placebo"]}
    path.write_text(json.dumps({"version": 2, "defaults": common, "claims": [short]}))
    assert claim_file.load(path)[0].margin == 0.5


def test_every_rule_is_documented_and_every_verdict_has_words():
    from varireal_utils.reporting import answer

    assert all(name in (claim_rules.__doc__ or "") for name in claim_rules.RULES)
    for words in (answer.PLAIN, answer.GROUPED, answer.PLURAL):
        assert set(words) == set(verdict.VERDICTS)
