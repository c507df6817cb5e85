import dataclasses
import json
import shutil

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from varireal_utils.core import cores, storage
from varireal_utils.core.config_sections import (
    AugmentSettings,
    MixSettings,
    ModelSpec,
    TrainSettings,
)
from varireal_utils.core.stage import Run
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.models import classifiers, clip_classifier, loaders, lora_io
from varireal_utils.models.preprocess import input_size
from varireal_utils.training import augment, image_cache, result, stage, train, train_step

CFG = TrainSettings(
    rank=4,
    alpha=8,
    dropout=0.1,
    lr=5e-3,
    weight_decay=1e-4,
    warmup=0.1,
    batch_size=8,
    eval_batch_size=256,
    steps=6,
    eval_every=2,
    checkpoint_every=3,
    lambda_real=0.5,
    towers=["image", "text"],
    templates=["a {class}", "the {class} here"],
    augment=AugmentSettings(color=False),
)
NAMES = ["red", "green", "blue"]
PREPROCESS = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny random CLIP, stored as the shipped one is, with open_clip's own tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    cfg = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 12,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**cfg)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": cfg, "preprocess_cfg": PREPROCESS})
    )
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Images of three colours: (folder, frame like images.parquet, edits)."""
    root, rng, rows, edits = tmp_path_factory.mktemp("study"), np.random.default_rng(0), [], []
    (root / "x").mkdir()

    def draw(name, label):
        pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
        pixels[..., label] += 120
        storage.write_image(root / "x" / name, pixels)
        return {"path": f"x/{name}", "label": label, "class_name": NAMES[label]}

    for split, count in (("train", 4), ("val", 3), ("test", 4)):
        for label in range(3):
            for i in range(count):
                rows.append(
                    {
                        "image_id": f"{split}{label}{i}",
                        "split": split,
                        **draw(f"{split}{label}{i}.png", label),
                    }
                )
    for arm in ("feasible", "infeasible"):
        for r in [r for r in rows if r["split"] == "train"]:
            edits.append(
                {
                    "image_id": r["image_id"],
                    "attribute": "color",
                    "feasibility": arm,
                    "phrase": "p",
                    "accepted": True,
                    **draw(f"real_train-{arm}-{r['image_id']}.png", r["label"]),
                }
            )
    return root, pd.DataFrame(rows), pd.DataFrame(edits)


def spec(folder):
    return ModelSpec(
        name="tiny",
        config=str(folder / "open_clip_config.json"),
        weights=str(folder / "open_clip_model.safetensors"),
    )


def rows_of(frame, split):
    return frame[frame["split"] == split].assign(is_real=True)


def clip_of(folder):
    return classifiers.load(spec(folder), NAMES, CFG.templates)


def changed(**changes):
    return CFG.model_copy(update=changes)


def fit(folder, study, out, rows=None, cfg=None, net=None, stop_after=None, **options):
    root, frame, _ = study
    net = net or clip_of(folder)
    rows = rows_of(frame, "train") if rows is None else rows
    training = train.Training(root, out, **{"seed": 1} | options)
    settings = changed(**(cfg or {}))
    report = train.train(
        net, rows, rows_of(frame, "val"), settings, training, stop_after=stop_after
    )
    return report, net


def run_of(study, folder, classifier, settings=CFG, recipes=("real",)):
    """A run of 06_classify on a copy of the study in `folder`, and its images."""
    root, frame, edits = study
    shutil.copytree(root, folder, dirs_exist_ok=True)
    paths = StudyPaths(folder)
    run = Run(
        stage="06_classify",
        settings=stage.ClassifyStage(
            seed=22,
            recipes=list(recipes),
            seeds=[0],
            attributes=["color"],
            arms={"color": ["feasible", "infeasible"]},
            shots=None,
            variants=[],
            keep="paired",
            classifier=classifier,
            training=settings,
        ),
        paths=paths,
        out=paths.classify("colours"),
        seed=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        target={"dataset": "colours"},
    )
    return run, stage.StudyImages(frame, edits, None, [])


def test_the_shipped_layout_loads_with_its_preprocessing(clip_folder):
    model, tokenizer, preprocess = loaders.load_clip(spec(clip_folder))
    assert preprocess["resize_mode"] == "squash" and input_size(preprocess) == 32
    tokens = clip_classifier.class_tokens(NAMES, CFG.templates, tokenizer)
    assert tokens.shape == (2, 3, 12) and not model.training
    with pytest.raises(FileNotFoundError, match="models.clip.weights"):
        loaders.load_clip(spec(clip_folder).model_copy(update={"weights": "no/such.safetensors"}))
    with pytest.raises(ValueError, match="{class}"):
        clip_classifier.class_tokens(NAMES, ["a photo"], tokenizer)


def test_training_learns_and_keeps_the_best_validation_step(clip_folder, study, tmp_path):
    report, net = fit(clip_folder, study, tmp_path, cfg={"steps": 40, "eval_every": 10})
    curve = dict(report["val_curve"])
    assert list(curve) == [10, 20, 30, 40]
    best = min(s for s in curve if curve[s] == max(curve.values()))  # the earliest of equals
    assert (report["selected_step"], report["val_top1"]) == (best, curve[best])
    assert np.mean(report["loss_curve"][-5:]) < np.mean(report["loss_curve"][:5])
    assert report["images_seen"] == 40 * 8 and report["n_train_images"] == 12
    root, frame, _ = study
    val = rows_of(frame, "val")
    images = image_cache.Images(val["path"], root, 32)
    logits = train.evaluate(net, images)
    assert train.top1(logits, val["label"]) == report["val_top1"] > 0.5
    again = clip_of(clip_folder)
    lora_io.load_lora(again.model, tmp_path)
    assert np.array_equal(train.evaluate(again, images), logits)


def test_resume_ends_with_the_same_bytes(clip_folder, study, tmp_path):
    whole, *_ = fit(clip_folder, study, tmp_path / "a")
    fit(clip_folder, study, tmp_path / "b", stop_after=4)  # killed after its checkpoint at 3
    assert not (tmp_path / "b" / lora_io.WEIGHTS).exists()
    rest, *_ = fit(clip_folder, study, tmp_path / "b")
    for name in (lora_io.WEIGHTS, lora_io.CONFIG):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {k: v for k, v in whole.items() if k != "seconds"} == {
        k: v for k, v in rest.items() if k != "seconds"
    }
    fit(clip_folder, study, tmp_path / "c", stop_after=3)
    with pytest.warns(UserWarning, match="starting anew"):
        other, *_ = fit(clip_folder, study, tmp_path / "c", seed=2)
    assert len(other["loss_curve"]) == 6


def test_an_evaluation_reads_each_image_once_and_sees_the_same(clip_folder, study, monkeypatch):
    root, frame, _ = study
    paths, net = frame["path"].tolist(), clip_of(clip_folder)
    whole = train.evaluate(net, image_cache.Images(paths, root, 32), batch_size=5)
    few = image_cache.Images(paths, root, 32, memory=len(paths) * 3 * 32**2)
    assert few.kept is None  # photographs are larger than inputs
    read, found = [], few._read
    monkeypatch.setattr(few, "_read", lambda path: read.append(path) or found(path))
    for _ in range(3):
        assert np.array_equal(train.evaluate(net, few, batch_size=5), whole)
    assert sorted(read) == sorted(paths)
    none = image_cache.Images(paths, root, 32, memory=0)
    assert np.array_equal(train.evaluate(net, none, batch_size=5), whole)
    other = net.preprocess | {"resize_mode": "shortest"}
    assert not torch.equal(few.inputs(range(3), other), few.inputs(range(3), net.preprocess))


def test_workers_change_nothing(clip_folder, study, tmp_path):
    fit(clip_folder, study, tmp_path / "a", cfg={"steps": 3})
    fit(clip_folder, study, tmp_path / "b", cfg={"steps": 3}, workers=1)
    a, b = ((tmp_path / x / lora_io.WEIGHTS).read_bytes() for x in "ab")
    assert a == b


def test_bfloat16_trains_float32_adapters(clip_folder, study, tmp_path):
    report, net = fit(clip_folder, study, tmp_path, dtype=torch.bfloat16)
    assert np.isfinite(report["loss_curve"]).all()
    assert all(t.dtype == torch.float32 for t in net.state().values())


def both_kinds(study):
    root, frame, edits = study
    real = rows_of(frame, "train")
    edited = edits[edits["feasibility"] == "feasible"].assign(is_real=False)
    return pd.concat([real, edited], ignore_index=True)


def plain_training(net, study, rows, settings, loss_of):
    """The steps of a training written down plainly: loss_of(losses of real, of edited images)."""
    weights = net.adapt(settings, 1)
    images = image_cache.Images(rows["path"], study[0], 32)
    is_real, labels = rows["is_real"].to_numpy(bool), torch.tensor(rows["label"].to_numpy())
    order = augment.order(is_real, settings.batch_size, settings.steps, 1)
    batches = augment.Batches(images, order, net.preprocess, settings.augment, 1)
    optimiser = torch.optim.AdamW(weights, lr=1.0, weight_decay=settings.weight_decay)
    curve = []
    for number, (pixels, chosen) in enumerate(batches[i] for i in range(settings.steps)):
        optimiser.param_groups[0]["lr"] = train_step.learning_rate(number, settings)
        logits = net.logits((pixels / 255 - 0.5) / 0.5, net.text_features())
        each = F.cross_entropy(logits, labels[chosen], reduction="none")
        kind = torch.tensor(is_real)[chosen]
        loss = loss_of(each[kind], each[~kind])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    return curve, net.state()


def close(a, b):
    return all(torch.allclose(a[k], b[k], atol=2e-5) for k in a)


PLAIN = {"dropout": 0.0, "steps": 4, "eval_every": 4, "lambda_real": 0.8}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_training_weighs_real_and_edited_images(clip_folder, study, tmp_path, accumulate):
    """lambda * mean(real) + (1 - lambda) * mean(edited), each kind half of a batch."""
    rows = both_kinds(study)
    cfg = PLAIN | {"accumulate": accumulate}
    report, net = fit(clip_folder, study, tmp_path, rows, cfg)

    def plain(weight):
        return plain_training(
            clip_of(clip_folder),
            study,
            rows,
            changed(**cfg),
            lambda real, edited: weight * real.mean() + (1 - weight) * edited.mean(),
        )

    curve, state = plain(0.8)
    assert report["loss_curve"] == pytest.approx(curve, rel=1e-5)
    assert close(net.state(), state)
    for wrong in (0.2, 0.5):  # kinds swapped; no weight at all
        other_curve, other = plain(wrong)
        assert report["loss_curve"] != pytest.approx(other_curve, rel=1e-3)
        assert not close(net.state(), other)


@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.8, 1.0])
def test_one_kind_of_image_has_the_plain_mean(clip_folder, study, tmp_path, kind, weight):
    """With one kind the weights cancel, and a weight of 0 must not leave nothing to learn."""
    rows = both_kinds(study)
    rows = rows[rows["is_real"] == kind].reset_index(drop=True)
    cfg = PLAIN | {"lambda_real": weight}
    report, net = fit(clip_folder, study, tmp_path, rows, cfg)
    curve, state = plain_training(
        clip_of(clip_folder),
        study,
        rows,
        changed(**cfg),
        lambda real, edited: torch.cat([real, edited]).mean(),
    )
    assert report["loss_curve"] == pytest.approx(curve, rel=1e-5)
    assert close(net.state(), state)


def test_learning_rate_rises_then_falls_to_the_minimum():
    rates = [
        train_step.learning_rate(s, changed(steps=100, lr=1e-3, warmup=0.1)) for s in range(100)
    ]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == rates[9] == rates[10] == 1e-3
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert 0 < rates[-1] < 1e-6
    assert train_step.learning_rate(0, changed(steps=1, lr=1e-3, warmup=0.0)) == 1e-3


def test_paired_arms_see_the_same_slots_and_the_same_crops():
    real_first = np.array([True] * 5 + [False] * 7)
    plan = augment.order(real_first, 8, 20, seed=3)
    assert plan.shape == (20, 8)
    assert (real_first[plan].sum(1) == 4).all()  # no batch lacks a kind
    counts = np.bincount(plan.ravel(), minlength=12)
    assert counts[:5].max() - counts[:5].min() <= 1 and counts[5:].max() - counts[5:].min() <= 1
    assert np.array_equal(plan[:10], augment.order(real_first, 8, 10, seed=3))
    only = augment.order(np.array([False] * 7), 8, 20, seed=3)
    assert only.shape == (20, 8)
    image = torch.randint(0, 255, (3, 40, 48), dtype=torch.uint8)
    a = augment.Batches([image] * 12, plan, PREPROCESS, AugmentSettings(), 3)
    b = augment.Batches([image] * 12, plan, PREPROCESS, AugmentSettings(), 3)
    torch.manual_seed(0)
    first = a[4][0]
    torch.rand(7)
    assert torch.equal(first, b[4][0]) and not torch.equal(first, a[5][0])


def test_color_off_leaves_every_colour_as_it_is():
    flat = torch.full((3, 40, 40), 90, dtype=torch.uint8)
    flat[0] = 200
    rows = np.zeros((10, 4), dtype=np.int64)
    plain = AugmentSettings(color=False, blur=0.0)
    off = augment.Batches([flat], rows, PREPROCESS, plain, 0)
    on = augment.Batches([flat], rows, PREPROCESS, AugmentSettings(), 0)

    def colours(batches):
        pixels = torch.cat([batches[i][0] for i in range(10)]).permute(0, 2, 3, 1).reshape(-1, 3)
        return {tuple(c) for c in pixels[pixels.sum(1) > 250].unique(dim=0).tolist()}

    assert {c for c in colours(off) if min(c) >= 89} <= {(200, 90, 90), (199, 90, 90)}
    assert len(colours(on)) > 20


def test_accuracy_is_over_images_and_predictions_hold_the_logits():
    logits = np.eye(3)[[0, 1, 2, 0, 0]] * 4.0
    test = pd.DataFrame({"image_id": list("abcde"), "label": [0, 1, 2, 1, 1]})
    frame = result.predictions_frame(test, logits)
    got = result.metrics(frame, [*NAMES, "unseen"])
    assert got["top1"] == 0.6 and got["n_test"] == 5
    assert got["per_class"] == {"red": 1.0, "green": 1 / 3, "blue": 1.0, "unseen": None}
    assert 0.3 < got["ece"] < 0.5
    assert list(frame)[:4] == ["image_id", "label", "prediction", "correct"]
    assert frame["logit_2"].dtype == np.float32


def test_calibration():
    labels = np.array([0, 1, 0, 1])
    sure = np.eye(2)[labels] * 1000
    assert result.calibration_error(sure, labels) == pytest.approx(0)
    assert result.calibration_error(sure, 1 - labels) == pytest.approx(1)
    assert result.calibration_error(np.ones((3, 1)), np.zeros(3, int)) == 0


@pytest.mark.parametrize("recipe", ["zero_shot", "real", "real+mix(color,0.5)"])
def test_a_result_is_written_once(clip_folder, study, tmp_path, recipe, monkeypatch):
    run, data = run_of(study, tmp_path, spec(clip_folder))
    looks, evaluate = [], train.evaluate

    def looking(net, images, *rest):
        looks.append(images.paths)
        return evaluate(net, images, *rest)

    monkeypatch.setattr(train, "evaluate", looking)
    monkeypatch.setattr(stage, "evaluate", looking)
    got = stage.train_and_test(run, data, recipe, 0)
    out = run.paths.classify("colours", recipe, 0)
    tested = [p for p in looks if "test" in p[0]]
    assert len(tested) == 1 and looks[-1] == tested[0]  # one look at the test set, the last
    assert got["images_seen"] == (0 if recipe == "zero_shot" else 48)
    assert got["n_train_images"] == {"zero_shot": 0, "real": 12}.get(recipe, 24)
    predictions = storage.read_table(out / "predictions.parquet")
    assert len(predictions) == 12 and got["top1"] == predictions["correct"].mean()
    assert not (out / train.CHECKPOINT).exists()
    assert {f.name for f in stage.result_files(run.paths, [got])} >= {"metrics.json"}
    before, count = (out / "metrics.json").read_bytes(), len(looks)
    assert stage.train_and_test(run, data, recipe, 0)["top1"] == got["top1"]
    assert len(looks) == count  # done already
    (out / "metrics.json").unlink()
    stage.train_and_test(run, data, recipe, 0)
    assert (out / "metrics.json").read_bytes() == before


def test_without_validation_images_nothing_is_chosen(clip_folder, study, tmp_path):
    root, frame, _ = study
    with pytest.raises(ValueError, match="validation split is empty"):
        train.train(
            clip_of(clip_folder),
            rows_of(frame, "train"),
            frame.iloc[:0],
            CFG,
            train.Training(root, tmp_path, seed=0),
        )


def adapter_bytes(folder):
    return (folder / lora_io.WEIGHTS).read_bytes()


def test_parts_of_a_batch_add_up_to_the_whole(clip_folder, study, tmp_path):
    cfg = {"dropout": 0.0, "steps": 2, "batch_size": 12}
    whole, a = fit(clip_folder, study, tmp_path / "a", cfg=cfg)
    parts, b = fit(clip_folder, study, tmp_path / "b", cfg=cfg | {"accumulate": 3})
    assert whole["loss_curve"] == pytest.approx(parts["loss_curve"], rel=1e-5)
    for key, value in a.state().items():
        assert torch.allclose(value, b.state()[key], atol=1e-6), key


@pytest.fixture
def one_thread():
    """As many threads as each of several processes has: products may add in another order else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_processes_end_with_the_bytes_of_one(clip_folder, study, tmp_path, one_thread):
    got, folders, recipe = [], [], "real+edit(color,feasible)"
    for count in (1, 2):
        cfg = changed(accumulate=2, processes=count, steps=3, eval_every=1, lambda_real=0.8)
        run, data = run_of(study, tmp_path / str(count), spec(clip_folder), cfg)
        got.append(stage.train_and_test(run, data, recipe, 0))
        folders.append(run.paths.classify("colours", recipe, 0))
    one, two = folders
    assert adapter_bytes(one) == adapter_bytes(two)
    assert (one / "predictions.parquet").read_bytes() == (two / "predictions.parquet").read_bytes()
    assert got[0]["loss_curve"] == got[1]["loss_curve"]
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())


