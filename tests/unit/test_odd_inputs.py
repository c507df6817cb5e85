"""Odd inputs of data sets and phrase files: read rightly, or named with the reason."""

import shutil
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps, PngImagePlugin

from varireal_utils.data import datasets, images
from varireal_utils.prompts import phrase_bank

PHRASES = {
    "templates": {"color": {"edit": "a {phrase} {class}"}},
    "verify": {"color": "a photo of a {phrase} {class}"},
    "colors": {"red": [200, 0, 0], "blue": [0, 0, 200]},
    "families": {"mine": {"color": {"feasible": ["red"], "infeasible": ["blue"]}}},
}


def picture(path: Path, value: int = 9, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)


def numbered(folder: Path, names: list[str]) -> None:
    for n, name in enumerate(names):
        picture(folder / name, 9 * n + 5)


@pytest.mark.parametrize("line", ['"4.png,dog', '4.png,"dog'])
def test_a_quotation_mark_that_is_not_closed_is_named_with_its_line(tmp_path, line):
    numbered(tmp_path, [f"{n}.png" for n in range(8)])
    lines = ["path,label", *(f"{n}.png,dog" for n in range(8))]
    lines[5] = line
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(datasets.DatasetError, match=r"a\.csv: line 6: a quotation mark is opened"):
        datasets.load("mine", {"source": "csv", "path": f"{tmp_path}/a.csv"}, tmp_path / "s")


