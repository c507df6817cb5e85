"""Typed settings: every shipped file, defaults, marks, digests, files that settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.conftest import ROOT, tiny_config, tiny_params
from varireal_utils.core.attributes import ATTRIBUTES, Attribute
from varireal_utils.core.config import (
    ParameterError,
    StudyConfig,
    checked,
    content,
    digest,
    load_config,
    written,
)
from varireal_utils.core.config_base import EXECUTION, Settings, flattened
from varireal_utils.core.config_sections import ModelSpec, PlanSettings

FILES = sorted(
    p
    for p in (ROOT / "params").glob("*.yaml")
    if p.stem
    not in (
        "paper",
        "datadream",
        "weekend",
    )
)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A tiny study's keys and values."""
    return tiny_params(tmp_path / "runs")


def sections(kind: type[Settings]) -> Iterator[type[Settings]]:
    """A class of settings and those inside it."""
    yield kind
    for field in kind.model_fields.values():
        for inner in _classes(field.annotation):
            yield from sections(inner)


def _classes(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _classes(inner)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_shipped_file_is_typed_and_written_out_again(path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(path.relative_to(ROOT))
    assert config.study == path.stem and config.file == f"params/{path.name}"
    assert Path(config.phrase_file).is_file()
    again = checked(written(config), config.file)  # with every default written out
    assert again == config and written(again) == written(config) and again.digest == config.digest


def test_the_digest_follows_what_a_result_can_depend_on(values: dict) -> None:
    base = checked(values, "f").digest
    same: list[dict] = [
        {"runs_dir": "elsewhere"},
        {"job_threads": 3, "gpus": 1, "trainings_per_gpu": 2},
        {"plan": {"tflops": 1.0, "source": "a"}},
        {
            "edit": values["edit"]
            | {"shards": 4, "processes": 2, "pool": 3, "reuse": "runs/x", "canvas": 0}
        },
        {"classify": values["classify"] | {"checkpoint_every": 7, "job": "recipe", "mix": None}},
        {"classify": values["classify"] | {"alpha": 4.0, "augment": {"flip": True}}},
        {"guidance": values["guidance"] | {"noun": "", "canny_low": 100.0}},
        {
            "models": values["models"]
            | {"clip": {"name": "local-dir:models/micro/clip", "licence": "MIT", "size_gb": 1}}
        },
        {"claims": values["claims"] | {"against": {}}},
        dict(reversed(values.items())),
    ]
    for change in same:
        assert checked(values | change, "f").digest == base, change
    other: list[dict] = [
        {"seed": 8},
        {"study": "b"},
        {"attributes": []},
        {"edit": values["edit"] | {"canvas": 64}},
        {"edit": values["edit"] | {"color": values["edit"]["color"] | {"alpha": 0.5}}},
        {"classify": values["classify"] | {"augment": {"flip": False}}},
        {
            "models": values["models"]
            | {"clip": {"name": "local-dir:models/micro/clip", "revision": "abc"}}
        },
        {"claims": values["claims"] | {"against": {"a": "runs/a"}}},
    ]
    digests = [checked(values | change, "f").digest for change in other]
    assert len({base, *digests}) == len(other) + 1
    one, several = ({"claims": values["claims"] | {"against": {"a": v}}} for v in ("x", ["x"]))
    assert checked(values | one, "f").digest == checked(values | several, "f").digest


def test_marked_fields_are_those_that_never_change_a_result() -> None:
    marked = {
        name
        for kind in sections(StudyConfig)
        for name, field in kind.model_fields.items()
        if EXECUTION in field.metadata
    }
    assert marked == {
        "runs_dir",
        "job_threads",
        "gpus",
        "trainings_per_gpu",
        "plan",
        "registration",
        "chain",
        "shards",
        "processes",
        "pool",
        "reuse",
        "job",
        "checkpoint_every",
        "licence",
        "vae_licence",
        "lora_licence",
        "size_gb",
        "tflop",
        "tflop_text",
        "api_key_env",
        "timeout",
        "retries",
        "price_input",
        "price_output",
    }
    named = {kind.__name__ for kind in sections(StudyConfig)}
    assert {
        "ModelSpec",
        "AttributeEdit",
        "EditStep",
        "MixSettings",
        "Endpoint",
        "LocalModel",
        "AugmentSettings",
        "ClaimSettings",
    } <= named


def test_every_field_of_every_section_is_in_the_content() -> None:
    told: set[str] = set()
    for name in ("custom_llm", "micro_full", "datadream_dtd", "registered_parts"):
        for key in flattened(content(load_config(ROOT / f"params/{name}.yaml"))):
            told |= set(key.split("."))
    for kind in sections(StudyConfig):
        for name, field in kind.model_fields.items():
            if EXECUTION not in field.metadata and kind is not PlanSettings:
                assert name in told or field.alias, (kind.__name__, name)


def test_settings_are_read_only_and_of_their_types(values: dict) -> None:
    config = checked(values, "f")
    assert config.classify.alpha == 4.0 and isinstance(config.classify.alpha, float)
    assert config.classify.augment.scale_min == 0.25 and config.edit.canvas == 0
    assert config.models.get("clip") == config.models.clip and config.models.get("prior") is None
    assert list(config.models.present()) == ["inpaint", "clip", "verifier"]
    with pytest.raises(ValidationError):
        config.classify.lr = 1.0
    with pytest.raises(AttributeError):
        _ = config.classify.learning_rate


def test_an_arm_has_its_own_settings_over_its_attribute(values: dict) -> None:
    color = values["edit"]["color"] | {"alpha": 0.5, "arms": {"infeasible": {"alpha": 0.9}}}
    with pytest.raises(ParameterError, match="edit.color.arms: arms with settings of their own"):
        checked(values | {"edit": values["edit"] | {"color": color}}, "f")
    config = checked(
        values | {"protocol": "faithful", "edit": values["edit"] | {"color": color}}, "f"
    )
    own = config.edit.attributes["color"]
    assert (own.of_arm().alpha, own.of_arm("feasible").alpha, own.of_arm("infeasible").alpha) == (
        0.5,
        0.5,
        0.9,
    )
    assert own.of_arm("infeasible").strength == 0.8 and own.own_arms()


def test_a_new_attribute_needs_no_new_field(values: dict, monkeypatch) -> None:
    pose = Attribute("pose", "pose", "object", "surface", "how the object stands")
    monkeypatch.setitem(ATTRIBUTES, "pose", pose)
    own = values["edit"]["color"] | {"steps": 3, "prior_steps": 2, "prior_guidance_scale": 1}
    edit = values["edit"] | {"pose": own}
    config = checked(values | {"edit": edit, "attributes": ["color", "pose"]}, "f")
    assert config.edit.attributes["pose"].steps == 3
    assert flattened(content(config))["edit.pose.steps"] == 3
    monkeypatch.delitem(ATTRIBUTES, "pose")
    with pytest.raises(ParameterError, match="unknown key 'edit.pose'"):
        checked(values | {"edit": edit}, "f")
    with pytest.raises(ParameterError, match="'pose' is not registered"):
        checked(values | {"edit": edit, "attributes": ["pose"]}, "f")


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"edit__color": {"steps": 1, "guidance_scale": 1}}, "edit.color.strength"),
        ({"edit__color": {"steps": 1, "guidance_scale": 1, "strength": 1}}, "edit.color.alpha"),
        ({"edit__color__refine_steps": 2}, "edit.color.refine_strength"),
        (
            {
                "attributes": ["texture"],
                "edit__texture": {"steps": 1, "guidance_scale": 1, "strength": 1},
            },
            "edit.texture.prior_steps",
        ),
        (
            {
                "attributes": ["background"],
                "edit__background": {
                    "steps": 1,
                    "guidance_scale": 1,
                    "strength": 1,
                    "prior_steps": 1,
                    "prior_guidance_scale": 1,
                },
            },
            "edit.background.dilate",
        ),
    ],
)
def test_settings_that_an_edit_needs_have_no_silent_default(change: dict, missing: str) -> None:
    with pytest.raises(ParameterError, match=f"{missing} is missing; add it"):
        tiny_config(Path("runs"), **change)
    tiny_config(Path("runs"), **change, edit__editor="img2img")  # it has no prior of that kind


