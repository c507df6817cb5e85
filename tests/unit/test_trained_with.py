"""A model that would not be built as its weights were trained is refused by name, without weights.

Every pair of open_clip's own table is tried, and every shipped parameter file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
from open_clip import pretrained

from tests.conftest import ROOT
from tests.unit.test_config import FILES
from varireal_utils.core.config import ParameterError, checked, load_config, merged
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.models import loaders, trained_with
from varireal_utils.models.timm_classifier import TimmClassifier
from varireal_utils.workflow import plan

MICRO = ROOT / "models/micro/clip"


def faults(**spec: str) -> list[str]:
    return trained_with.role_faults("clip", ModelSpec(**spec))


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def folder(tmp_path):
    """A function that copies the micro CLIP without its weights, with changes to its JSON."""

    def copy(name: str = "mine", **changes: dict) -> Path:
        out = tmp_path / name
        out.mkdir(parents=True)
        config = json.loads((MICRO / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"] |= changes.get("vision", {})
        config["model_cfg"]["text_cfg"] |= changes.get("text", {})
        config["preprocess_cfg"] |= changes.get("preprocess", {})
        (out / "open_clip_config.json").write_text(json.dumps(config))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (out / file).write_bytes((MICRO / file).read_bytes())
        return out

    return copy


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_shipped_file_builds_its_models_as_they_were_trained(path, at_root):
    config = load_config(path.relative_to(ROOT))
    assert config.models.clip is not None and trained_with.faults(config.models) == []


def test_openai_weights_have_their_own_activation_in_the_paper_size_files(at_root):
    clip = load_config("params/paper_oxford_pets.yaml").models.clip
    assert (clip.name, clip.weights) == ("ViT-B-16-quickgelu", "openai")


def test_every_pair_of_the_table_is_right_or_the_right_one_is_named():
    """The activation that open_clip only warns of; the model named instead has no fault."""
    refused = 0
    for name, tag in pretrained.list_pretrained():
        row = pretrained.get_pretrained_cfg(name, tag)
        config = open_clip.get_model_config(name)
        differs = bool(config.get("quick_gelu")) != bool(row.get("quick_gelu"))
        found = faults(name=name, weights=tag)
        assert bool(found) == (differs and name != "roberta-ViT-B-32"), (name, tag, found)
        if found:
            right = re.search(r"wanted the model '(.*)'", found[0])[1]
            assert "activation GELU, trained with QuickGELU" in found[0]
            assert right == f"{name}-quickgelu" and faults(name=right, weights=tag) == []
            refused += 1
    assert refused >= 25


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "ViT-B-16-quickgelu", "weights": "laion2b_s34b_b88k"},
            "activation QuickGELU, trained with GELU; wanted the model 'ViT-B-16'",
        ),
        ({"name": "ViT-B-16", "weights": "laion2b_s34b_b79k"}, "wanted the model 'ViT-B-32'"),
        ({"name": "ViT-B/16", "weights": "openai"}, "wanted the model 'ViT-B-16-quickgelu'"),
        (
            {"name": "ViT-L-14-336-quickgelu", "weights": "/x/ViT-L-14.pt"},
            "size 336, trained with 224; wanted the model 'ViT-L-14-quickgelu'",
        ),
        (
            {
                "name": "ViT-B-16",
                "weights": "/hub/models--timm--vit_base_patch16_clip_224.openai/snapshots/0/"
                "open_clip_model.safetensors",
            },
            "wanted the model 'ViT-B-16-quickgelu'",
        ),
        ({"name": "ViT-B-16", "weights": "open-ai"}, "did you mean 'openai'"),
        ({"name": "VIT-B-16", "weights": "openai"}, "did you mean 'ViT-B-16'"),
        ({"name": "hf-hub:timm/a", "weights": "openai"}, "open_clip ignores"),
    ],
)
def test_planted_mismatches_are_named_with_the_right_model(spec, message):
    (found,) = faults(**spec)
    key = found.removeprefix("models.clip.").partition(":")[0]
    assert repr(spec[key]) in found and message in found


def test_a_configuration_of_ones_own_is_held_against_the_table(tmp_path):
    """Named as open_clip's, it takes that model's place; positions of another size are only
    interpolated, and another tokenizer raises nothing."""
    config = open_clip.get_model_config("ViT-B-16-quickgelu")
    path = tmp_path / "ViT-B-16-quickgelu.json"
    path.write_text(json.dumps(config))
    given = {"name": "ViT-B-16-quickgelu", "config": str(path), "weights": "openai"}
    assert faults(**given) == []
    config["vision_cfg"]["image_size"] = 256
    config["text_cfg"]["hf_tokenizer_name"] = "roberta-base"
    path.write_text(json.dumps(config))
    (found,) = faults(**given)
    assert "size 256, trained with 224" in found and "tokenizer roberta-base" in found
    assert "wanted the model 'ViT-B-16-quickgelu'" in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"preprocess": {"mean": None}}, "lacks preprocess_cfg.mean"),
        ({"preprocess": {"size": 224}}, "preprocess_cfg.size 224 and vision_cfg.image_size 128"),
        ({"text": {"vocab_size": 49408}}, "vocab_size 49408.* has 507 tokens"),
        ({"text": {"hf_tokenizer_name": ""}}, "vocab_size 507, and open_clip's own tokenizer"),
    ],
)
def test_a_folders_configuration_agrees_with_itself(folder, changes, message):
    path = folder(**changes)
    for spec in (
        {"name": f"local-dir:{path}"},
        {"name": "mine", "config": str(path / "open_clip_config.json")},
    ):
        found = faults(**spec)
        assert bool(found) == bool(message) and (not message or re.search(message, found[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision": {"image_size": 256}}, "image_size 256, but .* trained with 128"),
        ({"text": {"context_length": 32}}, "context_length 32, but .* trained with 24"),
    ],
)
def test_shapes_of_local_weights_say_what_they_were_trained_with(folder, changes, message):
    path = folder(**changes)
    weights = path / "open_clip_model.safetensors"
    weights.symlink_to(MICRO / weights.name)
    assert re.search(message, faults(name=f"local-dir:{path}")[0])


def test_a_folder_of_known_weights_is_held_against_the_table(folder):
    path = folder("vit_base_patch16_clip_224.openai", text={"hf_tokenizer_name": "tokenizer"})
    (found,) = faults(name=f"local-dir:{path}")
    assert "mean (0.5, 0.5, 0.5), trained with (0.48145466" in found
    assert "size 128, trained with 224" in found and "'ViT-B-16-quickgelu'" in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", None),
        ("resnet50.a1_in1k", None),
        ("vit_base_patch16_clip_quickgelu_224.openai", None),
        ("vit_base_patch16_clip_224.openai", "'vit_base_patch16_clip_quickgelu_224.openai'"),
        ("resnet50.a1_in1", "did you mean 'a1_in1k'"),
        ("resnet-50", "did you mean 'resnet50'"),
        ("resnet10t_never", "did you mean"),
    ],
)
def test_timm(name, message):
    spec = ModelSpec(kind="timm", name=name, weights="pretrained")
    found = trained_with.role_faults("classifier", spec)
    assert bool(found) == bool(message) and (not message or message in found[0])


def test_timm_weights_beside_a_configuration_that_says_otherwise(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    spec = ModelSpec(kind="timm", name="resnet50.a1_in1k", weights=str(weights))
    own = {"mean": [0.485, 0.456, 0.406], "input_size": [3, 224, 224], "tag": "a1_in1k"}
    config = {"architecture": "resnet50", "pretrained_cfg": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert trained_with.role_faults("classifier", spec) == []
    own |= {"mean": [0.5, 0.5, 0.5], "tag": "inception"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (found,) = trained_with.role_faults("classifier", spec)
    assert "mean [0.485, 0.456, 0.406], trained with [0.5, 0.5, 0.5]" in found
    assert "resnet50.inception" in found


def test_loaders_and_plan_refuse_before_anything_is_loaded(at_root, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr("open_clip.create_model", never)
    monkeypatch.setattr("timm.create_model", never)
    wrong = {"name": "ViT-B-16", "weights": "openai"}
    with pytest.raises(ValueError, match="models.clip.name.*'ViT-B-16-quickgelu'"):
        loaders.load_clip(ModelSpec(**wrong))
    spec = ModelSpec(kind="timm", name="vit_base_patch16_clip_224.openai", weights="pretrained")
    with pytest.raises(ValueError, match="models.classifier.name.*quickgelu"):
        TimmClassifier(spec, ["a"], ["{class}"])
    values = merged("params/paper_oxford_pets.yaml")
    values["models"]["clip"] |= wrong
    with pytest.raises(ParameterError, match="(?s)pets: models.clip.name.*'ViT-B-16-quickgelu'"):
        plan.report(checked(values, "pets"))


def test_only_clip_and_timm_are_looked_at():
    other = ModelSpec(path="owner/name", name="ViT-B-16", weights="openai")
    assert trained_with.faults(ModelRoles(prior=other)) == []
    assert trained_with.faults(ModelRoles(verifier=other.model_copy(update={"kind": "vlm"}))) == []
    roles = SimpleNamespace(present=lambda: {"verifier": other, "clip": other})
    assert [f.split(".")[1] for f in trained_with.faults(roles)] == ["verifier", "clip"]
