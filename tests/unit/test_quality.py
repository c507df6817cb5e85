"""How minimal an edit is, against cases with known answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from varireal_utils.core import storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.quality import edit_metrics

RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255


def unit(shape, seed):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_changes_are_told_apart_by_place():
    edit = SOURCE.copy()
    edit[:, :32] = 255 - edit[:, :32]
    got = edit_metrics.changes(SOURCE, edit, LEFT)
    assert got["largest_outside"] == 0 and got["change_outside"] == 0
    gap = np.abs(SOURCE[:, :32].astype(int) - edit[:, :32])
    assert got["change_inside"] == pytest.approx(gap.mean(), rel=1e-5)
    assert got["ssim_inside"] < 0 < 0.8 < got["ssim_outside"] <= 1
    same = edit_metrics.changes(SOURCE, SOURCE, LEFT)
    assert same["ssim_inside"] == pytest.approx(1) and same["change_inside"] == 0
    edit[0, 63] += 30  # a single pixel where nothing may move (uint8 wraps; either way it moved)
    assert edit_metrics.changes(SOURCE, edit, LEFT)["largest_outside"] > 0
    whole = edit_metrics.changes(SOURCE, edit, np.full_like(LEFT, 255))
    assert np.isnan(whole["ssim_outside"]) and whole["largest_outside"] == 0


def test_feature_distance_weighs_patches_by_their_share():
    before = np.zeros((2, 2, 2), np.float32)
    before[0] = 1
    after = before.copy()
    after[:, :, 0] = [[0, 0], [1, 1]]  # the left patches turn by a right angle
    assert edit_metrics.feature_distances(before, after, LEFT) == pytest.approx((1.0, 0.0))
    assert np.isnan(edit_metrics.feature_distances(before, after, np.zeros_like(LEFT))[0])


def test_kernel_distance_is_torchmetrics_kernel_over_all_pairs():
    a, b = unit((40, 16), 1) * 4, unit((30, 16), 2) * 4 + 0.5
    want = float(poly_mmd(torch.tensor(a[:30]).double(), torch.tensor(b).double()))
    assert edit_metrics.kernel_distance(a[:30], b) == pytest.approx(want, rel=1e-9)
    assert edit_metrics.kernel_distance(a, b) > 0.1
    draws = [
        edit_metrics.kernel_distance(unit((50, 16), s) * 4, unit((50, 16), s + 100) * 4)
        for s in range(60)
    ]  # same distribution: unbiased, so about 0 and on both sides of it
    assert min(draws) < 0 < max(draws) and abs(np.mean(draws)) < 3 * np.std(draws) / 60**0.5


def test_a_copy_of_another_photograph_is_found_and_ones_own_source_is_not_counted():
    photographs = unit((20, 8), 3)
    made = photographs[:5].copy()
    fresh = edit_metrics.of_set(made, photographs, np.arange(5))
    assert fresh["nearest_max"] < 0.999
    copied = edit_metrics.of_set(made, photographs, np.array([9, 1, 2, 3, 4]))
    assert copied["nearest_max"] == pytest.approx(1)
    assert edit_metrics.of_set(np.repeat(made[:1], 4, 0), photographs, np.full(4, -1))[
        "diversity"
    ] == pytest.approx(0, abs=1e-6)


def table(gap, images=60, noise=0.1):
    rng, rows = np.random.default_rng(5), []
    for i in range(images):
        base = rng.normal()
        for arm, shift in (("feasible", gap), ("infeasible", 0.0)):
            rows += [
                {
                    "attribute": "color",
                    "image_id": f"i{i}",
                    "k": k,
                    "feasibility": arm,
                    "identity": base + shift + noise * rng.normal(),
                }
                for k in range(2)
            ]
    return pd.DataFrame(rows)


def test_balance_finds_an_arm_that_is_edited_less_well():
    uneven = edit_metrics.balance(table(0.1)).iloc[0]
    assert uneven["uneven"] and uneven["low"] < 0.1 < uneven["high"] and uneven["pairs"] == 60
    even = edit_metrics.balance(table(0.0)).iloc[0]
    assert not even["uneven"] and even["low"] < 0 < even["high"]
    same = table(0.0, noise=0.0)
    assert edit_metrics.balance(same).iloc[0]["difference"] == 0
    assert edit_metrics.balance(same[same["feasibility"] == "feasible"]).empty


def test_the_map_is_shaped_by_photographs_alone():
    groups = {"real": unit((30, 6), 7), "color feasible": unit((10, 6), 8)}
    both = edit_metrics.projection(groups)
    alone = edit_metrics.projection({"real": groups["real"]})
    real = both[both["group"] == "real"].reset_index(drop=True)
    assert np.allclose(real[["x", "y"]], alone[["x", "y"]])
    assert both["group"].value_counts().to_dict() == {"real": 30, "color feasible": 10}


def test_recognised_is_zero_shot_accuracy():
    captions = np.eye(3, dtype=np.float32)
    features = np.array([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0, 1]], np.float32)
    assert edit_metrics.recognised(features, np.array([0, 1, 1, 2]), captions) == 0.75


def test_every_edit_is_measured_against_its_own_photograph():
    """Photographs are looked at once for all their edits; what comes out does not show it."""
    rng = np.random.default_rng(3)
    sources = {f"i{n}": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for n in range(5)}
    rows = [
        {
            "edit_id": f"{i}-{a}-{f}",
            "image_id": i,
            "attribute": a,
            "feasibility": f,
            "k": 0,
            "class_name": "c",
            "accepted": True,
        }
        for a in ("background", "color")
        for f in ("feasible", "infeasible")
        for i in sources
    ]
    made = {r["edit_id"]: rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for r in rows}
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    looked = []

    def embed(pictures):
        x = np.stack([p.reshape(-1)[:12].astype(np.float32) + 1 for p in pictures])
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def look(pictures):
        looked.append(len(pictures))
        return embed(pictures), [p.transpose(2, 0, 1)[:, ::4, ::4] / 255 for p in pictures]

    def run(table, size):
        return edit_metrics.measure(
            table,
            lambda r: (sources[r.image_id], made[r.edit_id], mask, 255 - mask),
            lambda r: r.attribute,
            edit_metrics.Look(embed, lambda texts: embed([sources["i0"]] * len(texts)), look),
            size,
        )

    edits = pd.DataFrame(rows)
    whole, features = run(edits, 64)
    assert looked == [5, 20] and list(whole["edit_id"]) == list(edits["edit_id"])
    assert np.array_equal(features, embed([made[e] for e in edits["edit_id"]]))
    for i in range(len(edits)):  # alone, in batches of three, and together: the same
        alone, own = run(edits.iloc[[i]], 64)
        pd.testing.assert_frame_equal(alone, whole.iloc[[i]].reset_index(drop=True))
        assert np.array_equal(own[0], features[i])
    pd.testing.assert_frame_equal(run(edits, 3)[0], whole)
    one = edit_metrics.changes(sources["i2"], made["i2-color-feasible"], 255 - mask)
    assert whole.set_index("edit_id").loc["i2-color-feasible", list(one)].to_dict() == one


def test_a_map_of_photographs_alone_is_left_out(tmp_path):
    """A study without edits: its figures have nothing to map."""
    paths = StudyPaths(tmp_path)
    for groups, wanted in ((["real", "real"], set()), (["real", "color feasible"], {"embedding"})):
        table = pd.DataFrame({"group": groups, "x": 0.0, "y": 0.0})
        storage.write_table(paths.quality("d") / "embedding.csv", table)
        assert set(edit_metrics.collected(paths, ["d"])) == wanted