def test_lines_between_two_stray_marks_are_named_and_the_others_stay(tmp_path):
    numbered(tmp_path, [f"{n}.png" for n in range(8)])
    lines = ["path,label", *(f"{n}.png,dog" for n in range(8))]
    lines[3], lines[5] = '2.png,"dog', '4.png"",dog"'
    (tmp_path / "a.csv").write_text("\n".join(lines))
    spec = {"source": "csv", "path": f"{tmp_path}/a.csv"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert sorted(table["image_id"]) == ["0.png", "1.png", "5.png", "6.png", "7.png"]
    assert "runs over several lines" in skipped.set_index("file")["reason"]["2.png"]


def test_an_inch_sign_in_a_field_is_no_quotation(tmp_path):
    numbered(tmp_path, ["0.png", "1.png"])
    (tmp_path / "a.csv").write_text('path,label\n0.png,3" pipe\n1.png,dog\n')
    spec = {"source": "csv", "path": f"{tmp_path}/a.csv"}
    table, _ = datasets.load("mine", spec, tmp_path / "s")
    assert sorted(table["class_name"]) == ['3" pipe', "dog"]


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("tag", [0x011A, 0x9003])
def test_an_exif_tag_of_a_wrong_type_costs_nothing(tmp_path, turned, tag):
    """Text where a resolution stands: its EXIF block cannot be written, its pixels are whole."""
    file = tmp_path / "a.jpg"
    pixels = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
    entries = struct.pack("<HHII", 0x0112, 3, 1, turned) + struct.pack(
        "<HHI4s", tag, 2, 4, b"no\0\0"
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"\0\0\0\0"
    Image.fromarray(pixels).save(file, exif=exif, quality=95)
    raw = Image.open(file).convert("RGB")
    got = images.open_image(file)
    way = images._TURNED.get(turned)
    assert np.array_equal(got, raw if way is None else raw.transpose(way))
    assert got.size == ((16, 24) if turned >= 5 else (24, 16))
    if tag == 0x9003:  # one that Pillow can write: both ways agree
        assert np.array_equal(got, ImageOps.exif_transpose(Image.open(file)).convert("RGB"))


def test_a_png_with_much_text_is_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a" * 3 * 2**20, zip=True)
    Image.new("RGB", (20, 16), (5, 6, 7)).save(tmp_path / "a.png", pnginfo=text)
    assert np.unique(np.asarray(images.open_image(tmp_path / "a.png"))).tolist() == [5, 6, 7]


def test_a_picture_of_one_row_is_named(tmp_path):
    numbered(tmp_path / "in/a", [f"{n}.png" for n in range(4)])
    picture(tmp_path / "in/a/rule.png", 3, (400, 1))
    picture(tmp_path / "in/a/wide.png", 3, (3000, 17))
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert len(table) == 4
    assert skipped.set_index("file")["reason"].to_dict() == {
        "a/rule.png": "stored as 400 x 1 pixels, wanted at least 8 a side",
        "a/wide.png": "stored as 1024 x 6 pixels, wanted at least 8 a side",
    }


def test_links_that_lead_nowhere_are_named(tmp_path):
    numbered(tmp_path / "in/a", ["0.png", "1.png"])
    (tmp_path / "in/a/gone.png").symlink_to("elsewhere/x.png")
    (tmp_path / "in/a/loop.png").symlink_to("loop.png")
    (tmp_path / "in/b").symlink_to("/nowhere/b")
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert len(table) == 2
    assert skipped.set_index("file")["reason"].to_dict() == {
        "b": "lies beside the folders of the classes, in none",
        "a/gone.png": "a link to 'elsewhere/x.png', which is not there",
        "a/loop.png": "a link to 'loop.png', which is not there",
    }


def test_what_macos_puts_into_archives_is_no_class(tmp_path):
    numbered(tmp_path / "in/a", ["0.png", "1.png"])
    (tmp_path / "in/__MACOSX/a").mkdir(parents=True)
    (tmp_path / "in/__MACOSX/a/._0.png").write_bytes(b"x")
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert set(table["class_name"]) == {"a"} and skipped.empty


@pytest.mark.parametrize("around", ["my dogs", "my dogs/all of them"])
def test_one_folder_around_all_is_stepped_into(tmp_path, around):
    numbered(tmp_path / "in" / around / "a", ["0.png", "1.png"])
    numbered(tmp_path / "in" / around / "b", ["2.png"])
    (tmp_path / "in/__MACOSX/my dogs").mkdir(parents=True)
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert sorted(table["class_name"]) == ["a", "a", "b"] and skipped.empty
    assert f"{around}/a/0.png" in set(table["image_id"])


def test_a_lone_split_is_no_folder_around_all(tmp_path):
    numbered(tmp_path / "in/test/a", ["0.png"])
    numbered(tmp_path / "in/train/a", ["1.png"])
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    table, _ = datasets.load("mine", spec, tmp_path / "s")
    assert dict(zip(table["image_id"], table["split"])) == {
        "train/a/1.png": "train",
        "test/a/0.png": "test",
    }
    shutil.rmtree(tmp_path / "in/test")
    numbered(tmp_path / "in/train/b", ["2.png"])
    table, _ = datasets.load("mine", spec, tmp_path / "t")
    assert set(table["class_name"]) == {"a", "b"}


def test_unicode_forms_of_names_are_one_name(tmp_path):
    nfd = unicodedata.normalize("NFD", "café")
    numbered(tmp_path, [f"{nfd}/0.png", f"{nfd}/1.png"])
    (tmp_path / "a.csv").write_text("path,label\ncafé/0.png,café\ncafé/1.png," + nfd + "\n")
    spec = {"source": "csv", "path": f"{tmp_path}/a.csv"}
    table, skipped = datasets.load("mine", spec, tmp_path / "s")
    assert set(table["class_name"]) == {"café"} and len(table) == 2 and skipped.empty
    numbered(tmp_path / "in" / nfd, ["0.png"])
    spec = {"source": "imagefolder", "root": f"{tmp_path}/in"}
    assert set(datasets.load("mine", spec, tmp_path / "t")[0]["class_name"]) == {"café"}
    numbered(tmp_path / "in" / "café", ["0.png"])
    with pytest.raises(datasets.DatasetError, match="both name the class 'café'"):
        datasets.load("mine", spec, tmp_path / "t")


@pytest.mark.parametrize("name", ["NA", "null", "A$AP$ dog"])
def test_class_names_are_text_whatever_they_look_like(tmp_path, name):
    numbered(tmp_path, ["0.png", "1.png"])
    (tmp_path / "a.csv").write_text(f"path,label\n0.png,{name}\n1.png,{name}\n")
    spec = {"source": "csv", "path": f"{tmp_path}/a.csv"}
    assert set(datasets.load("mine", spec, tmp_path / "s")[0]["class_name"]) == {name}


def bank(tmp_path: Path, text: str) -> phrase_bank.Bank:
    (tmp_path / "b.yaml").write_text(text, encoding="utf-8")
    found = phrase_bank.load_bank(tmp_path / "b.yaml", "mine", ["dog"])
    phrase_bank.check_bank(found)
    return found


def test_phrases_that_look_alike_are_one_phrase(tmp_path):
    nfd = unicodedata.normalize("NFD", "café")
    for arms in (
        {"feasible": ["café"], "infeasible": [nfd]},
        {"feasible": ["café", nfd], "infeasible": ["a", "b"]},
    ):
        text = yaml.safe_dump(PHRASES | {"families": {"mine": {"color": arms}}})
        with pytest.raises(phrase_bank.PhraseError, match=r"in both arms|repeated"):
            bank(tmp_path, text)


@pytest.mark.parametrize("place", ["{phrse}", "{}", "{Class}"])
def test_a_place_that_nothing_fills_is_named(tmp_path, place):
    sentence = f"a {place} {{class}}"
    for change in ({"verify": {"color": sentence}}, {"templates": {"color": {"edit": sentence}}}):
        with pytest.raises(phrase_bank.PhraseError, match=r"color.*is filled by nothing; wanted"):
            bank(tmp_path, yaml.safe_dump(PHRASES | change))


def test_a_key_given_twice_is_named(tmp_path):
    text = yaml.safe_dump(PHRASES)
    assert bank(tmp_path, text)["colors"]["red"] == [200, 0, 0]
    twice = text.replace("      feasible:\n", "      feasible:\n      - red\n      feasible:\n")
    assert twice != text
    with pytest.raises(phrase_bank.PhraseError, match="'feasible'.*twice|twice.*feasible"):
        bank(tmp_path, twice)
