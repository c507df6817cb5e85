import pytest
import torch
from test_classify import (  # noqa: F401 - fixtures
    NAMES,
    both_kinds,
    changed,
    clip_folder,
    clip_of,
    close,
    fit,
    study,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.counting import Operations, vit_b_16_step
from varireal_utils.core.config_sections import MixSettings
from varireal_utils.models import preprocess
from varireal_utils.training import captured_step, train


@pytest.fixture
def everywhere(monkeypatch):
    """The captured step's operations in place of the plain step's, on this CPU, one by one."""
    made = []

    def noted(*args):
        made.append(captured_step.CapturedStep(*args))
        return made[-1]

    monkeypatch.setattr(captured_step, "fits", lambda *args: True)
    monkeypatch.setattr(train, "CapturedStep", noted)
    return made


@pytest.mark.parametrize("mix", [None, MixSettings(probability=1.0)])
@pytest.mark.parametrize("weight", [0.5, 0.8])
def test_a_training_is_the_plain_paths(
    clip_folder,  # noqa: F811
    study,  # noqa: F811
    tmp_path,
    everywhere,
    monkeypatch,
    mix,
    weight,
):
    cfg = {"dropout": 0.0, "lambda_real": weight, "mix": mix}
    rows = both_kinds(study)
    ours, net = fit(clip_folder, study, tmp_path / "a", rows, cfg)
    assert len(everywhere) == 1
    monkeypatch.setattr(captured_step, "fits", lambda *args: False)
    plain, other = fit(clip_folder, study, tmp_path / "b", rows, cfg)
    assert len(everywhere) == 1
    assert len(ours["loss_curve"]) == 6
    assert ours["loss_curve"] == pytest.approx(plain["loss_curve"], rel=1e-4)
    assert ours["val_curve"] == plain["val_curve"]
    a, b = net.state(), other.state()
    moved = max(float(t.abs().max()) for k, t in b.items() if ".B_" in k)
    assert moved > 1e-3 and all(torch.allclose(a[k], b[k], atol=2e-4) for k in b)


def test_with_dropout_it_resumes_to_the_same_bytes(
    clip_folder,  # noqa: F811
    study,  # noqa: F811
    tmp_path,
    everywhere,
):
    whole, net = fit(clip_folder, study, tmp_path / "a", cfg={"dropout": 0.3})
    fit(clip_folder, study, tmp_path / "b", cfg={"dropout": 0.3}, stop_after=4)
    rest, other = fit(clip_folder, study, tmp_path / "b", cfg={"dropout": 0.3})
    assert len(everywhere) == 3 and rest["loss_curve"] == whole["loss_curve"]
    a, b = net.state(), other.state()
    assert all(torch.equal(a[k], b[k]) for k in a)
    none, _ = fit(clip_folder, study, tmp_path / "c", cfg={"dropout": 0.0})
    assert none["loss_curve"] != whole["loss_curve"]


def test_a_loss_that_is_lost_is_named_with_its_step(
    clip_folder,  # noqa: F811
    study,  # noqa: F811
    tmp_path,
    everywhere,
    monkeypatch,
):
    honest = captured_step.CapturedStep.__call__

    def faulty(self, step, pixels, chosen):
        loss = honest(self, step, pixels, chosen)
        return loss * float("nan") if step == 3 else loss

    monkeypatch.setattr(captured_step.CapturedStep, "__call__", faulty)
    with pytest.raises(ValueError, match="at step 4: lower classify.lr"):
        fit(clip_folder, study, tmp_path, cfg={"eval_every": 6})


def test_steps_before_the_capture_do_not_count(clip_folder, study, tmp_path):  # noqa: F811
    net, rows, settings = clip_of(clip_folder), both_kinds(study), changed(dropout=0.0)
    step = captured_step.CapturedStep(net, net.adapt(settings, 1), rows, settings, 1, torch.float32)
    pixels = torch.randint(0, 255, (8, 3, 32, 32), dtype=torch.uint8)
    for number in range(2):  # fresh, then with a memory
        step.fill(number, pixels, torch.arange(8))
        held, before = step.copies(), step.memory()["optimiser"]["state"]
        before = {k: {n: t.clone() for n, t in v.items()} for k, v in before.items()}
        weights = net.state()
        for _ in range(3):
            step.work()
        assert not close(net.state(), weights)
        step.put_back(held)
        after = step.memory()["optimiser"]["state"]
        assert all(torch.equal(net.state()[k], weights[k]) for k in weights)
        for key, values in after.items():
            for name, value in values.items():
                want = before[key][name] if before else torch.zeros_like(value)
                assert torch.equal(value, want)
        step(number, pixels, torch.arange(8))


def test_only_what_is_written_out_goes_this_way(clip_folder, monkeypatch):  # noqa: F811
    net, settings = clip_of(clip_folder), changed()
    net.adapt(settings, 1)
    assert not captured_step.fits(net, settings, torch.bfloat16)  # a CPU
    monkeypatch.setattr(type(net), "device", torch.device("cuda"))
    assert captured_step.fits(net, settings, torch.bfloat16)
    assert not captured_step.fits(net, settings, torch.float32)
    assert not captured_step.fits(net, changed(accumulate=2), torch.bfloat16)
    assert not captured_step.fits(net, changed(towers=["text"]), torch.bfloat16)


def test_a_step_at_vit_b_16_is_few_operations_and_reads_nothing_from_the_device():
    """On fake CUDA tensors: shapes alone, and an error where a value is asked for."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step, pixels, chosen = vit_b_16_step(torch.device("cuda"), classes=37, batch=64)
        with Operations():
            step(0, pixels, chosen)  # the optimiser's memory is made once
        with Operations() as counted:
            loss = step(1, pixels, chosen)
        assert loss.device.type == "cuda"
        with pytest.raises(Exception, match="_local_scalar_dense"):
            float(loss)
    preprocess._channels.cache_clear()  # it holds fake tensors
    assert 700 < counted.kernels <= 1000 and counted.casts <= 40
    assert counted.waits == []


def test_counting_sees_casts_and_waits():
    x = torch.ones(4, 4)
    with Operations() as counted:
        (x.to(torch.bfloat16) @ x.to(torch.bfloat16)).view(16).t()
        float(x.sum())
        x[x > 0]
    assert counted.casts == 2
    assert counted.kernels >= 5
    assert {"_local_scalar_dense", "index"} <= set(counted.waits)
