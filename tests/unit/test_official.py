"""The papers' data sets: every line of the official lists, and the traps in them."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from varireal_utils.core import storage
from varireal_utils.data import datasets, registry
from varireal_utils.data.image_record import DatasetError, Entry

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VARIREAL_SHARED", ROOT.parent / "shared")) / "data"


def needs(folder: str):
    """The test runs where the official lists lie outside the repository."""
    absent = pytest.mark.skipif(
        not (SHARED / folder).is_dir(),
        reason=f"{SHARED / folder} is not "
        f"there; VARIREAL_SHARED names the folder that holds data/{folder}",
    )
    return lambda test: pytest.mark.shared(absent(test))


def picture(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 200, (height, width, 3), dtype=np.uint8)
    )


def write_split(path: Path, lists: dict[str, list]) -> Path:
    """A split file in either form: JSON as CoOp's, or the CSV of its followers."""
    if path.suffix == ".json":
        path.write_text(json.dumps(lists))
    else:
        lines = [f"{s},{row[0]}" for s, rows in lists.items() for row in rows]
        path.write_text("\n".join(["split,filename", *lines]))
    return path


def read(name: str, **spec) -> tuple[pd.DataFrame, dict[str, str]]:
    """Entries as a table, and the skipped files with their reasons."""
    skipped = []
    settings = registry.parse("it", {"source": name, **spec})
    found = registry.entries("it", settings, skipped)
    table = pd.DataFrame(
        [
            {
                "image_id": e.image_id,
                "file": e.file,
                "class_name": e.class_name,
                "split": e.split,
                **dict(e.extra),
            }
            for e in found
        ]
    )
    return table, {s["file"]: s["reason"] for s in skipped}


# --- FGVC-Aircraft

ODD = ("F-16A/B", "F/A-18", "BAE 146-200", "Yak-42", "YAK-42", ".")


def aircraft(root: Path, banner: int = 20) -> Path:
    """torchvision's layout: six variants of names that hurt, a picture of each in every split."""
    data = root / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    makers = {v: "General/Dynamics" if v.startswith("F") else "Yakovlev" for v in ODD}
    for level, name_of in (("variant", lambda v: v), ("manufacturer", makers.get)):
        for s, split in enumerate(("train", "val", "test")):
            lines = [f"{s * 10 + i:07d} {name_of(v)}" for i, v in enumerate(ODD)]
            (data / f"images_{level}_{split}.txt").write_text("\n".join(lines) + "\n")
            for i in range(len(ODD)):
                pixels = np.full((30 + banner, 40, 3), 255, np.uint8)  # the banner is white
                pixels[:30] = np.asarray(picture(s * 10 + i, 40, 30))
                Image.fromarray(pixels).save(data / "images" / f"{s * 10 + i:07d}.jpg", quality=95)
    (data / "variants.txt").write_text("\n".join(ODD) + "\n")
    (data / "manufacturers.txt").write_text("General/Dynamics\nYakovlev\n")
    return data


def test_aircraft_keeps_odd_names_and_loses_its_banner(tmp_path):
    aircraft(tmp_path / "in")
    table, skipped = datasets.load(
        "planes", {"source": "fgvc_aircraft", "root": tmp_path / "in"}, tmp_path / "s"
    )
    assert skipped.empty and set(table["class_name"]) == set(ODD)
    assert table.groupby("split").size().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert table["image_id"].tolist()[:2] == ["0000000", "0000001"]
    assert sorted(table["label"].unique()) == list(range(6))
    assert (table["height"] == 30).all() and (table["width"] == 40).all()
    for path in table["path"]:
        assert (tmp_path / "s" / path).parent == tmp_path / "s" / "data" / "planes" / "images"
        assert storage.read_image(tmp_path / "s" / path)[-3:].mean() < 150  # nothing white is left
    assert table["source_path"].iloc[0] == "fgvc-aircraft-2013b/data/images/0000000.jpg"


def test_aircraft_levels_and_other_roots(tmp_path):
    data = aircraft(tmp_path / "in")
    for root in (tmp_path / "in", data.parent, data):
        table, skipped = read("fgvc_aircraft", root=root, annotation_level="manufacturer")
        assert Counter(table["class_name"]) == {"General/Dynamics": 6, "Yakovlev": 12}
        assert not skipped and all(f.is_file() for f in table["file"])
    with pytest.raises(DatasetError, match=r"images_family_train\.txt is not there; .*download: t"):
        read("fgvc_aircraft", root=tmp_path / "in", annotation_level="family")
    with pytest.raises(DatasetError, match=r"annotation_level: got 'model', wanted one of \['v"):
        registry.parse("it", {"source": "fgvc_aircraft", "root": ".", "annotation_level": "model"})


