"""Shards of an arm, and arms taken from another study. (Bytes of shards: tests/notebooks.)"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from varireal_utils.core import storage
from varireal_utils.editing import stage as editing_stage


def test_shards_are_numbered_from_one():
    assert editing_stage.shard_of("3/16") == (3, 16)
    assert editing_stage.shard_of("") == (1, 1)
    for bad in ("0/3", "4/3", "3", "1/0", "3/-1", "../3/4", "1/2/3"):
        with pytest.raises(ValueError, match="1/16 to 16/16"):
            editing_stage.shard_of(bad)


def test_every_shard_keeps_a_record_of_its_own():
    names = {
        editing_stage.folder("my cars", "color", "feasible", s) for s in ("", "1/2", "2/2", "2/3")
    }
    assert names == {"edits/my~cars/color/feasible"} | {
        f"edits/my~cars/color/feasible/shards/{s}" for s in ("1of2", "2of2", "2of3")
    }


@pytest.fixture
def studies(tmp_path):
    """A study that has made one batch of an arm, and a run of another one that may reuse it."""
    theirs, own, arm = tmp_path / "theirs", tmp_path / "own", "edits/cars/color/feasible"
    image = f"{arm}/images/a.png"
    digest = storage.write_image(theirs / image, np.full((4, 4, 3), 7, np.uint8))
    storage.write_image(
        theirs / arm / editing_stage.prior_file("red", 0), np.zeros((4, 4, 3), np.uint8)
    )
    storage.write_table(
        theirs / arm / "parts/same/batch00000.parquet",
        pd.DataFrame([{"edit_id": "a", "path": image, "sha256": digest}]),
    )
    run = SimpleNamespace(study=own, params={"edit": {"reuse": str(theirs)}})
    return run, own / arm / "parts", theirs / image, own / image


def test_an_equal_arm_is_taken_from_another_study(studies):
    run, parts, _, copied = studies
    assert editing_stage.borrow(run, parts / "other") == 0 and not parts.exists()  # other settings
    assert editing_stage.borrow(run, parts / "same") == 1
    assert (storage.read_image(copied) == 7).all()
    assert (parts / "same/batch00000.parquet").exists()
    assert (parts.parent / editing_stage.prior_file("red", 0)).exists()
    assert editing_stage.borrow(run, parts / "same") == 0  # it is there


def test_a_changed_image_is_not_taken(studies, capsys):
    run, parts, image, _ = studies
    storage.write_image(image, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="is not the image that"):
        editing_stage.borrow(run, parts / "same")
    assert not (parts / "same").exists()
    table = image.parents[1] / "parts/same/batch00000.parquet"
    storage.write_table(table, storage.read_table(table).assign(path="../../escaped.png"))
    with pytest.raises(ValueError, match="is no file of this arm"):
        editing_stage.borrow(run, parts / "same")
    assert not list(run.study.parent.rglob("escaped.png"))
    run.params["edit"]["reuse"] = "runs/nowhere"
    assert editing_stage.borrow(run, parts / "other") == 0  # made anew, with a line that says so
    assert "edit.reuse: 'runs/nowhere' is no folder here" in capsys.readouterr().out
