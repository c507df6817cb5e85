"""Data sets from every source: one bad file never loses the rest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from varireal_utils.core import storage
from varireal_utils.data import datasets, near_duplicates
from varireal_utils.data.datasets import DatasetError

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VARIREAL_SHARED", ROOT.parent / "shared"))
PETS = SHARED / "data" / "oxford_pets_mini"
needs_pets = pytest.mark.skipif(
    not PETS.is_dir(),
    reason=f"{PETS} is not there; VARIREAL_SHARED "
    "names the folder that holds data/oxford_pets_mini",
)
ODD = ("F-16A/B", "F/A-18", "Ram C/V Cargo Van Minivan 2012", ".", "NA", "été", "BMW", "bmw")


WORLD = {
    "source": "world",
    "family": "pets",
    "train_per_class": 2,
    "val_per_class": 1,
    "test_per_class": 1,
}


def picture(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def folder(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * c + i).save(root / name / f"{i}.png")
    return root


def check(table: pd.DataFrame, study: Path) -> None:
    """What holds for the table of every source."""
    assert list(table)[:12] == datasets.COLUMNS
    assert table["image_id"].is_unique and table["path"].is_unique
    assert set(table["split"]) <= set(datasets.SPLITS)
    assert sorted(table["label"].unique()) == list(range(table["class_name"].nunique()))
    assert (table.groupby("label")["class_name"].nunique() == 1).all()
    for row in table.itertuples():
        image = storage.read_image(study / row.path)
        assert image.shape == (row.height, row.width, 3)
        assert storage.sha256_file(study / row.path) == row.sha256
        for mask in (row.mask_path, row.paint_mask_path):
            if mask:
                pixels = np.asarray(Image.open(study / mask))
                assert pixels.shape == image.shape[:2] and set(np.unique(pixels)) <= {0, 255}


def test_world_is_a_data_set_like_any_other(tmp_path):
    from microworld import render

    table, skipped = datasets.load("micro_pets", WORLD, tmp_path)
    check(table, tmp_path)
    assert skipped.empty and list(skipped) == ["file", "reason"]
    assert table.groupby("split").size().to_dict() == {"train": 16, "val": 8, "test": 8}
    assert {"color", "texture", "background"} <= set(table)
    row, drawn = table.iloc[3], render.photograph("pets", "train", 3)
    assert (storage.read_image(tmp_path / row["path"]) == drawn.image).all()
    assert (storage.read_mask(tmp_path / row["mask_path"]) == drawn.mask).all()
    assert (storage.read_mask(tmp_path / row["paint_mask_path"]) == drawn.paint).all()
    assert row["label"] == drawn.label and row["color"] == drawn.spec.color


def test_imagefolder_carves_splits_by_hash(tmp_path):
    spec = {"source": "imagefolder", "root": str(folder(tmp_path / "in")), "val_fraction": 0.3}
    table, skipped = datasets.load("mine", spec, tmp_path / "s", seed=1)
    check(table, tmp_path / "s")
    assert skipped.empty
    assert table.groupby(["class_name", "split"]).size().to_dict() == {
        ("cat", "test"): 2,
        ("cat", "train"): 6,
        ("cat", "val"): 2,
        ("dog", "test"): 2,
        ("dog", "train"): 6,
        ("dog", "val"): 2,
    }
    again, _ = datasets.load("mine", spec, tmp_path / "t", seed=1)
    pd.testing.assert_frame_equal(table, again)
    for name in table["path"]:
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "t" / name).read_bytes()
    picture(999).save(tmp_path / "in" / "cat" / "new.png")  # a new image moves no other's hash
    more, _ = datasets.load("mine", spec, tmp_path / "u", seed=1)
    both = table.merge(more, on="image_id")
    assert (both["split_x"] != both["split_y"]).sum() <= 2
    other, _ = datasets.load("mine", spec, tmp_path / "v", seed=2)
    assert (
        other["split"].tolist() != table["split"].tolist()
        or other["image_id"].tolist() != table["image_id"].tolist()
    )


def test_a_folder_names_its_class_with_spaces_for_underscores(tmp_path):
    root = folder(tmp_path / "in")
    (root / "cat").rename(root / "maine_coon")
    spec = {"source": "imagefolder", "root": str(root)}
    table, _ = datasets.load("mine", spec, tmp_path / "s", seed=1)
    assert set(table["class_name"]) == {"maine coon", "dog"}
    (root / "dog").rename(root / "maine coon")
    with pytest.raises(datasets.DatasetError, match="'maine coon' and 'maine_coon' both name"):
        datasets.load("mine", spec, tmp_path / "t", seed=1)


def test_imagefolder_with_split_folders_and_masks(tmp_path):
    for split in ("train", "valid", "test"):
        folder(tmp_path / "in" / split, count=3)
    mask = Image.new("L", (24, 16), 0)
    mask.paste(255, (5, 5, 15, 12))
    (tmp_path / "m/train/cat").mkdir(parents=True)
    mask.save(tmp_path / "m/train/cat/0.png")
    table, _ = datasets.load(
        "mine",
        {"source": "imagefolder", "root": str(tmp_path / "in"), "masks": str(tmp_path / "m")},
        tmp_path / "s",
    )
    check(table, tmp_path / "s")
    assert table.groupby("split").size().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert table.loc[table["mask_path"] != "", "image_id"].tolist() == ["train/cat/0.png"]
    assert table["class_name"].unique().tolist() == ["cat", "dog"]


def test_one_bad_file_never_loses_the_rest(tmp_path):
    root = folder(tmp_path / "in")
    (root / "cat" / "zero.jpg").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    picture(5, 200, 200).save(root / "dog" / "cut.jpg", quality=95)
    cut = (root / "dog" / "cut.jpg").read_bytes()
    (root / "dog" / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (root / "dog" / "A").mkdir()
    picture(6).save(root / "dog" / "A" / "deep.png")
    table, skipped = datasets.load(
        "mine", {"source": "imagefolder", "root": str(root)}, tmp_path / "s"
    )
    check(table, tmp_path / "s")
    assert len(table) == 20
    reasons = dict(zip(skipped["file"], skipped["reason"], strict=True))
    assert reasons["cat/zero.jpg"].startswith("empty file")
    assert reasons["cat/notes.txt"].startswith("not an image")
    assert reasons["dog/cut.jpg"].startswith("truncated")
    assert "inside the folder of class 'dog'" in reasons["dog/A/deep.png"] and len(reasons) == 4


def test_csv_takes_any_class_name_and_names_bad_rows(tmp_path):
    lines = ["path,label,mask,split"]
    for i, name in enumerate(ODD):
        for split in datasets.SPLITS:
            picture(3 * i + datasets.SPLITS.index(split)).save(tmp_path / f"{i}{split}.png")
            lines.append(f"{i}{split}.png,{name},,{split}")
    Image.new("L", (23, 16)).save(tmp_path / "wrong.png")
    lines[1] = f"0train.png,{ODD[0]},wrong.png,train"
    lines[2] = f"0val.png,{ODD[0]},none.png,val"
    lines += [
        "0train.png,again,,test",
        "none.png,BMW,,train",
        "7test.png,,,test",
        "1train.png ,x,,holdout",
    ]
    (tmp_path / "list.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    table, skipped = datasets.load(
        "mine", {"source": "csv", "path": str(tmp_path / "list.csv")}, tmp_path / "s"
    )
    check(table, tmp_path / "s")
    assert len(table) == 3 * len(ODD) and set(table["class_name"]) == set(ODD)
    assert (table["mask_path"] == "").all()
    reasons = skipped.set_index("file")["reason"]
    assert "23 x 16 for a photograph of 24 x 16" in reasons["mask of 0train.png"]
    assert "cannot be read" in reasons["mask of 0val.png"]
    assert "listed twice" in reasons["0train.png"] and "cannot be read" in reasons["none.png"]
    assert "holdout" in reasons["1train.png "] and len(skipped) == 6


def test_sizes_and_turned_photographs(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "m/a").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, 300, 200).save(tmp_path / "in/a/turned.jpg", exif=exif)
    mask = Image.new("L", (300, 200))
    mask.paste(255, (0, 0, 300, 50))  # the upper quarter as stored is the right one upright
    mask.save(tmp_path / "m/a/turned.png")
    picture(2, 100, 60).save(tmp_path / "in/a/small.png")
    spec = {
        "source": "imagefolder",
        "root": str(tmp_path / "in"),
        "masks": str(tmp_path / "m"),
        "max_size": 150,
    }
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    check(table, tmp_path / "s")
    assert skipped.empty
    rows = table.set_index("image_id")
    assert rows.loc["a/turned.jpg", ["width", "height"]].tolist() == [100, 150]
    assert rows.loc["a/small.png", ["width", "height"]].tolist() == [100, 60]
    kept = storage.read_mask(tmp_path / "s" / rows.loc["a/turned.jpg", "mask_path"])
    assert (kept[:, 75:] == 255).all() and not kept[:, :75].any()


def test_caps_take_the_next_where_a_file_is_bad(tmp_path):
    root = folder(tmp_path / "in")
    spec = {"source": "imagefolder", "root": str(root), "train_per_class": 3, "test_per_class": 1}
    table, _ = datasets.load("mine", spec, tmp_path / "s")
    assert table.groupby("split").size().to_dict() == {"train": 6, "val": 4, "test": 2}
    first = table[(table["split"] == "train") & (table["class_name"] == "cat")]["image_id"].iloc[0]
    (root / first).write_bytes(b"broken")
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert len(table) == 12 and skipped["file"].tolist() == [first]


@pytest.mark.parametrize(
    "name, spec, words",
    [
        (
            "mine",
            {"source": "imagfolder", "root": "."},
            r"datasets\.mine\.source: got 'imagfolder'",
        ),
        ("mine", {"source": "imagefolder", "rot": "."}, r"mine\.rot: .* did you mean 'root'"),
        ("mine", {"source": "imagefolder"}, r"needs \['root'\]"),
        ("mine", {"source": "imagefolder", "root": "/none"}, r"/none is no folder"),
        ("mine", {"source": "csv", "path": "/none.csv"}, r"/none\.csv: no such file"),
        (
            "mine",
            {"source": "oxford_pets", "root": "/none"},
            r"/none/annotations/trainval\.txt is not",
        ),
        ("My Set", {"source": "world"}, "lower-case letters"),
        ("mine", {"source": "csv", "path": "x", "side": "left"}, "wanted longest or shortest"),
        ("mine", WORLD | {"family": "boats"}, r"mine\.family: got 'boats', wanted one of \['cars'"),
        ("mine", WORLD | {"val_per_class": "2"}, r"val_per_class: got '2', wanted a whole number"),
        (
            "mine",
            WORLD | {"val_per_class": True},
            r"val_per_class: got True, wanted a whole number",
        ),
        ("mine", WORLD | {"test_per_class": -1}, r"test_per_class: got -1, wanted a whole number"),
        (
            "mine",
            {"source": "csv", "path": "x", "val_fraction": 1},
            "wanted a number from 0 to below",
        ),
        ("mine", {"source": "csv", "path": "x", "max_size": 0}, "wanted a whole number of pixels"),
        ("mine", {"source": "csv", "path": 3}, r"mine\.path: got 3, wanted a path"),
    ],
)
def test_errors_name_data_set_key_and_value(tmp_path, name, spec, words):
    with pytest.raises(DatasetError, match=words):
        datasets.load(name, spec, tmp_path)


def test_a_csv_without_its_columns_and_a_source_without_images(tmp_path):
    (tmp_path / "a.csv").write_text("file,label\nx,y\n")
    with pytest.raises(DatasetError, match=r"a\.csv: lacks the columns \['path'\]"):
        datasets.load("mine", {"source": "csv", "path": str(tmp_path / "a.csv")}, tmp_path)
    (tmp_path / "b.csv").write_text("path,label\nx.png,y\n")
    with pytest.raises(DatasetError, match=r"no image could be read .* 1 files skipped"):
        datasets.load("mine", {"source": "csv", "path": str(tmp_path / "b.csv")}, tmp_path)


def mini_pets(root: Path) -> Path:
    """torchvision's layout: ids 3 and 9 only, one missing, one odd and one unreadable trimap."""
    home = root / "oxford-iiit-pet"
    for part in ("images", "annotations/trimaps"):
        (home / part).mkdir(parents=True)
    lists = {"trainval": [], "test": []}
    for number, breed in ((9, "Birman"), (3, "basset_hound")):
        for i in range(8):
            stem = f"{breed}_{i}"
            picture(number * 10 + i).save(home / "images" / f"{stem}.jpg")
            trimap = np.full((16, 24), 2, np.uint8)
            trimap[4:12, 6:18], trimap[4, 6:18] = 1, 3
            Image.fromarray(trimap).save(home / "annotations/trimaps" / f"{stem}.png")
            lists["test" if i < 3 else "trainval"].append(f"{stem} {number} 1 1")
    (home / "annotations/trimaps/Birman_0.png").unlink()
    (home / "annotations/trimaps/Birman_1.png").write_bytes(b"\x89PNG broken")
    Image.fromarray(trimap + 7).save(home / "annotations/trimaps/Birman_2.png")
    (home / "images/Birman_7.jpg").unlink()
    for name, lines in lists.items():
        (home / "annotations" / f"{name}.txt").write_text("#header\n" + "\n".join(lines) + "\n")
    return root


