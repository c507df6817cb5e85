import pytest
import torch

from bench import feeding, pipeline, plain, run
from varireal_utils.models import prefix_tree


def rows(ratio):
    return [
        {"what": "training step", "classes": c, "way": w, "ratio": ratio}
        for c in (37, 100, 196)
        for w in ("plain", "float32", "bfloat16", "float32 by prefix")
    ] + [
        {"what": "evaluation, an image", "classes": 196, "way": "bfloat16", "ratio": ratio},
        {"what": "make study", "classes": None, "way": "ours", "ratio": None},
    ]


def test_every_row_below_its_floor_is_missed():
    assert [len(run.judge(rows(ratio))) for ratio in (1.9, 5.0, 15.0, 25.0)] == [5, 2, 1, 0]


def test_the_layout_has_the_sizes_that_its_docstring_tells():
    import open_clip

    tokens = open_clip.get_tokenizer(run.NAME)(run.captions(196))
    tree, apart = (
        prefix_tree.build_prefix_tree(tokens, tokens.argmax(1), shared) for shared in (True, False)
    )
    assert (tokens.numel(), apart.rows.numel(), len(apart.tokens), len(tree.tokens)) == (
        15092,
        4508,
        3045,
        1597,
    )


def test_a_loader_slower_than_the_fastest_step_is_named():
    made = [
        {"what": "training step", "way": "bfloat16", "seconds": 1.6},
        {"what": "loading, an image", "way": "ours", "seconds": 0.2},
    ]
    assert "bottleneck" in run.starved(made, 16)[0] and not run.starved(made, 4)


def test_both_ways_of_loading_can_be_timed(monkeypatch):
    monkeypatch.setattr(pipeline, "SIDE", 48)
    monkeypatch.setattr(pipeline, "COUNT", 4)
    seconds = pipeline.loading(run.timed, 1, batch=2)
    assert min(seconds.values()) > 0 and set(seconds) == {"plain", "ours"}


def test_feeding_is_measured_on_a_map_of_distinct_files(monkeypatch):
    monkeypatch.setattr(feeding, "STEPS", 1)
    monkeypatch.setattr(feeding, "DISTINCT", 2)
    monkeypatch.setattr(feeding.pixel_maps, "KEPT", 0.0)  # put back afterwards
    row = feeding.measure(5, (600, 460))
    assert row["map_gb"] == pytest.approx(5 * 448 * 584 * 3 / 1e9, rel=0.01)
    assert row["images_per_second"] == pytest.approx(2 / row["reading_seconds"])


@pytest.mark.parametrize("noise", ["prefix", "caption"])
def test_the_plain_step_and_ours_take_the_same_steps(noise, monkeypatch):
    """A small model, no dropout: equal losses over three steps of training."""
    import open_clip

    made = open_clip.create_model
    cfg = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 64,
            "patch_size": 8,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    monkeypatch.setattr(
        open_clip,
        "create_model",
        lambda name: open_clip.CLIP(**cfg) if name == run.NAME else made(name),
    )
    ours, other, tokenizer = run.build(rank=4)
    for module in [*ours.modules(), *other.modules()]:
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    assert not any(type(m).__name__ == "Packed" for m in other.modules())
    assert not any(type(m).__module__.endswith("frozen") for m in other.modules())
    tokens, labels = tokenizer(run.captions(37)), torch.arange(8) % 37
    steppers = [
        torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-3)
        for m in (ours, other)
    ]
    for n in range(3):
        pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(n))
        a = run.ours_step(ours, steppers[0], pixels, tokens, labels, torch.float32, noise)
        b = plain.step(other, steppers[1], pixels, tokens, labels)
        assert a == pytest.approx(b, rel=1e-5)
    assert a != pytest.approx(
        run.ours_step(ours, steppers[0], pixels, tokens, labels, torch.float32, noise), rel=1e-5
    )
