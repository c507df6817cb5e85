"""Distances of edits: kept with the batches on an accelerator, so collecting loads no model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from varireal_utils.core import storage
from varireal_utils.editing import batches, stage


@pytest.fixture
def arm(tmp_path: Path, monkeypatch):
    """(run, job, made, loads): two finished batches of two edits; loads: of a CLIP that knows an
    image by its grey, and what else is in its batch by a little."""
    loads: list[int] = []

    class Clip:
        def __init__(self, models, device):
            loads.append(0)

        def embed_images(self, pictures):
            loads[-1] += len(pictures)
            levels = np.array([p[0, 0, 0] / 255 for p in pictures]) + 1e-6 * len(pictures)
            return np.stack([np.cos(levels), np.sin(levels)], 1)

    monkeypatch.setattr(stage.features, "ClipFeatures", Clip)
    folder = tmp_path / "edits/cars/color/feasible"
    own, made = batches.Batches(folder, folder / "parts/stamp", 2, [0, 1]), []
    for number in own.batch_ids:
        rows = []
        for i in (2 * number, 2 * number + 1):
            image = f"edits/cars/color/feasible/images/{i}.png"
            digest = storage.write_image(tmp_path / image, np.full((4, 4, 3), 40 * i, np.uint8))
            rows.append({"edit_id": f"e{i}", "image_id": str(i), "path": image, "sha256": digest})
        made.append(pd.DataFrame(rows))

    def run(device: str) -> SimpleNamespace:
        settings = SimpleNamespace(models=None)
        return SimpleNamespace(settings=settings, device=torch.device(device), study=tmp_path)

    job = SimpleNamespace(
        batches=own, source_of=lambda i: SimpleNamespace(image=np.full((4, 4, 3), 9, np.uint8))
    )
    return run, job, made, loads


def test_a_run_that_only_collects_loads_no_model(arm) -> None:
    run, job, made, loads = arm
    shard = SimpleNamespace(
        batches=batches.Batches(job.batches.arm_dir, job.batches.batch_dir, 2, [1]),
        source_of=job.source_of,
    )
    part = stage._distances(run("cuda"), shard, made[1:])
    assert loads == [4]  # two edits, their photographs
    whole = stage._distances(run("cuda"), job, made)
    assert loads == [4, 4] and np.array_equal(whole[2:], part)
    assert np.array_equal(stage._distances(run("cuda"), job, made), whole) and loads == [4, 4]
    at_once = stage._distances(run("cpu"), job, made)
    assert loads == [4, 4, 8] and np.allclose(at_once, whole, atol=1e-5)
    assert (whole > 0).all() and len(set(whole.round(4))) == 4


def test_a_batch_that_was_made_again_is_compared_again(arm) -> None:
    run, job, made, loads = arm
    whole = stage._distances(run("cuda"), job, made)
    image = run("cuda").study / made[0]["path"][1]
    made[0].loc[1, "sha256"] = storage.write_image(image, np.full((4, 4, 3), 200, np.uint8))
    again = stage._distances(run("cuda"), job, made)
    assert loads == [8, 4] and again[1] != whole[1] and np.array_equal(again[2:], whole[2:])
    job.batches.distances(1).write_text("{")
    assert np.array_equal(stage._distances(run("cuda"), job, made), again) and loads == [8, 4, 4]


def test_on_a_cpu_nothing_is_kept(arm) -> None:
    run, job, made, _ = arm
    stage._distances(run("cpu"), job, made)
    assert not list(job.batches.arm_dir.rglob("distances*"))