@pytest.mark.slow
def test_trainings_side_by_side_end_with_the_bytes_of_one_after_another(
    clip_folder, study, tmp_path, one_thread, monkeypatch
):
    monkeypatch.setenv(cores.THREADS, "1")
    names, got, left = ["zero_shot", "real", "edit(color,feasible)"], [], []
    for count in (1, 2):
        run, data = run_of(study, tmp_path / str(count), spec(clip_folder), recipes=names)
        monkeypatch.setenv(cores.SIDE_BY_SIDE, str(count))
        got.append(list(stage.train_all(run, data)))
        files = stage.result_files(run.paths, got[-1])
        left.append({f.relative_to(run.study): f.read_bytes() for f in files})
    assert [r["recipe"] for r in got[0]] == names
    assert got[0] == got[1] and left[0] == left[1]
    again = list(stage.train_all(run, data))  # read, not made: what lies there is of these settings
    assert again == got[0]


def test_trainings_share_no_device_but_a_cpu(clip_folder, study, tmp_path, monkeypatch):
    """The driver counts CUDA devices alone: a Mac's GPU it does not know."""
    run, data = run_of(study, tmp_path, spec(clip_folder), recipes=["real", "zero_shot"])
    monkeypatch.setenv(cores.SIDE_BY_SIDE, "2")
    monkeypatch.setattr(stage, "train_and_test", lambda run, data, recipe, seed: "here")
    monkeypatch.setattr(stage.distributed, "each", lambda *_: ["elsewhere"] * 2)
    assert list(stage.train_all(run, data)) == ["elsewhere"] * 2
    mac = dataclasses.replace(run, device=torch.device("mps"))
    assert list(stage.train_all(mac, data)) == ["here"] * 2


