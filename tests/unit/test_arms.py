"""Shards of an arm, and arms taken from another study. (Bytes of shards: tests/notebooks.)"""

import numpy as np
import pandas as pd
import pytest
import torch

from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_base import content
from varireal_utils.core.stage import Key, Run, SourceChanged, SourceDigests
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.editing import batches
from varireal_utils.editing import stage as editing_stage


def test_shards_are_numbered_from_one():
    assert batches.shard_of("3/16") == (3, 16)
    assert batches.shard_of("") == (1, 1)
    for bad in ("0/3", "4/3", "3", "1/0", "3/-1", "../3/4", "1/2/3"):
        with pytest.raises(ValueError, match="1/16 to 16/16"):
            batches.shard_of(bad)


@pytest.fixture
def studies(tmp_path):
    """A study that has made one batch of an arm, and a run of another one that may reuse it."""
    theirs, own, arm = tmp_path / "theirs", tmp_path / "own", "edits/cars/color/feasible"
    image = f"{arm}/images/a.png"
    digest = storage.write_image(theirs / image, np.full((4, 4, 3), 7, np.uint8))
    storage.write_image(theirs / arm / batches.prior_file("red", 0), np.zeros((4, 4, 3), np.uint8))
    storage.write_table(
        theirs / arm / "parts/same/batch00000.parquet",
        pd.DataFrame([{"edit_id": "a", "path": image, "sha256": digest}]),
    )
    return str(theirs), own, own / arm / "parts", theirs / image


def test_an_equal_arm_is_taken_from_another_study(studies):
    theirs, own, parts, image = studies
    assert (
        batches.reuse_batches(theirs, own, parts / "other") == 0 and not parts.exists()
    )  # other settings
    assert batches.reuse_batches(theirs, own, parts / "same") == 1
    assert (storage.read_image(own / image.relative_to(theirs)) == 7).all()
    assert (parts / "same/batch00000.parquet").exists()
    assert (parts.parent / batches.prior_file("red", 0)).exists()
    assert batches.reuse_batches(theirs, own, parts / "same") == 0  # it is there


def test_a_changed_image_is_not_taken(studies, capsys):
    theirs, own, parts, image = studies
    storage.write_image(image, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="is not the image that"):
        batches.reuse_batches(theirs, own, parts / "same")
    assert not (parts / "same").exists()
    table = image.parents[1] / "parts/same/batch00000.parquet"
    storage.write_table(table, storage.read_table(table).assign(path="../../escaped.png"))
    with pytest.raises(ValueError, match="is no file of this arm"):
        batches.reuse_batches(theirs, own, parts / "same")
    assert not list(own.parent.rglob("escaped.png"))
    assert (
        batches.reuse_batches("runs/nowhere", own, parts / "other") == 0
    )  # made anew, with a line that says so
    assert "edit.reuse: 'runs/nowhere' is no folder here" in capsys.readouterr().out


def slice_of(**changes):
    """Content of the slice of colour edits of the micro study; changes: keys with __ for dots."""
    config = load_config("params/micro.yaml", {k.replace("__", "."): v for k, v in changes.items()})
    return content(editing_stage.EditStage.of(config, attribute="color", feasibility="feasible"))


def roles_of(known):
    return {role for role, model in known["models"].items() if model}


def test_an_edit_depends_on_its_own_attribute_and_models_alone():
    known, plain = slice_of(), slice_of(edit__color__refine_steps=0)
    assert set(known["edit"]) & {"background", "color", "texture"} == {"color"}
    assert roles_of(known) - roles_of(plain) == {"controlnet"}
    assert {"inpaint", "clip"} <= roles_of(plain)
    assert not {"prior", "datadream", "classifier", "detector"} & roles_of(known)
    same = {"edit__texture__steps": 9, "verify__keep": "accepted", "classify__lr": 1.0}
    for key, value in same.items():
        assert slice_of(**{key: value}) == known, key
    other = {"edit__color__steps": 9, "edit__batch_size": 1, "verify__false_accept": 0.2, "seed": 9}
    for key, value in other.items():
        assert slice_of(**{key: value}) != known, key


def test_changed_weights_device_or_settings_make_an_arm_anew(tmp_path):
    """Batches finished under other weights, precision or device have another stamp."""
    (tmp_path / "inpaint").mkdir()
    weights = tmp_path / "inpaint/unet.safetensors"
    weights.write_bytes(b"w")
    storage.write_image(tmp_path / "m.png", np.zeros((4, 4), np.uint8))
    train = pd.DataFrame([{"mask_path": "m.png", "canny_path": "m.png", "sha256": "s"}])
    rows = pd.DataFrame([{"edit_id": "a"}])
    config = load_config("params/micro.yaml", {"models.inpaint.path": str(weights.parent)})
    settings = editing_stage.EditStage.of(config, attribute="color", feasibility="feasible")

    def stamp(settings=settings, device="cpu", dtype=torch.float32):
        where = StudyPaths(tmp_path / "runs/study")
        run = Run("04_edit", settings, where, tmp_path, 0, torch.device(device), dtype, {}, {})
        return batches.stamp(run.rests_on(), {"t": 0.1}, {}, train, rows, tmp_path)

    first = stamp()
    assert stamp() == first
    assert stamp(settings.model_copy(update={"seed": 9})) != first
    assert stamp(device="cuda") != first and stamp(dtype=torch.bfloat16) != first
    weights.write_bytes(b"W2")
    assert stamp() != first


