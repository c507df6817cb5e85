"""Loaders at the level of their arguments: pinned commits, bits, offloading, a few-step LoRA."""

import importlib.metadata
import importlib.util

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
import transformers

from tests import checkpoints
from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.models import loaders, quantize, timm_classifier

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folder of tiny checkpoints: inpaint, base, controlnet, ip_adapter, and a LoRA of inpaint."""
    folder = tmp_path_factory.mktemp("weights")
    checkpoints.sdxl_inpaint(folder / "inpaint")
    checkpoints.sdxl_refiner(folder / "refine")
    checkpoints.autoencoder().save_pretrained(folder / "vae", safe_serialization=True)
    checkpoints.lora(folder / "inpaint", folder / "lora")
    return folder


def test_a_revision_reaches_every_call_that_reads_the_hub(weights, monkeypatch):
    """Each part of each role is asked for at its own commit."""
    asked = []

    def recorded(own, name):
        def call(cls, path, *args, **more):
            asked.append((name, str(path), more.pop("revision", None)))
            return own.__func__(cls, path, *args, **more)

        return classmethod(call)

    for kind in (
        diffusers.DiffusionPipeline,
        diffusers.AutoPipelineForInpainting,
        diffusers.ControlNetModel,
        diffusers.AutoencoderKL,
        transformers.CLIPVisionModelWithProjection,
    ):
        monkeypatch.setattr(kind, "from_pretrained", recorded(kind.from_pretrained, kind.__name__))
    for kind in (
        diffusers.StableDiffusionXLInpaintPipeline,
        diffusers.StableDiffusionXLControlNetInpaintPipeline,
    ):
        for method in ("load_lora_weights", "load_ip_adapter"):
            own = getattr(kind, method)

            def call(pipe, path, *args, own=own, method=method, **more):
                asked.append((method, str(path), more.pop("revision", None)))
                return own(pipe, path, *args, **more)

            monkeypatch.setattr(kind, method, call)
    vae, home = {"vae": str(weights / "vae"), "vae_revision": "v"}, weights / "refine"
    models = ModelRoles(
        inpaint=ModelSpec(
            path=str(weights / "inpaint"),
            revision="i",
            lora=str(weights / "lora"),
            lora_revision="l",
            **vae,
        ),
        refine=ModelSpec(path=str(home / "base"), revision="r", **vae),
        controlnet=ModelSpec(path=str(home / "controlnet"), revision="c"),
        ip_adapter=ModelSpec(
            path=str(home / "ip_adapter"), weight_name="adapter.safetensors", revision="a"
        ),
    )
    loaders.load_pipeline(models, "inpaint", CPU)
    loaders.load_refiner(models, None, CPU)
    own = [a for a in asked if a[1].startswith(str(weights))]
    assert [(name, revision) for name, _, revision in own if revision] == [
        ("AutoencoderKL", "v"),
        ("DiffusionPipeline", "i"),
        ("load_lora_weights", "l"),
        ("ControlNetModel", "c"),
        ("AutoencoderKL", "v"),
        ("AutoPipelineForInpainting", "r"),
        ("CLIPVisionModelWithProjection", "a"),
        ("load_ip_adapter", "a"),
    ]


def test_a_transformers_model_and_a_clip_are_read_at_their_commits(monkeypatch):
    asked = []

    class Loaded(Exception):
        pass

    def stopped(path, **more):
        asked.append((path, more.get("revision")))
        if len(asked) % 2 == 0:
            raise Loaded
        return None

    for kind in (transformers.AutoProcessor, transformers.AutoModelForImageTextToText):
        monkeypatch.setattr(kind, "from_pretrained", stopped)
    models = ModelRoles(verifier=ModelSpec(kind="vlm", path="owner/vlm", revision="abc"))
    with pytest.raises(Loaded):
        loaders.load_vlm(models, CPU)
    assert asked == [("owner/vlm", "abc")] * 2
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *of, revision: "/".join((*of, revision))
    )
    spec = ModelSpec(name="ViT-B-16-quickgelu", weights="openai")
    assert loaders._weights_file(spec) == "openai"
    repository = "timm/vit_base_patch16_clip_224.openai"
    assert loaders.clip_repository(spec) == (repository, "open_clip_model.safetensors")
    pinned = spec.model_copy(update={"revision": "abc"})
    assert loaders._weights_file(pinned) == f"{repository}/open_clip_model.safetensors/abc"


def test_models_of_the_hub_by_name_are_read_at_their_commits(monkeypatch):
    """open_clip's hf-hub: names and timm's own weights, for which neither takes a revision."""
    asked = []

    def local(repository, revision, allow_patterns):
        asked.append((repository, revision))
        return "models/micro/clip"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", local)
    loaders.load_clip(ModelSpec(name="hf-hub:owner/clip", revision="abc"))
    assert asked == [("owner/clip", "abc")]
    pinned = ModelSpec(kind="timm", name="resnet18", weights="pretrained", revision="abc")
    at = timm_classifier._at_commit(pinned)
    assert at == {"hf_hub_id": f"{loaders.timm_repository(pinned)}@abc"}
    made = {}

    class Made(Exception):
        pass

    def create(name, **more):
        made.update(more)
        raise Made

    monkeypatch.setattr(timm_classifier.timm, "create_model", create)
    for spec, overlay in ((pinned, at), (pinned.model_copy(update={"revision": ""}), {})):
        with pytest.raises(Made):
            timm_classifier.TimmClassifier(spec, ["a"], ["{class}"])
        assert made["pretrained_cfg_overlay"] == overlay


def test_a_lora_changes_the_weights_and_leaves_no_adapter(weights):
    spec = ModelSpec(path=str(weights / "inpaint"), lora=str(weights / "lora"))
    plain = ModelSpec(path=str(weights / "inpaint"))
    fast, slow = (
        loaders.load_pipeline(ModelRoles(inpaint=s), "inpaint", CPU) for s in (spec, plain)
    )
    assert dict(fast.unet.named_parameters()).keys() == dict(slow.unet.named_parameters()).keys()
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    a, b = (p.unet.get_parameter(name) for p in (fast, slow))
    assert not torch.allclose(a, b)
    conv = (p.unet.conv_in.weight for p in (fast, slow))
    assert torch.equal(*conv)  # nine channels, which a LoRA of the base does not know


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_bits_are_asked_for_as_both_libraries_take_them(monkeypatch, bits):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    real = importlib.metadata.version
    versions = {"bitsandbytes": "0.49.0"}  # which is not installed here
    monkeypatch.setattr(importlib.metadata, "version", lambda n: versions.get(n) or real(n))
    spec = ModelSpec(path="x/y", quantization=bits)
    with pytest.raises(ValueError, match=f"models.inpaint.quantization: {bits} needs a CUDA"):
        quantize.of_pipeline("inpaint", spec, torch.float16, CPU)
    given = quantize.options(spec, torch.bfloat16)
    assert given[f"load_in_{bits}"] is True
    assert (given.get("bnb_4bit_compute_dtype") == torch.bfloat16) == (bits == "4bit")
    none = ModelSpec(path="x/y")
    for of in (quantize.of_pipeline, quantize.of_network, quantize.of_transformers):
        assert of("refine", none, torch.float16, CPU) == {}
    transformers.BitsAndBytesConfig(**given), diffusers.BitsAndBytesConfig(**given)
    made = quantize.of_pipeline("inpaint", spec, torch.float16, CUDA)["quantization_config"]
    assert "unet" in made.components_to_quantize


def test_bits_and_loras_are_refused_where_a_role_cannot_have_them():
    base = "params/paper_oxford_pets.yaml"
    with pytest.raises(ParameterError, match="models.clip.quantization: got '4bit', wanted 'none'"):
        load_config(base, {"models.clip.quantization": "4bit"})
    with pytest.raises(ParameterError, match="models.clip.lora: got 'x/y', wanted nothing"):
        load_config(base, {"models.clip.lora": "x/y"})
    found = load_config(base, {"models.verifier.quantization": "4bit"})
    assert found.models.verifier.quantization == "4bit"


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_an_offloaded_verifier_gives_the_same_answers(tmp_path, offload):
    from tests import tiny_vision_models
    from varireal_utils.verification.vlm_asker import VlmAsker

    folder = tiny_vision_models.llava(tmp_path / "vlm")
    image = np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)
    answers = []
    for how in ("none", offload):
        spec = ModelSpec(kind="vlm", path=str(folder), offload=how)
        loaded = loaders.load_vlm(ModelRoles(verifier=spec), CPU)
        answers.append(VlmAsker(loaded, 48, CPU)([image], [["Is this a cat?"]])[0][0])
    assert np.isclose(answers[0].p, answers[1].p) and 0 < answers[0].p < 1
    hooked = [m for m in loaded[0].modules() if hasattr(m, "_hf_hook")]
    assert hooked
