"""Editing: exact outside the editable region, and noise that knows neither batch nor arm."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from microworld import render
from varireal_utils.core.config import load_config
from varireal_utils.editing import guidance, phases, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.models import loaders
from varireal_utils.prompts import phrase_bank

FAST = {
    "edit.color.steps": 3,
    "edit.color.refine_steps": 3,
    "precision": "float32",
    "edit.color.strength": 0.7,
    "edit.color.refine_strength": 0.7,
    "device": "cpu",
}

CPU = SimpleNamespace(device=torch.device("cpu"))  # pipelines that nothing is asked of


@pytest.fixture(scope="module")
def setting():
    config = load_config("params/micro.yaml", FAST)
    names = list(render.class_names("cars"))
    settings = EditStage.of(config, attribute="color", feasibility="feasible")
    return settings, phrase_bank.load_bank(config.phrase_file, "cars", names)


def changed(settings: EditStage, **edit) -> EditStage:
    """The slice with other settings of section edit."""
    return settings.model_copy(update={"edit": settings.edit.model_copy(update=edit)})


@pytest.fixture(scope="module")
def pipes(setting):
    return roles.load(setting[0], torch.device("cpu"), torch.float32)


def source(index: int, attribute: str = "color") -> Source:
    p = render.photograph("cars", "val", index)
    return Source(
        p.image,
        p.mask,
        editable_mask(attribute, p.mask, p.paint),
        guidance.canny(p.image, p.mask),
    )


def row(bank, index: int, phrase: str) -> dict:
    return {
        "attribute": "color",
        "phrase": phrase,
        "seed": 1000 + index,
        "class_name": "alvera",
        "prompt": phrase_bank.edit_prompt(bank, "color", phrase, "alvera"),
    }


def test_outside_is_untouched_and_batches_do_not_matter(setting, pipes):
    settings, bank = setting
    sources = [source(i) for i in range(3)]
    rows = [row(bank, i, p) for i, p in enumerate(("red", "purple", "teal"))]
    together = pipeline.edit_batch(pipes, sources, rows, {}, bank, settings, 0)
    turned = pipeline.edit_batch(pipes, sources[::-1], rows[::-1], {}, bank, settings, 0)[::-1]
    alone = pipeline.edit_batch(pipes, sources[1:2], rows[1:2], {}, bank, settings, 0)[0]
    for s, made in zip(sources, together, strict=True):
        outside = s.editable == 0
        assert (made[outside] == s.image[outside]).all()
        assert (made[~outside] != s.image[~outside]).any()
    for a, b in zip(together, turned, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2  # kernels may round otherwise, noise may not
    assert np.abs(alone.astype(int) - together[1]).max() <= 2
    again = pipeline.edit_batch(pipes, sources, rows, {}, bank, settings, 1)
    assert any((a != b).any() for a, b in zip(together, again, strict=True))


def test_out_of_memory_halves_the_batch_and_changes_nothing(monkeypatch, setting, pipes):
    settings, bank = setting
    settings = changed(settings, batch_size=3, max_attempts=1)
    rows = pd.DataFrame(
        [
            row(bank, i, p) | {"image_id": str(i), "edit_id": str(i)}
            for i, p in enumerate(("red", "purple", "teal"))
        ]
    )

    def run():
        return next(
            phases.run(pipes, rows, lambda i: source(int(i)), {}, bank, settings, accept, {0: None})
        )[1]

    def accept(pictures, rows, sources):
        return pd.DataFrame({"worst_margin": [1.0] * len(rows), "accepted": True})

    whole, honest, sizes = run(), pipeline.first_stage, []

    def tight(pipes, sources, *others, **more):
        sizes.append(len(sources))
        if len(sources) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(pipes, sources, *others, **more)

    monkeypatch.setattr(pipeline, "first_stage", tight)
    with pytest.warns(UserWarning, match="batch of 3 did not fit"):
        halves = run()
    assert sizes == [3, 2, 1] and len(halves) == 3
    for a, b in zip(whole, halves, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2


def test_the_batch_size_that_fitted_is_kept_from_batch_to_batch(monkeypatch, setting):
    settings, bank = setting
    pipes, sizes = roles.load(settings, torch.device("cpu"), torch.float32), []

    def tight(pipes, sources, rows, *others):
        sizes.append(len(sources))
        if len(sources) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"inpainted": [s.image for s in sources]}

    def second(pipes, sources, rows, painted, **more):
        return painted

    monkeypatch.setattr(pipeline, "first_stage", tight)
    monkeypatch.setattr(pipeline, "second_stage", second)
    batch = ([source(i) for i in range(4)], [row(bank, i, "red") for i in range(4)])
    with pytest.warns(UserWarning, match="batch of 4 did not fit"):
        pipeline.edit_batches(pipes, [batch, batch], {}, bank, settings, 0)
    pipeline.edit_batch(pipes, *batch, {}, bank, settings, 1)
    assert sizes == [4, 2, 2, 2, 2, 2, 2]


def test_slicing_the_autoencoder_changes_no_picture(monkeypatch, setting, pipes):
    """Large canvases decode one picture at a time; the micro models', too small for it, do not."""
    settings, bank = setting
    batch = ([source(i) for i in range(3)], [row(bank, i, "red") for i in range(3)])

    def made(pipes):
        sizes: list[int] = []
        pipes.inpaint.vae.decoder.register_forward_hook(lambda m, x, y: sizes.append(len(x[0])))
        out = pipeline.first_stage(pipes, *batch, {}, bank, settings, 0)["inpainted"]
        return out, set(sizes)

    whole, sizes = made(pipes)
    assert sizes == {3}
    monkeypatch.setattr(loaders, "SLICED_FROM", 128)
    sliced, sizes = made(roles.load(settings, torch.device("cpu"), torch.float32))
    assert sizes == {1}
    for a, b in zip(whole, sliced, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_noise_belongs_to_the_edit():
    a, b = roles.generators([5, 6], "inpaint", 0)
    c = roles.generators([6], "inpaint", 0)[0]
    assert torch.equal(torch.randn(4, generator=b), torch.randn(4, generator=c))
    d = roles.generators([5], "inpaint", 1)[0]
    assert not torch.equal(torch.randn(4, generator=a), torch.randn(4, generator=d))


def test_arms_are_paired(setting):
    settings, bank = setting
    other = settings.model_copy(update={"feasibility": "infeasible"})
    images = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(20)],
            "label": 0,
            "class_name": "alvera",
            "color": ["red"] * 20,
        }
    )
    one = pipeline.plan(images, bank, settings)
    two = pipeline.plan(images, bank, other)
    assert (one["seed"] == two["seed"]).all() and "red" not in set(one["phrase"])
    lists = phrase_bank.lists(bank, "color", "alvera")
    ranks = [lists["feasible"].index(p) for p in one["phrase"]]
    assert ranks == [lists["infeasible"].index(p) for p in two["phrase"]]
    shuffled = pipeline.plan(images.iloc[::-1], bank, settings)
    assert dict(zip(one["edit_id"], one["phrase"], strict=True)) == dict(
        zip(shuffled["edit_id"], shuffled["phrase"], strict=True)
    )


