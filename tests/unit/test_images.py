"""Pictures from outside: read rightly, or named with the reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from varireal_utils.data import images
from varireal_utils.data.images import ImageProblem

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def smooth() -> np.ndarray:
    """(30, 40, 3) uint8 that JPEG keeps to within a few levels; every corner differs."""
    y, x = np.mgrid[0:30, 0:40]
    return np.stack([x * 6, y * 8, 255 - x * 3 - y * 3], axis=2).astype(np.uint8)


def read(path) -> np.ndarray:
    picture = images.open_image(path)
    assert picture.mode == "RGB" and not picture.info
    return np.asarray(picture)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, turn):
    # How a camera stores an upright picture under each orientation: the inverse of its meaning.
    store = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]
    stored = Image.fromarray(NOISE)
    stored = stored if store is None else stored.transpose(Image.Transpose(store))
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "a.png", exif=exif)
    assert (read(tmp_path / "a.png") == NOISE).all()
    assert images.orientation(tmp_path / "a.png") == turn


def test_adobe_cmyk_jpeg_keeps_its_colours(tmp_path):
    red = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    red.save(tmp_path / "a.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 3


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 257, 12850, 32896, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert read(tmp_path / name)[0, :, 0].tolist() == [0, 1, 50, 128, 255]


def test_rgb_of_16_bits(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    line = b"\0" + struct.pack(">6H", 0, 32896, 65535, 257, 514, 771)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(line))
        + chunk(b"IEND", b"")
    )
    assert read(tmp_path / "a.png").tolist() == [[[0, 128, 255], [1, 2, 3]]]


def test_real_valued_grey(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[-1, 0.5]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ImageProblem, match=r"b\.tif: grey values from -1 to 0\.5"):
        images.open_image(tmp_path / "b.tif")


def test_what_is_transparent_lies_on_white(tmp_path):
    clear = np.dstack([np.full((4, 4, 3), 10, np.uint8), np.full((4, 4), 0, np.uint8)])
    clear[0, 0, 3], clear[0, 1, 3] = 255, 128
    Image.fromarray(clear).save(tmp_path / "rgba.png")
    out = read(tmp_path / "rgba.png")
    assert out[0, 0].tolist() == [10] * 3 and out[1, 1].tolist() == [255] * 3
    assert 130 <= out[0, 1, 0] <= 134
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    assert read(tmp_path / "p.png").tolist() == [[[200, 0, 0], [255, 255, 255]]]
    grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA")
    grey.save(tmp_path / "la.png")
    assert read(tmp_path / "la.png")[0, :, 0].tolist() == [7, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_other_modes_are_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "YCbCr" else "a.png")
    Image.fromarray(smooth()).convert(mode).save(path)
    assert read(path).shape == (30, 40, 3)


def test_colour_profiles_become_srgb_and_broken_ones_are_ignored(tmp_path):
    grey = Image.new("RGB", (4, 4), (120, 60, 30))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in {"srgb": srgb, "broken": b"not a profile"}.items():
        grey.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert read(tmp_path / f"{name}.png")[0, 0].tolist() == [120, 60, 30]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    grey.save(tmp_path / "unfit.png", icc_profile=lab)
    assert read(tmp_path / "unfit.png")[0, 0].tolist() == [120, 60, 30]


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE.repeat(8, 0).repeat(8, 1)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image"),
        (jpeg()[:400], "not an image|truncated"),
        (jpeg()[:-2000], "truncated or damaged"),
        (jpeg()[: len(jpeg()) // 2], "truncated or damaged"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, data, reason):
    (tmp_path / "bad file.jpg").write_bytes(data)
    with pytest.raises(ImageProblem, match=rf"bad file\.jpg: .*({reason})"):
        images.open_image(tmp_path / "bad file.jpg")


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(ImageProblem, match=f"{path.name}: cannot be read"):
            images.open_image(path)


def test_a_truncated_png_and_a_bomb(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageProblem, match="truncated or damaged"):
        images.open_image(tmp_path / "b.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ImageProblem, match="bomb"):
        images.open_image(tmp_path / "a.png")


HALF = np.zeros((30, 40), np.uint8)
HALF[:, 20:] = 255


@pytest.mark.parametrize("kind", ["L", "1", "RGB", "zeros and ones", "palette", "alpha", "16 bit"])
def test_masks_of_every_kind(tmp_path, kind):
    mask = Image.fromarray(HALF)
    if kind in ("1", "RGB"):
        mask = mask.convert(kind)
    elif kind == "zeros and ones":
        mask = Image.fromarray(HALF // 255)
    elif kind == "palette":
        mask = Image.fromarray(HALF // 255).convert("P")
        mask.putpalette([0, 0, 0, 64, 0, 0])
    elif kind == "alpha":
        mask = Image.fromarray(np.dstack([NOISE, HALF]))
    elif kind == "16 bit":
        mask = Image.fromarray(HALF.astype(np.uint16) * 257)
    mask.save(tmp_path / "m.png")
    out = images.open_mask(tmp_path / "m.png", (40, 30))
    assert out.dtype == np.uint8 and (out == HALF).all()


def test_a_mask_of_another_size(tmp_path):
    Image.fromarray(HALF.repeat(2, 0).repeat(2, 1)).save(tmp_path / "twice.png")
    with pytest.raises(ImageProblem, match="mask of 80 x 60 for a photograph of 40 x 30"):
        images.open_mask(tmp_path / "twice.png", (40, 30))
    Image.fromarray(HALF[:, :-1]).save(tmp_path / "m.png")
    with pytest.raises(ImageProblem, match=r"m\.png: mask of 39 x 30 for a photograph of 40 x 30"):
        images.open_mask(tmp_path / "m.png", (40, 30))
    Image.fromarray(HALF.T).save(tmp_path / "t.png")
    with pytest.raises(ImageProblem, match="mask of 30 x 40"):
        images.open_mask(tmp_path / "t.png", (40, 30))


@pytest.mark.parametrize("turn, store", [(5, 5), (6, 2), (7, 6), (8, 4)])
def test_a_mask_drawn_before_the_photograph_was_turned(tmp_path, turn, store):
    mask = HALF.copy()
    mask[:7] = 0  # nothing about it is symmetric
    Image.fromarray(mask).transpose(Image.Transpose(store)).save(tmp_path / "m.png")
    assert (images.open_mask(tmp_path / "m.png", (40, 30), turn) == mask).all()


def test_unreadable_masks_and_labels_are_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"")
    with pytest.raises(ImageProblem, match=r"m\.png: empty file"):
        images.open_mask(tmp_path / "m.png", (40, 30))
    Image.fromarray(NOISE).save(tmp_path / "rgb.png")
    with pytest.raises(ImageProblem, match="one 8-bit label a pixel"):
        images.open_labels(tmp_path / "rgb.png", (40, 30))
    Image.fromarray(HALF).save(tmp_path / "l.png")
    with pytest.raises(ImageProblem, match="labels of 40 x 30 for a photograph of 41 x 30"):
        images.open_labels(tmp_path / "l.png", (41, 30))
    assert (images.open_labels(tmp_path / "l.png", (40, 30)) == HALF).all()


def test_fitted_size_never_enlarges():
    assert images.fitted_size((400, 300), 200) == (200, 150)
    assert images.fitted_size((400, 300), 150, "shortest") == (200, 150)
    assert images.fitted_size((40, 30), 200) == images.fitted_size((40, 30), None) == (40, 30)
    assert images.fitted_size((5000, 3), 100) == (100, 1)


@pytest.mark.parametrize(
    ("mode", "bits", "size"), [("I;16", 16, (13_000, 12_000)), ("RGBA", 8, (13_000, 12_000))]
)
def test_pixels_times_depth_is_bounded_before_anything_is_decoded(
    tmp_path, monkeypatch, mode, bits, size
):
    """A PNG of 348 KB and 178 million 16-bit pixels took 4.5 GB."""
    colour = {"I;16": 0, "RGBA": 6}[mode]
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "big.png").write_bytes(data)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *a: pytest.fail("decoded"))
    with pytest.raises(images.ImageProblem, match=f"pixels of mode {mode}, .* bytes where"):
        images.open_image(tmp_path / "big.png")


def test_grey_of_16_bits_becomes_8_by_rows(tmp_path):
    values = np.linspace(0, 65535, 12).reshape(3, 4).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    got = np.asarray(images.open_image(tmp_path / "grey.png"))[..., 0]
    assert (got == np.rint(values.astype(float) * 255 / 65535)).all()
