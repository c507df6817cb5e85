"""A picture that is black or not finite is an error by name, wherever a pipeline makes one."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor

from tests import checkpoints
from tests.unit.test_edit import pipes, row, setting, source  # noqa: F401
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.datadream import sampling
from varireal_utils.editing import editors, pipeline
from varireal_utils.models import loaders
from varireal_utils.models.pictures import BlackPicture, checked_pictures

CPU = torch.device("cpu")


class Noises(SimpleNamespace):
    """A pipeline's output."""


def pipe_of(dtype: torch.dtype = torch.float16) -> Any:
    return SimpleNamespace(unet=SimpleNamespace(dtype=dtype), name_or_path="owner/name")


def test_pictures_are_those_of_diffusers_own_conversion():
    from diffusers.image_processor import VaeImageProcessor

    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    processor = VaeImageProcessor()
    plain = processor.postprocess(pixels, output_type="pil")
    exact = processor.postprocess(pixels, output_type="np")
    for images in (plain, exact):
        got = checked_pictures(Noises(images=images), pipe_of())
        assert all((np.asarray(a) == b).all() for a, b in zip(plain, got, strict=True))


@pytest.mark.parametrize(
    ("images", "flags", "message"),
    [
        (np.zeros((2, 8, 8, 3)), None, "all black"),
        ([Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))], None, "all black"),
        (np.where(np.arange(192).reshape(1, 8, 8, 3), 0.5, np.nan), None, "not finite"),
        (np.full((1, 8, 8, 3), np.inf), None, "not finite"),
        (np.full((1, 8, 8, 3), 0.5), [True], "safety checker"),
    ],
)
def test_what_is_no_picture_is_named(images, flags, message):
    made = Noises(images=images, nsfw_content_detected=flags)
    with pytest.raises(BlackPicture, match=rf"owner/name \(.*{message}"):
        checked_pictures(made, pipe_of())
    if not flags:
        with pytest.raises(BlackPicture, match="float16.*bfloat16.*vae"):
            checked_pictures(made, pipe_of())


def overflow(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoencoder whose decoder overflows in one picture of a batch."""
    decode = pipe.vae.decode

    def damaged(latents: torch.Tensor, **more: Any) -> Any:
        out = decode(latents, **more)
        out[0][-1, :, 3:5] = float("nan")
        return out

    monkeypatch.setattr(pipe.vae, "decode", damaged)


def test_an_edit_that_overflows_stops_the_arm(setting, pipes, monkeypatch):  # noqa: F811
    settings, bank = setting
    overflow(pipes.inpaint, monkeypatch)
    with pytest.raises(BlackPicture, match="models/micro/inpaint.*not finite"):
        pipeline.edit_batch(pipes, [source(0)], [row(bank, 0, "red")], {}, bank, settings, 0)


def test_a_drawing_that_overflows_is_not_stored(monkeypatch):
    config = load_config("params/micro.yaml")
    pipe = sampling.load(config.models, CPU)
    overflow(pipe, monkeypatch)
    draw = config.datadream.model_copy(update={"steps": 1})
    with pytest.raises(BlackPicture, match="models/micro/datadream.*not finite"):
        sampling.draw(pipe, ["a photo of a alvera"], [1], draw)


@pytest.fixture
def flagging(tmp_path) -> str:
    """An InstructPix2Pix whose safety checker flags every picture, in the hub's layout."""
    folder = checkpoints.instruct(tmp_path / "instruct")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "projection_dim": 16}
    vision = small | {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=small, vision_config=vision, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(-2)  # below every cosine
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor(size=16, crop_size=16).save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["requires_safety_checker"] = True
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


def test_no_safety_checker_blackens_an_edit(flagging):
    """InstructPix2Pix brings one along; with it every picture here would be black."""
    from diffusers import DiffusionPipeline

    own = load_config("params/micro.yaml").edit.attributes["color"]
    own = own.model_copy(update={"steps": 2})
    picture = np.full((16, 16, 3), 200, np.uint8)

    def painted(pipe: Any) -> np.ndarray:
        noise = [torch.Generator().manual_seed(1)]
        return editors.EDITORS["instruct"].paint(pipe, [picture], ["make it red"], noise, own)[0]

    with pytest.raises(BlackPicture, match="safety checker"):
        painted(DiffusionPipeline.from_pretrained(flagging))
    models = ModelRoles(instruct=ModelSpec(path=flagging))
    pipe = loaders.load_pipeline(models, "instruct", CPU)
    assert pipe.safety_checker is None and painted(pipe).any()
