"""The classes of the paper's models through the real stage, on random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from microworld import render
from tests import checkpoints
from varireal_utils.core.config import ParameterError, StudyConfig, checked, load_config, merged
from varireal_utils.core.config_editing import CanvasSettings, GuidanceOnCanvas
from varireal_utils.editing import conditioning, guidance, passes, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask, placed
from varireal_utils.models import loaders
from varireal_utils.prompts import phrase_bank

CHANGES = {"precision": "float32", "device": "cpu"}
STEPS = {"steps": 3, "strength": 0.7, "guidance_scale": 3.0, "prompt_weight": 1.3}
REFINE = {
    "refine_steps": 3,
    "refine_strength": 0.7,
    "refine_guidance_scale": 2.0,
    "controlnet_scale": 0.5,
    "ip_scale": 0.6,
}


def config_of(params: dict) -> StudyConfig:
    """Typed settings of a parameter file's keys and values."""
    return checked({k: v for k, v in params.items() if not k.startswith("_")}, "test")


def settings_of(config: StudyConfig, attribute: str, arm: str = "feasible", **edit) -> EditStage:
    """The slice of 04_edit; edit: other settings of section edit."""
    settings = EditStage.of(config, attribute=attribute, feasibility=arm)
    return settings.model_copy(update={"edit": settings.edit.model_copy(update=edit)})