def test_an_appearance_needs_its_weight() -> None:
    change = {
        "edit__color__refine_steps": 2,
        "edit__color__refine_strength": 0.5,
        "edit__color__refine_guidance_scale": 2,
        "edit__color__controlnet_scale": 0.5,
    }
    tiny_config(Path("runs"), **change)
    with pytest.raises(ParameterError, match="edit.color.ip_scale is missing"):
        tiny_config(Path("runs"), **change, models__ip_adapter={"path": "x/y"})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("a key in the url", {"url": "https://words.example/v1?api_key=secret"}),
        ("a key for its variable", {"api_key_env": "secret-1"}),
        ("a number for a variable", {"api_key_env": 5550123}),
        ("a block that is none", {"judge": [{"api_key": "secret"}]}),
    ],
)
def test_a_secret_is_not_shown_by_any_error(values: dict, kind: str, change: dict) -> None:
    model = {"kind": "endpoint", "url": "https://words.example/v1", "name": "m"}
    prompts = {
        "source": "llm",
        "base": "b",
        "subject": "s",
        "counts": {"color": 1},
        "model": model | {k: v for k, v in change.items() if k != "judge"},
    }
    prompts |= {k: v for k, v in change.items() if k == "judge"}
    with pytest.raises(ParameterError) as error:
        checked(values | {"prompts": prompts}, "f")
    shown = f"{error.value} {error.value.__cause__} {error.value.__context__}"
    assert "secret" not in shown and "5550123" not in shown


def test_files_that_settings_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "m/unet/model.safetensors",
        "m/config.json",
        "m/README.md",
        "m/.cache/x",
        "vae/w.safetensors",
        "w.safetensors",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    spec = ModelSpec(path="./m", vae="vae", weights="w.safetensors", config="openai")
    assert [p.as_posix() for p in spec.source_files()] == [
        "m/config.json",
        "m/unet/model.safetensors",
        "vae/w.safetensors",
        "w.safetensors",
    ]
    assert ModelSpec(path="owner/name", weights="openai").source_files() == []
    assert [p.as_posix() for p in ModelSpec(name="local-dir:m").source_files()] == [
        "m/config.json",
        "m/unet/model.safetensors",
    ]


def test_comments_and_order_change_no_digest(tmp_path: Path, values: dict) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(values))
    before = load_config(file)
    file.write_text("# said\n" + yaml.safe_dump(dict(reversed(values.items())), sort_keys=False))
    assert load_config(file).digest == before.digest == digest(before)
    assert load_config(file, {"seed": 8}).digest != before.digest
