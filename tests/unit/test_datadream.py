"""DataDream: adapters that learn, resume to the same bytes and load as diffusers' own."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from microworld import render
from tests import checkpoints
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import ADAPTED, ModelRoles, ModelSpec
from varireal_utils.core.stage import Run
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.data.shots import few_shot
from varireal_utils.datadream import adapters, sampling, stage

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


def run_of(study, variant: str = "dset", models: dict | None = None, **changes) -> Run:
    config = load_config("params/micro.yaml", FAST | changes)
    paths = StudyPaths(study)
    settings = stage.DataDreamStage.of(config, variant=variant)
    if models:
        settings = settings.model_copy(update={"models": ModelRoles.model_validate(models)})
    return Run(
        stage="05_datadream",
        settings=settings,
        paths=paths,
        out=paths.datadream("cars", variant),
        seed=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        target={"dataset": "cars", "variant": variant},
    )


def shots_of(table, study, run) -> adapters.Shots:
    template = run.settings.datadream.template
    return adapters.Shots.of(table, lambda p: storage.read_image(study / p), template)


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
    two, three = (few_shot(rows, n, 3) for n in (2, 3))
    assert set(two["image_id"]) < set(three["image_id"])
    assert (three.groupby("label").size() == 3).all() and (three["split"] == "train").all()
    assert list(two["image_id"]) != list(few_shot(rows, 2, 4)["image_id"])


@pytest.mark.parametrize("kind", ["micro", "sd21"])
def test_adapters_learn_and_only_they(table, sd21, tmp_path, kind):
    rows, study = table
    models = {"prior": {"path": sd21}} if kind == "sd21" else None
    run = run_of(study, models=models, **{"datadream.epochs": 12, "datadream.lr": 5e-3})
    cfg, pipe = run.settings.datadream, sampling.load(run.settings.models, run.device)
    before = {
        n: p.clone() for m in (pipe.unet, pipe.text_encoder) for n, p in m.state_dict().items()
    }
    losses = adapters.adapt(pipe, shots_of(rows, study, run), cfg, tmp_path, 1)
    assert len(losses) == 24 and np.isfinite(losses).all()
    after = {n: p for m in (pipe.unet, pipe.text_encoder) for n, p in m.state_dict().items()}
    assert before.keys() == after.keys()  # no adapter stays behind
    assert all(torch.equal(before[n], after[n]) for n in before)

    def drawn():
        return sampling.draw(pipe, 2 * ["a photo of a alvera"], [1, 2], cfg)

    plain = drawn()
    pipe.load_lora_weights(str(tmp_path), weight_name=adapters.WEIGHTS)
    assert any((a != b).any() for a, b in zip(plain, drawn(), strict=True))
    pipe.unload_lora_weights()
    assert all((a == b).all() for a, b in zip(plain, drawn(), strict=True))
    if kind == "micro":  # what was learned is the photographs: the same noise is undone better
        assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_a_killed_training_ends_with_the_same_bytes(table, tmp_path):
    rows, study = table
    run = run_of(study)
    cfg, shots = run.settings.datadream, shots_of(rows, study, run)
    pipe = sampling.load(run.settings.models, run.device)
    whole = adapters.adapt(pipe, shots, cfg, tmp_path / "a", 5)
    part = adapters.adapt(pipe, shots, cfg, tmp_path / "b", 5, stop_after=3)
    assert part == whole[:3] and not (tmp_path / "b" / adapters.WEIGHTS).exists()
    assert adapters.adapt(pipe, shots, cfg, tmp_path / "b", 5) == whole
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("variant", ADAPTED)
def test_drawing_goes_on_where_it_stopped(table, variant):
    rows, study = table
    rows = rows.head(2)
    run = run_of(study, variant)
    samples, losses = stage.make(run, rows)
    assert set(losses) == ({stage.ALL} if variant == "dset" else set(rows["class_name"]))
    assert (samples.groupby("label").size() == 3).all() and samples["seed"].is_unique
    assert samples["adapter"].nunique() == (1 if variant == "dset" else 2)
    pictures = files(run.out / "images")
    assert len({*pictures.values()}) == len(pictures) == 6
    one, two, three = (run.out / "images" / name for name in sorted(pictures)[:3])
    one.unlink(), two.write_bytes(b""), three.write_bytes(one.name.encode())
    next(run.out.glob(f"adapters/*/{adapters.WEIGHTS}")).write_bytes(b"")
    again, _ = stage.make(run, rows)
    assert files(run.out / "images") == pictures
    pd.testing.assert_frame_equal(samples, again)
    other = run_of(study, variant, **{"datadream.guidance_scale": 5.0})
    stage.make(other, rows)
    assert files(run.out / "images").keys() == pictures.keys()
    assert files(run.out / "images") != pictures


def text_gradients(monkeypatch, shots, settings, sd21, out, dtype) -> dict[str, torch.Tensor]:
    """Gradients of the text encoder's B, as the first step clips them, of a millionth of the loss:
    of the size that a deep model's gradients have there."""
    whole, seen, real = adapters.loss_of, [], torch.nn.utils.clip_grad_norm_

    def listen(parameters, norm):
        seen.append([p.grad.clone() for p in parameters])
        return real(seen[-1], norm)

    monkeypatch.setattr(adapters, "loss_of", lambda *a: whole(*a) * 1e-6)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", listen)
    models = ModelRoles(datadream=ModelSpec(path=sd21))
    pipe = sampling.load(models, torch.device("cpu"))
    with adapters.lora_layers(pipe, settings, 1) as weights:
        names = list(weights)
    adapters.adapt(pipe, shots, settings, out, 1, dtype, stop_after=1)
    monkeypatch.undo()
    return {
        name: grad
        for name, grad in zip(names, seen[0], strict=True)
        if name.startswith("text_encoder") and "lora_B" in name
    }