def test_oxford_pets_copes_with_gaps_and_missing_trimaps(tmp_path):
    spec = {"source": "oxford_pets", "root": str(mini_pets(tmp_path / "in")), "split": "official"}
    table, skipped = datasets.load("pets", spec, tmp_path / "s")
    check(table, tmp_path / "s")
    assert table.drop_duplicates("label").sort_values("label")[
        ["class_name", "official_id"]
    ].to_numpy().tolist() == [["Basset Hound", 3], ["Birman", 9]]
    assert table.groupby(["class_name", "split"]).size().to_dict() == {
        ("Basset Hound", "test"): 3,
        ("Basset Hound", "train"): 4,
        ("Basset Hound", "val"): 1,
        ("Birman", "test"): 3,
        ("Birman", "train"): 3,
        ("Birman", "val"): 1,
    }
    assert set(table.loc[table["mask_path"] == "", "image_id"]) == {
        "Birman_0",
        "Birman_1",
        "Birman_2",
    }
    mask = storage.read_mask(tmp_path / "s" / table[table["mask_path"] != ""]["mask_path"].iloc[0])
    assert (mask[4:12, 6:18] == 255).all() and (mask == 255).sum() == 96
    reasons = skipped.set_index("file")["reason"]
    assert "cannot be read" in reasons["Birman_7"] and "not an image" in reasons["mask of Birman_1"]
    assert "holds 1, 2 and 3" in reasons["mask of Birman_2"] and len(reasons) == 3


