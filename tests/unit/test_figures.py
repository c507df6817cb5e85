"""Figures: they plot the numbers that they store, and equal inputs give equal bytes."""

import json
import os
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from varireal_utils.analysis.verdict import VERDICTS
from varireal_utils.core import storage
from varireal_utils.reporting import check_figures, figures, image_grids, marks, style

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
MAIN = pd.DataFrame(
    [
        {
            "dataset": "d",
            "attribute": a,
            "training": t,
            "arm": m,
            "mean": 60.0 + i,
            "low": 58.0 + i,
            "high": 62.0 + i,
            "seeds": 4,
            "n": 100,
            "recipe": f"{a} {t} {m}",
        }
        for i, (a, t, m) in enumerate(
            [
                ("", "none", "zero-shot"),
                ("", "real", "real"),
                ("color", "edited only", "feasible"),
                ("color", "edited only", "infeasible"),
                ("color", "real + edited", "mixed"),
                ("", "edited only", "datadream cls"),
            ]
        )
    ]
)
SEEDS = pd.DataFrame(
    [
        {"dataset": "d", "recipe": r, "seed": s, "top1": 0.5 + 0.1 * s}
        for r in MAIN["recipe"]
        for s in (0, 1)
    ]
)
EFFECTS = pd.DataFrame(
    [
        {
            "dataset": d,
            "attribute": "color",
            "training": "edited only",
            "difference": 0.1,
            "low": low,
            "high": 0.7,
            "low90": -0.2,
            "high90": 0.28,
            "cells": cells,
        }
        for d, low, cells in (("d", -0.5, 1), ("e", -90.0, 1), ("pooled", -0.4, 2))
    ]
)
CLAIMS = pd.DataFrame(
    [
        {
            "claim": claim,
            "estimand": "feasible minus infeasible",
            "ours": ours,
            "low": ours - wide,
            "high": ours + wide,
            "low90": ours - 0.8 * wide,
            "high90": ours + 0.8 * wide,
            "margin": 0.3,
            "verdict": verdict,
        }
        for claim, ours, wide, verdict in (
            ("A1", 0.1, 0.2, "reproduced"),
            ("A2", 0.4, 0.5, "inconclusive"),
            ("D1", -26.0, 4.0, "not valid"),
            ("E1", float("nan"), 1.0, "not run"),
        )
    ]
)
ACCEPTED = pd.DataFrame(
    {
        "attribute": ["color"] * 2,
        "feasibility": ["feasible", "infeasible"],
        "edits": [4, 4],
        "accepted": [0.0, 0.75],
    }
)
CURVES = pd.DataFrame(
    [
        {
            "attribute": a,
            "arm": m,
            "training": t,
            "seed": s,
            "step": k,
            "quantity": q,
            "value": 0.5 + 0.1 * k + s,
        }
        for a, m, t in (("", "real", "real"), ("color", "mixed", "real + edited"))
        for s in (0, 1)
        for k in (1, 2)
        for q in ("loss", "val_top1")
    ]
)
MASKS = pd.DataFrame(
    {
        "area": [0.1, 0.12, 0.4, 0.01],
        "touches": ["", "left", "left top", None],
        "verdict": ["ok", "ok", "ok", "tiny"],
    }
)


