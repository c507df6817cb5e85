"""Priors, guidance and composition, exact to the pixel."""

import numpy as np
import pytest

from varireal_utils.core.config_editing import CanvasSettings
from varireal_utils.editing import canvas, compositing, guidance, priors

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)
MASK = np.zeros((40, 56), np.uint8)
MASK[10:30, 15:40] = 255


def test_color_prior_rounds_and_stays_inside():
    out = priors.color_prior(IMAGE, MASK, (200, 10, 90), 0.3)
    wanted = np.rint(0.7 * IMAGE.astype(float) + 0.3 * np.array([200, 10, 90])).astype(np.uint8)
    assert (out[MASK > 0] == wanted[MASK > 0]).all()
    assert (out[MASK == 0] == IMAGE[MASK == 0]).all()
    assert (priors.color_prior(IMAGE, MASK, (1, 2, 3), 0.0) == IMAGE).all()
    assert (priors.color_prior(IMAGE, MASK, (1, 2, 3), 1.0)[MASK > 0] == [1, 2, 3]).all()
    with pytest.raises(ValueError, match="alpha"):
        priors.color_prior(IMAGE, MASK, (1, 2, 3), 1.5)


def test_a_texture_keeps_its_scale_on_every_object():
    tile = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    out, inside = priors.texture_prior(IMAGE, MASK, tile, 1.0), MASK > 0
    assert (out[inside] == priors.fit(tile, *IMAGE.shape[:2])[inside]).all()
    assert (out[~inside] == IMAGE[~inside]).all()
    assert (priors.texture_prior(IMAGE, np.zeros_like(MASK), tile, 0.5) == IMAGE).all()
    assert (priors.cut(tile, 32) == tile[16:48, 16:48]).all() and priors.cut(tile, 0) is tile
    with pytest.raises(ValueError, match="prior_crop"):
        priors.cut(tile, 65)


def test_background_prior_keeps_the_object_and_a_rim():
    scene = np.full((80, 80, 3), 7, np.uint8)
    prior, editable = priors.background_prior(IMAGE, MASK, scene, 2)
    rim = priors.dilate(MASK, 2)
    assert (prior[rim > 0] == IMAGE[rim > 0]).all() and (prior[rim == 0] == 7).all()
    assert ((editable == 0) == (MASK > 0)).all()
    assert rim[20, 13] == 255 and rim[20, 12] == 0


def test_keep_mean_takes_the_objects_colour():
    tile = RNG.integers(60, 200, (64, 64, 3), dtype=np.uint8)
    flat = np.full_like(IMAGE, (120, 130, 140))
    out = priors.keep_mean(tile, flat, MASK)
    assert np.abs(out.reshape(-1, 3).mean(axis=0) - [120, 130, 140]).max() < 1


def test_fit_covers_and_crops():
    assert priors.fit(IMAGE, 40, 56) is IMAGE
    assert priors.fit(IMAGE, 91, 33).shape == (91, 33, 3)


@pytest.mark.parametrize("feather", [0, 3])
def test_compose_changes_nothing_outside(feather):
    edited = 255 - IMAGE
    out = compositing.compose(IMAGE, edited, MASK, feather)
    assert compositing.changed_outside(IMAGE, out, MASK) == 0
    assert (out[20, 27] == edited[20, 27]).all()
    assert compositing.changed_outside(IMAGE, edited, MASK) > 0
    with pytest.raises(ValueError, match="sizes differ"):
        compositing.compose(IMAGE, edited[:-1], MASK)


SHAPES = [(97, 41), (41, 97), (64, 64), (3, 200)]
CANVASES = [
    CanvasSettings(canvas=64),
    CanvasSettings(canvas=64, resize="lanczos4"),
    CanvasSettings(canvas=64, canvas_shape="photograph"),
]


@pytest.mark.parametrize("settings", CANVASES, ids=lambda s: f"{s.canvas_shape}-{s.resize}")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_canvas_gives_a_picture_back_in_its_size(shape, settings):
    picture = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    placed, box = canvas.place(picture, settings)
    assert placed.shape[0] % 8 == placed.shape[1] % 8 == 0 and max(placed.shape) == 64
    assert canvas.take_back(placed, box).shape == picture.shape
    mask, mask_box = canvas.place(np.full(shape, 255, np.uint8), settings)
    assert set(np.unique(mask)) <= {0, 255} and mask_box == box
    assert (canvas.take_back(mask, mask_box) == 255).all()
    if settings.canvas_shape == "photograph":
        assert (mask == 255).all()  # nothing beside the photograph, whatever its shape
    lines = np.zeros_like(mask)
    lines[box.inner_height // 2] = 255
    assert canvas.lines_back(lines, box).any()


def test_a_canvas_of_the_photographs_shape_goes_on_with_its_pixels():
    settings = CanvasSettings(canvas=1024, canvas_shape="photograph")
    ramp = np.tile(np.arange(300, dtype=np.uint8)[:, None, None] // 2, (1, 500, 3))
    placed, box = canvas.place(ramp, settings)
    assert placed.shape == (640, 1024, 3) and box.inner_height == 614
    assert (placed[614:] == placed[588:614][::-1]).all()


def test_a_mask_is_smooth_on_a_larger_canvas():
    yy, xx = np.mgrid[:60, :60]
    disc = np.where((yy - 30) ** 2 + (xx - 30) ** 2 < 400, 255, 0).astype(np.uint8)
    large, _ = canvas.place(disc, CanvasSettings(canvas=480))
    steps = np.kron(disc, np.ones((8, 8), np.uint8))
    jumps = [np.abs(np.diff((m[130:350] > 0).argmax(axis=1))).max() for m in (large, steps)]
    assert jumps[0] < jumps[1] / 2 and (large.shape, jumps[1]) == (steps.shape, 8)


def test_canny_sees_the_object_only():
    picture = np.full((64, 64, 3), 250, np.uint8)
    picture[20:44, 20:44] = 40
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 20:44] = 255
    clean = guidance.canny(picture, mask)
    noisy = picture.copy()
    noisy[:10] = RNG.integers(0, 256, (10, 64, 3))
    assert clean.any() and not clean[26:38, 26:38].any()
    assert (guidance.canny(noisy, mask) == clean).all()
    assert not guidance.canny(picture, np.zeros_like(mask)).any()


def test_mask_quality_names_what_is_wrong():
    quality = guidance.mask_quality
    assert quality(MASK)["verdict"] == "ok" and quality(MASK)["touches"] == ""
    assert quality(np.zeros_like(MASK))["verdict"] == "empty"
    assert quality(np.full_like(MASK, 255)) == {
        "area": 1.0,
        "pieces": 1,
        "touches": "left right top bottom",
        "verdict": "huge",
    }
    dotted = np.zeros((60, 60), np.uint8)
    dotted[5::15, 5::15] = 255
    dotted[6::15, 5::15] = 255
    assert quality(np.kron(dotted, np.ones((3, 3), np.uint8)))["verdict"] in ("in pieces", "tiny")


def test_grabcut_finds_an_object_and_is_never_empty():
    picture = np.full((80, 80, 3), (60, 160, 60), np.uint8)
    picture[25:55, 25:55] = (200, 40, 40)
    mask = guidance.grabcut_mask(picture)
    truth = np.zeros((80, 80), bool)
    truth[25:55, 25:55] = True
    assert ((mask > 0) & truth).sum() / ((mask > 0) | truth).sum() > 0.8
    assert guidance.grabcut_mask(np.zeros((40, 40, 3), np.uint8)).any()
