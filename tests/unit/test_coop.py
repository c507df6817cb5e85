"""DataDream's data sets in CoOp's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varireal_utils.core.config import load_config
from varireal_utils.data import datasets, registry
from varireal_utils.data.image_record import DatasetError, Entry
from varireal_utils.data.sets import caltech101, dtd, eurosat, flowers102, food101, sun397

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = {
    module.DATA_SET.name: module.LAYOUT
    for module in (caltech101, dtd, eurosat, sun397, food101, flowers102)
}
CLASSES = ("pink_primrose", "a/b flower", ".")


def entries(settings: dict, skipped: list) -> list[Entry]:
    return registry.entries("it", registry.parse("it", settings), skipped)


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def layout(root, source):
    """Two pictures of each class in every split, all in folders of one name: paths tell them
    apart."""
    how = LAYOUTS[source]
    lists, number = {"train": [], "val": [], "test": []}, 0
    for split, rows in lists.items():
        for label, name in enumerate(CLASSES):
            for k in range(2):
                path = f"{split}/c{label}/image_{k}.jpg"
                picture(root / how.folder / how.pictures / path, number)
                rows.append([path, label, name])
                number += 1
    (root / how.folder / how.listed).write_text(json.dumps(lists))
    return root / how.folder


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("above", [True, False])
def test_every_line_is_an_image(tmp_path, source, above):
    folder = layout(tmp_path / "in", source)
    root = folder.parent if above else folder
    table, skipped = datasets.load("it", {"source": source, "root": root}, tmp_path / "study")
    assert skipped.empty and len(table) == 18
    assert table.groupby("split").size().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert set(table["class_name"]) == {"pink primrose", "a/b flower", "."}
    assert table["image_id"].is_unique and table.groupby("class_name")["label"].nunique().max() == 1


def test_bad_lines_and_missing_files_are_named(tmp_path):
    folder = layout(tmp_path, "flowers102")
    path = folder / "split_zhou_OxfordFlowers.json"
    lists = json.loads(path.read_text())
    lists["test"] += [["train/c0/image_0.jpg", 0, "pink_primrose"], ["x.jpg", "0", "y"]]
    path.write_text(json.dumps(lists))
    (folder / "jpg/val/c1/image_0.jpg").unlink()
    table, skipped = datasets.load(
        "it", {"source": "flowers102", "root": folder}, tmp_path / "study"
    )
    assert len(table) == 17
    assert sorted(skipped["file"]) == [
        "['x.jpg', '0', 'y']",
        "train/c0/image_0.jpg",
        "val/c1/image_0.jpg",
    ]
    path.unlink()
    with pytest.raises(DatasetError, match="put split_zhou_OxfordFlowers.json and the folder jpg"):
        entries({"source": "flowers102", "root": folder}, [])


def test_imagenet_tests_on_val_and_keeps_equal_names_apart(tmp_path):
    root = tmp_path / "imagenet"
    for part, count in (("train", 4), ("val", 2)):
        for synset in ("n01", "n02", "n03", "n99"):
            for k in range(count):
                picture(root / "images" / part / synset / f"{k}.JPEG", hash((part, synset, k)) % 99)
    (root / "classnames.txt").write_text("n01 crane\nn02 tench\nn03 crane\nalone\n")
    skipped = []
    found = entries({"source": "imagenet", "root": tmp_path}, skipped)
    assert {e.class_name for e in found} == {"crane", "tench", "crane n03"}
    assert {(e.split, e.image_id.split("/")[0]) for e in found} == {("", "train"), ("test", "val")}
    assert [s["file"] for s in skipped] == ["alone", "train/n99", "val/n99"]
    table, _ = datasets.load(
        "it", {"source": "imagenet", "root": root, "val_fraction": 0.25}, tmp_path / "study"
    )
    assert table.groupby("split").size().to_dict() == {"train": 9, "val": 3, "test": 6}


@pytest.mark.parametrize(
    "name",
    [
        "imagenet",
        "caltech101",
        "dtd",
        "eurosat",
        "fgvc_aircraft",
        "oxford_pets",
        "stanford_cars",
        "sun397",
        "food101",
        "flowers102",
    ],
)
def test_all_ten_have_a_parameter_file(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    got = load_config(f"params/datadream_{name}.yaml")
    (spec,) = got.datasets.values()
    registry.parse(name, spec)
    assert spec["source"] == name and "{class}" in got.classify.templates[0]
    assert got.classify.templates == [got.datadream.template]
    assert got.classify.lambda_real == 0.8 and got.classify.mix.probability == 0.2