def test_oxford_pets_takes_another_split(tmp_path):
    root = mini_pets(tmp_path / "in")
    lines = ["split,filename"] + [
        f"{s},Birman/Birman_{i}.jpg" for i, s in enumerate(["train", "train", "val", "test"])
    ]
    (tmp_path / "coop.csv").write_text("\n".join(lines))
    table, skipped = datasets.load(
        "pets",
        {"source": "oxford_pets", "root": str(root), "split": str(tmp_path / "coop.csv")},
        tmp_path / "s",
    )
    assert table["split"].tolist() == ["train", "train", "val", "test"]
    assert skipped["reason"].str.startswith("not in").sum() == 12
    (tmp_path / "coop.csv").write_text("split,filename\nhold,a.jpg\n")
    with pytest.raises(DatasetError, match="'hold' is missing or unknown"):
        datasets.load(
            "pets",
            {"source": "oxford_pets", "root": str(root), "split": str(tmp_path / "coop.csv")},
            tmp_path / "s",
        )


def test_limit_per_class_caps_every_split(tmp_path):
    spec = {
        "source": "imagefolder",
        "root": str(folder(tmp_path / "in")),
        "limit_per_class": 1,
        "train_per_class": 4,
    }
    table, _ = datasets.load("mine", spec, tmp_path / "s")
    assert table.groupby("split").size().to_dict() == {"train": 8, "val": 2, "test": 2}


