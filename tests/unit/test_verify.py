"""The verifier: thresholds from photographs, and nothing that a constant answer could pass."""

import numpy as np
import pandas as pd
import pytest

from varireal_utils.core.config_sections import ClipVerifierSettings
from varireal_utils.verification import clip_verifier

RNG = np.random.default_rng(0)
SETTINGS = ClipVerifierSettings(false_accept=0.1, false_identity=0.1)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pictures(count: int) -> list[np.ndarray]:
    return list(RNG.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


def embed(images: list[np.ndarray]) -> np.ndarray:
    return unit(
        np.stack([np.cos(i.reshape(-1)[:16].astype(float) * (1 + np.arange(16))) for i in images])
    )


def test_margins_by_hand():
    features = unit(np.array([[1.0, 0.0], [0.6, 0.8]]))
    phrases = [unit(np.array([[1.0, 0.0], [0.0, 1.0]]))] * 2
    assert np.allclose(clip_verifier.margins(features, [0, 0], phrases), [1.0, -0.2])


def test_thresholds_hold_their_promise():
    images, masks = pictures(60), [np.full((8, 8), 255, np.uint8)] * 60
    phrases = [unit(RNG.standard_normal((6, 16)))] * 60
    labels = np.arange(60) % 4
    got = clip_verifier.calibrate(zip(images, masks), labels, phrases, embed, SETTINGS, 3)
    asked = [int(RNG.integers(6)) for _ in images]
    passed = clip_verifier.margins(embed(images), asked, phrases) >= got["attribute_threshold"]
    assert passed.mean() < 0.3 and got["n_calibration"] == 60
    assert got == clip_verifier.calibrate(zip(images, masks), labels, phrases, embed, SETTINGS, 3)


def test_calibration_holds_a_lot_of_photographs_at_a_time(monkeypatch):
    images, masks = pictures(20), [np.full((8, 8), 255, np.uint8)] * 20
    phrases, labels = [unit(RNG.standard_normal((4, 16)))] * 20, np.arange(20) % 4
    whole = clip_verifier.calibrate(zip(images, masks), labels, phrases, embed, SETTINGS, 3)
    read, seen = [], []

    def one_by_one():
        for pair in zip(images, masks):
            read.append(1)
            yield pair

    def counting(batch: list[np.ndarray]) -> np.ndarray:
        seen.append((len(batch), len(read)))
        return embed(batch)

    monkeypatch.setattr(clip_verifier, "_LOT", 7)
    assert clip_verifier.calibrate(one_by_one(), labels, phrases, counting, SETTINGS, 3) == whole
    assert seen == [(7, 7), (7, 7), (7, 14), (7, 14), (6, 20), (6, 20)]


def test_calibration_without_photographs_says_what_to_set():
    with pytest.raises(ValueError, match="val_per_class"):
        clip_verifier.calibrate([], np.zeros(0, int), [], embed, SETTINGS, 3)


def test_a_constant_answer_cannot_pass():
    images, masks = pictures(20), [np.full((8, 8), 255, np.uint8)] * 20
    phrases = [unit(RNG.standard_normal((4, 16)))] * 20
    thresholds = clip_verifier.calibrate(
        zip(images, masks), np.arange(20) % 2, phrases, embed, SETTINGS, 1
    )
    same = unit(np.ones((1, 16)))
    scores = clip_verifier.score(
        images,
        images,
        masks,
        [i % 4 for i in range(20)],
        phrases,
        lambda batch: np.repeat(same, len(batch), 0),
        thresholds,
    )
    assert scores["attribute_passed"].mean() <= 0.25
    assert (scores["accepted"] <= scores["attribute_passed"]).all()


def test_object_only_greys_the_rest():
    image, mask = pictures(1)[0], np.zeros((8, 8), np.uint8)
    mask[2:4] = 255
    out = clip_verifier.object_only(image, mask)
    assert (out[2:4] == image[2:4]).all() and (out[5] == clip_verifier.GREY).all()


def edits(feasible: list[bool], infeasible: list[bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "image_id": f"i{n}",
                "k": 0,
                "feasibility": arm,
                "accepted": a,
                "attribute_passed": a,
                "identity_passed": True,
                "attempt": 0 if a else 1,
            }
            for arm, answers in (("feasible", feasible), ("infeasible", infeasible))
            for n, a in enumerate(answers)
        ]
    )


def test_a_filter_that_treats_the_arms_differently_is_seen():
    table = clip_verifier.by_arm(edits([True] * 40, [True] * 10 + [False] * 30))
    assert table.loc["difference", "accepted"] == 0.75 and table.loc["difference", "uneven"]
    assert table.loc["difference", "low"] > 0.5 and table.loc["infeasible", "tries"] == 1.75
    assert "treats the arms differently: +75.0 points" in clip_verifier.evenness(table)
    other_way = clip_verifier.by_arm(edits([False] * 40, [True] * 40))
    assert other_way.loc["difference", "high"] < 0 and other_way.loc["difference", "uneven"]


def test_equal_arms_are_not_called_uneven():
    answers = [True] * 30 + [False] * 10
    table = clip_verifier.by_arm(edits(answers, answers))
    assert table.loc["difference", "low"] < 0 < table.loc["difference", "high"]
    assert not table.loc["difference", "uneven"] and "No difference" in clip_verifier.evenness(
        table
    )
    few = clip_verifier.by_arm(edits([True, True], [True, False]))
    assert not few.loc["difference", "uneven"]  # two pairs prove nothing


def test_one_arm_alone_is_said_to_be_alone():
    table = clip_verifier.by_arm(edits([True] * 3, []))
    assert list(table.index) == ["feasible"] and "Only the feasible arm" in clip_verifier.evenness(
        table
    )
