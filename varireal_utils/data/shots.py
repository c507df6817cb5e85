"""Draws the few shots of a data set: photographs that may be learned from."""

from __future__ import annotations

import pandas as pd

from ..core.seeds import seed_for


def few_shot(images: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """At most `shots` rows of each class of the train split, hash-sampled by (seed, image id).

    images: image_id, label, split. Nested: fewer shots are the first of more.
    """
    train = images[images["split"] == "train"]
    rank = train["image_id"].map(lambda i: seed_for(seed, "few-shot", i))
    ranked = train.assign(_rank=rank.astype("uint64")).sort_values(["label", "_rank"])
    return ranked.groupby("label").head(shots).drop(columns="_rank").reset_index(drop=True)
