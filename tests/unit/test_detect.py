"""Finding the object: the best box, phrases of odd names, and a mask whatever the models answer."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny_vision_models
from varireal_utils.core import storage
from varireal_utils.core.config_editing import GuidanceOnCanvas
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.data import datasets
from varireal_utils.editing import guidance, segmentation
from varireal_utils.models import loaders

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VARIREAL_SHARED", ROOT.parent / "shared"))
CPU = torch.device("cpu")
PETS = SHARED / "data" / "oxford_pets_mini"
needs_pets = pytest.mark.skipif(
    not PETS.is_dir(),
    reason=f"{PETS} is not there; VARIREAL_SHARED "
    "names the folder that holds data/oxford_pets_mini",
)
SIZE = (40, 60)
ODD = [
    "Dodge 16.4",
    "Ram C/V Cargo Van Minivan 2012",
    "F-16A/B",
    "Mercedes-Benz S-Class Conv.",
    "What? A cat.",
    "ＢＭＷ 3 Série",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> ModelRoles:
    folder = tmp_path_factory.mktemp("seers")
    return ModelRoles(
        detector=ModelSpec(path=str(tiny_vision_models.detector(folder / "detector"))),
        segmenter=ModelSpec(path=str(tiny_vision_models.segmenter(folder / "segmenter"))),
    )


def settings(noun: str = "", box_threshold: float = 0.4) -> GuidanceOnCanvas:
    return GuidanceOnCanvas(
        canny_low=0.7, canny_high=255, canny_blur=5, noun=noun, box_threshold=box_threshold
    )


def photograph(seed: int = 0) -> np.ndarray:
    picture = np.full((*SIZE, 3), 90, np.uint8)
    picture[10:30, 15:45] = (220, 60, 30)
    return picture + np.random.default_rng(seed).integers(0, 20, picture.shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("scores", "boxes", "wanted"),
    [
        (
            [0.5, 0.9, 0.7],
            [[0, 0, 9, 9], [5, 5, 20, 20], [1, 1, 8, 8]],
            (5, 5, 20, 20),
        ),  # not the 1st
        ([0.9, 0.9], [[0, 0, 4, 4], [0, 0, 30, 30]], (0, 0, 30, 30)),  # of equal ones the larger
        ([0.9, 0.5], [[-5, -5, 70, 50], [1, 1, 9, 9]], (0, 0, 60, 40)),  # clipped to the picture
        ([0.9, 0.5], [[61, 1, 90, 9], [1, 1, 9, 9]], (1, 1, 9, 9)),  # outside: none
        ([np.nan, 0.5, 0.9], [[0, 0, 9, 9], [1, 1, 9, 9], [np.nan, 0, 9, 9]], (1, 1, 9, 9)),
        ([0.39, 0.2], [[0, 0, 9, 9], [1, 1, 9, 9]], None),
        ([], np.zeros((0, 4)), None),
    ],
)
def test_the_best_box(scores, boxes, wanted):
    found = segmentation.best_box(np.array(scores), np.array(boxes), SIZE, 0.4)
    assert (found and found[0]) == wanted
    if wanted:
        assert found[1] == np.nanmax(
            [s for s, b in zip(scores, boxes) if segmentation.best_box([s], [b], SIZE, 0.4)]
        )


@pytest.mark.parametrize(
    ("name", "noun", "wanted"),
    [
        ("Samoyed", "pet", "a pet samoyed."),
        ("Ram C/V Cargo Van", "car", "a car ram c v cargo van."),
        ("Dodge 16.4", "car", "a car dodge 16 4."),
        ("Smart Car", "car", "a smart car."),
        ("F-16A/B", "", "a f-16a b."),
        ("pet", "pet", "a pet."),
        ("Conv.", "", "a conv."),
    ],
)
def test_phrases(name, noun, wanted):
    assert segmentation.phrase_of(name, noun) == wanted


@pytest.mark.parametrize("name", ["", " . ", "/", "?", "-"])
def test_a_name_without_words_is_refused(name):
    with pytest.raises(ValueError, match="leaves nothing to ask.*guidance.noun"):
        segmentation.phrase_of(name)
    assert segmentation.phrase_of(name, "car").startswith("a car")


@pytest.mark.parametrize("name", ODD)
def test_every_name_is_one_phrase_to_the_detector(models, name):
    _, processor = loaders.load_detector(models, CPU)
    ids = processor(
        images=Image.fromarray(photograph()),
        text=segmentation.phrase_of(name, "pet"),
        return_tensors="pt",
    )["input_ids"][0].tolist()
    ends = [i for i in ids if i in (1012, 1029)]  # "." and "?": what Grounding DINO splits at
    assert ends == [1012] and ids[-2:] == [1012, 102]


def test_boxes_and_masks_have_the_pictures_size(models):
    detector = loaders.load_detector(models, CPU)
    segmenter = loaders.load_segmenter(models, CPU)
    picture = photograph()
    scores, boxes = segmentation.boxes_of(detector, picture, "a pet cat.")
    assert scores.shape == (12,) and boxes.shape == (12, 4)  # every query, whatever its score
    assert ((scores > 0) & (scores < 1)).all() and np.abs(boxes).max() > 1.5  # pixels, not shares
    mask = segmentation.cut_out(segmenter, picture, (15, 10, 45, 30))
    assert mask.shape == SIZE and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
    assert (mask == guidance.largest(mask)).all()
    other = segmentation.cut_out(segmenter, picture, (2, 2, 9, 9))
    assert (mask != other).any()  # the box is heard


def test_the_noun_is_asked_where_the_class_finds_nothing():
    asked = []

    def propose(image, phrase):
        asked.append(phrase)
        return (
            (np.array([0.8]), np.array([[5, 5, 25, 25]]))
            if phrase == "a car."
            else (np.array([0.1]), np.array([[0, 0, 60, 40]]))
        )

    def cut(image, box):
        mask = np.zeros(SIZE, np.uint8)
        mask[8:20, 8:20] = 255
        return mask

    found = segmentation.find(photograph(), "Dodge 16.4", settings("car"), propose, cut)
    assert asked == ["a car dodge 16 4.", "a car."]
    assert found.origin == "sam2" and found.box == (5, 5, 25, 25) and found.score == 0.8
    assert found.facts()["asked"] == "a car." and found.facts()["box_x1"] == 25


def none(image, phrase):
    return np.zeros(0), np.zeros((0, 4))


def one(image, phrase):
    return np.array([0.9]), np.array([[14.0, 9.0, 46.0, 31.0]])


def test_nothing_found_falls_back():
    nothing = np.zeros(SIZE, np.uint8)
    found = segmentation.find(
        photograph(), "cat", settings(), none, lambda *_: pytest.fail("no box to cut")
    )
    assert (found.origin, found.box, found.score) == ("grabcut", None, None)
    assert (found.mask == guidance.grabcut_mask(photograph())).all() and found.mask.any()
    speck = nothing.copy()
    speck[12, 12] = 255
    for empty in (nothing, speck):  # a box, but SAM 2 cuts out next to nothing: GrabCut in the box
        found = segmentation.find(photograph(), "cat", settings(), one, lambda *_, e=empty: e)
        assert found.origin == "grabcut" and found.score == 0.9
        inside = np.zeros(SIZE, bool)
        inside[9:31, 14:46] = True
        assert found.mask.any() and not found.mask[~inside].any()
    wanted = nothing.copy()
    wanted[10:30, 15:45] = 255
    assert guidance.iou(found.mask, wanted) > 0.9


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (-9, -9, 99, 99), (59, 39, 60, 40), (3, 3, 4, 4)])
def test_grabcut_takes_any_box(box):
    mask = guidance.grabcut_mask(photograph(), box=box)
    assert mask.shape == SIZE and mask.any()


def test_one_model_without_the_other_is_refused(models):
    for role, missing in (("detector", "segmenter"), ("segmenter", "detector")):
        lone = models.only(role)
        with pytest.raises(ValueError, match=f"models.{missing} is missing"):
            segmentation.build_finder(settings(), lone, CPU)
    found = segmentation.build_finder(settings(), ModelRoles(), CPU)(photograph(), "cat")
    assert found.origin == "grabcut" and (found.mask == guidance.grabcut_mask(photograph())).all()


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    folder = tiny_vision_models.detector(tmp_path / "d")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        loaders.load_detector(ModelRoles(detector=ModelSpec(path=str(folder))), CPU)


@needs_pets
@pytest.mark.shared
def test_real_photographs_end_to_end(models, tmp_path):
    spec = {
        "source": "oxford_pets",
        "root": str(PETS),
        "train_per_class": 1,
        "val_per_class": 0,
        "test_per_class": 0,
    }
    table = datasets.load("pets", spec, tmp_path)[0]
    own, strict = settings("pet", 0.0), settings("pet", 1.0)
    look, out = segmentation.build_finder(own, models, CPU), tmp_path / "guidance/pets"
    bare = table[table["mask_path"] != ""].head(3).assign(mask_path="")
    rows = [guidance.guide(r, tmp_path, out, own, look) for r in bare.to_dict("records")]
    for row in rows:
        picture = storage.read_image(tmp_path / row["path"])
        mask = storage.read_mask(tmp_path / row["mask_path"])
        assert mask.shape == picture.shape[:2] and mask.any()
        assert row["origin"] in ("sam2", "grabcut") and row["asked"].startswith("a pet ")
        assert 0 <= row["box_x0"] < row["box_x1"] <= picture.shape[1] and 0 < row["box_score"] <= 1
    again = guidance.guide(bare.to_dict("records")[0], tmp_path, out, own, look)
    assert again == rows[0]
    unsure = guidance.guide(
        bare.to_dict("records")[0],
        tmp_path,
        out,
        own,
        segmentation.build_finder(strict, models, CPU),
    )
    assert unsure["origin"] == "grabcut" and np.isnan(unsure["box_score"])
    assert unsure["asked"] == "a pet."  # the noun alone was the last that was asked
    compared = guidance.compare(table, tmp_path, look, 3, out)
    assert len(compared) == 3 and compared["iou"].between(0, 1).all()
    found = storage.read_mask(tmp_path / compared["found_path"].iloc[0])
    given = storage.read_mask(tmp_path / compared["given_path"].iloc[0])
    assert guidance.iou(found, given) == compared["iou"].iloc[0]
