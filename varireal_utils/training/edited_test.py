"""How a classifier of real photographs answers edited test photographs: a check without training.

Rendered data sets alone: the world edits a test photograph, one attribute at a time, to a value
that is familiar, unfamiliar or infeasible in the replicate, and nothing else changes.

symbols   value   one of core/arms.THREE, or UNEDITED: the same photographs as they are

Invariant (tests/unit/test_edited_test.py): every value is asked of the same photographs, each is
changed, and the classifier is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core import arms
from ..data.sets import world
from ..models import preprocess
from ..models.classifiers import Classifier
from .image_cache import Images
from .train import evaluate

UNEDITED = "unedited"
Values = Mapping[str, Mapping[str, Sequence[str]]]  # attribute -> arm -> the world's values


class _Pictures(Images):
    """Pictures in memory in place of files."""

    def __init__(self, pictures: Sequence[np.ndarray], size: int):
        self._pictures = pictures
        super().__init__([str(i) for i in range(len(pictures))], Path(), size)

    def _read(self, path: str) -> torch.Tensor:
        return torch.tensor(self._pictures[int(path)]).permute(2, 0, 1).contiguous()


def chosen(test: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first `count` test photographs of each class. Raises ValueError for photographs that the
    world did not render."""
    if "scene_seed" not in test:
        raise ValueError("classify.edited_test: only a data set of source world can be edited so")
    return test.groupby("label").head(count).reset_index(drop=True)


def value_for(values: Sequence[str], own: str, number: int) -> str:
    """The value that the number-th photograph takes of an arm's, by turns; never its own."""
    wanted = values[number % len(values)]
    return wanted if wanted != own else values[(number + 1) % len(values)]


def answers(
    net: Classifier, rows: pd.DataFrame, values: Values, dtype: torch.dtype, batch_size: int
) -> pd.DataFrame:
    """attribute, value, image_id, correct of every photograph of `rows` (of `chosen`) under every
    attribute and value, UNEDITED among them."""
    facts = rows.to_dict("records")
    size, out = preprocess.input_size(net.preprocess), []

    def asked(attribute: str, value: str) -> pd.DataFrame:
        pictures = [
            world.edited(row, attribute, _wanted(values, row, attribute, value, n))
            for n, row in enumerate(facts)
        ]
        logits = evaluate(net, _Pictures(pictures, size), dtype, batch_size)
        correct = logits.argmax(1) == rows["label"].to_numpy()
        head = {"attribute": attribute, "value": value, "image_id": rows["image_id"]}
        return pd.DataFrame({**head, "correct": correct})

    for attribute in values:
        out += [asked(attribute, value) for value in (UNEDITED, *arms.THREE)]
    return pd.concat(out, ignore_index=True)


def _wanted(values: Values, row: Mapping[str, Any], attribute: str, value: str, number: int) -> str:
    own = str(row[attribute])
    return own if value == UNEDITED else value_for(values[attribute][value], own, number)
