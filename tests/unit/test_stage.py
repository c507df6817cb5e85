"""Keys of stages: they change with what a result depends on, and say what changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Self

import pytest

from tests.conftest import tiny_config
from varireal_utils.core import stage as stages
from varireal_utils.core.config import StudyConfig
from varireal_utils.core.config_base import SOURCE_FILE
from varireal_utils.core.config_editing import AttributeEdit
from varireal_utils.core.config_sections import ClassifySettings, ModelSpec
from varireal_utils.core.stage import Key, SourceDigests, StageSettings


class Toy(StageSettings):
    """A stage that reads one attribute's settings, the trainings', a model and a file."""

    attribute: AttributeEdit
    classify: ClassifySettings
    clip: ModelSpec | None
    phrases: Annotated[str, SOURCE_FILE]

    @classmethod
    def of(cls, config: StudyConfig, **target: str) -> Self:
        return cls(
            attribute=config.edit.attributes[target["attribute"]],
            classify=config.classify,
            clip=config.models.clip,
            phrases=config.phrase_file,
        )


class Table(Toy):
    """The same without networks."""

    computes = False


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model, phrases and a notebook, all older than a day."""
    monkeypatch.chdir(tmp_path)
    cell = {"cell_type": "code", "source": ["1"], "metadata": {}, "outputs": []}
    for name, text in {
        "clip/model.safetensors": "w",
        "clip/config.json": "{}",
        "phrases.yaml": "a: 1",
        "n.ipynb": json.dumps({"cells": [cell]}),
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        write(name, text)
    return tmp_path


def write(name: str, text: str, age: float = 86400.0) -> None:
    """Write a file as if `age` seconds ago."""
    path = Path(name)
    path.write_text(text)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


def key(kind: type[StageSettings] = Toy, **changes: object) -> Key:
    """The key of the tiny study's toy stage; changes: dotted with __."""
    own = {"prompts": "phrases.yaml", "models__clip": {"path": "./clip"}}
    config = tiny_config(Path("runs"), **own | changes)
    digests = SourceDigests(Path("runs/.digests.json"))
    return Key.of(kind.of(config, attribute="color"), config, Path("n.ipynb"), digests)


def test_a_key_holds_settings_sources_notebook_and_machine(home: Path) -> None:
    got = key()
    assert got.settings["classify.lr"] == 1.0e-3 and got.settings["attribute.strength"] == 0.8
    assert "classify.processes" not in got.settings and "seed" not in got.settings
    assert list(got.sources) == ["clip/config.json", "clip/model.safetensors", "phrases.yaml"]
    assert (got.precision, got.device) == ("float32", "cpu") and len(got.notebook) == 64
    assert (key(Table).precision, key(Table).device) == ("", "")
    assert Key.from_record(json.loads(json.dumps(got.record()))) == got
    assert Key.from_record({"settings": {}}) is None and Key.from_record(None) is None
    assert key() == got and key().digest == got.digest and got.changes(got) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"classify__lr": 0.002}, "classify.lr: 0.001 -> 0.002"),
        ({"edit__color__alpha": 0.5}, "attribute.alpha: 1.0 -> 0.5"),
        ({"classify__augment": {"flip": False}}, "classify.augment.flip: True -> False"),
        ({"classify__templates": ["b"]}, "classify.templates: ['a {class}'] -> ['b']"),
        (
            {"models__clip": {"path": "./clip", "dtype": "float16"}},
            "clip.dtype: float32 -> float16",
        ),
        ({"precision": "bfloat16"}, "precision: float32 -> bfloat16"),
        ({"device": "cuda"}, "device: cpu -> cuda"),
    ],
)
def test_a_changed_setting_is_named(home: Path, change: dict, line: str) -> None:
    assert key(**change).changes(key()) == [line] and key(**change).digest != key().digest


@pytest.mark.parametrize(
    "change",
    [
        {"classify__processes": 2},
        {"classify__checkpoint_every": 9},
        {"runs_dir": "elsewhere"},
        {"job_threads": 4},
        {"seed": 9},
        {"edit__batch_size": 9},
        {"classify__patience": None},
        {"models__clip": {"path": "./clip", "licence": "MIT", "tflop": 1}},
    ],
)
def test_what_the_slice_does_not_hold_changes_nothing(home: Path, change: dict) -> None:
    assert key(**change) == key()


def test_a_setting_without_a_counterpart_is_named(home: Path) -> None:
    mixed = key(classify__mix={"probability": 0.2})
    assert mixed.changes(key()) == [
        "classify.mix: None -> (none)",
        "classify.mix.cutmix_alpha: (none) -> 1.0",
        "classify.mix.mixup_alpha: (none) -> 0.8",
        "classify.mix.probability: (none) -> 0.2",
    ]


def test_a_changed_source_is_named(home: Path) -> None:
    old = key()
    write("clip/model.safetensors", "v")
    write("clip/vocabulary.txt", "a")
    Path("clip/config.json").unlink()
    assert key().changes(old) == [
        "source clip/config.json: removed",
        "source clip/model.safetensors: changed",
        "source clip/vocabulary.txt: added",
    ]
    Path("phrases.yaml").unlink()
    assert "source phrases.yaml: removed" in key().changes(old)


def test_a_notebook_counts_by_its_cells(home: Path) -> None:
    old, book = key(), json.loads(Path("n.ipynb").read_text())
    book["cells"][0]["outputs"] = [{"output_type": "stream", "text": "1"}]
    write("n.ipynb", json.dumps(book, indent=1))
    assert key() == old
    book["cells"][0]["source"] = ["2"]
    write("n.ipynb", json.dumps(book))
    assert key().changes(old) == ["notebook changed"]


def test_digests_are_read_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    whole = stages.storage.sha256_file
    monkeypatch.setattr(
        stages.storage, "sha256_file", lambda p: asked.append(Path(p).name) or whole(p)
    )
    first = key()
    assert sorted(asked) == ["config.json", "model.safetensors", "phrases.yaml"]
    asked.clear()
    assert key() == first and asked == []
    write("phrases.yaml", "a: 2")
    assert key() != first and asked == ["phrases.yaml"]
    asked.clear()
    write("phrases.yaml", "a: 3", age=0)  # so new that its time may hide a second change
    changed = key()
    assert key() == changed and asked == ["phrases.yaml", "phrases.yaml"]
    write("phrases.yaml", "a: 4", age=0)
    assert key() != changed


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 3}', "\x00"])
def test_a_broken_cache_costs_time_alone(home: Path, text: str) -> None:
    right = key()
    Path("runs/.digests.json").write_text(text)
    assert key() == right and key() == right


def test_two_processes_keep_what_the_other_found(home: Path) -> None:
    one, two = (SourceDigests(Path("runs/.digests.json")) for _ in range(2))
    one.of([Path("phrases.yaml")])
    two.of([Path("clip/config.json")])
    kept = json.loads(Path("runs/.digests.json").read_text())
    assert {Path(p).name for p in kept} == {"phrases.yaml", "config.json"}
