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

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
import pandas as pd

from ..core.arms import SIDES, VALUES, side, value
from ..core.config_sections import ClipVerifierSettings
from ..core.seeds import numpy_rng

Embed = Callable[[list[np.ndarray]], np.ndarray]
GREY = 127
_LOT = 64  # photographs


def object_only(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with everything but the object grey."""
    return np.where(mask[..., None] > 0, image, GREY).astype(np.uint8)


def margins(features: np.ndarray, asked: Sequence[int], phrases: list[np.ndarray]) -> np.ndarray:
    """(N, D) unit image features, N indices of the asked phrases, N x (P, D) unit phrase features.

    Returns (N,) similarity to the asked phrase minus the best other phrase, in -2..2.
    """
    out = np.empty(len(features))
    for i, (feature, index, table) in enumerate(zip(features, asked, phrases)):
        scores = table @ feature
        out[i] = scores[index] - np.delete(scores, index).max()
    return out


def calibrate(
    photographs: Iterable[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    phrases: list[np.ndarray],
    embed: Embed,
    settings: ClipVerifierSettings,
    seed: int,
) -> dict[str, float]:
    """Thresholds from real validation photographs, none of which is ever edited.

    photographs: image and object mask of each, of which `_LOT` are held at a time; phrases: for
    each (P, D) unit text features of all phrases of both arms. Returns attribute_threshold,
    identity_threshold and the number of photographs they rest on. Raises ValueError without one.
    """
    rng, found = numpy_rng(seed, "verify", "calibrate"), []
    waiting = iter(photographs)
    while lot := list(islice(waiting, _LOT)):
        found.append((embed([i for i, _ in lot]), embed([object_only(i, m) for i, m in lot])))
    if not found:
        raise ValueError(
            "No validation photograph is there, and the verifier's thresholds rest on "
            "them: set val_per_class or val_fraction of the data set above 0."
        )
    features, objects = (np.concatenate(parts) for parts in zip(*found))
    asked = [[int(rng.integers(len(p))) for p in phrases] for _ in range(8)]
    wrong = np.concatenate([margins(features, a, phrases) for a in asked])
    alike = objects @ objects.T
    other = alike[labels[:, None] != labels[None, :]]
    return {
        "attribute_threshold": float(np.quantile(wrong, 1 - settings.false_accept)),
        "identity_threshold": float(np.quantile(other, 1 - settings.false_identity)),
        "n_calibration": len(features),
    }


def score(
    images: list[np.ndarray],
    sources: list[np.ndarray],
    masks: list[np.ndarray],
    asked: list[int],
    phrases: list[np.ndarray],
    embed: Embed,
    thresholds: dict[str, float],
) -> pd.DataFrame:
    """Answers for each edited image: similarities, margins, and whether both questions pass."""
    features = embed(images)
    attribute = margins(features, asked, phrases)
    before = embed([object_only(s, m) for s, m in zip(sources, masks)])
    after = embed([object_only(i, m) for i, m in zip(images, masks)])
    identity = (before * after).sum(axis=1)
    room = np.stack(
        [attribute - thresholds["attribute_threshold"], identity - thresholds["identity_threshold"]]
    )
    return pd.DataFrame(
        {
            "attribute_score": [float(f @ p[a]) for f, a, p in zip(features, asked, phrases)],
            "attribute_margin": attribute,
            "identity": identity,
            "worst_margin": room.min(axis=0),
            "attribute_passed": room[0] >= 0,
            "identity_passed": room[1] >= 0,
            "accepted": (room >= 0).all(axis=0),
        }
    )


def by_arm(edits: pd.DataFrame) -> pd.DataFrame:
    """What the verifier says of each arm of one attribute, and whether it treats them alike.

    edits: rows of edits.parquet. A row for each arm: edits (count), accepted, attribute_passed,
    identity_passed (shares, 0..1), tries (mean number of attempts), and the means of what else it
    recorded (feasibility_yes, attribute_before, exempt). With arms of both sides a row
    "difference", the first feasible one minus the infeasible one, its 95 % interval in low and high
    (of `accepted`, over pairs of one photograph and k where both have it), and `uneven`: it leaves
    out 0.
    """
    shown = ["accepted", "attribute_passed", "identity_passed"]
    more = [c for c in ("feasibility_yes", "attribute_before", "exempt") if c in edits]
    rows: dict[str, dict[str, float]] = {}
    for arm in sorted(edits["feasibility"].unique(), key=lambda a: VALUES.index(value(a))):
        here = edits[edits["feasibility"] == arm]
        if len(here):
            rows[arm] = {
                "edits": len(here),
                **{c: here[c].mean() for c in shown},
                "tries": here["attempt"].mean() + 1,
                **{c: here[c].mean() for c in more},
            }
    table = pd.DataFrame(rows).T
    pair = [next((arm for arm in rows if side(arm) == s), "") for s in SIDES]
    if "" in pair:
        return table
    table.loc["difference"] = table.loc[pair[0]] - table.loc[pair[1]]
    slots = (
        edits.astype({"accepted": float})
        .pivot_table(index=["image_id", "k"], columns="feasibility", values="accepted")[pair]
        .dropna()
    )
    gaps = slots[pair[0]] - slots[pair[1]]
    table.loc["difference", "edits"] = len(gaps)
    mean, count = gaps.mean(), len(gaps)
    # two made-up pairs that differ, one each way, keep an interval of no differences from being 0
    spread = ((gaps**2).sum() + 2) / (count + 2) - (gaps.sum() / (count + 2)) ** 2
    half = 1.96 * float(np.sqrt(spread / (count + 2)))
    table.loc["difference", ["low", "high"]] = mean - half, mean + half
    return table.assign(uneven=[False] * len(rows) + [bool(abs(mean) > half)])


def evenness(table: pd.DataFrame) -> str:
    """One sentence that reads the table of `by_arm`."""
    if "difference" not in table.index:
        return f"Only the {table.index[0]} arm is there yet; run the other one to compare them."
    low, high = (100 * table.loc["difference", c] for c in ("low", "high"))
    gap = f"{100 * table.loc['difference', 'accepted']:+.1f} points ({low:+.1f} to {high:+.1f})"
    if table.loc["difference", "uneven"]:
        return (
            f"The filter treats the arms differently: {gap} in what it accepts of the feasible "
            "arm. Look at both before comparing them; verify.keep: paired drops the pairs of "
            "which one was rejected."
        )
    return f"No difference between the arms is shown in what the filter accepts: {gap}."