def test_text_gradients_are_scaled_in_float16(table, sd21, tmp_path, monkeypatch):
    """Unscaled, float16 rounds them to zero or to a few bits; scaled, they are float32's."""
    rows, study = table
    run = run_of(study)
    shots, settings = shots_of(rows, study, run), run.settings.datadream

    def got(name, dtype):
        return text_gradients(monkeypatch, shots, settings, sd21, tmp_path / name, dtype)

    exact, scaled = got("a", torch.float32), got("b", torch.float16)
    monkeypatch.setattr(torch.amp, "GradScaler", Unscaled)
    unscaled = text_gradients(monkeypatch, shots, settings, sd21, tmp_path / "c", torch.float16)
    assert len(exact) == 12

    def zeros(grads):
        return np.mean([float((grads[n] == 0).float().mean()) for n in exact])

    def error(grads):
        apart = sum((grads[n] - exact[n]).square().sum() for n in exact)
        return float((apart / sum(g.square().sum() for g in exact.values())) ** 0.5)

    assert zeros(exact) == 0 and zeros(scaled) < 0.01 and error(scaled) < 0.02
    assert zeros(unscaled) > 0.2 and error(unscaled) > 10 * error(scaled)


class Unscaled(torch.amp.GradScaler):
    """The way that it was: no factor."""

    def __init__(self, device: str, enabled: bool):
        super().__init__(device, enabled=False)


def test_a_float16_training_resumes_with_its_factor(table, sd21, tmp_path):
    rows, study = table
    run = run_of(study)
    settings, shots = run.settings.datadream, shots_of(rows, study, run)
    pipe = sampling.load(ModelRoles(datadream=ModelSpec(path=sd21)), run.device)
    for name, stops in (("a", [None]), ("b", [3, None])):
        for stop in stops:
            adapters.adapt(pipe, shots, settings, tmp_path / name, 5, torch.float16, stop)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_weights_in_a_half_type_are_not_trained(table, sd21, tmp_path):
    rows, study = table
    run = run_of(study)
    models = ModelRoles(prior=ModelSpec(path=sd21, dtype="float16"))
    pipe = sampling.load(models, run.device)
    with pytest.raises(ValueError, match="weights are torch.float16, wanted float32.*models.prior"):
        adapters.adapt(pipe, shots_of(rows, study, run), run.settings.datadream, tmp_path, 1)


