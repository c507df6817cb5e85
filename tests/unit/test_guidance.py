"""Guidance and priors of real photographs: shapes, masks, and nothing changed outside."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from varireal_utils.core import storage
from varireal_utils.core.config_editing import CanvasSettings, GuidanceOnCanvas
from varireal_utils.data import datasets
from varireal_utils.editing import canvas, compositing, guidance, priors

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VARIREAL_SHARED", ROOT.parent / "shared"))
PETS = SHARED / "data" / "oxford_pets_mini"
needs_pets = pytest.mark.skipif(
    not PETS.is_dir(),
    reason=f"{PETS} is not there; VARIREAL_SHARED "
    "names the folder that holds data/oxford_pets_mini",
)
SETTINGS = GuidanceOnCanvas(canny_low=0.7, canny_high=255, canny_blur=5)


@pytest.mark.parametrize("pixels", [0, 1, 4, 9, -1, -4])
def test_dilate_is_an_exact_disc(pixels):
    mask = np.zeros((40, 50), np.uint8)
    mask[12:25, 20:32] = 255
    y, x = np.nonzero(mask > 0 if pixels >= 0 else mask == 0)
    rows, columns = np.mgrid[0:40, 0:50]
    squares = ((rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2).min(axis=2)
    near = squares <= pixels**2
    wanted = near if pixels >= 0 else ~near
    assert ((priors.dilate(mask, pixels) > 0) == wanted).all()


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("pixels", [3, -3])
def test_dilate_of_nothing_and_of_everything(value, pixels):
    mask = np.full((20, 20), value, np.uint8)
    assert (priors.dilate(mask, pixels) == mask).all()


def test_canny_follows_the_papers_rule():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8), (9, 9), 0)
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 255
    grey = cv2.cvtColor(
        np.where(mask[..., None] > 0, image, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY
    )
    grey = cv2.GaussianBlur(grey, (5, 5), 0)
    wanted = cv2.Canny(grey, 0.7 * float(np.median(grey[mask > 0])), 255)
    assert (guidance.canny(image, mask) == wanted).all()


def test_largest_piece_without_holes():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:25, 5:25], mask[10:15, 10:15], mask[30:34, 30:34] = 255, 0, 255
    wanted = np.zeros_like(mask)
    wanted[5:25, 5:25] = 255
    assert (guidance.largest(mask) == wanted).all()
    assert not guidance.largest(np.zeros_like(mask)).any()


def test_guide_uses_the_given_mask_and_says_where_it_did_not(tmp_path):
    image = np.full((32, 48, 3), 90, np.uint8)
    image[8:24, 12:36] = (220, 60, 30)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 12:36] = 255
    storage.write_image(tmp_path / "a.png", image)
    storage.write_image(tmp_path / "m.png", mask)
    base = {"image_id": "Class A/a.jpg", "path": "a.png", "split": "train"}
    out = tmp_path / "guidance"
    row = guidance.guide(base | {"mask_path": "m.png"}, tmp_path, out, SETTINGS)
    assert row["origin"] == "given" and row["verdict"] == "ok"
    assert (storage.read_mask(tmp_path / row["mask_path"]) == mask).all()
    assert storage.read_mask(tmp_path / row["canny_path"]).any()
    for missing in ({}, {"mask_path": ""}, {"mask_path": None}, {"mask_path": float("nan")}):
        assert guidance.guide(base | missing, tmp_path, out, SETTINGS)["origin"] == "grabcut"


def test_iou_by_hand():
    a, b = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    assert guidance.iou(a, b) == 1
    a[:2], b[1:3] = 255, 255
    assert guidance.iou(a, b) == 4 / 12 and guidance.iou(a, a) == 1 and guidance.iou(a, 0 * a) == 0


def test_the_quality_table_and_the_worst_masks():
    maps = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "path": list("abcd"),
            "mask_path": list("abcd"),
            "canny_path": list("wxyz"),
            "origin": ["given", "given", "sam2", "grabcut"],
            "area": [0.2, 0.4, 0.3, 0.95],
            "verdict": ["ok", "ok", "ok", "huge"],
        }
    )
    compared = pd.DataFrame(
        {
            "image_id": ["a", "b"],
            "path": ["a", "b"],
            "found_path": ["fa", "fb"],
            "given_path": ["ga", "gb"],
            "origin": ["sam2", "grabcut"],
            "iou": [0.9, 0.3],
        }
    )
    table = guidance.quality(maps, compared)
    assert list(table.index) == ["given", "sam2", "grabcut"]
    assert table.loc["given", "masks"] == 2 and table.loc["given", "compared"] == 0
    assert np.isclose(table.loc["given", "area"], 0.3) and np.isnan(table.loc["given", "iou"])
    assert table.loc["sam2", "iou"] == 0.9 and table.loc["sam2", "bad"] == 0
    assert table.loc["grabcut", "huge"] == 1 and table.loc["grabcut", "bad"] == 1
    first = guidance.worst(maps, compared, 4)
    assert list(first["mask_path"]) == ["d", "fb", "fa", "b"]  # verdict, lowest IoU, then area
    assert first["note"].iloc[1] == "grabcut, IoU 0.30"
    assert list(first["beside_path"]) == ["z", "gb", "ga", "x"]
    assert list(first["beside"]) == ["lines", "given mask", "given mask", "lines"]
    nothing = compared.iloc[:0]
    assert list(guidance.worst(maps, nothing, 2)["mask_path"]) == ["d", "b"]
    assert guidance.quality(maps, nothing)["iou"].isna().all()


def test_comparing_uses_given_masks_alone_in_an_order_of_their_own(tmp_path):
    image, mask = np.full((20, 20, 3), 9, np.uint8), np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    storage.write_image(tmp_path / "p.png", image)
    storage.write_image(tmp_path / "m.png", mask)
    table = pd.DataFrame(
        [
            {
                "image_id": f"i{n}",
                "class_name": "cat",
                "path": "p.png",
                "mask_path": "m.png" if n % 2 else "",
            }
            for n in range(10)
        ]
    )

    def find(picture, class_name):
        from varireal_utils.editing.segmentation import Found

        assert class_name == "cat"
        return Found(np.where(np.arange(20) < 10, mask, 0).astype(np.uint8), "sam2", None, 0.7)

    got = guidance.compare(table, tmp_path, find, 3, tmp_path / "guidance")
    assert len(got) == 3 and (got["iou"] == 0.5).all() and (got["box_score"] == 0.7).all()
    assert set(got["image_id"]) < {"i1", "i3", "i5", "i7", "i9"}
    none = guidance.compare(table.assign(mask_path=""), tmp_path, find, 3)
    assert none.empty and none["iou"].dtype == float
    maps = pd.DataFrame(
        [
            {
                "origin": "grabcut",
                "verdict": "ok",
                "area": 0.3,
                "image_id": "a",
                "path": "p",
                "mask_path": "m",
                "canny_path": "c",
            }
        ]
    )
    assert np.isnan(guidance.quality(maps, none).loc["grabcut", "iou"])
    assert list(guidance.worst(maps, none)["note"]) == ["grabcut, ok, 30%"]
    again = guidance.compare(table.iloc[::-1], tmp_path, find, 3)
    assert list(again["image_id"]) == list(got["image_id"]) and (again["found_path"] == "").all()


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    study = tmp_path_factory.mktemp("study")
    spec = {
        "source": "oxford_pets",
        "root": str(PETS),
        "train_per_class": 3,
        "val_per_class": 0,
        "test_per_class": 0,
    }
    return datasets.load("pets", spec, study)[0], study


@needs_pets
@pytest.mark.shared
def test_guidance_of_real_photographs(pets):
    table, study = pets
    has = table["mask_path"] != ""
    some = pd.concat([table[has].head(6), table[~has].head(2)])
    rows = [
        guidance.guide(r, study, study / "guidance/pets", SETTINGS) for r in some.to_dict("records")
    ]
    assert [r["origin"] for r in rows] == ["given"] * 6 + ["grabcut"] * 2
    for row in rows:
        with Image.open(study / row["path"]) as picture:
            size = picture.size
        for kind in ("mask_path", "canny_path"):
            with Image.open(study / row[kind]) as picture:
                assert picture.size == size and picture.mode == "L"
        assert 0 < row["area"] < 1 and row["pieces"] >= 1
        if row["origin"] == "given":
            assert row["area"] > 0.02 and row["line_share"] > 0


@needs_pets
@pytest.mark.shared
def test_priors_of_real_photographs_change_nothing_outside(pets):
    table, study = pets
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for row in table[table["mask_path"] != ""].head(8).itertuples():
        image, mask = storage.read_image(study / row.path), storage.read_mask(study / row.mask_path)
        for made in (
            priors.color_prior(image, mask, (90, 40, 160), 0.5),
            priors.texture_prior(image, mask, tile, 0.5),
        ):
            assert compositing.changed_outside(image, made, mask) == 0
            assert (made != image).any()
        made, editable = priors.background_prior(image, mask, tile, 12)
        assert compositing.changed_outside(image, made, editable) == 0
        boxed, box = canvas.place(image, CanvasSettings(canvas=512))
        back = compositing.compose(image, canvas.take_back(boxed, box), editable)
        assert compositing.changed_outside(image, back, editable) == 0