CLASSES = pd.DataFrame(
    [
        {
            "dataset": "d",
            "class_name": f"c{i}",
            "difference": 1.0 - i,
            "low": -1.0 - i,
            "high": 2.5 - i,
            "n": 9,
        }
        for i in range(30)
    ]
)
BALANCE = pd.DataFrame(
    [
        {"dataset": d, "attribute": "color", "metric": m, "effect": e, "uneven": u}
        for d in "de"
        for m, e, u in (("identity", -0.5, True), ("phrase_gain", 0.1, False))
    ]
)
MAP = pd.DataFrame(
    [
        {"dataset": "d", "group": g, "row": i, "x": 0.1 * i, "y": 0.2 - i}
        for g in ("real", "color feasible", "color infeasible")
        for i in range(3)
    ]
)
SHOTS = pd.DataFrame(
    [
        {
            "dataset": d,
            "attribute": "" if arm == "real" else "all",
            "training": training,
            "arm": arm,
            "shots": float(n),
            "mean": 50.0 + n + k,
            "low": 40.0,
            "high": 80.0,
            "seeds": 2,
            "n": 9,
        }
        for d in "de"
        for n in (2, 4, 16)
        for k, (arm, training) in enumerate(
            (
                ("real", "real"),
                ("feasible", "edited only"),
                ("infeasible", "edited only"),
                ("feasible − infeasible", "edited only"),
            )
        )
    ]
)
RUNS = pd.DataFrame(
    {
        "stage": ["04_edit", "04_edit", "06_classify"],
        "seconds": [60.0, 30.0, 20.0],
        "outputs": [10, 11, 3],
    }
)
NAMED = pd.DataFrame(
    {
        "stage": ["04_edit"] * 3 + ["05_datadream"],
        "seconds": [60.0, 30.0, 9.0, 7.0],
        "outputs": [10, 11, 12, 9],
        "what": ["color d feasible", "color e feasible", "color d infeasible", "d dset"],
    }
)
SETS = pd.DataFrame(
    [
        {"dataset": d, "set": s, "images": 8}
        for d in "de"
        for s in (
            "real",
            "color feasible",
            "color infeasible",
            "texture feasible",
            "datadream dset",
        )
    ]
)


def grid() -> list[dict]:
    return [
        {
            "name": "alvera",
            "source": PICTURE,
            "color": {
                "feasible": (PICTURE, "red"),
                "infeasible": (255 - PICTURE, "a very long phrase " * 4),
            },
        }
    ]


STRIPS = [
    {
        "title": "color, infeasible",
        "phrase": "red",
        "steps": {"result": PICTURE, "source": PICTURE, "mask": PICTURE[..., 0]},
    }
]
DRAW = {
    "accuracy": lambda: figures.accuracy_by_arm(MAIN),
    "accuracy, seeds": lambda: figures.accuracy_by_arm(MAIN, SEEDS),
    "accuracy, pairs": lambda: figures.accuracy_by_arm(MAIN, SEEDS, EFFECTS),
    "forest": lambda: figures.effect_forest(EFFECTS, 0.3),
    "claims": lambda: figures.claim_forest(CLAIMS),
    "grid": lambda: image_grids.qualitative_grid(grid()),
    "strip": lambda: image_grids.pipeline_strip(STRIPS),
    "acceptance": lambda: figures.acceptance(ACCEPTED),
    "curves": lambda: figures.learning_curves(CURVES),
    "share": lambda: figures.infeasible_share(MAIN),
    "shots": lambda: figures.accuracy_by_shots(SHOTS, 0.3),
    "shots, no pairs": lambda: figures.accuracy_by_shots(SHOTS[SHOTS["arm"] == "real"], 0.3),
    "classes": lambda: figures.effect_by_class(CLASSES),
    "balance": lambda: figures.quality_balance(BALANCE),
    "map": lambda: figures.embedding_map(MAP),
    "cost": lambda: figures.cost(RUNS),
    "cost, arms": lambda: figures.cost(NAMED, SETS),
    "masks": lambda: figures.attribute_mask_quality(MASKS),
}


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAW)
def test_saved_with_their_numbers_and_without_dates(tmp_path, name):
    for folder in ("a", "b"):
        fig, table = DRAW[name]()
        paths = style.save(fig, tmp_path / folder, "name", table, ["run 2", "run 1"], "to see")
    assert [p.suffix for p in paths] == [".png", ".pdf", ".svg", ".csv", ".json"]
    for kind in ("png", "pdf", "svg", "csv", "json"):
        assert (tmp_path / f"a/name.{kind}").read_bytes() == (
            tmp_path / f"b/name.{kind}"
        ).read_bytes()
    pd.testing.assert_frame_equal(
        pd.read_csv(paths[3], keep_default_na=False).astype(str),
        table.astype(object).where(table.notna(), "").astype(str),
    )
    assert json.loads(paths[4].read_text()) == {"caption": "to see", "runs": ["run 1", "run 2"]}


