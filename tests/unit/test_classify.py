import json

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from varireal_utils.core import storage
from varireal_utils.models import classifiers, lora_io
from varireal_utils.models.preprocess import input_size
from varireal_utils.training import augment, train, train_step

CFG = {
    "rank": 4,
    "alpha": 8,
    "dropout": 0.1,
    "lr": 5e-3,
    "weight_decay": 1e-4,
    "warmup": 0.1,
    "batch_size": 8,
    "steps": 6,
    "eval_every": 2,
    "lambda_real": 0.5,
    "towers": ["image", "text"],
    "templates": ["a {class}", "the {class} here"],
    "augment": {"color": False},
}
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
    return {
        "name": "tiny",
        "config": str(folder / "open_clip_config.json"),
        "weights": str(folder / "open_clip_model.safetensors"),
    }


def rows_of(frame, split):
    return frame[frame["split"] == split].assign(is_real=True)


def clip_of(folder):
    return classifiers.ClipNetwork(spec(folder), NAMES, CFG["templates"])


def fit(folder, study, out, rows=None, cfg=None, net=None, **options):
    root, frame, _ = study
    net = net or clip_of(folder)
    rows = rows_of(frame, "train") if rows is None else rows
    report = train.train(
        net,
        rows,
        rows_of(frame, "val"),
        CFG | (cfg or {}),
        root=root,
        out=out,
        **{"seed": 1, "checkpoint_every": 3} | options,
    )
    return report, net


def test_the_shipped_layout_loads_with_its_preprocessing(clip_folder):
    model, tokenizer, preprocess = classifiers.load_clip(spec(clip_folder))
    assert preprocess["resize_mode"] == "squash" and input_size(preprocess) == 32
    tokens = classifiers.class_tokens(NAMES, CFG["templates"], tokenizer)
    assert tokens.shape == (2, 3, 12) and not model.training
    with pytest.raises(FileNotFoundError, match="models.clip.weights"):
        classifiers.load_clip(spec(clip_folder) | {"weights": "no/such.safetensors"})
    with pytest.raises(ValueError, match="{class}"):
        classifiers.class_tokens(NAMES, ["a photo"], tokenizer)


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
    images = augment.Images(val["path"], root, 32)
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


def test_workers_change_nothing(clip_folder, study, tmp_path):
    fit(clip_folder, study, tmp_path / "a", cfg={"steps": 3})
    fit(clip_folder, study, tmp_path / "b", cfg={"steps": 3}, workers=1)
    a, b = ((tmp_path / x / lora_io.WEIGHTS).read_bytes() for x in "ab")
    assert a == b


def test_bfloat16_trains_float32_adapters(clip_folder, study, tmp_path):
    report, net = fit(clip_folder, study, tmp_path, dtype=torch.bfloat16)
    assert np.isfinite(report["loss_curve"]).all()
    assert all(t.dtype == torch.float32 for t in net.state().values())


