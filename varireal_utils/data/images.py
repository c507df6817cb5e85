"""Pictures from outside, read the same way whatever made them; and contact sheets.

symbols   image  PIL "RGB", upright (EXIF orientation applied), in sRGB
          mask   (H, W) uint8 0 | 255, 255 is the object
          size   (width, height), PIL's order

Invariant (tests/unit/test_images.py): a file is either read rightly or named, with the reason, in
an `ImageProblem`; nothing is guessed in silence. The study's own pictures are read by `store`.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont, ImageOps

MAX_PIXELS = 178_956_970  # beyond it Pillow itself speaks of a decompression bomb
_ORIENTATION = 0x0112
_TURNED = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    are scaled first. A mask of another size is refused, for nobody knows where on the photograph
    it lies, but for one drawn on the photograph as stored, before EXIF orientation `turned` (5 to
    8) turned it. Raises ImageProblem, naming both sizes.
    """
    path = Path(path)
    picture = _upright(_decode(path))
    if picture.size != size and turned in _TURNED and picture.size == size[::-1]:
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
    return tuple(max(1, round(s * max_size / measure)) for s in size)


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
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if load:
                picture.load()
    except Image.UnidentifiedImageError as error:
        raise ImageProblem(
            f"{path}: not an image, or of a kind that Pillow does not read "
            f"(it starts with {data[:8]!r})"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageProblem(
            f"{path}: more than {MAX_PIXELS:,} pixels, a decompression bomb? Scale it down first"
        ) from error
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageProblem(f"{path}: truncated or damaged: {error}") from error
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright(picture: Image.Image) -> Image.Image:
    if _orientation(picture) == 1:
        return picture
    return ImageOps.exif_transpose(picture)


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
    values = np.asarray(picture).astype(np.float64)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= 65535):
        raise ImageProblem(
            f"{path}: grey values from {low:g} to {high:g} have no known scale; "
            "store it with 8 or 16 bits"
        )
    if picture.mode == "F":
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    else:
        top = 65535.0
    return np.rint(values * (255.0 / top)).astype(np.uint8)


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


_PLATE, _INK, _PAPER = (241, 241, 239), (51, 51, 51), (255, 255, 255)


def contact_sheet(
    pictures: Sequence,
    labels: Sequence[str] | None = None,
    columns: int = 8,
    thumb: int = 160,
    title: str = "",
) -> Image.Image:
    """Pictures in rows, each in a square of `thumb` pixels over its caption.

    pictures: PIL images, (H, W, 3) or (H, W) uint8 arrays, or None for an empty place; labels: one
    each, or none at all; a caption is wrapped to its square, three lines at most; title: above all,
    two lines at most. Returns RGB.
    """
    labels = [] if labels is None else list(labels)
    if labels and len(labels) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures but {len(labels)} labels")
    if not len(pictures):
        pictures, labels = [None], ["no pictures"]
    labels = labels or [""] * len(pictures)
    gap, font = max(4, thumb // 16), _font(max(9, min(13, thumb // 9)))
    line = sum(font.getmetrics()) + 1
    texts = [_wrap(str(label), font, thumb) for label in labels]
    starts = range(0, len(pictures), columns)
    heights = [thumb + gap + line * max(len(t) for t in texts[i : i + columns]) for i in starts]
    width = gap + min(columns, len(pictures)) * (thumb + gap)
    large = _font(max(12, min(18, thumb // 8)))
    head, step = _wrap(title, large, width - 2 * gap, most=2), sum(large.getmetrics()) + 1
    top = gap + (len(head) * step + gap if head else 0)
    sheet = Image.new("RGB", (width, top + sum(heights) + gap * len(heights)), _PAPER)
    pen, y = ImageDraw.Draw(sheet), top
    for row, text in enumerate(head):
        pen.text((gap, gap + row * step), text, _INK, large)
    for start, height in zip(starts, heights, strict=True):
        for i in range(start, min(start + columns, len(pictures))):
            x = gap + (i - start) * (thumb + gap)
            pen.rectangle([x, y, x + thumb - 1, y + thumb - 1], fill=_PLATE)
            _paste(sheet, pictures[i], x, y, thumb)
            for row, text in enumerate(texts[i]):
                pen.text(
                    (x + thumb / 2, y + thumb + gap // 2 + row * line),
                    text,
                    _INK,
                    font,
                    anchor="ma",
                )
        y += height + gap
    return sheet


def _paste(sheet: Image.Image, picture: object, x: int, y: int, thumb: int) -> None:
    """A picture, whole, in the middle of its square; small ones keep their pixels' edges."""
    if picture is None:
        return
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    image, scale = image.convert("RGB"), thumb / max(image.size)
    way = Image.Resampling.LANCZOS if scale < 2 else Image.Resampling.NEAREST
    image = image.resize(tuple(max(1, round(s * scale)) for s in image.size), way)
    sheet.paste(image, (x + (thumb - image.width) // 2, y + (thumb - image.height) // 2))


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of matplotlib: the same on every machine, with more letters than Pillow's own."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int, most: int = 3) -> list[str]:
    """Lines of at most `width` pixels; words are broken where they must, the rest is cut with …"""
    widest = max(1, int(width / max(1.0, font.getlength("x"))))
    for room in range(max(widest * 2, 4), 3, -1):
        lines = textwrap.wrap(text, room)
        if all(font.getlength(part) <= width for part in lines):
            break
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and font.getlength(f"{lines[-1]}…") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = f"{lines[-1].rstrip()}…"
    return lines