def test_what_cannot_be_trained_is_named(table, tmp_path):
    rows, study = table
    with pytest.raises(ValueError, match="variant is 'class'"):
        run_of(study, "class")
    run = run_of(study)
    pipe = sampling.load(run.settings.models, run.device)
    pipe.scheduler.register_to_config(prediction_type="sample")
    shots = shots_of(rows, study, run)
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        adapters.adapt(pipe, shots, run.settings.datadream, tmp_path, 1)


def test_another_seed_or_model_starts_anew(table):
    """The stamp holds the settings, seed and model that images rest on, and nothing else."""
    rows, study = table
    run = run_of(study, "untuned", **{"datadream.images_per_class": 1, "datadream.steps": 1})
    stage.make(run, rows.head(1))
    first = (run.out / "stamp.json").read_bytes()

    def stamp(run) -> bytes:
        stage._forget_other_settings(run, stage.few_shot(rows.head(1), 1, run.settings.seed))
        return (run.out / "stamp.json").read_bytes()

    def other(**update):
        return dataclasses.replace(run, settings=run.settings.model_copy(update=update))

    clip = {"clip": ModelSpec(name="another")}
    models = run.settings.models
    assert stamp(other(models=models.model_copy(update=clip))) == first
    assert len(list((run.out / "images").glob("*.png"))) == 2  # two candidates, kept
    prior = {"datadream": ModelSpec(path="another")}
    assert stamp(other(models=models.model_copy(update=prior))) != first
    assert not list((run.out / "images").glob("*.png"))
    assert stamp(other(seed=99)) != first


def test_baselines_learn_nothing_and_keep_what_clip_is_surest_of(table):
    rows, study = table
    rows = rows.head(3)
    few = {"datadream.images_per_class": 2}
    run = run_of(study, "untuned", **few, **{"datadream.candidates": 3})
    samples, losses = stage.make(run, rows)
    assert losses == {} and not (run.out / "adapters").exists()
    assert len(list((run.out / "images").glob("*.png"))) == 18
    assert (samples.groupby("label").size() == 2).all()
    assert samples["probability"].between(0, 1).all()
    again, _ = stage.make(run, rows)
    pd.testing.assert_frame_equal(samples, again)
    # the same seeds, and no choice among them
    first, _ = stage.make(run_of(study, "untuned", **few, **{"datadream.candidates": 1}), rows)
    means = [s.groupby("label")["probability"].mean() for s in (first, samples)]
    assert (means[1] >= means[0] - 1e-6).all()


def test_img2img_starts_from_photographs_and_their_captions(table):
    rows, study = table
    rows = rows.head(3)

    def drawn(strength: float, table: pd.DataFrame) -> pd.DataFrame:
        changes = {"datadream.steps": 4, "datadream.img2img_strength": strength}
        return stage.make(run_of(study, "img2img", **changes), table)[0]

    near = drawn(0.25, rows.assign(caption=["a car", "", None]))
    assert set(near["source"]) == set(rows["path"]) and near["prompt"].iloc[0] == "a car"
    assert near["prompt"].iloc[-1] == "a photo of a " + near["class_name"].iloc[-1]

    def apart(samples):
        """Mean difference of pictures and their photographs, at the pictures' size."""
        found = []
        for source, path in zip(samples["source"], samples["path"], strict=True):
            picture = storage.read_image(study / path)
            side = picture.shape[1::-1]
            photograph = Image.fromarray(storage.read_image(study / source)).resize(side)
            found.append(np.abs(np.asarray(photograph, float) - picture).mean())
        return np.mean(found)

    first = apart(near)
    assert first < apart(drawn(1.0, rows))