def test_loss_weighs_by_a_column_and_is_never_nan():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, real = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 1, 0, 0, 0, 0]).bool()
    each = F.cross_entropy(logits, labels, reduction="none")
    loss = train_step.weighted_loss(logits, labels, real, 0.8)
    want = (0.8 * each[:2].sum() + 0.2 * each[2:].sum()) / (2 * 0.8 + 4 * 0.2)
    assert torch.isclose(loss, want)
    assert torch.isclose(train_step.weighted_loss(logits, labels, real, 0.5), each.mean())
    for kind in (torch.ones(6).bool(), torch.zeros(6).bool()):
        for lam in (0.0, 0.5, 1.0):
            loss = train_step.weighted_loss(logits, labels, kind, lam)
            (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
            assert torch.isfinite(loss) and torch.isfinite(grad).all()


def test_learning_rate_rises_then_falls_to_the_minimum():
    rates = [train_step.learning_rate(s, 100, 1e-3, 0.1) for s in range(100)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == rates[9] == rates[10] == 1e-3
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert 0 < rates[-1] < 1e-6
    assert train_step.learning_rate(0, 1, 1e-3, 0.0) == 1e-3


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
    a = augment.Batches([image] * 12, plan, PREPROCESS, None, 3)
    b = augment.Batches([image] * 12, plan, PREPROCESS, None, 3)
    torch.manual_seed(0)
    first = a[4][0]
    torch.rand(7)
    assert torch.equal(first, b[4][0]) and not torch.equal(first, a[5][0])


def test_color_off_leaves_every_colour_as_it_is():
    flat = torch.full((3, 40, 40), 90, dtype=torch.uint8)
    flat[0] = 200
    rows = np.zeros((10, 4), dtype=np.int64)
    plain = {"color": False, "blur": 0.0}
    off = augment.Batches([flat], rows, PREPROCESS, plain, 0)
    on = augment.Batches([flat], rows, PREPROCESS, {"color": True}, 0)

    def colours(batches):
        pixels = torch.cat([batches[i][0] for i in range(10)]).permute(0, 2, 3, 1).reshape(-1, 3)
        return {tuple(c) for c in pixels[pixels.sum(1) > 250].unique(dim=0).tolist()}

    assert {c for c in colours(off) if min(c) >= 89} <= {(200, 90, 90), (199, 90, 90)}
    assert len(colours(on)) > 20
    with pytest.raises(ValueError, match="classify.augment"):
        augment.transform(PREPROCESS, {"colour": False})


def test_accuracy_is_over_images_and_predictions_hold_the_logits():
    logits = np.eye(3)[[0, 1, 2, 0, 0]] * 4.0
    test = pd.DataFrame({"image_id": list("abcde"), "label": [0, 1, 2, 1, 1]})
    frame = train.predictions_frame(test, logits)
    got = train.metrics(frame, [*NAMES, "unseen"])
    assert got["top1"] == 0.6 and got["n_test"] == 5
    assert got["per_class"] == {"red": 1.0, "green": 1 / 3, "blue": 1.0, "unseen": None}
    assert 0.3 < got["ece"] < 0.5
    assert list(frame)[:4] == ["image_id", "label", "prediction", "correct"]
    assert frame["logit_2"].dtype == np.float32


@pytest.mark.parametrize("recipe", ["zero_shot", "real", "real+mix(color,0.5)"])
def test_run_writes_its_result_once(clip_folder, study, tmp_path, recipe, monkeypatch):
    root, frame, edits = study
    params = {"seed": 22, "classify": CFG, "models": {"clip": spec(clip_folder)}}
    looks = []
    evaluate = train.evaluate
    monkeypatch.setattr(
        train,
        "evaluate",
        lambda net, images, *rest: (looks.append(images.paths), evaluate(net, images, *rest))[1],
    )
    got = train.run(params, "colours", recipe, 0, frame, edits, root=root, out=tmp_path)
    tested = [p for p in looks if "test" in p[0]]
    assert len(tested) == 1 and looks[-1] == tested[0]  # one look at the test set, the last
    assert got["images_seen"] == (0 if recipe == "zero_shot" else 48)
    assert got["n_train_images"] == {"zero_shot": 0, "real": 12}.get(recipe, 24)
    frame_out = storage.read_table(tmp_path / "predictions.parquet")
    assert len(frame_out) == 12 and got["top1"] == frame_out["correct"].mean()
    assert not (tmp_path / train.CHECKPOINT).exists()
    before = (tmp_path / "metrics.json").read_bytes()
    count = len(looks)
    assert (
        train.run(params, "colours", recipe, 0, frame, edits, root=root, out=tmp_path)["top1"]
        == got["top1"]
    )
    assert len(looks) == count  # done already
    (tmp_path / "metrics.json").unlink()
    train.run(params, "colours", recipe, 0, frame, edits, root=root, out=tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == before


def test_without_validation_images_nothing_is_chosen(clip_folder, study, tmp_path):
    root, frame, _ = study
    with pytest.raises(ValueError, match="validation split is empty"):
        train.train(
            clip_of(clip_folder),
            rows_of(frame, "train"),
            frame.iloc[:0],
            CFG,
            root=root,
            out=tmp_path,
            seed=0,
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
    root, frame, edits = study
    got = []
    for count in (1, 2):
        cfg = CFG | {"accumulate": 2, "processes": count, "steps": 3, "eval_every": 1}
        params = {"seed": 22, "classify": cfg, "models": {"clip": spec(clip_folder)}}
        out = tmp_path / str(count)
        got.append(
            train.run(
                params, "colours", "real+edit(color,feasible)", 0, frame, edits, root=root, out=out
            )
        )
    one, two = (tmp_path / "1", tmp_path / "2")
    assert adapter_bytes(one) == adapter_bytes(two)
    assert (one / "predictions.parquet").read_bytes() == (two / "predictions.parquet").read_bytes()
    assert got[0]["loss_curve"] == got[1]["loss_curve"]
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())


def test_a_batch_that_cannot_be_shared_is_refused(clip_folder, study, tmp_path):
    with pytest.raises(ValueError, match="classify.accumulate is 9"):
        fit(clip_folder, study, tmp_path, cfg={"accumulate": 9})


def test_mixing_keeps_kinds_apart_and_labels_whole():
    pixels = torch.cat([torch.zeros(4, 3, 8, 8), torch.ones(4, 3, 8, 8)])
    labels, real = torch.arange(8), torch.arange(8) < 4
    torch.manual_seed(0)
    changed = 0
    for _ in range(20):
        made, soft = train_step.mix(pixels, labels, real, 8, {"probability": 1.0})
        assert torch.equal(made, pixels)  # zeros met zeros, ones met ones
        assert torch.allclose(soft.sum(1), torch.ones(8))
        assert soft[:4, 4:].sum() == soft[4:, :4].sum() == 0
        changed += int((soft.max(1).values < 1).any())
    assert changed > 15
    same, soft = train_step.mix(pixels, labels, real, 8, {"probability": 0.0})
    assert torch.equal(soft.argmax(1), labels) and soft.max() == 1 and torch.equal(same, pixels)


def test_mixing_trains_and_resumes_to_the_same_bytes(clip_folder, study, tmp_path):
    cfg = {"mix": {"probability": 0.9}, "steps": 4, "eval_every": 2}
    fit(clip_folder, study, tmp_path / "a", cfg=cfg, checkpoint_every=2)
    fit(clip_folder, study, tmp_path / "b", cfg=cfg, checkpoint_every=2, stop_after=2)
    fit(clip_folder, study, tmp_path / "b", cfg=cfg, checkpoint_every=2)
    fit(clip_folder, study, tmp_path / "c", cfg={"steps": 4, "eval_every": 2})
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")
    assert adapter_bytes(tmp_path / "a") != adapter_bytes(tmp_path / "c")


def test_patience_ends_early_and_only_when_asked(clip_folder, study, tmp_path):
    still = {"steps": 8, "eval_every": 1, "lr": 0.0}  # nothing is ever gained
    report, _ = fit(clip_folder, study, tmp_path / "a", cfg=still | {"patience": 2})
    assert report["steps"] == 3 and report["selected_step"] == 1
    assert (tmp_path / "a" / lora_io.WEIGHTS).is_file()
    report, _ = fit(clip_folder, study, tmp_path / "b", cfg=still)
    assert report["steps"] == 8


def test_a_convolutional_network_takes_the_place_of_clip(study, tmp_path):
    root, frame, edits = study
    classifier = {"kind": "timm", "name": "resnet10t"}
    cfg = CFG | {"steps": 4, "eval_every": 2, "batch_size": 6, "lr": 1e-3}
    params = {"seed": 22, "classify": cfg, "models": {"classifier": classifier}}

    def run(recipe, out, **more):
        changed = params | {"models": {"classifier": classifier | more}}
        return train.run(changed, "colours", recipe, 0, frame, edits, root=root, out=out)

    first = run("real", tmp_path / "a")
    assert first["selected_step"] in (2, 4) and len(first["loss_curve"]) == 4
    run("real", tmp_path / "b")
    a, b = ((tmp_path / x / "model.safetensors").read_bytes() for x in "ab")
    assert a == b
    state = classifiers.load_file(tmp_path / "a" / "model.safetensors")
    state["fc.weight"], state["fc.bias"] = torch.zeros(9, 512), torch.zeros(9)  # other classes
    save_file(state, tmp_path / "other.safetensors")
    net = classifiers.TimmNetwork(
        classifier | {"weights": str(tmp_path / "other.safetensors")}, NAMES, []
    )
    assert torch.equal(net.state()["conv1.0.weight"], state["conv1.0.weight"])
    with pytest.raises(ValueError, match="knows no words"):
        run("zero_shot", tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="models.classifier.weights"):
        run("real", tmp_path / "d", weights="no/such.safetensors")
    with pytest.raises(ValueError, match="models.classifier.kind"):
        classifiers.load({"models": {"classifier": {"kind": "forest"}}, "classify": {}}, NAMES)
