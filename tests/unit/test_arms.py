"""Shards of an arm: their names and folders. (Their bytes: tests/notebooks/test_study.py.)"""

import pytest

from varireal_utils import arms


def test_shards_are_numbered_from_one():
    assert arms.shard_of("3/16") == (3, 16)
    assert arms.shard_of("") == (1, 1)
    for bad in ("0/3", "4/3", "3", "1/0", "3/-1", "../3/4", "1/2/3"):
        with pytest.raises(ValueError, match="1/16 to 16/16"):
            arms.shard_of(bad)


def test_every_shard_keeps_a_record_of_its_own():
    names = {arms.folder("my cars", "color", "feasible", s) for s in ("", "1/2", "2/2", "2/3")}
    assert names == {"edits/my~cars/color/feasible"} | {
        f"edits/my~cars/color/feasible/shards/{s}" for s in ("1of2", "2of2", "2of3")}
