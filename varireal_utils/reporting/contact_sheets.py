"""Contact sheets: pictures in rows, each over its caption.

symbols   picture  PIL image, or (H, W, 3) or (H, W) uint8 array

Invariant (tests/unit/test_contact_sheets.py): every picture is shown whole, and a caption never
leaves its square.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
    width, height = (max(1, round(s * scale)) for s in image.size)
    image = image.resize((width, height), way)
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