def test_a_bad_line_or_picture_of_aircraft_costs_only_itself(tmp_path):
    data = aircraft(tmp_path)
    lines = (data / "images_variant_train.txt").read_text()
    (data / "images_variant_train.txt").write_text(
        f"{lines}1111111\n2222222 F-16\n0000010 {ODD[0]}\n"
    )
    picture(1, 40, 20).save(data / "images" / "0000003.jpg")
    (data / "images" / "0000004.jpg").unlink()
    table, skipped = datasets.load(
        "planes", {"source": "fgvc_aircraft", "root": tmp_path}, tmp_path / "s"
    )
    reasons = skipped.set_index("file")["reason"]
    assert "wanted an image and its class, got the line '1111111'" in reasons["1111111"]
    assert "wanted a class of variants.txt, got the line '2222222 F-16'" in reasons["2222222"]
    assert "listed twice" in reasons["0000010"] and "cannot be read" in reasons["0000004"]
    assert "20 pixels high, of which the lowest 20 should be a banner" in reasons["0000003"]
    assert len(table) == 16 and (table.set_index("image_id").loc["0000010", "split"] == "train")


@pytest.mark.parametrize("max_size", [1024, 15])
def test_a_mask_is_cut_with_its_photograph(tmp_path, monkeypatch, max_size):
    picture(1, 40, 50).save(tmp_path / "a.png")
    mask = np.zeros((50, 40), np.uint8)
    mask[20:30, :20], mask[30:] = 255, 255  # the lower third of the picture; all of the banner
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(mask[:30]).save(tmp_path / "short.png")

    def reader(name, spec, skipped):
        for mask in ("m.png", "short.png"):
            yield Entry(mask, tmp_path / "a.png", "x", "train", tmp_path / mask, crop_bottom=20)

    known = registry.DATA_SETS["fgvc_aircraft"]
    monkeypatch.setitem(registry.DATA_SETS, "fgvc_aircraft", replace(known, read=reader))
    table, skipped = datasets.load(
        "it",
        {"source": "fgvc_aircraft", "root": tmp_path, "side": "shortest", "max_size": max_size},
        tmp_path / "s",
    )
    row = table.set_index("image_id").loc["m.png"]
    height, width = min(30, max_size), min(40, max_size * 4 // 3)
    kept = storage.read_mask(tmp_path / "s" / row["mask_path"])
    assert (row["height"], row["width"]) == (height, width) == kept.shape
    third, half = height * 2 // 3, width // 2
    assert (kept[third:, :half] == 255).all()
    assert not kept[:third].any() and not kept[:, half:].any()
    assert "mask of 40 x 30 for a photograph of 40 x 50" in skipped["reason"].iloc[0]


# --- Stanford Cars

MODELS = (
    "Audi TTS Coupe 2012",
    "Ram C/V Cargo Van Minivan 2012",
    "Bugatti Veyron 16.4 Coupe 2009",
    "smart fortwo Convertible 2012",
)


def annotate(path: Path, rows: list[tuple[str, int]], labels: bool = True) -> None:
    """A .mat file as the devkit's: a 1 x N struct of boxes, class (from 1) and file name."""
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *["class"] * labels, "fname"]
    table = np.empty((1, len(rows)), dtype=[(f, "O") for f in fields])
    for i, (file, number) in enumerate(rows):
        table[0, i] = (1, 1, 9, 9, *[number] * labels, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": table})


def devkit(home: Path, models: tuple[str, ...], train: list, test: list) -> None:
    annotate(home / "devkit" / "cars_train_annos.mat", train)
    annotate(home / "cars_test_annos_withlabels.mat", test)
    names = np.empty((1, len(models)), dtype=object)
    names[0, :] = models
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": names})


def cars(root: Path) -> Path:
    """Four models; train and test use the same file names for different pictures."""
    home = root / "stanford_cars"
    rows = {
        "train": [(f"{i + 1:05d}.jpg", i % 4 + 1) for i in range(12)],
        "test": [(f"{i + 1:05d}.jpg", 4 - i % 4) for i in range(8)],
    }
    for part, files in rows.items():
        (home / f"cars_{part}").mkdir(parents=True)
        for i, (file, _) in enumerate(files):
            picture(i + 100 * (part == "test")).save(home / f"cars_{part}" / file)
    devkit(home, MODELS, rows["train"], rows["test"])
    return home


def coop_cars() -> dict[str, list]:
    """The split of `cars` in CoOp's form: labels from 0, the year first."""

    def line(part: str, i: int, number: int) -> list:
        words = MODELS[number].split(" ")
        return [f"cars_{part}/{i + 1:05d}.jpg", number, " ".join([words[-1], *words[:-1]])]

    return {
        "train": [line("train", i, i % 4) for i in range(8)],
        "val": [line("train", i, i % 4) for i in range(8, 12)],
        "test": [line("test", i, 3 - i % 4) for i in range(8)],
    }


def test_cars_reads_the_devkit_whose_labels_start_at_one(tmp_path):
    cars(tmp_path / "in")
    table, skipped = datasets.load(
        "cars", {"source": "stanford_cars", "root": tmp_path / "in"}, tmp_path / "s"
    )
    assert skipped.empty and set(table["class_name"]) == set(MODELS)
    assert table.groupby("split").size().to_dict() == {"train": 8, "val": 4, "test": 8}
    assert [MODELS[i - 1] for i in table["official_id"]] == table["class_name"].tolist()
    rows = table.set_index("image_id")
    assert rows.loc["cars_train/00001", "class_name"] == MODELS[0]
    assert rows.loc["cars_test/00001", "class_name"] == MODELS[3]
    assert rows.loc["cars_test/00001", "source_path"] == "stanford_cars/cars_test/00001.jpg"
    assert rows["sha256"].is_unique


def test_cars_names_bad_ids_and_missing_labels(tmp_path):
    home = cars(tmp_path)
    devkit(home, MODELS, [("00001.jpg", 0), ("00002.jpg", 5), ("00003.jpg", 4)], [("00001.jpg", 1)])
    table, skipped = read("stanford_cars", root=tmp_path)
    assert table["image_id"].tolist() == ["cars_train/00003", "cars_test/00001"]
    assert "class id 0; ids run from 1 to 4" in skipped["cars_train/00001.jpg"]
    assert "class id 5; ids run from 1 to 4" in skipped["cars_train/00002.jpg"]
    annotate(home / "cars_test_annos_withlabels.mat", [("00001.jpg", 1)] * 2, labels=False)
    with pytest.raises(DatasetError, match=r"withlabels\.mat: its annotations have the fields"):
        read("stanford_cars", root=tmp_path)
    (home / "devkit/cars_meta.mat").write_bytes(b"<html>404</html>" * 40)
    with pytest.raises(DatasetError, match=r"cars_meta\.mat: wanted a MATLAB file .* fetch it"):
        read("stanford_cars", root=tmp_path)
    (home / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DatasetError, match=r"withlabels\.mat is not there; root .*download: true"):
        read("stanford_cars", root=tmp_path)


def test_cars_split_files_of_both_forms_agree_with_and_without_the_devkit(tmp_path):
    home = cars(tmp_path)
    split = write_split(tmp_path / "split_zhou_StanfordCars.json", coop_cars())
    short = {s: [[r[0].removeprefix("cars_")] for r in rows] for s, rows in coop_cars().items()}
    other = write_split(tmp_path / "split_coop.csv", short)  # DISEF's folders: train/, test/
    table, skipped = read("stanford_cars", root=tmp_path, split=split)
    assert not skipped and Counter(table["split"]) == {"train": 8, "val": 4, "test": 8}
    again, skipped = read("stanford_cars", root=tmp_path, split=other)
    pd.testing.assert_frame_equal(table, again)
    assert not skipped
    (home / "cars_test_annos_withlabels.mat").unlink()
    alone, skipped = read("stanford_cars", root=tmp_path, split=split)
    assert not skipped
    order = ["image_id", "file", "class_name", "split", "official_id"]
    pd.testing.assert_frame_equal(
        table.sort_values("image_id")[order].reset_index(drop=True),
        alone.sort_values("image_id")[order].reset_index(drop=True),
    )
    (home / "cars_train").rename(home / "inner")
    (home / "cars_train").mkdir()
    (home / "inner").rename(home / "cars_train" / "cars_train")  # as a Kaggle mirror packs it
    packed, _ = read("stanford_cars", root=home, split=split)
    assert packed["image_id"].tolist() == alone["image_id"].tolist()
    assert all(f.is_file() for f in packed["file"])


# --- Waterbirds

BIRDS = """img_id,img_filename,y,split,place,place_filename
1,001.Black_footed_Albatross/Black_0046_18.jpg,1,0,0,/f/forest/a.jpg
2,001.Black_footed_Albatross/Black_0009_34.jpg,1,1,1,/l/lake/b.jpg
3,004.Groove_billed_Ani/Black_0046_18.jpg,0,0,1,/l/lake/c.jpg
4,004.Groove_billed_Ani/Ani_0002_1.jpg,0,2,0,/f/forest/d.jpg
5,004.Groove_billed_Ani/Ani_0003_1.jpg,2,0,0,/f/forest/e.jpg
6,004.Groove_billed_Ani/Ani_0004_1.jpg,0,3,0,/f/forest/f.jpg
7,004.Groove_billed_Ani/Ani_0005_1.jpg,0,0,,/f/forest/g.jpg
"""


def waterbirds(root: Path) -> Path:
    home = root / "waterbird_complete95_forest2water2"
    home.mkdir(parents=True)
    (home / "metadata.csv").write_text(BIRDS)
    for i, line in enumerate(BIRDS.splitlines()[1:]):
        file = home / line.split(",")[1]
        file.parent.mkdir(exist_ok=True)
        picture(i).save(file)
    return home


def test_waterbirds_reads_its_numbers_and_places(tmp_path):
    home = waterbirds(tmp_path / "in")
    spec = {"source": "waterbirds", "root": tmp_path / "in"}
    table, skipped = datasets.load("birds", spec, tmp_path / "s")
    rows = [tuple(r) for r in table[["class_name", "split", "place", "label"]].to_numpy()]
    assert sorted(rows) == [
        ("landbird", "test", "land", 0),
        ("landbird", "train", "water", 0),
        ("waterbird", "train", "land", 1),
        ("waterbird", "val", "water", 1),
    ]
    reasons = [r for f, r in zip(skipped["file"], skipped["reason"]) if "Ani" in f]
    assert reasons == [
        "metadata.csv: y is '2', wanted 0 to 1",
        "metadata.csv: split is '3', wanted 0 to 2",
        "metadata.csv: place is '', wanted 0 to 1",
    ]
    split = write_split(
        tmp_path / "a.csv", {"test": [["001.Black_footed_Albatross/Black_0046_18.jpg"]]}
    )
    table, skipped = read("waterbirds", root=home, split=split)
    assert table["image_id"].tolist() == ["001.Black_footed_Albatross/Black_0046_18.jpg"]
    assert table["split"].tolist() == ["test"]
    assert "not in" in skipped["004.Groove_billed_Ani/Black_0046_18.jpg"]  # the folder counts
    (home / "metadata.csv").write_text("img_filename,y\na.jpg,1\n")
    with pytest.raises(DatasetError, match=r"data\.csv: lacks the columns \['split', 'place'\]"):
        read("waterbirds", root=home)


# --- Oxford Pets, and split files


def pets(root: Path, count: int = 4) -> Path:
    home = root / "oxford-iiit-pet"
    (home / "images").mkdir(parents=True)
    (home / "annotations").mkdir()
    for kind, start in (("trainval", 1), ("test", count + 1)):
        stems = [
            f"{b}_{i}" for b in ("Birman", "basset_hound") for i in range(start, start + count)
        ]
        (home / "annotations" / f"{kind}.txt").write_text(
            "".join(f"{s} {7 if s[0] == 'B' else 5} 1 1\n" for s in stems)
        )
        for i, stem in enumerate(stems):
            picture(i + start * 100).save(home / "images" / f"{stem}.jpg")
    return home


def test_pets_in_grey_in_cmyk_and_under_a_wrong_suffix(tmp_path):
    home = pets(tmp_path / "in")
    grey = Image.fromarray(np.tile(np.arange(0, 240, 10, np.uint8), (16, 1)))
    grey.save(home / "images/Birman_1.jpg", quality=95)
    Image.new("CMYK", (24, 16), (0, 255, 255, 0)).save(home / "images/Birman_2.jpg", quality=95)
    Image.new("RGB", (24, 16), (10, 200, 30)).save(home / "images/Birman_5.jpg", format="PNG")
    Image.new("P", (24, 16), 1).save(home / "images/Birman_6.jpg", format="GIF")
    table, skipped = datasets.load(
        "pets", {"source": "oxford_pets", "root": tmp_path / "in"}, tmp_path / "s"
    )
    assert skipped.empty and len(table) == 16
    rows = table.set_index("image_id")
    pixels = {
        i: storage.read_image(tmp_path / "s" / rows.loc[i, "path"]).astype(int)
        for i in ("Birman_1", "Birman_2", "Birman_5", "Birman_6")
    }
    assert all(p.shape == (16, 24, 3) for p in pixels.values())
    assert (pixels["Birman_1"].std(axis=2) == 0).all()
    assert abs(pixels["Birman_1"][0, :, 0] - np.arange(0, 240, 10)).max() <= 4
    assert pixels["Birman_2"][..., 0].min() > 200 and pixels["Birman_2"][..., 1:].max() < 60  # red
    assert (pixels["Birman_5"] == (10, 200, 30)).all()
    assert rows.loc["basset_hound_1", ["class_name", "official_id"]].tolist() == ["Basset Hound", 5]


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_split_file_names_what_it_lacks_and_what_it_says_twice(tmp_path, suffix):
    pets(tmp_path)
    lists = {
        "train": [
            ["Birman_1.jpg", 1, "birman"],
            ["Birman/Birman_5.jpg", 1, "birman"],
            ["birman_2.jpg", 1, "birman"],
        ],
        "val": [["images/basset_hound_2.jpg", 0, "basset_hound"]],
        "test": [["Birman_1.jpg", 1, "birman"], ["Birman_6.jpg", 1, "birman"]],
    }
    split = write_split(tmp_path / f"a.{suffix}", lists)
    table, skipped = read("oxford_pets", root=tmp_path, split=split)
    assert dict(zip(table["image_id"], table["split"])) == {
        "Birman_1": "train",
        "Birman_5": "train",
        "basset_hound_2": "val",
        "Birman_6": "test",
    }
    assert f"a.{suffix} lists it twice, in train and in test" in skipped["Birman_1.jpg"]
    assert skipped["birman_2.jpg"] == f"in {split}, but in no official list"  # case counts
    assert skipped["Birman_2"] == f"not in {split}" and len(skipped) == 14


@pytest.mark.parametrize(
    "file, text, words",
    [
        ("a.json", "{", r"a\.json: wanted CoOp's form .*it is not JSON"),
        ("a.json", "[1]", "got list, wanted lists train, val and test"),
        ("a.json", '{"train": [], "holdout": []}', r"got \['holdout', 'train'\]"),
        ("a.json", '{"train": {"a": 1}}', r"got \['train'\], wanted lists"),
        (
            "a.csv",
            "file,split\na,train\n",
            "wanted columns split .* and filename; 'filename' is miss",
        ),
        ("a.csv", "filename,split\na,hold\n", "'hold' is missing or unknown"),
        ("none", "", r"it\.split: got .*b, wanted official or a CSV file .* or CoOp's split_zhou"),
    ],
)
def test_a_split_file_of_no_known_form(tmp_path, file, text, words):
    pets(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(DatasetError, match=words):
        read("oxford_pets", root=tmp_path, split=tmp_path / file.replace("none", "b"))


def test_a_bad_line_of_coops_json_costs_only_itself(tmp_path):
    pets(tmp_path)
    rows = [
        ["Birman_1.jpg", 1, "birman"],
        ["Birman_2.jpg", "1", "birman"],
        ["Birman_3.jpg"],
        "Birman_4.jpg",
    ]
    split = write_split(tmp_path / "a.json", {"train": rows})
    table, skipped = read("oxford_pets", root=tmp_path, split=split)
    assert table["image_id"].tolist() == ["Birman_1"]
    assert sum(r == "a.json: wanted [path, label, class name]" for r in skipped.values()) == 3


@pytest.mark.parametrize(
    "source, part, words",
    [
        ("oxford_pets", "annotations/test.txt", r"test\.txt is not there"),
        ("fgvc_aircraft", "data/images_variant_val.txt", r"images_variant_val\.txt is not there"),
        ("waterbirds", "metadata.csv", r"metadata\.csv is not there"),
    ],
)
def test_a_missing_list_is_named_with_its_remedy(tmp_path, source, part, words):
    home = {
        "oxford_pets": pets,
        "waterbirds": waterbirds,
        "fgvc_aircraft": lambda root: aircraft(root).parent,
    }[source](tmp_path)
    layout = registry.DATA_SETS[source].layout
    assert not layout.lacking(tmp_path)
    (home / part).unlink()
    assert layout.lacking(tmp_path) == [part]
    with pytest.raises(DatasetError, match=words + rf".* root \({tmp_path}\) .*download: true"):
        read(source, root=tmp_path)


# --- the complete official lists


@pytest.mark.parametrize("level, classes", [("variant", 100), ("manufacturer", 30)])
@needs("fgvc_aircraft_lists")
def test_the_complete_lists_of_aircraft(level, classes):
    table, skipped = read(
        "fgvc_aircraft", root=SHARED / "fgvc_aircraft_lists", annotation_level=level
    )
    assert not skipped and table["image_id"].str.fullmatch(r"\d{7}").all()
    assert Counter(table["split"]) == {"train": 3334, "val": 3333, "test": 3333}
    names = sorted(set(table["class_name"]))
    assert len(names) == classes
    assert len({storage.slug(n).casefold() for n in names}) == classes
    assert [storage.unslug(storage.slug(n)) for n in names] == names
    lists = SHARED / "fgvc_aircraft_lists" / "data"
    if level == "variant":
        assert set(names) == set((lists / "variants.txt").read_text().splitlines())
        assert {"F-16A/B", "F/A-18"} <= set(names)
        assert table.groupby(["class_name", "split"]).size().between(33, 34).all()
    for split in ("train", "val", "test"):
        wanted = (lists / f"images_{split}.txt").read_text().split()
        assert set(table.loc[table["split"] == split, "image_id"]) == set(wanted)


@needs("oxford_pets_lists")
def test_the_complete_lists_of_pets(tmp_path):
    lists = SHARED / "oxford_pets_lists"
    (tmp_path / "annotations").symlink_to(lists)
    table, skipped = read("oxford_pets", root=tmp_path)
    assert not skipped and Counter(table["split"]) == {"": 3680, "test": 3669}
    assert sorted(set(table["official_id"])) == list(range(1, 38))
    assert table.groupby("official_id")["class_name"].nunique().eq(1).all()
    coop = pd.read_csv(lists / "coop_metadata.csv")
    assert {n.lower().replace(" ", "_") for n in table["class_name"]} == set(coop["class_name"])
    split, skipped = read("oxford_pets", root=tmp_path, split=lists / "coop_split_coop.csv")
    assert not skipped and Counter(split["split"]) == {"train": 2944, "val": 736, "test": 3669}
    official_test = set(table.loc[table["split"] == "test", "image_id"])
    assert set(split.loc[split["split"] == "test", "image_id"]) == official_test


@needs("stanford_cars_lists")
def test_the_complete_lists_of_cars(tmp_path):
    lists = SHARED / "stanford_cars_lists"
    models = tuple((lists / "class_names.txt").read_text().splitlines())
    labels = pd.read_csv(lists / "disef_labels.csv").set_index("filename")["class_idx"]  # from 0
    train = pd.read_csv(lists / "cars_train_labels.csv")
    tests = [f for f in labels.index if f.startswith("test/")]
    devkit(
        tmp_path,
        models,
        [(Path(f).name, n) for f, n in zip(train["file"], train["official_class_id_1based"])],
        [(Path(f).name, int(labels[f]) + 1) for f in tests],
    )
    table, skipped = read("stanford_cars", root=tmp_path)
    assert not skipped and Counter(table["split"]) == {"": 8144, "test": 8041}
    assert table["class_name"].nunique() == 196 and set(table["class_name"]) == set(models)
    assert len({storage.slug(n).casefold() for n in models}) == 196
    keys = table["image_id"].str.removeprefix("cars_") + ".jpg"
    assert (labels[keys].to_numpy() + 1 == table["official_id"]).all()  # two lists agree on 16,185
    split = lists / "disef_split_coop.csv"
    coop, skipped = read("stanford_cars", root=tmp_path, split=split)
    assert not skipped and Counter(coop["split"]) == {"train": 6509, "val": 1635, "test": 8041}
    (tmp_path / "devkit" / "cars_meta.mat").unlink()
    rows: dict[str, list] = {"train": [], "val": [], "test": []}
    for kind, file in pd.read_csv(split)[["split", "filename"]].to_numpy():
        *words, year = models[labels[file]].split(" ")
        rows[kind].append([f"cars_{file}", int(labels[file]), " ".join([year, *words])])
    alone, skipped = read(
        "stanford_cars",
        root=tmp_path,
        split=write_split(tmp_path / "split_zhou_StanfordCars.json", rows),
    )
    assert not skipped
    both = coop.merge(alone, on=["image_id", "class_name", "split", "official_id", "file"])
    assert len(both) == len(alone) == 16185