def pipes_of(settings: EditStage) -> roles.Pipes:
    return roles.load(settings, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> StudyConfig:
    folder = tmp_path_factory.mktemp("weights")
    base, control, look = checkpoints.sdxl_refiner(folder / "refine")
    out = merged("params/micro.yaml", CHANGES)
    out["models"] = out["models"] | {
        "inpaint": {"path": str(checkpoints.sdxl_inpaint(folder / "inpaint"))},
        "prior": {"path": str(checkpoints.sd21(folder / "prior"))},
        "refine": {"path": str(base)},
        "controlnet": {"path": str(control)},
        "ip_adapter": {"path": str(look), "weight_name": "adapter.safetensors"},
    }
    out["edit"] = out["edit"] | {
        "canvas": 32,
        "prior_variants": 1,
        "background": STEPS | {"prior_steps": 2, "prior_guidance_scale": 2.0, "dilate": 2},
        "color": STEPS | REFINE | {"alpha": 0.5},
        "texture": STEPS | REFINE | {"alpha": 0.5, "prior_steps": 2, "prior_guidance_scale": 2.0},
    }
    return config_of(out)


@pytest.fixture(scope="module")
def bank():
    return phrase_bank.load_bank(
        "params/prompts/micro.yaml", "cars", list(render.class_names("cars"))
    )


CANVAS = CanvasSettings(canvas=32)
LINES = GuidanceOnCanvas(canny_low=0.7, canny_high=255, canny_blur=5)


def sources(attribute: str, settings: CanvasSettings = CANVAS) -> list[Source]:
    """A portrait and a landscape cut out of renderings, with lines on the canvas."""
    out = []
    for index, cut in enumerate((np.s_[8:120, 24:104], np.s_[30:110, 4:124])):
        p = render.photograph("cars", "val", index)
        image, mask, paint = (np.ascontiguousarray(a[cut]) for a in (p.image, p.mask, p.paint))
        out.append(
            Source(
                image,
                mask,
                editable_mask(attribute, mask, paint),
                guidance.lines_of(image, mask, LINES.model_copy(update={"canvas": settings})),
            )
        )
    return out


def rows(bank, attribute: str, arm: str = "feasible") -> list[dict]:
    phrases = phrase_bank.lists(bank, attribute, "alvera")[arm][:2]
    return [
        {
            "attribute": attribute,
            "feasibility": arm,
            "phrase": p,
            "seed": i,
            "prompt": phrase_bank.edit_prompt(bank, attribute, p, "alvera"),
        }
        for i, p in enumerate(phrases)
    ]


@pytest.mark.parametrize("attribute", ["background", "color", "texture"])
def test_edits_of_any_shape_change_only_what_they_may(config, bank, attribute):
    settings = settings_of(config, attribute)
    pipes = pipes_of(settings)
    these, asked = sources(attribute), rows(bank, attribute)
    prior = passes.prior_bank(pipes, bank, [r["phrase"] for r in asked], settings, 120)
    assert all(p.shape == (32, 32, 3) for p in prior.values())
    made = pipeline.edit_batch(pipes, these, asked, prior, bank, settings, 0)
    for source, result in zip(these, made, strict=True):
        assert result.shape == source.image.shape
        assert (result[source.editable == 0] == source.image[source.editable == 0]).all()
        assert (result[source.editable > 0] != source.image[source.editable > 0]).any()
    again = pipeline.edit_batch(pipes, these, asked, prior, bank, settings, 0)
    assert all((a == b).all() for a, b in zip(made, again, strict=True))
    steps = pipeline.trace_edit(pipes, these[0], asked[0], prior, bank, settings)
    assert ("refined" in steps) == (attribute != "background")
    assert {s.shape[:2] for s in steps.values()} == {these[0].image.shape[:2]}


def test_refinement_hears_lines_and_sees_its_own_object(config, bank):
    settings = settings_of(config, "color")
    pipes = pipes_of(settings)
    these, asked = [placed(s, CANVAS, "color")[0] for s in sources("color")], rows(bank, "color")
    starts, texts, seeds = [s.image for s in these], [r["prompt"] for r in asked], [1, 2]

    def refined(starts=starts, these=these, **changes):
        own = settings.own.model_copy(update=changes)
        return passes.refine(pipes, starts, these, texts, seeds, own)

    plain = refined()
    assert any((a != b).any() for a, b in zip(plain, refined(controlnet_scale=0.0), strict=True))
    lined = [replace(s, lines=255 - s.lines) for s in these]
    assert any((a != b).any() for a, b in zip(plain, refined(these=lined), strict=True))
    assert any((a != b).any() for a, b in zip(plain, refined(ip_scale=0.0), strict=True))
    other = refined([starts[0], 255 - starts[1]])  # each image sees its own picture alone
    assert (plain[0] == other[0]).all() and (plain[1] != other[1]).any()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_refined_batch_is_its_images_one_by_one(config, bank, guidance, monkeypatch):
    settings = settings_of(config, "color")
    pipes = pipes_of(settings)
    these, asked = [placed(s, CANVAS, "color")[0] for s in sources("color")], rows(bank, "color")
    starts, texts, seeds = [s.image for s in these], [r["prompt"] for r in asked], [1, 2]
    own = settings.own.model_copy(update={"refine_guidance_scale": guidance})
    alone = [
        passes.refine(pipes, [start], [source], [text], [seed], own)[0]
        for start, source, text, seed in zip(starts, these, texts, seeds, strict=True)
    ]
    calls, unet = [], pipes.refine.unet
    monkeypatch.setattr(
        unet, "forward", lambda *a, own=unet.forward, **k: calls.append(1) or own(*a, **k)
    )
    together = passes.refine(pipes, starts, these, texts, seeds, own)
    assert len(calls) <= own.refine_steps  # as one image takes
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
    assert "prepare_ip_adapter_image_embeds" not in vars(pipes.refine)


def from_noise(config: StudyConfig) -> EditStage:
    """The colour edit whose second stage draws from noise."""
    settings = settings_of(config, "color")
    own = settings.own.model_copy(update={"refine_from": "noise"})
    return settings_of(config, "color", attributes={**settings.edit.attributes, "color": own})


def test_refinement_from_noise_denoises_from_nothing_but_noise_text_lines_and_look(config, bank):
    """Whole denoisings on random weights: against diffusers' own pipeline, and what each input
    changes."""
    settings = from_noise(config)
    pipes = pipes_of(settings)
    assert type(pipes.refine).__name__ == "StableDiffusionXLControlNetPipeline"
    these, asked = [placed(s, CANVAS, "color")[0] for s in sources("color")], rows(bank, "color")
    starts, texts, seeds = [s.image for s in these], [r["prompt"] for r in asked], [1, 2]

    def refined(starts=starts, these=these, seeds=seeds, **changes):
        own = settings.own.model_copy(update=changes)
        return passes.refine(pipes, starts, these, texts, seeds, own)

    def same(one, two):
        return all((a == b).all() for a, b in zip(one, two, strict=True))

    made = refined()
    assert [p.shape for p in made] == [(32, 32, 3)] * 2 and same(made, refined())
    assert all(p.std() > 1 for p in made)  # pictures, neither black nor of one colour
    inverted = [255 - s for s in starts]
    assert not same(made, refined(inverted))  # the IP-Adapter sees what the first stage painted
    blind = refined(ip_scale=0.0)
    assert same(blind, refined(inverted, ip_scale=0.0))  # no initial picture, no mask
    other = [replace(s, lines=255 - s.lines, editable=255 - s.editable) for s in these]
    assert not same(blind, refined(these=other, ip_scale=0.0))
    deaf = refined(these=other, ip_scale=0.0, controlnet_scale=0.0)
    assert same(refined(ip_scale=0.0, controlnet_scale=0.0), deaf)
    assert not same(made, refined(seeds=[3, 4]))
    own = settings.own
    pipes.refine.set_ip_adapter_scale(own.ip_scale)
    seen = np.where(these[0].mask[..., None] > 0, starts[0], np.uint8(passes.GREY))
    plain = pipes.refine(
        prompt=texts[0],
        image=Image.fromarray(these[0].lines).convert("RGB"),
        ip_adapter_image=Image.fromarray(seen),
        height=32,
        width=32,
        num_inference_steps=own.refine_steps,
        guidance_scale=own.refine_guidance_scale,
        controlnet_conditioning_scale=own.controlnet_scale,
        generator=roles.generators(seeds[:1], "refine", 0),
    ).images[0]
    assert np.abs(np.asarray(plain).astype(int) - made[0]).max() <= 1


def test_an_edit_refined_from_noise_goes_through_the_stage(config, bank):
    settings = from_noise(config)
    these, asked = sources("color"), rows(bank, "color")
    made = pipeline.edit_batch(pipes_of(settings), these, asked, {}, bank, settings, 0)
    for source, result in zip(these, made, strict=True):
        kept = source.editable == 0
        assert (result[kept] == source.image[kept]).all() and (result != source.image).any()


@pytest.mark.parametrize("role", ["prior", "inpaint"])
def test_weights_of_phrases(config, role):
    pipe = loaders.load_pipeline(config.models, role, torch.device("cpu"))
    text = "a photo of a red car"
    plain = conditioning.encode(pipe, text)
    same = conditioning.encode(pipe, (("a photo of a ", 1.0), ("red", 1.0), (" car", 1.0)))
    heavy = conditioning.encode(pipe, phrase_bank.weighted(text, "red", 1.3))
    for name, value in plain.items():
        assert torch.equal(value, same[name])
    assert heavy["states"].shape == plain["states"].shape
    assert not torch.allclose(heavy["states"], plain["states"], atol=1e-4)
    odd = conditioning.encode(pipe, (("a (car)++ ", 1.0), ("red", 1.5)))  # words, not syntax
    assert torch.isfinite(odd["states"]).all()


def test_arms_of_their_own_belong_to_the_faithful_protocol(tmp_path):
    text = "include: {}\nprotocol: {}\nedit:\n  color: {{arms: {{infeasible: {{alpha: 0.9}}}}}}\n"
    path = tmp_path / "p.yaml"
    base = __import__("pathlib").Path("params/micro.yaml").resolve()
    path.write_text(text.format(base, "controlled"))
    with pytest.raises(ParameterError, match="edit.color.arms.*faithful"):
        load_config(path)
    path.write_text(text.format(base, "faithful"))
    config = load_config(path)
    alpha = {arm: settings_of(config, "color", arm).own.alpha for arm in ("feasible", "infeasible")}
    assert alpha == {"feasible": config.edit.attributes["color"].alpha, "infeasible": 0.9}


def test_sizes_that_make_no_batch_are_named(config, bank):
    wrong = settings_of(config, "background", canvas=0)
    pipes = pipes_of(wrong)
    with pytest.raises(ValueError, match=r"different sizes .*\(80, 120\).* edit.canvas"):
        pipeline.paint(pipes, sources("background"), rows(bank, "background"), {}, bank, wrong, 0)