def test_a_second_run_keeps_whole_files_and_mends_broken_ones(tmp_path):
    first, _ = datasets.load("micro_pets", WORLD, tmp_path)
    files = {f: (f.read_bytes(), f.stat().st_ino) for f in sorted(tmp_path.rglob("*.png"))}
    gone, cut, other, foreign, *_ = files
    gone.unlink()
    cut.write_bytes(files[cut][0][:300])
    Image.fromarray(255 - np.asarray(Image.open(other))).save(other)
    foreign.write_bytes(b"no picture")
    again, _ = datasets.load("micro_pets", WORLD, tmp_path)
    pd.testing.assert_frame_equal(first, again)
    assert {f: f.read_bytes() for f in files} == {f: data for f, (data, _) in files.items()}
    kept = [f for f in files if f not in (gone, cut, other, foreign)]
    assert all(f.stat().st_ino == files[f][1] for f in kept)  # not even rewritten


def test_a_folder_that_cannot_be_meant_is_an_error(tmp_path):
    root = folder(tmp_path / "in", count=3)
    spec = {"source": "imagefolder", "root": str(root)}
    (root / "emu").mkdir()
    with pytest.raises(DatasetError, match=r"class 'emu' is empty: .*emu holds no file; fill"):
        datasets.load("mine", spec, tmp_path / "s")
    (root / "emu" / "x.png").write_bytes(b"")
    picture(0).save(root / "stray.png")
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    check(table, tmp_path / "s")
    reasons = skipped.set_index("file")["reason"]
    assert len(table) == 6 and "in none" in reasons["stray.png"]
    assert "none of its images could be read" in reasons["class emu"]
    with pytest.raises(DatasetError, match=r"mine\.masks: .*none is no folder; leave the key out"):
        datasets.load("mine", spec | {"masks": str(tmp_path / "none")}, tmp_path / "s")
    folder(root, ("train", "test"), count=1)
    with pytest.raises(DatasetError, match=r"folders of splits and others: \['cat', 'dog', 'emu'"):
        datasets.load("mine", spec, tmp_path / "s")


