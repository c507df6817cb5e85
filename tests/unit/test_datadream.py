"""DataDream: adapters that learn, resume to the same bytes and load as diffusers' own."""

import numpy as np
import pandas as pd
import pytest
import torch

from microworld import render
from tests import checkpoints
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.params import load_params
from varireal_utils.datadream import stage as datadream_stage
from varireal_utils.training import recipes
from varireal_utils.workflow.run_record import Run

FAST = {
    "precision": "float32",
    "device": "cpu",
    "datadream.epochs": 3,
    "datadream.batch_size": 4,
    "datadream.steps": 2,
    "datadream.warmup_steps": 1,
    "datadream.images_per_class": 3,
    "datadream.checkpoint_every": 2,
    "datadream.shots": 1,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[pd.DataFrame, object]:
    """Eight stored photographs of cars, one of each class, and the study's folder."""
    study = tmp_path_factory.mktemp("study")
    rows = []
    for i in range(8):
        picture = render.photograph("cars", "train", i)
        digest = storage.write_image(study / f"data/{i}.png", picture.image)
        rows.append(
            {
                "image_id": f"c{i}",
                "path": f"data/{i}.png",
                "label": i,
                "split": "train",
                "class_name": picture.spec.class_name,
                "sha256": digest,
            }
        )
    return pd.DataFrame(rows), study


@pytest.fixture(scope="module")
def sd21(tmp_path_factory) -> str:
    return str(checkpoints.sd21(tmp_path_factory.mktemp("sd21")))


def run_of(study, out: str, **changes) -> Run:
    place = {"runs_dir": str(study.parent), "study": study.name}
    settings = ("params/micro.yaml", FAST | place | changes)
    return Run("05_datadream", load_config(*settings), load_params(*settings), {}, study / out, 0)


def files(folder) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_shots_are_nested_and_by_class(table):
    rows, _ = table
    rows = pd.concat([rows.assign(image_id=rows["image_id"] + f"-{i}") for i in range(5)])
    rows = pd.concat([rows, rows.assign(split="test", image_id="t" + rows["image_id"])])
    two, three = (datadream_stage.few_shot(rows, n, 3) for n in (2, 3))
    assert set(two["image_id"]) < set(three["image_id"])
    assert (three.groupby("label").size() == 3).all() and (three["split"] == "train").all()
    assert list(two["image_id"]) != list(datadream_stage.few_shot(rows, 2, 4)["image_id"])


@pytest.mark.parametrize("kind", ["micro", "sd21"])
def test_adapters_learn_and_only_they(table, sd21, tmp_path, kind):
    rows, study = table
    run = run_of(study, "x", **{"datadream.epochs": 12, "datadream.lr": 5e-3})
    if kind == "sd21":
        run.params["models"]["prior"] = {"path": sd21}
    pipe = datadream_stage.load(run.params)
    before = {
        n: p.clone() for m in (pipe.unet, pipe.text_encoder) for n, p in m.state_dict().items()
    }
    losses = datadream_stage.adapt(
        pipe,
        rows,
        lambda p: storage.read_image(study / p),
        run.params["datadream"],
        tmp_path,
        1,
        run.params,
    )
    assert len(losses) == 24 and np.isfinite(losses).all()
    after = {n: p for m in (pipe.unet, pipe.text_encoder) for n, p in m.state_dict().items()}
    assert before.keys() == after.keys()  # no adapter stays behind
    assert all(torch.equal(before[n], after[n]) for n in before)
    cfg = run.params["datadream"]
    plain = datadream_stage.draw(pipe, 2 * ["a photo of a alvera"], [1, 2], cfg, run.params)
    pipe.load_lora_weights(str(tmp_path), weight_name=datadream_stage.WEIGHTS)
    adapted = datadream_stage.draw(pipe, 2 * ["a photo of a alvera"], [1, 2], cfg, run.params)
    assert any((a != b).any() for a, b in zip(plain, adapted, strict=True))
    pipe.unload_lora_weights()
    again = datadream_stage.draw(pipe, 2 * ["a photo of a alvera"], [1, 2], cfg, run.params)
    assert all((a == b).all() for a, b in zip(plain, again, strict=True))
    if kind == "micro":  # what was learned is the photographs: the same noise is undone better
        assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_a_killed_training_ends_with_the_same_bytes(table, tmp_path):
    rows, study = table
    run = run_of(study, "y")
    read, cfg = (lambda p: storage.read_image(study / p)), run.params["datadream"]
    pipe = datadream_stage.load(run.params)
    whole = datadream_stage.adapt(pipe, rows, read, cfg, tmp_path / "a", 5, run.params)
    part = datadream_stage.adapt(pipe, rows, read, cfg, tmp_path / "b", 5, run.params, stop_after=3)
    assert part == whole[:3] and not (tmp_path / "b" / datadream_stage.WEIGHTS).exists()
    assert datadream_stage.adapt(pipe, rows, read, cfg, tmp_path / "b", 5, run.params) == whole
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("variant", recipes.ADAPTED)
def test_drawing_goes_on_where_it_stopped(table, variant):
    rows, study = table
    rows = rows.head(2)
    run = run_of(study, f"datadream/{variant}")
    samples, losses = datadream_stage.make(run, rows, variant)
    assert set(losses) == ({datadream_stage.ALL} if variant == "dset" else set(rows["class_name"]))
    assert (samples.groupby("label").size() == 3).all() and samples["seed"].is_unique
    assert samples["adapter"].nunique() == (1 if variant == "dset" else 2)
    pictures = files(run.out / "images")
    assert len({*pictures.values()}) == len(pictures) == 6
    (run.out / "images" / sorted(pictures)[1]).unlink()
    again, _ = datadream_stage.make(run, rows, variant)
    assert files(run.out / "images") == pictures
    pd.testing.assert_frame_equal(samples, again)
    other = run_of(study, f"datadream/{variant}", **{"datadream.guidance_scale": 5.0})
    datadream_stage.make(other, rows, variant)
    assert files(run.out / "images").keys() == pictures.keys()
    assert files(run.out / "images") != pictures


def test_what_cannot_be_trained_is_named(table, sd21, tmp_path):
    rows, study = table
    run = run_of(study, "z")
    with pytest.raises(ValueError, match="variant is 'class'"):
        datadream_stage.make(run, rows, "class")
    pipe = datadream_stage.load(run.params)
    pipe.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        datadream_stage.adapt(
            pipe,
            rows,
            lambda p: storage.read_image(study / p),
            run.params["datadream"],
            tmp_path,
            1,
            run.params,
        )


def test_baselines_learn_nothing_and_keep_what_clip_is_surest_of(table):
    rows, study = table
    rows = rows.head(3)
    run = run_of(study, "datadream/untuned", **{"datadream.images_per_class": 2})
    run.params["datadream"]["candidates"] = 3
    samples, losses = datadream_stage.make(run, rows, "untuned")
    assert losses == {} and not (run.out / "adapters").exists()
    assert len(list((run.out / "images").glob("*.png"))) == 18
    assert (samples.groupby("label").size() == 2).all()
    assert samples["probability"].between(0, 1).all()
    again, _ = datadream_stage.make(run, rows, "untuned")
    pd.testing.assert_frame_equal(samples, again)
    run.params["datadream"]["candidates"] = 1
    first, _ = datadream_stage.make(
        run, rows, "untuned"
    )  # the same seeds, and no choice among them
    means = [s.groupby("label")["probability"].mean() for s in (first, samples)]
    assert (means[1] >= means[0] - 1e-6).all()

    run = run_of(study, "datadream/img2img", **{"datadream.steps": 4})
    run.params["datadream"]["img2img_strength"] = 0.25
    near, _ = datadream_stage.make(run, rows.assign(caption=["a car", "", None]), "img2img")
    assert set(near["source"]) == set(rows["path"]) and near["prompt"].iloc[0] == "a car"
    assert near["prompt"].iloc[-1] == "a photo of a " + near["class_name"].iloc[-1]

    def apart(samples):
        return np.mean(
            [
                np.abs(
                    storage.read_image(study / s).astype(float) - storage.read_image(study / p)
                ).mean()
                for s, p in zip(samples["source"], samples["path"], strict=True)
            ]
        )

    first = apart(near)
    run.params["datadream"]["img2img_strength"] = 1.0
    far, _ = datadream_stage.make(run, rows, "img2img")
    assert first < apart(far)
