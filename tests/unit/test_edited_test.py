"""Edited test photographs: the same ones under every value, changed, answered by an unchanged net.
Seed 991 is no study's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from varireal_utils.core import arms
from varireal_utils.core.config import load_config
from varireal_utils.data import registry
from varireal_utils.data.sets import world
from varireal_utils.models import classifiers
from varireal_utils.training import edited_test
from varireal_utils.training.slices import ClassifyStage


@pytest.fixture(scope="module")
def shown():
    """(configuration of a replicate, its test photographs as 01_data lists them)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(
            "params/registered.yaml", {"seed": 991, "study": "trial", "replicate": 1}
        )
    spec = registry.of_study(config, "micro_pets").model_copy(
        update={"train_per_class": 0, "val_per_class": 0, "test_per_class": 2}
    )
    rows = [
        {"image_id": d.image_id, "label": d.label, "class_name": d.class_name, **d.extra}
        for d in world.draw(spec)
    ]
    return config, pd.DataFrame(rows)


def test_the_slice_of_real_photographs_holds_the_values_of_its_replicate(shown):
    config, _ = shown
    asked = ClassifyStage.of(config, dataset="micro_pets")
    assert asked.edited_test == config.classify.edited_test > 0
    assert asked.values == registry.of_study(config, "micro_pets").values()
    other = ClassifyStage.of(config.model_copy(update={"replicate": 2}), dataset="micro_pets")
    assert other.values != asked.values
    one = ClassifyStage.of(config, dataset="micro_pets", recipe="mix(color,0.5)")
    assert not one.values and not one.edited_test
    plain = load_config(ROOT / "params/micro.yaml")
    assert not ClassifyStage.of(plain, dataset="micro_cars").values


def test_every_value_is_asked_of_the_same_photographs_and_changes_each(shown, monkeypatch):
    monkeypatch.chdir(ROOT)
    config, table = shown
    spec = classifiers.fine_tuned(config.models)
    names = table.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    net = classifiers.load(spec, names, config.classify.templates, "cpu")
    net.adapt(config.classify.training(), 0)
    before = {k: v.clone() for k, v in net.state().items()}
    values = registry.of_study(config, "micro_pets").values()
    seen, true = [], edited_test.evaluate

    def watched(net, images, *how):
        seen.append(torch.stack([images[i] for i in range(len(images))]).numpy())
        return true(net, images, *how)

    monkeypatch.setattr(edited_test, "evaluate", watched)
    rows = edited_test.chosen(table, 1)
    assert len(rows) == 8 and rows["label"].is_unique
    only = {a: values[a] for a in ("color", "background")}
    found = edited_test.answers(net, rows, only, torch.float32, 8)
    assert len(found) == 2 * 4 * 8 and found["correct"].dtype == bool
    each = found.groupby(["attribute", "value"])["image_id"].agg(list)
    assert all(ids == rows["image_id"].tolist() for ids in each)
    assert set(found["value"]) == {edited_test.UNEDITED, *arms.THREE}
    for block in (seen[:4], seen[4:]):
        for pictures in block[1:]:
            assert ((pictures != block[0]).any(axis=(1, 2, 3))).all()
    np.testing.assert_array_equal(seen[0], seen[4])  # unedited, both times
    assert before and all(torch.equal(before[k], v) for k, v in net.state().items())


def test_values_are_taken_by_turns_and_never_a_photographs_own(shown):
    assert [edited_test.value_for(["a", "b"], "c", n) for n in range(3)] == ["a", "b", "a"]
    assert [edited_test.value_for(["a", "b"], "a", n) for n in range(3)] == ["b", "b", "b"]
    with pytest.raises(ValueError, match="source world"):
        edited_test.chosen(pd.DataFrame({"label": [0]}), 1)