def test_bad_lines_cost_only_themselves(tmp_path):
    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    spec = {"source": "csv", "path": str(tmp_path / "a.csv")}
    (tmp_path / "a.csv").write_text("path,label\n0.png,a\n1.png,a,b\n2.png\n3.png,a\n")
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert table["image_id"].tolist() == ["0.png", "3.png"]
    reasons = skipped.set_index("file")["reason"]
    assert "3 fields in the line '1.png,a,b'" in reasons["1.png"] and reasons["2.png"] == "no label"
    for data in (b"", "path,label\n0.png,é".encode("latin-1")):
        (tmp_path / "a.csv").write_bytes(data)
        with pytest.raises(DatasetError, match=r"a\.csv: not a CSV file in UTF-8"):
            datasets.load("mine", spec, tmp_path / "s")
    root = mini_pets(tmp_path / "in")
    lists = root / "oxford-iiit-pet/annotations/test.txt"
    lists.write_text(lists.read_text() + "Birman_3 9 1 1\nBirman_4\nBirman_5 nine 1 1\n")
    table, skipped = datasets.load(
        "pets", {"source": "oxford_pets", "root": str(root)}, tmp_path / "t"
    )
    check(table, tmp_path / "t")
    reasons = skipped.set_index("file")["reason"]
    assert "listed twice" in reasons["Birman_3"] and len(table) == 15
    assert "'Birman_4'" in reasons["Birman_4"] and "'Birman_5 nine 1 1'" in reasons["Birman_5"]