@pytest.mark.slow
def test_a_training_that_fails_beside_another_is_named(clip_folder, study, tmp_path, monkeypatch):
    run, data = run_of(study, tmp_path, spec(clip_folder), recipes=["real", "zero_shot"])
    monkeypatch.setenv(cores.SIDE_BY_SIDE, "2")
    (clip_folder / "open_clip_config.json").rename(clip_folder / "away")
    try:
        with pytest.raises(Exception, match="open_clip_config.json"):
            list(stage.train_all(run, data))
    finally:
        (clip_folder / "away").rename(clip_folder / "open_clip_config.json")


def test_a_batch_that_cannot_be_shared_is_refused(clip_folder, study, tmp_path):
    with pytest.raises(ValueError, match="classify.accumulate is 9"):
        fit(clip_folder, study, tmp_path, cfg={"accumulate": 9})


def test_mixing_keeps_kinds_apart_and_labels_whole():
    pixels = torch.cat([torch.zeros(4, 3, 8, 8), torch.ones(4, 3, 8, 8)])
    labels, real = torch.arange(8), torch.arange(8) < 4
    torch.manual_seed(0)
    changed = 0
    for _ in range(20):
        made, soft = train_step.mix(pixels, labels, real, 8, MixSettings(probability=1.0))
        assert torch.equal(made, pixels)  # zeros met zeros, ones met ones
        assert torch.allclose(soft.sum(1), torch.ones(8))
        assert soft[:4, 4:].sum() == soft[4:, :4].sum() == 0
        changed += int((soft.max(1).values < 1).any())
    assert changed > 15
    same, soft = train_step.mix(pixels, labels, real, 8, MixSettings(probability=0.0))
    assert torch.equal(soft.argmax(1), labels) and soft.max() == 1 and torch.equal(same, pixels)


