"""What only a GPU shows: the CPU's numbers, resume, real lack of memory. `make test-gpu`"""

import numpy as np
import pytest
import torch

from bench.counting import vit_b_16_step
from microworld import captions, render
from microworld.pretrain import editor, vocabulary
from microworld.pretrain.trainer import FitSettings
from tests.unit.test_classify import CFG, NAMES, clip_folder, clip_of, fit, spec, study  # noqa: F401
from tests.unit.test_edit import row, source
from varireal_utils.core import oom_retry
from varireal_utils.core.config import load_config
from varireal_utils.datadream import sampling
from varireal_utils.editing import pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.models import classifiers, loaders
from varireal_utils.prompts import phrase_bank
from varireal_utils.training import captured_step, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def full_float32():
    """float32 is float32: no tf32 in products or convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def on_gpu(folder):
    return classifiers.load(spec(folder), NAMES, CFG.templates, "cuda")


def test_training_gives_the_cpus_losses(clip_folder, study, tmp_path):  # noqa: F811
    """Without dropout, whose random numbers differ by device."""
    here, _ = fit(clip_folder, study, tmp_path / "cpu", cfg={"dropout": 0.0})
    there, _ = fit(
        clip_folder, study, tmp_path / "gpu", cfg={"dropout": 0.0}, net=on_gpu(clip_folder)
    )
    assert there["loss_curve"] == pytest.approx(here["loss_curve"], rel=1e-4)
    assert there["val_curve"] == here["val_curve"]


def test_a_captured_training_is_the_plain_one(clip_folder, study, tmp_path, monkeypatch):  # noqa: F811
    """As one CUDA graph, resumed in between, against autocast; both in bfloat16."""
    cfg = {"dropout": 0.0, "steps": 20, "eval_every": 10}
    runs = {}
    for way in ("captured", "plain"):
        if way == "plain":
            monkeypatch.setattr(captured_step, "fits", lambda *args: False)
        out = tmp_path / way
        options = {"cfg": cfg, "dtype": torch.bfloat16}
        fit(clip_folder, study, out, net=on_gpu(clip_folder), stop_after=9, **options)
        runs[way] = fit(clip_folder, study, out, net=on_gpu(clip_folder), **options)[0]
    assert runs["captured"]["loss_curve"] == pytest.approx(runs["plain"]["loss_curve"], rel=0.05)


def test_dropout_of_a_captured_step_depends_on_seed_and_number_alone():
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        step, pixels, rows = vit_b_16_step(torch.device("cuda"), classes=5, batch=4)
        step.whole = True
        for p in step.adapters.parameters:
            p.data.copy_(torch.ones_like(p) * 0.01)
        losses.append([float(step(number, pixels, rows)) for number in (0, 1)])
        assert step.graph is not None
    assert losses[0][0] == losses[1][0] and losses[0][0] != losses[0][1]


def test_half_precision_learns(clip_folder, study, tmp_path):  # noqa: F811
    whole, _ = fit(
        clip_folder, study, tmp_path / "a", net=on_gpu(clip_folder), cfg={"dropout": 0.0}
    )
    half, _ = fit(
        clip_folder,
        study,
        tmp_path / "b",
        net=on_gpu(clip_folder),
        cfg={"dropout": 0.0},
        dtype=torch.bfloat16,
    )
    assert half["loss_curve"] == pytest.approx(whole["loss_curve"], rel=0.05)


def test_resumed_training_ends_with_the_same_weights(clip_folder, study, tmp_path):  # noqa: F811
    _, whole = fit(clip_folder, study, tmp_path / "a", net=on_gpu(clip_folder))
    fit(clip_folder, study, tmp_path / "b", net=on_gpu(clip_folder), stop_after=3)
    _, resumed = fit(clip_folder, study, tmp_path / "b", net=on_gpu(clip_folder))
    for name, value in whole.state().items():
        assert torch.equal(value, resumed.state()[name]), name


def test_evaluation_agrees_with_the_cpu(clip_folder, study):  # noqa: F811
    from varireal_utils.training import image_cache

    root, frame, _ = study
    images = image_cache.Images(frame["path"], root, 32)
    here = train.evaluate(clip_of(clip_folder), images)
    there = train.evaluate(on_gpu(clip_folder), images)
    assert np.abs(here - there).max() < 1e-3 * np.abs(here).max()


def test_batches_of_a_gpu_have_the_pixels_of_the_per_image_transform(clip_folder, study):  # noqa: F811
    from varireal_utils.training import feed, image_cache

    root, frame, _ = study
    images = image_cache.Images(frame["path"], root, 32)
    order = np.random.default_rng(0).integers(0, len(frame), (5, 8))
    preprocess = clip_of(clip_folder).preprocess
    made = {
        kind: list(feed.batches(images, order, preprocess, CFG, 3, torch.device(kind)))
        for kind in ("cpu", "cuda")
    }
    for (here, rows), (there, own) in zip(made["cpu"], made["cuda"], strict=True):
        gap = (here.int() - there.cpu().int()).abs()
        assert torch.equal(rows, own) and there.device.type == "cuda"
        assert (gap > 1).float().mean() < 1e-3 and gap.float().mean() < 0.05


def settings(attribute: str, device: str) -> tuple:
    config = load_config("params/micro.yaml", {"device": device, "precision": "float32"})
    bank = phrase_bank.load_bank(config.phrase_file, "cars", list(render.class_names("cars")))
    own = EditStage.of(config, attribute=attribute, feasibility="feasible")
    return own, bank, roles.load(own, torch.device(device), torch.float32)


def test_an_edit_is_the_cpus_edit_and_leaves_the_rest_alone():
    sources = [source(i) for i in range(4)]
    made = {}
    for device in ("cpu", "cuda"):
        own, bank, pipes = settings("color", device)
        rows = [row(bank, i, p) for i, p in enumerate(("red", "purple", "teal", "black"))]
        made[device] = pipeline.edit_batch(pipes, sources, rows, {}, bank, own, 0)
    for s, a, b in zip(sources, made["cpu"], made["cuda"], strict=True):
        assert (b[s.editable == 0] == s.image[s.editable == 0]).all()
        assert np.abs(a.astype(int) - b).mean() < 1.0


def test_pictures_from_words_are_the_cpus():
    made = {}
    for device in ("cpu", "cuda"):
        config = load_config("params/micro.yaml")
        made[device] = sampling.draw(
            loaders.load_pipeline(config.models, "prior", torch.device(device)),
            ["a photo of a car"] * 2,
            [1, 2],
            config.datadream,
        )
    assert np.abs(np.stack(made["cpu"]).astype(int) - np.stack(made["cuda"])).mean() < 2.0


def test_a_batch_that_does_not_fit_is_done_in_halves():
    free, _ = torch.cuda.mem_get_info()
    tried = []

    def work(items):
        tried.append(len(items))
        hold = torch.empty(len(items) * free // 3, dtype=torch.uint8, device="cuda")
        return [i * int(hold.numel() > 0) for i in items]

    with pytest.warns(UserWarning, match="did not fit into memory"):
        assert oom_retry.retry_in_halves(work, list(range(8))) == list(range(8))
    assert tried[0] == 8 and sorted(tried)[:4] == [2, 2, 2, 2]  # two thirds of what is free fits


def test_attention_over_64_cells_has_gradients():
    """Every logit of the rows at -120: cuDNN's kernel gives NaN for them."""
    loaders.avoid_faulty_attention()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    q, k, v = (0.1 * torch.randn(2, 4, 64, 48, device="cuda") for _ in range(3))
    q[..., 0], k[..., 0] = 1.0, -120 * 48**0.5
    q, k, v = (t.bfloat16().requires_grad_() for t in (q, k, v))
    everything = torch.ones(64, 64, dtype=torch.bool, device="cuda")
    for mask in (None, everything):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        for gradient in torch.autograd.grad(out.float().square().sum(), (q, k, v)):
            assert torch.isfinite(gradient).all()


def test_the_micro_models_train(tmp_path):
    """From batches that worker processes make ahead."""
    vocab = vocabulary.build_tokenizer(captions.vocabulary(), tmp_path / "t").get_vocab()
    specs = [render.wide(i).spec for i in range(32)]
    latents = np.random.default_rng(0).standard_normal((32, 4, 32, 32), np.float32)
    torch.manual_seed(0)
    net, text = editor.unet(4).to("cuda"), editor.text_encoder(vocab).to("cuda")
    bare = {"x0": latents[:4], "texts": np.array(["an empty scene", "a red brick surface"] * 2)}
    report = editor.train_text2image(
        net,
        text,
        editor.Examples({"x0": latents}, specs, bare, vocab),
        FitSettings(tmp_path / "c.pt", 100, 600, lr=5e-4, batch=8, seed=1),
        editor.Mixture(whole=0.6, near=0.25),
    )
    losses = dict(report["loss"])
    assert losses[100] < 0.97 * losses[25]