@pytest.mark.parametrize(
    ("pool", "order"),
    [(1, ["ab", "a", "a", "c", "c", "c"]), (2, ["ab", "c", "a", "c", "a", "c"])],
)
def test_retries_keep_the_best_attempt_and_skip_what_is_done(monkeypatch, setting, pool, order):
    settings, bank = setting
    settings = changed(settings, batch_size=2, max_attempts=3, pool=pool)
    blank = Source(*(np.zeros((8, 8), np.uint8),) * 4)
    monkeypatch.setattr(
        pipeline,
        "edit_batches",
        lambda pipes, batches, prior_of, bank, settings, attempt: [
            [np.full((8, 8, 3), attempt, np.uint8) for _ in rows] for _, rows in batches
        ],
    )
    asked = []

    def verify(pictures, rows, sources):
        asked.append("".join(r["edit_id"] for r in rows))
        score = [
            {"a": -1.0, "b": 0.5, "c": [-3.0, -1.0, -2.0][int(p[0, 0, 0])]}[r["edit_id"]]
            for p, r in zip(pictures, rows, strict=True)
        ]
        return pd.DataFrame({"worst_margin": score, "accepted": [s > 0 for s in score]})

    rows = pd.DataFrame({"edit_id": list("abc"), "image_id": list("abc"), "attribute": "color"})
    done = {
        n: (p, d)
        for n, p, d in phases.run(
            CPU, rows, lambda i: blank, {}, bank, settings, verify, {0: None, 1: None}
        )
    }
    assert asked == order
    assert list(done[0][1]["attempt"]) == [0, 0] and list(done[0][1]["accepted"]) == [False, True]
    assert done[1][1]["attempt"].item() == 1 and done[1][0][0][0, 0, 0] == 1
    left = [
        n
        for n, _, _ in phases.run(
            CPU, rows, lambda i: blank, {}, bank, settings, verify, {0: [3, 1], 1: None}
        )
    ]
    assert left == [1]


def test_a_batch_that_is_accepted_is_finished_before_others_are_tried_again(monkeypatch, setting):
    """A kill between two attempts loses no accepted batch; none is yielded twice."""
    settings, bank = setting
    settings = changed(settings, batch_size=1, max_attempts=2, pool=3)
    blank = Source(*(np.zeros((8, 8), np.uint8),) * 4)
    seen = []

    def painted(pipes, batches, prior_of, bank, settings, attempt):
        seen.append(f"attempt {attempt}")
        return [[np.zeros((8, 8, 3), np.uint8)] for _ in batches]

    def verify(pictures, rows, sources):
        good = rows[0]["edit_id"] == "b"
        return pd.DataFrame({"worst_margin": [0.0], "accepted": [good]})

    monkeypatch.setattr(pipeline, "edit_batches", painted)
    rows = pd.DataFrame({"edit_id": list("abc"), "image_id": list("abc")})
    run = phases.run(
        CPU, rows, lambda i: blank, {}, bank, settings, verify, dict.fromkeys(range(3))
    )
    for number, _, _ in run:
        seen.append(number)
    assert seen == ["attempt 0", 1, "attempt 1", 0, 2]