def test_mixing_trains_and_resumes_to_the_same_bytes(clip_folder, study, tmp_path):
    cfg = {
        "mix": MixSettings(probability=0.9),
        "steps": 4,
        "eval_every": 2,
        "checkpoint_every": 2,
    }
    fit(clip_folder, study, tmp_path / "a", cfg=cfg)
    fit(clip_folder, study, tmp_path / "b", cfg=cfg, stop_after=2)
    fit(clip_folder, study, tmp_path / "b", cfg=cfg)
    fit(clip_folder, study, tmp_path / "c", cfg={"steps": 4, "eval_every": 2})
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")
    assert adapter_bytes(tmp_path / "a") != adapter_bytes(tmp_path / "c")


def test_patience_ends_early_and_only_when_asked(clip_folder, study, tmp_path):
    still = {"steps": 8, "eval_every": 1, "lr": 1e-30}  # nothing is ever gained
    report, _ = fit(clip_folder, study, tmp_path / "a", cfg=still | {"patience": 2})
    assert report["steps"] == 3 and report["selected_step"] == 1
    assert (tmp_path / "a" / lora_io.WEIGHTS).is_file()
    report, _ = fit(clip_folder, study, tmp_path / "b", cfg=still)
    assert report["steps"] == 8


def test_a_convolutional_network_takes_the_place_of_clip(study, tmp_path):
    classifier = ModelSpec(kind="timm", name="resnet10t")
    cfg = changed(steps=4, eval_every=2, batch_size=6, lr=1e-3)

    def tested(recipe, out, **more):
        run, data = run_of(study, tmp_path / out, classifier.model_copy(update=more), cfg)
        return stage.train_and_test(run, data, recipe, 0), run.paths.classify("colours", recipe, 0)

    first, a = tested("real", "a")
    assert first["selected_step"] in (2, 4) and len(first["loss_curve"]) == 4
    _, b = tested("real", "b")
    weights = [(x / "model.safetensors").read_bytes() for x in (a, b)]
    assert weights[0] == weights[1]
    state = load_file(a / "model.safetensors")
    state["fc.weight"], state["fc.bias"] = torch.zeros(9, 512), torch.zeros(9)  # other classes
    save_file(state, tmp_path / "other.safetensors")
    other = classifier.model_copy(update={"weights": str(tmp_path / "other.safetensors")})
    net = classifiers.load(other, NAMES, [])
    assert torch.equal(net.state()["conv1.0.weight"], state["conv1.0.weight"])
    with pytest.raises(ValueError, match="knows no words"):
        tested("zero_shot", "c")
    with pytest.raises(FileNotFoundError, match="models.classifier.weights"):
        tested("real", "d", weights="no/such.safetensors")
    with pytest.raises(ValueError, match="models.classifier.kind"):
        classifiers.load(ModelSpec(kind="vlm"), NAMES, [])
