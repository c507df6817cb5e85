"""Chooses slots whose two edits CLIP sees equally far from their photograph.

symbols   slot       (photograph, attribute, k) with a familiar (or feasible) and an infeasible edit
          distance   1 minus the cosine of CLIP features, of an edit and of its photograph
          gap        distance of the infeasible edit minus that of the other one

matched     in each class SHARE of the slots, those with the smallest gap in size
unmatched   as many slots of each class, hash-sampled, whatever their gap

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
