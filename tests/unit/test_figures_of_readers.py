"""What a reader sees in a figure: no half dot, no key of what is not drawn, legible at the size of
the registered study."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tests.unit.test_figures import CLAIMS, CURVES, EFFECTS, MAIN, PICTURE, SEEDS, words
from varireal_utils.analysis import inference
from varireal_utils.core import storage
from varireal_utils.reporting import figures, image_grids, publishing, style


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_an_estimate_far_out_is_an_arrow_with_its_number():
    far = CLAIMS.iloc[0].to_dict() | {"claim": "D2", "ours": -28.17, "low": -31.8, "high": -24.6}
    near = CLAIMS[CLAIMS["ours"].abs() < 1]
    fig, _ = figures.claim_forest(pd.concat([near, near, pd.DataFrame([far])], ignore_index=True))
    axis = fig.axes[0]
    low, high = axis.get_xlim()
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    x = np.concatenate([line.get_xdata() for line in dots])
    assert len(x) == 4 and (x > low).all() and (x < high).all()  # of the others, each whole
    arrows = [line for line in axis.lines if line.get_marker() == "<"]
    assert any(line.get_xdata()[0] == low for line in arrows)
    assert "−28.17" in words(fig)
    small = CLAIMS.assign(ours=[0.2, -1.8, 0.1, 0.1], low=-2.0, high=0.4)
    low, _ = figures.claim_forest(small)[0].axes[0].get_xlim()
    assert low < -1.8  # an estimate that is not far out is inside


@pytest.mark.parametrize("draw", [lambda: figures.claim_forest(CLAIMS), lambda: _forest()])
def test_forests_fill_their_width(draw):
    fig, _ = draw()
    fig.canvas.draw()
    right = max(t.get_window_extent().x1 for a in fig.axes for t in a.texts if t.get_text())
    assert 0.9 * fig.bbox.width < right <= fig.bbox.width


def _forest():
    return figures.effect_forest(EFFECTS.assign(difference=-20.1, low=-31.7, high=-10.2), 0.3)


def test_the_legend_names_paired_intervals_only_where_there_are_some():
    for units, there in ((1, False), (5, True)):
        effects = EFFECTS.assign(units=units)
        fig, _ = figures.accuracy_by_arm(MAIN, effects=effects)
        assert ("paired interval" in {t.get_text() for t in fig.legends[0].texts}) == there


def test_many_replicates_are_not_dots_of_an_accuracy():
    many = MAIN.assign(seeds=27)
    fig, table = figures.accuracy_by_arm(many, SEEDS)
    assert table["seed"].isna().all() and "one seed" not in words(fig)
    assert figures.accuracy_by_arm(MAIN, SEEDS)[1]["seed"].notna().any()


def test_true_effects_tell_trainings_apart_after_they_were_written_and_read(tmp_path):
    row = {"claim": "A1", "dataset": "d", "attribute": "color", "margin": 0.3}
    row |= dict.fromkeys(("difference", "low", "high", "true", "true_low", "true_high"), 0.1)
    table = pd.DataFrame([row | {"training": t} for t in ("", "real+")])
    storage.write_table(tmp_path / "t.csv", table)
    fig, _ = figures.true_effects(storage.read_table(tmp_path / "t.csv"))
    faces = [line.get_markerfacecolor() for line in fig.axes[0].lines if line.get_markersize() == 3]
    assert sorted(faces) == ["#333333", "white"]


def _parts() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for claim, scale in (("E1", 1.0), ("E2", 1.0), ("E4", 4.0)):
        for attribute in ("background", "color"):
            values = scale * rng.standard_normal(6)
            got = inference.estimate(values, 1.0)
            head = {"claim": claim, "attribute": attribute}
            bounds = {k: float(getattr(got, k)) for k in ("low", "high", "low90", "high90")}
            rows.append(head | bounds | {"difference": float(got.mean), "units": 6})
            rows += [head | {"replicate": r, "difference": v} for r, v in enumerate(values)]
    return pd.DataFrame(rows)


def test_the_decomposition_shows_the_claims_own_number():
    """Mean over attributes in each replicate, then over replicates, with its t interval."""
    given = _parts()
    fig, table = figures.decomposition(given, 0.3)
    each = given[given["replicate"].notna() & (given["claim"] == "E1")]
    wanted = inference.estimate(each.groupby("replicate")["difference"].mean().to_numpy(), 1.0)
    own = table[(table["claim"] == "E1") & (table["attribute"] == "pooled")]
    mean = own[own["replicate"].isna()].iloc[0]
    assert (mean["difference"], mean["low"]) == pytest.approx((wanted.mean, wanted.low))
    assert own["replicate"].notna().sum() == 6 and "all attributes" in words(fig)
    first, second, apart = (axis.get_xlim() for axis in fig.axes)
    assert first == second != apart  # what adds up shares an axis
    few = given[given["replicate"].isna() | (given["replicate"] < 3)].assign(units=3)
    pooled = figures.decomposition(few, 0.3)[1]
    assert pooled.loc[pooled["attribute"] == "pooled", "low"].isna().all()


def test_a_single_validation_is_no_curve():
    loss = CURVES["quantity"] == "loss"
    one = CURVES[loss | (CURVES["step"] == CURVES["step"].max())]
    assert (
        len(figures.learning_curves(one)[0].axes)
        == len(figures.learning_curves(CURVES)[0].axes) / 2
    )
    assert "validation top-1 (%)" not in words(figures.learning_curves(one)[0])


def test_a_rejected_edit_is_marked_however_long_its_phrase():
    phrase = " ".join(["in a snowy mountain valley with very old pine trees"] * 3)
    sides = {arm: (PICTURE, f"{phrase} (rejected)") for arm in ("feasible", "infeasible")}
    fig, _ = image_grids.qualitative_grid([{"name": "a", "source": PICTURE, "background": sides}])
    assert "(rejected)" in words(fig) and any(w.endswith("…") for w in words(fig))


def test_datadream_has_its_own_points_in_the_map_of_features():
    groups = ["real", "color feasible", "color infeasible", "datadream dset"]
    table = pd.DataFrame(
        [{"dataset": "d", "group": g, "x": 0.1 * i, "y": i} for i, g in enumerate(groups)]
    )
    fig, _ = figures.embedding_map(table)
    last = fig.axes[-1]
    assert last.get_title() == "DataDream"
    assert [3.0] in [list(line.get_ydata()) for line in last.lines]
    assert "DataDream" in {t.get_text() for t in fig.legends[0].texts}
    fig, _ = figures.embedding_map(table.head(3))
    assert "DataDream" not in words(fig)


def test_a_caption_says_why_no_interval_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "_display", lambda fig, *_: plt.close(fig))
    for units, said in ((2, True), (4, False)):
        folder = style.FigureFolder(tmp_path / str(units), [])
        folder.add("f", figures.effect_forest(EFFECTS.assign(units=units), 0.3), "Text.")
        caption = storage.read_json(tmp_path / f"{units}/f.json")["caption"]
        assert caption.startswith("Text.") and ("none is drawn" in caption) == said


def test_runs_of_replicates_share_a_name():
    runs = pd.DataFrame({"stage": "06_classify", "what": ["cars 0"] * 3, "replicate": [0, 1, 2]})
    whole = pd.DataFrame([{"stage": "07_claims", "what": None, "replicate": pd.NA}])
    names = publishing.run_names(pd.concat([runs, whole], ignore_index=True))
    assert names == ["07_claims ", "06_classify cars 0 (3 replicates)"]
    assert publishing.run_names(runs.drop(columns="replicate")) == ["06_classify cars 0"] * 3