def test_leaks_finds_copies_across_splits_only(tmp_path):
    y, x = np.mgrid[0:64, 0:64]
    wave = np.stack([128 + 100 * np.sin(x / 7 + y / 11)] * 3, 2).astype(np.uint8)
    copy = np.clip(wave.astype(int) + 2, 0, 255).astype(np.uint8)
    other = np.ascontiguousarray(wave.transpose(1, 0, 2))
    named = {
        "a": (wave, "train"),
        "b": (wave, "test"),
        "c": (copy, "val"),
        "d": (wave, "train"),
        "e": (other, "test"),
    }
    rows = [
        {
            "image_id": k,
            "split": s,
            "class_name": "x",
            "path": f"{k}.png",
            "sha256": storage.write_image(tmp_path / f"{k}.png", p),
        }
        for k, (p, s) in named.items()
    ]
    found = near_duplicates.leaks(pd.DataFrame(rows), tmp_path)
    pairs = {(r.image_id, r.other_id): r.kind for r in found.itertuples()}
    assert pairs == {
        ("a", "b"): "same",
        ("b", "d"): "same",
        ("a", "c"): "near",
        ("b", "c"): "near",
        ("c", "d"): "near",
    }
    assert found["kind"].tolist()[:2] == ["same", "same"]
    assert near_duplicates.leaks(pd.DataFrame(rows[:1]), tmp_path).empty


@needs_pets
@pytest.mark.shared
def test_real_photographs(tmp_path):
    spec = {"source": "oxford_pets", "root": str(PETS), "max_size": 192}
    table, skipped = datasets.load("pets", spec, tmp_path)
    check(table, tmp_path)
    assert len(table) == 520 and skipped.empty
    found = near_duplicates.leaks(table, tmp_path)
    assert (found["kind"] != "same").all() and len(found) <= 3
    assert table["class_name"].nunique() == 29 and table["official_id"].nunique() == 29
    assert table[["width", "height"]].max(axis=1).max() == 192
    assert (table["width"] > table["height"]).any() and (table["width"] < table["height"]).any()
    index = pd.read_csv(PETS / "index.csv").set_index("name")
    has = index.loc[table["image_id"], "trimap_origin"].to_numpy() != "none"
    assert ((table["mask_path"] != "").to_numpy() == has).all()
    assert (table.loc[table["split"] == "test", "image_id"].map(index["split"]) == "test").all()


def test_names_that_are_not_utf8_are_skipped_by_name(tmp_path):
    root = folder(tmp_path / "in", count=4)
    shutil.copy(
        os.fsencode(next((root / "cat").iterdir())), os.fsencode(root) + b"/cat/caf\xe9.png"
    )
    shutil.copytree(os.fsencode(root / "dog"), os.fsencode(root) + b"/z\xfcrich")
    table, skipped = datasets.load("own", {"source": "imagefolder", "root": str(root)}, tmp_path)
    named = skipped[skipped["reason"].str.contains("not UTF-8; rename")]
    assert "cat/caf\\udce9.png" in set(named["file"]) and len(named) == 5
    assert set(table["class_name"]) == {"cat", "dog"} and len(table) == 8
    storage.write_table(tmp_path / "skipped.csv", skipped)