def test_a_batch_belongs_to_one_process_of_one_shard():
    parts = [batches.batch_ids(37, 4, s, p) for s in ("1/2", "2/2") for p in ((0, 2), (1, 2))]
    assert sorted(n for part in parts for n in part) == list(range(10))
    assert batches.batch_ids(37, 4) == list(range(10))
    with pytest.raises(ValueError, match="no more shards than that"):
        batches.batch_ids(3, 4, "2/2")


@pytest.fixture
def made(tmp_path):
    """An arm with two finished batches of one edit each, and its priors."""
    arm = tmp_path / "edits/cars/texture/feasible"
    own = batches.Batches(arm, arm / "parts/stamp", 1, [0, 1])
    for number, phrase in enumerate(("red", "blue")):
        image = arm / f"images/{number}.png"
        digest = storage.write_image(image, np.full((4, 4, 3), number, np.uint8))
        storage.write_image(arm / batches.prior_file(phrase, 0), np.zeros((4, 4, 3), np.uint8))
        row = {"phrase": phrase, "path": image.relative_to(tmp_path).as_posix(), "sha256": digest}
        storage.write_table(own.file(number), pd.DataFrame([row]))
    return tmp_path, own


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        lambda own: (own.arm_dir / "images/1.png").unlink(),
        lambda own: empty(own.arm_dir / "images/1.png"),
        lambda own: storage.write_image(own.arm_dir / "images/1.png", np.ones((4, 4), np.uint8)),
        lambda own: empty(own.file(1)),
        lambda own: empty(own.arm_dir / batches.prior_file("blue", 0)),
        lambda own: (own.arm_dir / batches.prior_file("blue", 0)).unlink(),
    ],
)
def test_a_damaged_batch_counts_as_unfinished_and_no_other(made, damage):
    study, own = made
    assert own.remove_damaged(study, 1) == 0 and own.finished(0) and own.finished(1)
    damage(own)
    assert own.remove_damaged(study, 1) == 1
    assert own.finished(0) and not own.finished(1)


def test_priors_are_not_asked_of_an_arm_that_draws_none(made):
    study, own = made
    (own.arm_dir / batches.prior_file("blue", 0)).unlink()
    assert own.remove_damaged(study, 0) == 0


def test_weights_replaced_while_a_run_goes_on_stop_it(tmp_path):
    """What was digested at the beginning is what was loaded, or nothing is made of it."""
    weights = tmp_path / "inpaint/unet.safetensors"
    storage.write_text(weights, "w")
    config = load_config("params/micro.yaml", {"models.inpaint.path": str(weights.parent)})
    settings = editing_stage.EditStage.of(config, attribute="color", feasibility="feasible")
    sources = SourceDigests(tmp_path / "d.json").of(settings.source_files())
    key = Key({}, sources, "", "", "", {"module": "1"})
    cpu = torch.device("cpu")
    where = StudyPaths(tmp_path / "runs/study")
    run = Run("04_edit", settings, where, tmp_path, 0, cpu, torch.float32, {}, key=key)
    assert run.rests_on()["code"] == {"module": "1"}
    weights.write_text("other")
    with pytest.raises(SourceChanged, match="unet.safetensors changed while 04_edit ran"):
        run.rests_on()


def test_a_strip_that_a_shard_has_drawn_is_taken_over(tmp_path):
    """With the bytes of its pictures, of the same edit alone, and only while it is whole."""
    about = {"edit_id": "a-0", "sha256": "x", "batches": "stamp"}
    steps = {
        "source": np.full((4, 4, 3), 7, np.uint8),
        "mask": np.full((4, 4), 255, np.uint8),
        "result": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    }
    strip = tmp_path / "shards/1of2/strip"
    assert editing_stage._drawn(tmp_path, about) is None
    for number, (name, picture) in enumerate(steps.items()):
        storage.write_image(strip / f"{number}_{name}.png", picture)
    storage.write_json(strip / "about.json", about | {"steps": list(steps), "phrase": "red"})
    found = editing_stage._drawn(tmp_path, about)
    assert list(found) == list(steps)
    for name, picture in found.items():
        assert np.array_equal(picture, steps[name])
    for other in ({"edit_id": "b-0"}, {"batches": "older"}, {"sha256": "y"}):
        assert editing_stage._drawn(tmp_path, about | other) is None
    (strip / "1_mask.png").unlink()
    assert editing_stage._drawn(tmp_path, about) is None
