"""Says whether photographs are enough for a study: two classes, and each split of each class.

A classifier needs a photograph to train on, one to choose the best step by, and one to be tested
on. A class without all three takes part as far as it can and is named; a study without a second
class, or with an empty split, could only stop at a later stage, so 01_data stops it.
"""

from __future__ import annotations

import pandas as pd

from .image_record import SPLITS, DatasetError

NEEDED = 3  # photographs of a class: one for each split
USE = {"train": "train on", "val": "choose the best step by", "test": "test on"}


def thin_classes(counts: dict[str, int]) -> list[str]:
    """A line for each class with too few photographs. counts: class -> photographs."""
    return [
        f"class {name!r}: {count} photograph{'s' * (count != 1)}, wanted at least {NEEDED} (one "
        "to train on, one to choose the best step by, one to test on)"
        for name, count in counts.items()
        if count < NEEDED
    ]


def require_enough(dataset: str, table: pd.DataFrame) -> None:
    """Raise DatasetError where the table of a data set (columns class_name, split) cannot be
    trained on and tested; the message names what is missing and how many are needed."""
    counts = table["class_name"].value_counts().sort_index()
    if len(counts) < 2:
        raise DatasetError(
            f"datasets.{dataset}: one class alone ({counts.index[0]!r}); a classifier needs at "
            f"least two, each with {NEEDED} photographs or more"
        )
    empty = [split for split in SPLITS if not (table["split"] == split).any()]
    if empty:
        thin = thin_classes({str(k): int(v) for k, v in counts.items()})
        why = "; ".join(thin[:3]) or "the source names no image of it"
        raise DatasetError(
            f"datasets.{dataset}: no photograph to {USE[empty[0]]} (split {empty[0]!r}): {why}. "
            f"Add photographs, {NEEDED} of a class or more, or set val_fraction and "
            "test_fraction above 0"
        )
