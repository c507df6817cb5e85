"""Chooses slots whose two edits CLIP sees equally far from their photograph.

symbols   slot       (photograph, attribute, k) with a familiar (or feasible) and an infeasible edit
          distance   1 minus the cosine of CLIP features, of an edit and of its photograph
          gap        distance of the infeasible edit minus that of the other one

matched     in each class SHARE of the slots, those with the smallest gap in size
unmatched   as many slots of each class, hash-sampled, whatever their gap
nearest     of each slot's edits to every infeasible value, the one with the smallest gap in size
wide        one of them, hash-sampled, whatever its gap

Features of training images decide, nothing else: no label of a test image, no accuracy. A share of
each class, and no fixed bound, so that every replicate trains on equally many images; how far the
gaps are from 0 is returned, and is a gate of the claim (analysis/gates.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..core import arms
from ..core.seeds import seed_for

KEY = ["image_id", "attribute", "k"]
SHARE = 0.375  # of the slots of a class, three of eight
MEASURES = ("gap", "gap_of_all", "distance")


def distances(index: pd.DataFrame, edits: pd.DataFrame) -> np.ndarray:
    """(N, 2) distances of the familiar (or feasible) and the infeasible edit of each slot of
    `index`. Raises ValueError without distances or an edit."""
    if "distance" not in edits or edits["distance"].isna().any():
        raise ValueError(
            "matched slots need the distance of each edit: set edit.distances to true and run "
            "04_edit again"
        )
    wide = edits.pivot(index=KEY, columns="feasibility", values="distance")
    feasible = next(a for a in (arms.SIDES[0], arms.THREE[0]) if a in wide)
    pair = wide[[feasible, arms.SIDES[1]]].reindex(pd.MultiIndex.from_frame(index[KEY]))
    if lacking := int(pair.isna().any(axis=1).sum()):
        raise ValueError(f"{lacking} slots lack one of their two edits to match")
    return pair.to_numpy(float)


def chosen(
    maker: str, index: pd.DataFrame, edits: pd.DataFrame, train: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The slots of `index` that a recipe trains on, in their order, and MEASURES: the mean size of
    their gap and that of all slots, and their mean distance.

    maker: matched or unmatched; edits: of both arms, with `distance`; train: photographs.
    """
    pair = distances(index, edits)
    gap = np.abs(pair[:, 1] - pair[:, 0])
    lot = [seed_for(seed, "unmatched", i, a, int(k)) for i, a, k in index[KEY].to_numpy()]
    frame = pd.DataFrame({"gap": gap, "lot": np.array(lot, dtype="uint64")})
    frame["label"] = index["image_id"].map(train.set_index("image_id")["label"]).to_numpy()
    order = frame.sort_values(["gap", "lot"] if maker == "matched" else ["lot"])
    rank = order.groupby("label").cumcount().reindex(frame.index)
    size = frame.groupby("label")["gap"].transform("size")
    taken = (rank < np.maximum(1, np.floor(SHARE * size))).to_numpy()
    found = (gap[taken].mean(), gap.mean(), pair[taken].mean())
    return index[taken], dict(zip(MEASURES, map(float, found), strict=True))


def one_of_each(
    maker: str, candidates: pd.DataFrame, familiar: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """One of the candidates of each photograph, in their order, and MEASURES: the mean size of the
    gap of those chosen and of all, and the mean distance of those chosen and their familiar edits.

    maker: nearest or wide; candidates: edits of one attribute to every infeasible value; familiar:
    of the same photographs and attribute, one each; both with `distance`. Raises ValueError without
    distances, or for a photograph without a familiar edit.
    """
    for edits in (candidates, familiar):
        if "distance" not in edits or edits["distance"].isna().any():
            raise ValueError(
                f"{maker}(...) needs the distance of each edit: set edit.distances to true and run "
                "04_edit again"
            )
    to = familiar.set_index("image_id")["distance"]
    if not to.index.is_unique or (lacking := set(candidates["image_id"]) - set(to.index)):
        raise ValueError(
            f"{maker}(...) needs one familiar edit of each photograph; "
            f"{'some have several' if not to.index.is_unique else f'{len(lacking)} have none'}"
        )
    aim = candidates["image_id"].map(to)
    frame = pd.DataFrame(
        {
            "image_id": candidates["image_id"],
            "gap": (candidates["distance"] - aim).abs(),
            "lot": [
                seed_for(seed, "wide", i, a, int(k))
                for i, a, k in candidates[KEY].itertuples(index=False)
            ],
        }
    )
    order = frame.sort_values(["gap", "lot"] if maker == "nearest" else ["lot"])
    taken = candidates.loc[order.drop_duplicates("image_id").index.sort_values()]
    gap = frame.loc[taken.index, "gap"]
    pair = (taken["distance"] + aim[taken.index]) / 2
    return taken, dict(
        zip(MEASURES, map(float, (gap.mean(), frame["gap"].mean(), pair.mean())), strict=True)
    )
