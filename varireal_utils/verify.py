"""The study's verifier: is the asked attribute there, and is it still the same thing?

Two questions are put to CLIP, and it is never told the expected answer:

symbols   attribute_margin   similarity to the asked phrase minus the best of all its alternatives,
                             those of both arms; a verifier cannot know which arm it looks at
          identity           similarity of the edited object to the source's object, background
                             greyed in both; 1 is the same
          worst_margin       the smaller of the two, each minus its threshold

Thresholds come from real validation photographs (`calibrate`): the attribute's so that an unedited
photograph passes for a randomly asked phrase in at most `false_accept` of cases, the identity's so
that a photograph of another class passes in at most `false_identity` of cases. A constant answer
passes neither.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .seeds import numpy_rng

Embed = Callable[[list[np.ndarray]], np.ndarray]
GREY = 127


def object_only(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with everything but the object grey."""
    return np.where(mask[..., None] > 0, image, GREY).astype(np.uint8)


def margins(features: np.ndarray, asked: np.ndarray, phrases: list[np.ndarray]) -> np.ndarray:
    """(N, D) unit image features, (N,) index of the asked phrase, N x (P, D) unit phrase features.

    Returns (N,) similarity to the asked phrase minus the best other phrase, in -2..2.
    """
    out = np.empty(len(features))
    for i, (feature, index, table) in enumerate(zip(features, asked, phrases)):
        scores = table @ feature
        out[i] = scores[index] - np.delete(scores, index).max()
    return out


def calibrate(images: list[np.ndarray], masks: list[np.ndarray], labels: np.ndarray,
              phrases: list[np.ndarray], embed: Embed, settings: dict,
              seed: int) -> dict[str, float]:
    """Thresholds from real validation photographs, none of which is ever edited.

    phrases: for each photograph (P, D) unit text features of all phrases of both arms. Returns
    attribute_threshold, identity_threshold and the number of photographs they rest on.
    """
    rng = numpy_rng(seed, "verify", "calibrate")
    features = embed(images)
    asked = [[int(rng.integers(len(p))) for p in phrases] for _ in range(8)]
    wrong = np.concatenate([margins(features, a, phrases) for a in asked])
    objects = embed([object_only(i, m) for i, m in zip(images, masks)])
    alike = objects @ objects.T
    other = alike[labels[:, None] != labels[None, :]]
    return {"attribute_threshold": float(np.quantile(wrong, 1 - settings["false_accept"])),
            "identity_threshold": float(np.quantile(other, 1 - settings["false_identity"])),
            "n_calibration": len(images)}


def score(images: list[np.ndarray], sources: list[np.ndarray], masks: list[np.ndarray],
          asked: list[int], phrases: list[np.ndarray], embed: Embed,
          thresholds: dict[str, float]) -> pd.DataFrame:
    """Answers for each edited image: similarities, margins, and whether both questions pass."""
    features = embed(images)
    attribute = margins(features, asked, phrases)
    before = embed([object_only(s, m) for s, m in zip(sources, masks)])
    after = embed([object_only(i, m) for i, m in zip(images, masks)])
    identity = (before * after).sum(axis=1)
    room = np.stack([attribute - thresholds["attribute_threshold"],
                     identity - thresholds["identity_threshold"]])
    return pd.DataFrame({
        "attribute_score": [float(f @ p[a]) for f, a, p in zip(features, asked, phrases)],
        "attribute_margin": attribute, "identity": identity, "worst_margin": room.min(axis=0),
        "attribute_passed": room[0] >= 0, "identity_passed": room[1] >= 0,
        "accepted": (room >= 0).all(axis=0)})