HOSTILE_STYLE = """
text.usetex: True
text.parse_math: True
font.size: 20
font.family: monospace
axes.grid: True
axes.titlesize: 3
axes.unicode_minus: False
axes.prop_cycle: cycler('color', ['red'])
axes.spines.top: True
figure.constrained_layout.use: True
figure.facecolor: pink
image.cmap: jet
image.interpolation: nearest
legend.fontsize: 2
lines.linewidth: 9
lines.marker: x
path.simplify: False
pdf.compression: 0
savefig.bbox: tight
savefig.dpi: 30
savefig.transparent: True
svg.fonttype: none
xtick.direction: in
xtick.minor.visible: True
"""
CHILD = """
import sys
from tests.unit.test_figures import DRAW, style
for name, draw in DRAW.items():
    fig, table = draw()
    style.save(fig, sys.argv[1], name, table, [], "")
    style.plt.close(fig)
"""


@pytest.mark.slow
def test_no_setting_of_a_users_matplotlibrc_changes_a_byte(tmp_path):
    (tmp_path / "matplotlibrc").write_text(HOSTILE_STYLE)
    own = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    child = [sys.executable, "-c", CHILD, str(tmp_path / "theirs")]
    done = subprocess.run(child, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Bad key" not in done.stderr  # every setting above is one of matplotlib's
    for name, draw in DRAW.items():
        fig, table = draw()
        for path in style.save(fig, tmp_path / "ours", name, table, [], ""):
            other = tmp_path / "theirs" / path.name
            assert path.read_bytes() == other.read_bytes(), path.name


def test_the_callers_settings_stay_as_they_were():
    with matplotlib.rc_context({"font.size": 20, "text.usetex": True}):
        figures.effect_forest(EFFECTS, 0.3)
        assert matplotlib.rcParams["font.size"] == 20 and matplotlib.rcParams["text.usetex"]


NAMES = ["$x_1$", "a_b", "NA", "_hidden", "50% \\textbf{off}", "null"]


def words(fig) -> set[str]:
    """Every text of a figure, as it stands there."""
    return {t.get_text() for t in fig.findobj(matplotlib.text.Text)}


@pytest.mark.filterwarnings("error")
def test_names_are_shown_as_they_are(tmp_path):
    rows = CLASSES.head(len(NAMES)).assign(class_name=NAMES)
    fig, table = figures.effect_by_class(rows)
    fig.canvas.draw()
    assert set(NAMES) <= words(fig)
    style.save(fig, tmp_path, "classes", table, [], "")
    texts = [t for t in fig.findobj(matplotlib.text.Text) if t.get_text() in NAMES]
    assert len(texts) >= len(NAMES) and not any(t.get_parse_math() for t in texts)
    stored = storage.read_table(tmp_path / "classes.csv")
    assert sorted(stored["class_name"]) == sorted(NAMES)
    many = pd.concat([BALANCE[BALANCE["dataset"] == "d"].assign(dataset=n) for n in NAMES])
    assert set(NAMES) <= words(figures.quality_balance(many)[0])
    many = pd.concat([MAIN.assign(dataset=n) for n in NAMES])
    assert set(NAMES) <= words(figures.infeasible_share(many)[0])
    many = pd.concat([MASKS.assign(dataset=n) for n in NAMES])
    assert {f"{n} (n = 4)" for n in NAMES} <= words(figures.attribute_mask_quality(many)[0])
    many = EFFECTS[EFFECTS["dataset"] == "d"]
    fig, _ = figures.effect_forest(pd.concat([many.assign(dataset=n) for n in NAMES]), 0.3)
    assert set(NAMES) <= words(fig)


def test_steps_of_another_editor_stand_before_the_result():
    other = {"title": "color, feasible", "phrase": "red"}
    steps = dict.fromkeys(("source", "edited", "result"), PICTURE)
    _, table = image_grids.pipeline_strip([*STRIPS, other | {"steps": steps}])
    assert table["steps"].tolist() == ["source mask result", "source edited result"]


def test_a_study_without_a_pair_or_an_edit_has_its_accuracy():
    """Real photographs alone, or generated images: no effect of feasibility, all the same drawn."""
    alone = MAIN[MAIN["arm"].isin(["real", "zero-shot"])]
    assert len(alone)
    for main in (MAIN, alone):
        _, table = figures.accuracy_by_arm(main, effects=EFFECTS.head(0))
        assert len(table) == len(main) and table["paired_low"].isna().all()


def test_paired_intervals_are_disjoint_exactly_if_their_difference_excludes_zero():
    rng = np.random.default_rng(3)
    for _ in range(200):
        difference, below, above = rng.normal(), *rng.uniform(0.05, 2, 2)
        main = pd.DataFrame(
            [
                {"dataset": "d", "attribute": "color", "training": "edited only", **row}
                for row in (
                    {"arm": "feasible", "mean": 60 + difference},
                    {"arm": "infeasible", "mean": 60.0},
                    {"arm": "mixed", "mean": 60.0},
                )
            ]
        )
        low, high = difference - below, difference + above
        effect = {"difference": difference, "low": low, "high": high}
        effects = main.head(1)[["dataset", "attribute", "training"]].assign(**effect)
        out = marks.paired_intervals(main, effects).set_index("arm")
        f, i = out.loc["feasible"], out.loc["infeasible"]
        disjoint = f["paired_low"] > i["paired_high"] or i["paired_low"] > f["paired_high"]
        assert disjoint == (low > 0 or high < 0)
        assert out.loc["mixed", ["paired_low", "paired_high"]].isna().all()


def test_a_difference_of_one_point_is_seen_beside_datadream():
    far = MAIN.assign(mean=[20.0, 60.0, 60.0, 61.0, 60.5, 15.0])
    far = far.assign(low=far["mean"] - 1, high=far["mean"] + 1)
    fig, _ = figures.accuracy_by_arm(far)
    color, datadream = fig.axes[0], fig.axes[1]
    fig.canvas.draw()
    ends = color.transData.transform([[0, 60.0], [0, 61.0]])[:, 1]
    assert np.ptp(ends) / fig.dpi > 0.2  # inches
    assert datadream.get_ylim()[0] < 15


def test_an_attribute_of_ones_own_is_drawn_in_its_panel():
    own = MAIN.assign(attribute=MAIN["attribute"].replace("color", "weather"))
    fig, _ = figures.accuracy_by_arm(own)
    assert {a.get_title() for a in fig.axes} == {"weather", "DataDream"}
    assert style.attribute_order(["all", "weather", "color", "", None, "pooled", "color"]) == [
        "color",
        "weather",
        "all",
    ]


def test_a_figure_folder_keeps_the_paths_and_closes_what_it_shows(tmp_path):
    folder = style.FigureFolder(tmp_path, ["a run"])
    folder.add("masks", figures.attribute_mask_quality(MASKS), "to see")
    assert [p.name for p in folder.paths] == [f"masks.{k}" for k in "png pdf svg csv json".split()]
    assert not plt.get_fignums()


def drawn(axis) -> np.ndarray:
    """x, y of every point that an axes holds in data coordinates."""
    return np.vstack([line.get_xydata() for line in axis.lines])


def test_what_is_drawn_is_what_is_stored():
    fig, table = figures.effect_forest(EFFECTS, 0.3)
    for column in ("difference", "low", "high", "low90", "high90"):
        assert set(table[column]) <= set(drawn(fig.axes[0])[:, 0])
    fig, table = figures.accuracy_by_arm(MAIN, SEEDS)
    shown = np.concatenate([drawn(a)[:, 1] for a in fig.axes])
    edited = ~table["arm"].isin(["real", "zero-shot"])
    assert set(table.loc[edited, "mean"]) | set(table.loc[edited, "low"].dropna()) <= set(shown)
    assert table["seed"].notna().sum() == 2 * len(MAIN)
    seed = table[table["seed"] == 1].iloc[0]
    assert seed["mean"] == pytest.approx(60.0)


def test_forest_by_protocol_has_a_line_and_a_mark_for_each():
    rows = EFFECTS[EFFECTS["training"] != "pooled"].drop(columns="training")
    rows = pd.concat([rows.assign(protocol=p) for p in ("controlled", "faithful", "filtered")])
    fig, table = figures.effect_forest(rows, 0.3, by="protocol")
    words = [t.get_text() for t in fig.axes[0].texts]
    assert words.count("faithful") == (table["protocol"] == "faithful").sum() > 0
    shown = [t.get_text() for t in fig.legends[0].get_texts()]
    assert shown == ["controlled", "faithful", "filtered", "margin: ±0.3 points"]
    marks = {line.get_marker() for line in fig.axes[0].lines}
    assert {"o", "^"} <= marks and "D" not in marks


def test_verdicts_are_shown_of_claims_alone():
    """One number, one verdict: the forest of effects has none, that of claims the column's."""
    shown = words(figures.effect_forest(EFFECTS, 0.3)[0])
    assert "verdict" not in shown and not set(VERDICTS) & shown
    fig, table = figures.claim_forest(CLAIMS)
    listed = [t.get_text() for t in fig.axes[0].texts]
    assert [t for t in listed if t in VERDICTS] == ["reproduced", "inconclusive", "not valid"]
    assert list(table["claim"]) == ["A1", "A2", "D1"]  # E1 has no number
    held = figures.effect_forest(EFFECTS.assign(verdict="reproduced"), 0.3)[0]
    assert "reproduced" not in words(held)


def test_forest_drops_what_pooling_one_cell_would_repeat():
    alone = EFFECTS.assign(cells=1)
    assert list(figures.effect_forest(alone, 0.3)[1]["dataset"]) == ["d", "e"]


def test_no_figure_has_an_interval_of_fewer_than_four_seeds():
    """Means alone; zero-shot, which has no seeds, keeps its interval beside arms that have one."""
    bounds = ["low", "high"]
    for units, there in ((1, False), (3, False), (4, True)):
        main = MAIN.assign(seeds=np.where(MAIN["arm"] == "zero-shot", 1, units))
        fig, table = figures.accuracy_by_arm(main, effects=EFFECTS.assign(units=units))
        own = table[table["seed"].isna()]
        assert (own[bounds].notna().all(axis=1) == there).all()
        assert own["paired_low"].notna().any() == there and own["mean"].notna().all()
        assert bool(fig.axes[0].patches) == there  # bands of real and zero-shot
        forests = (
            figures.effect_forest(EFFECTS.assign(units=units), 0.5),
            figures.claim_forest(CLAIMS.assign(units=units)),
        )
        for forest, rows in forests:
            assert any("[" in word for word in words(forest) if word[:1] in "+−") == there
            assert rows[bounds].notna().any().any() == there
            for line in (line for axis in forest.axes for line in axis.lines):
                assert there or len(set(line.get_xdata())) == 1 or np.isnan(line.get_xdata()).all()


def test_learning_curves_draw_every_seed_and_the_mean():
    fig, table = figures.learning_curves(CURVES)
    assert len(table) == len(CURVES)
    shown = drawn(fig.axes[0])[:, 1]
    assert {60.0, 160.0, 110.0} <= set(shown)  # seeds 0 and 1 at step 1, and their mean


def test_the_legend_of_learning_curves_lies_inside_with_every_arm_there_is():
    arms = ["feasible", "mixed", "mixed 0.25", "mixed 0.75", "infeasible", "datadream dset"]
    curves = pd.concat(
        [CURVES.assign(arm=a, attribute="" if "dream" in a else "color") for a in arms]
        + [CURVES.assign(arm="real", attribute="")]
    )
    fig, _ = figures.learning_curves(curves)
    fig.canvas.draw()
    box = fig.legends[0].get_window_extent()
    assert 0 <= box.x0 and box.x1 <= fig.bbox.x1
    words = [t.get_text() for t in fig.legends[0].get_texts()]
    assert len(words) == len(set(words)) == 7 and "mixed" in words


def test_mask_shares():
    table = figures.attribute_mask_quality(MASKS)[1].set_index(["panel", "key"])["share"]
    assert table["touches", "left"] == 0.5 and table["verdict", "ok"] == 0.75
    assert table["area"].sum() == pytest.approx(1)


def test_wilson_at_its_ends():
    low, high = check_figures.wilson(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    assert low[0] == pytest.approx(0) and high[2] == pytest.approx(1)
    assert (low[1], high[1]) == pytest.approx((0.2366, 0.7634), abs=1e-3)


def test_sample_size_for_captions():
    assert style.sample_size(MAIN) == "4 seeds, 100 test images a data set"
    mixed = MAIN.assign(seeds=[1, 1, 5, 5, 5, 5])
    assert style.sample_size(mixed) == "1-5 seeds, 100 test images a data set"


@pytest.mark.parametrize(
    "draw, table, column",
    [
        (lambda t: figures.effect_forest(t, 0.3), EFFECTS, "low90"),
        (figures.claim_forest, CLAIMS, "verdict"),
        (figures.accuracy_by_arm, MAIN, "mean"),
        (lambda t: figures.accuracy_by_arm(t, SEEDS), MAIN, "recipe"),
        (lambda t: figures.accuracy_by_arm(MAIN, t), SEEDS, "seed"),
        (figures.acceptance, ACCEPTED, "edits"),
        (figures.learning_curves, CURVES, "quantity"),
        (figures.attribute_mask_quality, MASKS, "touches"),
        (style.sample_size, MAIN, "n"),
    ],
)
def test_a_missing_column_is_named(draw, table, column):
    with pytest.raises(ValueError, match=rf"lacks column {column}\b"):
        draw(table.drop(columns=column))


def test_qualitative_grid_fits_a_page_and_keeps_every_data_set():
    row = grid()[0]
    row |= {a: row["color"] for a in ("background", "texture")}
    rows = [row | {"name": f"{d}{i}"} for d in "abc" for i in range(4)]
    fig, table = image_grids.qualitative_grid(rows)
    assert fig.get_figheight() <= 29.7 / 2.54 - 2  # A4 with margins of an inch
    shown = list(dict.fromkeys(table["name"]))
    assert shown == ["a0", "a1", "a3", "b1", "b2", "c0", "c2"] and table["row"].nunique() == 7
    fig, table = image_grids.qualitative_grid(rows[:4])
    assert list(dict.fromkeys(table["name"])) == ["a0", "a1", "a2", "a3"]


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="no row"):
        figures.effect_forest(EFFECTS.head(0), 0.3)
    with pytest.raises(ValueError, match="float64"):
        image_grids.qualitative_grid([{**grid()[0], "source": PICTURE / 255}])
    with pytest.raises(ValueError, match="one data set at a time, not a, b"):
        figures.learning_curves(CURVES.assign(dataset=["a", "b"] * (len(CURVES) // 2)))
    with pytest.raises(KeyError, match="plausible"):
        style.arm_color("plausible")


# Linear RGB as seen without L or M cones (Machado, Oliveira and Fernandes 2009, severity 1).
BLIND = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("kind", BLIND)
def test_arms_stay_apart_for_colour_blind_readers(kind):
    colors = [style.arm_color(a) for a in ("feasible", "infeasible", "mixed", "real")]
    seen = np.clip([np.array(BLIND[kind]) @ np.array(to_rgb(c)) ** 2.2 for c in colors], 0, 1)
    seen = seen ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(colors), 1)]
    assert gaps.min() > 0.2


def test_charts_store_what_they_draw():
    fig, table = figures.infeasible_share(MAIN)
    assert list(table["share"]) == [0.0, 1.0]  # the mixed arm there is real + edited
    assert set(table["mean"]) <= set(np.concatenate([drawn(a)[:, 1] for a in fig.axes]))
    fig, table = figures.accuracy_by_shots(SHOTS, 0.3)
    assert len(table) == len(SHOTS) and set(SHOTS["mean"]) <= set(
        np.concatenate([drawn(a)[:, 1] for a in fig.axes])
    )
    _, table = figures.effect_by_class(CLASSES)
    assert len(table) == 24 and set(CLASSES["class_name"]) - set(table["class_name"]) == {
        f"c{i}" for i in range(12, 18)
    }
    _, table = figures.cost(RUNS)
    assert table.loc[table["stage"] == "04_edit", "hours"].item() == pytest.approx(0.025)
    assert table["jobs"].tolist() == [2, 1] and table["files"].tolist() == [21, 3]
    _, table = figures.cost(NAMED, SETS)
    arms = table[table["arm"] != ""].set_index("arm")
    assert list(arms.index) == ["color feasible", "color infeasible", "datadream dset"]
    assert list(arms["images"]) == [16] * 3 and list(arms["jobs"]) == [2, 1, 1]
    assert (3600 * arms["hours"]).round().tolist() == [90, 9, 7]
