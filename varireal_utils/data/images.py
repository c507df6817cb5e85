"""Reads photographs, masks and label maps from outside the study, whatever wrote them.

symbols   image  PIL "RGB", upright (EXIF orientation applied), in sRGB
          mask   (H, W) uint8 0 | 255, 255 is the object
          size   (width, height), PIL's order

Invariant (tests/unit/test_images.py): a file is either read rightly or named, with the reason, in
an `ImageProblem`; nothing is guessed in silence. `core.storage` reads the study's own pictures.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb
MAX_BYTES = 4 * MAX_PIXELS  # of a picture in memory, whatever its depth
# bytes a pixel, as decoded and as the RGB that becomes of it
DEPTH = {"1": 4, "L": 4, "P": 4, "LA": 5, "RGB": 3, "I;16": 6, "I;16B": 6, "I;16L": 6}
_ORIENTATION = 0x0112
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow refuses 1 MiB of text or profile in one piece, its limit for a file is 64 MiB
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class ImageProblem(ValueError):
    """A picture that cannot be used; the message names the file and the reason."""


def open_image(path: str | Path) -> Image.Image:
    """A photograph from outside as an upright PIL RGB image, without metadata.

    EXIF orientation is applied; an embedded colour profile is converted to sRGB; CMYK (with Adobe's
    inversion) becomes RGB; 16-bit grey is scaled, not clipped; what is transparent, by an alpha
    channel or by a palette, lies on white; of an animation the first frame is taken. Raises
    ImageProblem for a missing, empty, truncated, damaged or oversized file and for what is none.
    """
    picture = _decode(Path(path))
    return _to_rgb(_upright(picture), Path(path))


def orientation(path: str | Path) -> int:
    """EXIF orientation of a picture, 1 to 8; 1 where it has none. Raises ImageProblem."""
    return _orientation(_decode(Path(path), load=False))


def open_mask(path: str | Path, size: tuple[int, int], turned: int = 1) -> np.ndarray:
    """An object mask from outside for a photograph of `size` (width, height), upright.

    What counts as object: palette colours other than black; where alpha varies, alpha of at least
    128; else a value of at least 128 in any channel, or 1 in a mask of zeros and ones. 16-bit masks
    are scaled first. A mask of another size is refused, since its place on the photograph is
    unknown, except for one drawn on the photograph as stored, before EXIF orientation `turned`
    (5 to 8) turned it. Raises ImageProblem, naming both sizes.
    """
    path = Path(path)
    picture = _upright(_decode(path))
    if picture.size != size and 5 <= turned <= 8 and picture.size == size[::-1]:
        picture = picture.transpose(_TURNED[turned])
    if picture.size != size:
        raise ImageProblem(
            f"{path}: mask of {_by(picture.size)} for a photograph of {_by(size)}; "
            "draw it on the photograph itself, or leave it out"
        )
    return _object(picture, path)


def open_labels(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """The raw values of a label picture, e.g. a trimap: (H, W) uint8. Raises ImageProblem."""
    picture = _decode(Path(path))
    if picture.mode not in ("1", "L", "P"):
        raise ImageProblem(f"{path}: wanted one 8-bit label a pixel, got mode {picture.mode}")
    if picture.size != size:
        raise ImageProblem(f"{path}: labels of {_by(picture.size)} for a photograph of {_by(size)}")
    return np.asarray(picture).astype(np.uint8)


def fitted_size(
    size: tuple[int, int],
    max_size: int | None,
    side: str = "longest",
) -> tuple[int, int]:
    """(width, height) after shrinking the longest or shortest side to at most `max_size` pixels."""
    measure = max(size) if side == "longest" else min(size)
    if max_size is None or measure <= max_size:
        return size
    width, height = (max(1, round(s * max_size / measure)) for s in size)
    return width, height


def _decode(path: Path, load: bool = True) -> Image.Image:
    """The file as Pillow reads it; every failure becomes an ImageProblem."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ImageProblem(f"{path}: cannot be read: {reason}") from error
    if not data:
        raise ImageProblem(f"{path}: empty file (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            _bound(picture)
            if load:
                picture.load()
    except UnidentifiedImageError as error:
        raise ImageProblem(
            f"{path}: not an image, or of a kind that Pillow does not read "
            f"(it starts with {data[:8]!r})"
        ) from error
    except Image.DecompressionBombError as error:
        said = str(error) or f"more than {MAX_PIXELS:,} pixels"
        raise ImageProblem(f"{path}: {said}, a decompression bomb? Scale it down first") from error
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageProblem(f"{path}: truncated or damaged: {error}") from error
    return picture


def _bound(picture: Image.Image) -> None:
    """Refuse what would not fit once it is decoded. Raises DecompressionBombError."""
    count = picture.width * picture.height
    if count > MAX_PIXELS:
        raise Image.DecompressionBombError
    size = count * DEPTH.get(picture.mode, 8)
    if size > MAX_BYTES:
        raise Image.DecompressionBombError(
            f"{_by(picture.size)} pixels of mode {picture.mode}, {size:,} bytes where "
            f"{MAX_BYTES:,} are taken"
        )


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned by its orientation; Pillow's own way writes the EXIF data anew, which
    damaged ones refuse."""
    turned = _orientation(picture)
    return picture if turned == 1 else picture.transpose(_TURNED[turned])


def _to_rgb(picture: Image.Image, path: Path) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_eight_bits(picture, path))
    clear = picture.has_transparency_data
    try:
        if clear:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        if picture.mode in ("P", "PA", "RGBA"):
            picture = picture.convert("RGB")
        if profile:
            picture = _to_srgb(picture, profile)
        picture = picture.convert("RGB")
    except ValueError as error:
        raise ImageProblem(
            f"{path}: colour mode {picture.mode} cannot become RGB: {error}"
        ) from error
    picture.info.clear()
    return picture


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Colours of an embedded profile in sRGB; a broken or unfitting profile is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        return (
            ImageCms.profileToProfile(
                picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            or picture
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture


def _eight_bits(picture: Image.Image, path: Path) -> np.ndarray:
    """16-bit or real-valued grey as (H, W) uint8: 0..65535 and 0..1 are stretched to 0..255."""
    values = np.asarray(picture)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= 65535):
        raise ImageProblem(
            f"{path}: grey values from {low:g} to {high:g} have no known scale; "
            "store it with 8 or 16 bits"
        )
    if picture.mode == "F":
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    else:
        top = 65535.0
    out = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # by rows: real numbers take eight times the room
        out[row] = np.rint(line.astype(np.float64) * (255.0 / top))
    return out


def _object(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W) uint8 0 | 255 by the rules of `open_mask`."""
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        alpha = np.asarray(picture.getchannel(picture.getbands()[-1]))
        if alpha.min() < alpha.max():
            return np.where(alpha >= 128, 255, 0).astype(np.uint8)
    if picture.mode == "P":
        return np.where(np.asarray(picture.convert("RGB")).any(axis=2), 255, 0).astype(np.uint8)
    if picture.mode.startswith("I") or picture.mode == "F":
        raw = np.asarray(picture)
        values = raw.astype(np.uint8) if raw.max() <= 1 else _eight_bits(picture, path)
    elif picture.mode == "L":
        values = np.asarray(picture)
    else:
        values = np.asarray(picture.convert("RGB")).max(axis=2)
    return np.where(values >= (1 if values.max() <= 1 else 128), 255, 0).astype(np.uint8)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
