"""Priors, guidance and composition, exact to the pixel."""

import numpy as np
import pytest

from varireal_utils.editing import compositing, guidance, priors

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
    part = priors.texture_prior(IMAGE, MASK, tile, 1.0, crop=32)
    assert (part == priors.texture_prior(IMAGE, MASK, tile[16:48, 16:48], 1.0)).all()
    with pytest.raises(ValueError, match="prior_crop"):
        priors.texture_prior(IMAGE, MASK, tile, 1.0, crop=65)


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


@pytest.mark.parametrize("shape", [(97, 41), (41, 97), (64, 64), (3, 200)])
def test_letterbox_returns_to_size(shape):
    picture = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxed, box = compositing.letterbox(picture, 64)
    assert boxed.shape[0] % 8 == boxed.shape[1] % 8 == 0 and max(boxed.shape) == 64
    assert compositing.unletterbox(boxed, box).shape == picture.shape
    mask, mask_box = compositing.letterbox(np.full(shape, 255, np.uint8), 64)
    assert set(np.unique(mask)) <= {0, 255}
    assert (compositing.unletterbox(mask, mask_box) == 255).all()


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
