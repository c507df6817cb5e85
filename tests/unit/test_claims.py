"""The rules of claims.py on worlds that are known: counting after Holm, equal arms, sizes."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps

from tests.unit.test_tables import arms, study
from varireal_utils.analysis import claim_file, claim_rules, claims, effects, tables, verdict
from varireal_utils.analysis.contrasts import ATTRIBUTES
from varireal_utils.analysis.verdict import Gates
from varireal_utils.core.config_errors import ParameterError

BASE = {"says": "s", "quantity": "q", "reported": "not published", "source": ""}
CELLS = {"attribute": list(ATTRIBUTES), "real": ["", "real+"]}
EFFECT = {"{real}edit({attribute},feasible)": 1, "{real}edit({attribute},infeasible)": -1}


def one(df, margin=0.3, trainings=None, gates=None, **claim):
    listed = [claim_file.Claim(**(BASE | {"id": "X"} | claim))]
    return claims.evaluate(df, margin, listed, trainings, gates, resamples=100).iloc[0]


def random_arms(rng, gain, seeds=4, images=150):
    """A study in which every recipe errs by itself; gain: recipe -> accuracy."""
    parts = [
        pd.DataFrame(
            {
                "dataset": "cars",
                "recipe": recipe,
                "seed": s,
                "image_id": [f"i{k:03d}" for k in range(images)],
                "correct": rng.random(images) < p,
            }
        )
        for recipe, p in gain.items()
        for s in range(seeds)
    ]
    return pd.concat(parts, ignore_index=True)


def wrong(test, gain, studies=200, **claim):
    """How often a claim that is not true comes out as reproduced."""
    return sum(
        one(random_arms(np.random.default_rng(i), gain), 4.0, test=test, **claim)["verdict"]
        == "reproduced"
        for i in range(studies)
    )


@pytest.mark.slow
def test_some_do_not_gain_errs_in_five_percent_whatever_the_number_of_cells():
    """Every cell gains just the margin: the hardest case. Without correction a fifth would err."""
    gain = {
        f"real+edit({a},{arm})": 0.54
        for a in ("color", "texture")
        for arm in ("feasible", "infeasible")
    } | {"real": 0.50}
    count = wrong(
        "some_do_not_gain",
        gain,
        contrast={"real+edit({attribute},{arm})": 1, "real": -1},
        over={"attribute": ["color", "texture"], "arm": ["feasible", "infeasible"]},
    )
    assert sps.binomtest(count, 200, 0.05, alternative="greater").pvalue > 1e-3, count


@pytest.mark.slow
def test_mostly_equivalent_errs_in_five_percent():
    """Half of the cells are equal for certain, the others differ by just the margin."""
    gain = {}
    for i, (a, real) in enumerate((a, r) for a in ATTRIBUTES for r in ("", "real+")):
        gain |= {
            f"{real}edit({a},feasible)": (1.0, 0.54)[i % 2],
            f"{real}edit({a},infeasible)": (1.0, 0.50)[i % 2],
        }
    count = wrong("mostly_equivalent", gain, contrast=EFFECT, over=CELLS)
    assert sps.binomtest(count, 200, 0.05, alternative="greater").pvalue > 1e-3, count


def test_cells_are_counted_after_holm():
    """Three of six cells differ by less than the corrected level asks for."""

    def found(*p):
        single = [{"p": each, "p_equivalence": 1.0, "difference": 1.0} for each in p]
        evidence = claim_rules.Evidence({}, 0.3, {}, single, {"verdict": "inconclusive"})
        return claim_rules.mostly_equivalent(evidence).found

    assert found(0.02, 0.02, 0.02, 0.5, 0.5, 0.5) == "inconclusive"  # 0.02 x 6 > 0.05
    assert found(0.002, 0.002, 0.002, 0.05, 0.05, 0.05) == "different"


def test_arms_of_unequal_size_are_not_compared():
    df = study(arms("color", 0.1, 0.0), noise=0)
    sizes = df[["dataset", "recipe", "seed"]].drop_duplicates().assign(n_train_images=16, steps=60)
    asked = {
        "contrast": {"edit(color,feasible)": 1, "real": -1},
        "test": "all_gain",
        "equal": ["n_train_images", "steps"],
    }
    assert one(df, trainings=sizes, **asked)["verdict"] == "reproduced"
    assert one(df, trainings=sizes, **asked)["datasets"] == 2
    other = (sizes["recipe"] == "real") & (sizes["dataset"] == "cars")
    got = one(
        df, trainings=sizes.assign(n_train_images=sizes["n_train_images"] + 16 * other), **asked
    )
    assert got["verdict"] == "reproduced" and got["datasets"] == 1
    got = one(
        df, trainings=sizes.assign(steps=sizes["steps"] + (sizes["recipe"] == "real")), **asked
    )
    assert got["verdict"] == "not run" and "equal in n_train_images and steps" in got["detail"]
    with pytest.raises(ParameterError, match="equal"):
        claim_file.checked(BASE | {"id": "X", **asked, "equal": ["hours"]}, "claims.yaml: claim 1")


def test_a_claim_says_how_many_seeds_or_images_would_settle_it():
    df = study(arms("color", 0.03, 0.03), images=200, noise=0.2, start=2)
    got = one(
        df,
        margin=1.0,
        contrast=EFFECT,
        over={"attribute": ["color"], "real": [""]},
        test="equivalent",
    )
    assert got["verdict"] == "inconclusive" and "more test images a data set" in got["settle"]
    larger = study(arms("color", 0.03, 0.03), images=20_000, seeds=8, noise=0.2, start=2)
    got = one(
        larger,
        margin=1.0,
        contrast=EFFECT,
        over={"attribute": ["color"], "real": [""]},
        test="equivalent",
    )
    assert got["verdict"] == "reproduced" and got["settle"] == ""
    most = one(df, margin=1.0, contrast=EFFECT, over=CELLS, test="mostly_equivalent")
    assert most["verdict"] == "inconclusive" and most["settle"].startswith("4 of 12 cells were run")


def test_the_widest_contrast_shows_its_own_level():
    """Three contrasts: bounds at 98.3 %, said so, and wider than those at 95 %."""
    df = study(
        arms("background", 0.05, 0.0) | arms("color", 0.0, 0.0) | arms("texture", 0.0, 0.0),
        noise=0.2,
    )
    pairs = ["background color", "background texture", "color texture"]
    contrast = {
        "edit({a},feasible)": 1,
        "edit({a},infeasible)": -1,
        "edit({b},feasible)": -1,
        "edit({b},infeasible)": 1,
    }
    got = one(df, contrast=contrast, over={"a b": pairs}, test="widest")
    assert got["confidence"] == pytest.approx(1 - 0.05 / 3)
    assert "background minus" in got["detail"] and "98.3 %" in got["detail"]
    assert verdict.interval_text(got).endswith("] (98.3 %)")
    alone = one(df, contrast=contrast, over={"a b": pairs[:1]}, test="widest")
    assert alone["confidence"] == pytest.approx(0.95)
    assert not verdict.interval_text(alone).endswith("%)")


def test_a_claim_whose_gate_fails_is_not_valid_whatever_its_numbers_say():
    gain = {"real": 0.0, "zero_shot": -0.2, "datadream(dset)": 0.1, "edit(color,feasible)": 0.0}
    df = study(gain, noise=0)
    asked = {"contrast": {"datadream(dset)": 1, "edit(color,feasible)": -1}, "test": "all_gain"}
    main = tables.main_table(df, resamples=50)
    sets = pd.DataFrame(
        [
            {"dataset": d, "set": s, "recognised": share}
            for d in ("cars", "pets")
            for s, share in (("real", 0.8), ("datadream dset", 0.5), ("datadream cls", 0.0))
        ]
    )
    assert one(df, gates=Gates.of(main, sets), **asked)["verdict"] == "reproduced"
    sets.loc[1, "recognised"] = 0.3  # on one data set alone
    got = one(df, gates=Gates.of(main, sets), **asked)
    assert got["verdict"] == "not valid" and got["settle"] == ""
    assert "cars 30 % of dset images, 80 % of photographs" in got["not_valid_because"]
    assert got["ours"] == pytest.approx(one(df, **asked)["ours"])  # the number stays
    edits = {"contrast": {"edit(color,feasible)": 1, "real": -1}, "test": "equivalent"}
    assert one(df, gates=Gates.of(main, sets), **edits)["verdict"] == "reproduced"
    lacking = {"contrast": {"edit(all,feasible)": 1, "real": -1}, "test": "equivalent"}
    assert one(df, gates=Gates.of(main, sets), **lacking)["verdict"] == "not run"


def test_without_head_room_no_verdict_is_given():
    flat = study({"zero_shot": 0.0} | arms("color", 0.2, 0.0), noise=0)
    gates = Gates.of(tables.main_table(flat, resamples=50))
    claim = {
        "contrast": {"edit(color,feasible)": 1, "edit(color,infeasible)": -1},
        "test": "equivalent",
    }
    got = one(flat, gates=gates, **claim)
    assert got["verdict"] == "not valid" and "gains less than 10 points" in got["not_valid_because"]
    table = effects.effects(flat, 0.3, gates, resamples=50)
    assert (table["verdict"] == "not valid").all()
    assert (effects.effects(flat, 0.3, resamples=50)["verdict"] == "different").all()
    part = Gates({"cars": 2.0, "pets": 20.0})  # one data set with room: pooled numbers hold
    assert one(flat, gates=part, **claim)["verdict"] == "different"
    table = effects.effects(flat, 0.3, part, resamples=50).groupby("dataset")["verdict"].first()
    assert table.to_dict() == {"cars": "not valid", "pets": "different", "pooled": "different"}
