"""Exports: every image once, with its bytes and facts, whatever things are called."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests import study_folder
from tests.conftest import ROOT, tiny_config
from varireal_utils.core import storage
from varireal_utils.reporting import export
from varireal_utils.workflow import expected


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return study_folder.make(tmp_path / "runs/mine")


def test_imagefolder_has_every_image_once_and_equal_columns(study: Path, tmp_path: Path) -> None:
    assert export.export(study, "imagefolder", tmp_path / "out") == 14
    seen, columns = [], set()
    for meta in sorted((tmp_path / "out").glob("*/metadata.jsonl")):
        for line in meta.read_text().splitlines():
            row = json.loads(line)
            columns.add(tuple((k, type(v)) for k, v in row.items()))
            file = meta.parent / row["file_name"]
            assert file.resolve().is_relative_to(meta.parent.resolve())
            assert storage.sha256_file(file) == row["sha256"]
            assert row["class_name"] == study_folder.CLASSES[row["label"]]
            seen.append(file)
    assert len(columns) == 1  # `datasets` refuses splits whose columns differ
    assert len(set(seen)) == 14 == len(list((tmp_path / "out").rglob("*.png")))
    lines = (tmp_path / "out/train/metadata.jsonl").read_text()
    assert str(2**62 + 3) in lines and '"accepted": "True"' in lines
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "out"}


def test_webdataset_shards_hold_samples_whole_and_twice_the_same(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SHARD", 500)
    for out in ("a", "b"):
        assert export.export(study, "webdataset", tmp_path / out) == 14
    shards = sorted((tmp_path / "a").iterdir())
    assert len(shards) > 4
    keys: dict[str, set[str]] = {}
    columns = set()
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "b" / shard.name).read_bytes()
        with tarfile.open(shard) as file:
            for entry in file:
                key, _, ending = entry.name.partition(".")
                keys.setdefault(key, set()).add(ending)
                if ending == "json":
                    facts = json.load(file.extractfile(entry))
                    assert int(facts["seed"] or 2**62) >= 2**62 and "nan" not in str(facts).lower()
                    columns.add(tuple((k, type(v)) for k, v in facts.items()))
    assert len(columns) == 1  # `datasets` takes those of the first rows, photographs, for all
    assert len(keys) == 14 and all(v == {"png", "cls", "json"} for v in keys.values())
    assert not [k for k in keys if "/" in k]


def test_adapters_go_with_a_card(study: Path, tmp_path: Path) -> None:
    assert export.export(study, "adapters", tmp_path / "out") == 1
    card = next((tmp_path / "out").rglob("README.md")).read_text()
    assert card.startswith("---\nlibrary_name: peft\n")  # no base model that the hub would refuse
    assert "| top-1 on 1 test photographs | 0.5000 |" in card and "not measured" in card


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("openai/clip-vit-base-patch16", "base_model: openai/clip-vit-base-patch16\n"),
        ("hf-hub:laion/CLIP-ViT-B-16", "base_model: laion/CLIP-ViT-B-16\n"),
        ("local-dir:models/micro/clip", ""),
        ("/home/me/clip", ""),
        ("models/micro", ""),  # a folder here
        (None, ""),
    ],
)
def test_a_card_names_a_base_model_of_the_hub_or_none(
    study: Path, tmp_path: Path, monkeypatch, base: str | None, line: str
) -> None:
    monkeypatch.chdir(ROOT)
    config = next(study.rglob("adapter_config.json"))
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": base})
    )
    export.export(study, "adapters", tmp_path / "out")
    card = next((tmp_path / "out").rglob("README.md")).read_text()
    assert card.startswith(f"---\n{line}library_name: peft\n")


@pytest.mark.parametrize("kind", ["imagefolder", "webdataset", "adapters"])
def test_what_the_configuration_does_not_name_is_not_exported(
    study: Path, tmp_path: Path, kind: str
) -> None:
    """Attributes, recipes and data sets taken out of the file leave their files behind."""
    slug = storage.slug("Mine / yours")
    config = tiny_config(
        tmp_path / "runs",
        study="mine",
        attributes=[],
        datasets={"Mine / yours": {"source": "imagefolder", "root": "x"}},
    )
    assert config.paths.root == study
    if kind == "adapters":
        assert export.export(study, kind, tmp_path / "out", expected.folders(config)) == 1
        other = tiny_config(tmp_path / "runs", study="mine", classify__recipes=["zero_shot"])
        with pytest.raises(export.ExportError, match="no adapter in it"):
            export.export(study, kind, tmp_path / "none", expected.folders(other))
        return
    assert export.export(study, kind, tmp_path / "out", expected.folders(config)) == 6
    config = tiny_config(
        tmp_path / "runs",
        study="mine",
        datasets=config.datasets,
        classify__recipes=["edit(color,feasible)"],
    )
    assert f"edits/{slug}/color/feasible" in expected.folders(config)
    assert export.export(study, kind, tmp_path / "both", expected.folders(config)) == 14


@pytest.mark.parametrize("kind", ["imagefolder", "webdataset"])
def test_a_changed_or_missing_image_ends_the_export_and_leaves_nothing(
    study: Path, tmp_path: Path, kind: str
) -> None:
    picture = next((study / "edits").rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(export.ExportError, match="not the image that its table names"):
        export.export(study, kind, tmp_path / "out")
    picture.unlink()
    with pytest.raises(export.ExportError, match="not there; run its stage again"):
        export.export(study, kind, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}


def test_what_cannot_be_exported_is_said(study: Path, tmp_path: Path) -> None:
    with pytest.raises(export.ExportError, match="run the study first"):
        export.export(tmp_path, "imagefolder", tmp_path / "out")
    with pytest.raises(export.ExportError, match="exists already"):
        export.export(study, "imagefolder", study)
    with pytest.raises(export.ExportError, match="is no format"):
        export.export(study, "zip", tmp_path / "out")
