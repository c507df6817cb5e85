"""The registry of data sets: one entry for each, and what a table depends on."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from microworld.feasibility import FAMILIES, SIZE
from varireal_utils.core.config_file import read
from varireal_utils.data import registry
from varireal_utils.data.data_set import DataSet, PhotographSpec
from varireal_utils.data.image_record import Entry

ROOT = Path(__file__).resolve().parents[2]
PAPER = [d for d in registry.DATA_SETS.values() if d.paper]


@pytest.mark.parametrize("data_set", registry.DATA_SETS.values(), ids=lambda d: d.name)
def test_every_entry_is_whole(data_set: DataSet) -> None:
    assert (data_set.read is None) != (data_set.draw is None)
    assert data_set.about and (data_set.layout is None or data_set.layout.name == data_set.name)
    assert bool(data_set.owner) == bool(data_set.terms)
    if data_set.layout:
        assert data_set.classes and len(data_set.images) == 3 and data_set.layout.archives
    if data_set.phrases:
        assert (ROOT / data_set.phrases).is_file()


@pytest.mark.parametrize("data_set", PAPER, ids=lambda d: d.name)
def test_the_papers_phrases_and_words_are_those_of_the_shipped_files(data_set: DataSet) -> None:
    bank = yaml.safe_load((ROOT / data_set.phrases).read_text(encoding="utf-8"))
    assert len(bank["families"][data_set.name]["color"]["classes"]) == data_set.classes
    values = read(ROOT / f"params/paper_{data_set.name}.yaml")
    assert values["prompts"] == data_set.phrases and values["guidance"]["noun"] == data_set.noun
    for kind in ("paper", "datadream"):
        template = read(ROOT / f"params/{kind}_{data_set.name}.yaml")["classify"]["templates"][0]
        assert template == f"a {data_set.noun} photo of a {{class}}"


def test_sizes_are_those_of_the_lists_the_limits_and_the_world() -> None:
    def sizes(**settings):
        spec = registry.parse("it", settings)
        return spec.sizes(registry.DATA_SETS[spec.source])

    assert sizes(source="oxford_pets", root="x") == (
        {"train": 2944, "val": 736, "test": 3669},
        37,
        "the official lists",
    )
    limits = {"train_per_class": 2, "limit_per_class": 5}
    assert sizes(source="waterbirds", root="x", **limits)[0] == {"train": 4, "val": 10, "test": 10}
    assert sizes(source="oxford_pets", root="x", split="some.csv") is None
    assert sizes(source="imagefolder", root="x") is None
    counts = {"train_per_class": 3, "val_per_class": 0, "test_per_class": 1}
    world = registry.parse("it", {"source": "world", "family": "pets", **counts})
    assert world.sizes(registry.DATA_SETS["world"])[:2] == ({"train": 24, "val": 0, "test": 8}, 8)
    assert world.pixels() == SIZE**2 and world.phrase_family("micro_pets") == "pets"
    assert set(registry.DATA_SETS["world"].titles) == {f"micro_{family}" for family in FAMILIES}


def test_a_default_written_out_and_a_typed_spec_are_the_same_settings() -> None:
    short = registry.parse("it", {"source": "csv", "path": Path("a.csv")})
    full = {"max_size": 1024, "side": "longest", "val_fraction": 0.2, "train_per_class": None}
    assert registry.parse("it", {"source": "csv", "path": "a.csv", **full}) == short
    assert registry.parse("it", short) is short


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_source_files_are_photographs_masks_and_lists(tmp_path: Path) -> None:
    for name in ("in/cat/a.png", "in/cat/b.png", "in/dog/a.png", "masks/cat/a.png", "in/lost.png"):
        picture(tmp_path / name, len(name))
    (tmp_path / "in/cat/.DS_Store").write_text("x")
    folder = {"source": "imagefolder", "root": str(tmp_path / "in"), "masks": f"{tmp_path}/masks"}

    def files(settings: dict) -> list[str]:
        found = registry.source_files("it", registry.parse("it", settings))
        return [p.relative_to(tmp_path).as_posix() for p in found]

    photographs = ["in/cat/a.png", "in/cat/b.png", "in/dog/a.png", "in/lost.png"]
    assert files(folder) == [*photographs, "masks/cat/a.png"]
    (tmp_path / "list.csv").write_text("path,label,mask\nin/cat/a.png,cat,masks/cat/a.png\n")
    assert files({"source": "csv", "path": str(tmp_path / "list.csv")}) == [
        "in/cat/a.png",
        "list.csv",
        "masks/cat/a.png",
    ]
    (tmp_path / "split.csv").write_text("split,filename\ntrain,a_1.jpg\n")
    pets = tmp_path / "pets"
    for name in ("trainval", "test"):
        (pets / "annotations").mkdir(parents=True, exist_ok=True)
        (pets / f"annotations/{name}.txt").write_text("a_1 1 1 1\nb_1 2 1 1\n")
    picture(pets / "images/a_1.jpg", 1)
    picture(pets / "archives/old.jpg", 1)
    settings = {"source": "oxford_pets", "root": str(pets), "split": str(tmp_path / "split.csv")}
    assert files(settings) == [
        "pets/annotations/test.txt",
        "pets/annotations/trainval.txt",
        "pets/images/a_1.jpg",
        "split.csv",
    ]


def test_a_source_that_is_not_there_yet_or_is_drawn_has_no_files(tmp_path: Path) -> None:
    counts = {"train_per_class": 1, "val_per_class": 1, "test_per_class": 1}
    for settings in (
        {"source": "oxford_pets", "root": str(tmp_path / "none"), "download": True},
        {"source": "waterbirds", "root": "hf://who/birds"},
        {"source": "imagefolder", "root": str(tmp_path / "none")},
        {"source": "world", "family": "cars", **counts},
    ):
        assert registry.source_files("it", registry.parse("it", settings)) == []


def test_a_data_set_of_ones_own_is_an_entry(monkeypatch, tmp_path: Path) -> None:
    from varireal_utils.data import datasets

    class Spec(PhotographSpec):
        root: str

    def read_flat(name, spec, skipped):
        for file in sorted(Path(spec.root).iterdir()):
            yield Entry(file.name, file, file.stem.split("_")[0])

    for i in range(6):
        picture(tmp_path / f"in/{('cat', 'dog')[i % 2]}_{i}.png", i)
    entry = DataSet(name="flat", about="class_number.png", spec=Spec, read=read_flat)
    monkeypatch.setitem(registry.DATA_SETS, "flat", entry)
    table, skipped = datasets.load("it", {"source": "flat", "root": f"{tmp_path}/in"}, tmp_path)
    assert skipped.empty and table.groupby("class_name").size().to_dict() == {"cat": 3, "dog": 3}
    with pytest.raises(registry.DatasetError, match="it.rot: source flat knows no such key; did"):
        registry.parse("it", {"source": "flat", "rot": "x"})
