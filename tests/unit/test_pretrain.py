"""Pretraining: a stopped and resumed training equals one that was not stopped."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from microworld import captions
from microworld.pretrain import attribute_classifier, contrastive, editor, trainer, vocabulary
from microworld.pretrain.trainer import FitSettings


def trained(folder, stops: list[int]) -> torch.Tensor:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)

    def sample(step, rng):
        return {"x": rng.standard_normal((8, 4), np.float32)}

    def loss_of(step, batch):
        x = batch["x"]
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    for steps in stops:
        # the schedule follows the steps, so the limit is given as it will be in the end
        settings = FitSettings(folder / "c.pt", steps, lr=0.01, warmup=2, every=3)
        trainer.fit({"m": model}, sample, loss_of, settings)
        torch.manual_seed(1)
    return model.weight.detach().clone()


def test_resume_goes_on_from_the_checkpoint(tmp_path):
    (tmp_path / "a").mkdir()
    first = trained(tmp_path / "a", [12])
    again = trained(tmp_path / "a", [12])  # done: only loads
    assert torch.equal(first, again)
    saved = torch.load(tmp_path / "a/c.pt", weights_only=True)
    assert saved["step"] == 12 and torch.equal(saved["averages"]["m"]["weight"], first)


def test_batches_are_functions_of_seed_and_step():
    assert trainer.batch_rng(1, 5).integers(1e9) == trainer.batch_rng(1, 5).integers(1e9)
    assert trainer.batch_rng(1, 5).integers(1e9) != trainer.batch_rng(1, 6).integers(1e9)


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(tmp_path):
    model = torch.nn.Linear(2, 1)

    def training(bad_from, steps, of_batch):
        def sample(step, rng):
            x = rng.standard_normal((4, 2), np.float32)
            return {"x": x * np.nan if of_batch and step >= bad_from else x}

        def loss_of(step, batch):
            loss = model(batch["x"]).square().mean()
            return loss * (np.nan if step >= bad_from else 1.0), {}

        settings = FitSettings(tmp_path / "c.pt", steps, lr=0.01, every=10)
        return trainer.fit({"m": model}, sample, loss_of, settings)

    training(1000, 50, False)
    with pytest.raises(FloatingPointError, match="c: the loss is nan at step 70, and the batch is"):
        training(60, 100, False)
    good = torch.load(tmp_path / "c.pt", weights_only=True)["modules"]["m"]["weight"]
    assert torch.isfinite(good).all()
    with pytest.raises(FloatingPointError, match="x of the batch is not finite"):
        training(60, 62, True)
    kept = torch.load(tmp_path / "c.pt", weights_only=True)
    assert kept["step"] == 60 and torch.equal(kept["modules"]["m"]["weight"], good)


def test_batches_made_ahead_are_those_of_their_steps():
    def sample(step, rng):
        return {"step": np.int64(step), "x": rng.standard_normal(3)}

    ahead = trainer.batches(sample, 7, range(4, 30), torch.device("cuda"))
    assert ahead.num_workers > 0
    here = trainer.batches(sample, 7, range(4, 30), torch.device("cpu"))
    for step, (a, b) in enumerate(zip(ahead, here, strict=True), 4):
        assert int(a["step"]) == step and torch.equal(a["x"], b["x"])
        assert np.array_equal(a["x"], trainer.batch_rng(7, step).standard_normal(3))


def test_tokens_equal_the_saved_tokenizers(tmp_path):
    words = ["car", "scar", "on", "a", "photo", "of", "moon", "the"]
    tokenizer = vocabulary.build_tokenizer(words, tmp_path)
    texts = ["a photo of a car", "a scar on the moon", ""]
    ours = contrastive.tokens(texts, tokenizer.get_vocab())
    theirs = tokenizer(
        texts, padding="max_length", max_length=vocabulary.MAX_LENGTH, return_tensors="pt"
    )["input_ids"]
    assert torch.equal(ours, theirs)


def test_task_masks_cover_what_their_task_asks():
    bits = np.zeros((400, 128, 128), np.uint8)
    bits[:, 40:80, 30:90] = 1
    bits[:, 50:70, 40:80] = 3
    tasks, masks = editor.task_masks(bits)
    for task, mask in zip(tasks, masks, strict=True):
        name = editor.TASKS[task]
        if name == "background":
            assert (mask == (bits[0] == 0)).all()
        elif name in ("texture", "color"):
            assert (mask == (bits[0] == 3)).all()
        elif name == "all":
            assert mask.all()
    shares = np.bincount(tasks, minlength=len(editor.TASKS)) / len(tasks)
    assert shares == pytest.approx(editor.SHARES, abs=0.08)


def test_text2image_starts_from_the_inpainting_unet():
    net = editor.unet(9)
    plain = editor.from_inpaint(net)
    assert plain.config.in_channels == 4
    assert torch.equal(plain.conv_in.weight, net.conv_in.weight[:, :4])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """250 renderings and their specs."""
    from microworld.pretrain import data

    return data.renderings(250, tmp_path_factory.mktemp("pictures"))


def test_whole_pictures_are_learned_from_words(few, tmp_path):
    _, specs = few
    vocab = vocabulary.build_tokenizer(captions.vocabulary(), tmp_path / "t").get_vocab()
    torch.manual_seed(0)
    net, text = editor.unet(4), editor.text_encoder(vocab)
    latents = np.random.default_rng(0).standard_normal((len(specs), 4, 32, 32), np.float32)
    before = net.conv_out.weight.detach().clone()
    bare = {"x0": latents[:4], "texts": np.array(["an empty scene", "a red brick surface"] * 2)}
    for near in (0.0, 1.0):  # whole pictures among scenes and surfaces; windows of surfaces
        report = editor.train_text2image(
            net,
            text,
            editor.Examples({"x0": latents}, specs, bare, vocab),
            FitSettings(tmp_path / f"{near}.pt", 2, 60, lr=5e-4, batch=4, seed=1),
            editor.Mixture(whole=0.6, near=near, hard=("brick",)),
        )
        assert report["step"] == 2
        assert not torch.equal(before, net.conv_out.weight)
        before = net.conv_out.weight.detach().clone()


def test_clip_goes_on_from_the_weights_that_lie_there(few, tmp_path):
    """With no step left, what was shipped comes back as it was (in float16)."""
    import shutil

    from safetensors.torch import load_file

    pixels, specs = few
    shutil.copytree("models/micro/clip", tmp_path / "clip")
    weights = tmp_path / "clip" / contrastive.WEIGHTS
    before = load_file(weights)
    settings = FitSettings(tmp_path / "c.pt", 0, 60, lr=2e-3, batch=8, warmup=200)
    contrastive.train(pixels, specs, tmp_path / "clip", settings)
    after = load_file(weights)
    assert all(torch.equal(before[k], after[k]) for k in before)
    _, report = contrastive.train(
        pixels,
        specs,
        tmp_path / "clip",
        dataclasses.replace(settings, checkpoint=tmp_path / "d.pt", steps=2),
    )
    assert report["step"] == 2
    assert any(not torch.equal(before[k], v) for k, v in load_file(weights).items())


def test_coverage_undoes_the_token_layout():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 4, (3, 128, 128, 4)).astype(np.uint8))
    moves = contrastive.moves(3, np.random.default_rng(1))
    _, cells = contrastive.augment(pixels, {k: torch.from_numpy(v) for k, v in moves.items()})
    grid = contrastive.coverage(cells)
    assert cells.shape == (3, 64, 16) and grid.shape == (3, 1, 32, 32)
    # token 9 is the second of the second row: rows 4-7 and columns 4-7 of the coverage
    assert torch.equal(grid[0, 0, 4:8, 4:8].flatten(), cells[0, 9])


def test_the_classifier_reads_textures_off_the_object_alone():
    """What lies outside the object changes nothing of what its pooled inside says."""
    torch.manual_seed(0)
    model = attribute_classifier.AttributeClassifier().eval()
    where = torch.zeros(1, 1, 128, 128)
    where[..., 32:96, 32:96] = 1
    seen = {}
    model.heads["texture"].register_forward_hook(
        lambda m, x, y: seen.setdefault("x", []).append(x[0])
    )
    image = torch.rand(1, 3, 128, 128)
    other = image.clone()
    other[..., :16, :] = -1.0  # far from the object: beyond the reach of the first stages
    with torch.no_grad():
        model(image, where), model(other, where)
    first, second = seen["x"]
    inside = slice(0, 48)  # mean and deviation inside, of the 24 maps of the first stage
    assert torch.allclose(first[:, inside], second[:, inside], atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-3)
    assert model.maps(image, torch.zeros(1, 64, 16)).shape == (1, 64, model.width)


def test_what_ships_stays_under_100_megabytes():
    sizes = [f.stat().st_size for f in Path("models/micro").rglob("*") if f.is_file()]
    assert 0 < sum(sizes) < 100e6
