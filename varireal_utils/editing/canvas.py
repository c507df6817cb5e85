"""Places photographs of any shape on the canvas that models see, and takes pictures back.

symbols   image    (H, W, 3) uint8 RGB;  mask (H, W) uint8 0 | 255
          canvas   the picture that a model sees: a square, black beside the photograph, or the
                   photograph's own shape, its sides rounded up by mirrored pixels
          box      where on the canvas the photograph lies

The reference resizes by OpenCV's LANCZOS4, which does not antialias, cuts sides to whole pixels and
takes a mask at 128 (docs/protocol.md, C1, "before and after"): `resize: lanczos4`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ..core.config_editing import CanvasSettings, Resize

THRESHOLD = 128  # of a resized mask
TAPS = 4  # pixels that a Lanczos filter reaches to each side, in the larger of two grids


@dataclass(frozen=True)
class Box:
    """How a picture was placed: its own size, its size on the canvas, and how it was resized."""

    height: int
    width: int
    inner_height: int
    inner_width: int
    resize: Resize = "lanczos"

    @property
    def reach(self) -> int:
        """Pixels of the photograph beyond which a pixel of the canvas has no effect."""
        larger = max(1.0, self.height / self.inner_height, self.width / self.inner_width)
        return int(np.ceil(TAPS * larger)) + 1


def resized(image: np.ndarray, height: int, width: int, way: Resize) -> np.ndarray:
    """A picture in another size; a mask (H, W) is cut at 128 again."""
    if image.shape[:2] == (height, width):
        return image.copy()
    if way == "lanczos4":
        out = cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4)
    else:
        size, lanczos = (width, height), Image.Resampling.LANCZOS
        out = np.asarray(Image.fromarray(image).resize(size, lanczos))
    return out if out.ndim == 3 else np.where(out < THRESHOLD, 0, 255).astype(np.uint8)


def box_of(image: np.ndarray, settings: CanvasSettings) -> Box:
    """Where a photograph lies on the canvas: its longest side is the canvas's."""
    height, width = image.shape[:2]
    size, way = settings.canvas, settings.resize
    if way == "lanczos4":
        aspect = width / height  # as the reference rounds: towards zero
        inner = (int(size / aspect), size) if width > height else (size, int(size * aspect))
    else:
        scale = size / max(height, width)
        inner = (round(height * scale), round(width * scale))
    return Box(height, width, max(1, inner[0]), max(1, inner[1]), way)


def shape_of(box: Box, settings: CanvasSettings) -> tuple[int, int]:
    """(height, width) of the canvas that a photograph is placed on."""
    if settings.canvas_shape == "square":
        return settings.canvas, settings.canvas
    step = max(8, settings.canvas // 128 * 8)  # few shapes, so that edits make batches
    height, width = (-(-side // step) * step for side in (box.inner_height, box.inner_width))
    return height, width


def place(image: np.ndarray, settings: CanvasSettings) -> tuple[np.ndarray, Box]:
    """A picture or mask on the canvas, at its top left."""
    box = box_of(image, settings)
    inner = resized(image, box.inner_height, box.inner_width, box.resize)
    height, width = shape_of(box, settings)
    if settings.canvas_shape == "photograph":
        below, right = height - box.inner_height, width - box.inner_width
        return cv2.copyMakeBorder(inner, 0, below, 0, right, cv2.BORDER_REFLECT), box
    out = np.zeros((height, width, *image.shape[2:]), np.uint8)
    out[: box.inner_height, : box.inner_width] = inner
    return out, box


def take_back(canvas: np.ndarray, box: Box) -> np.ndarray:
    """The photograph's part of a canvas, in the photograph's own size."""
    inner = canvas[: box.inner_height, : box.inner_width]
    return resized(np.ascontiguousarray(inner), box.height, box.width, box.resize)


def lines_back(lines: np.ndarray, box: Box) -> np.ndarray:
    """Lines of a canvas in the photograph's size, to be looked at: none is lost by shrinking."""
    inner = np.ascontiguousarray(lines[: box.inner_height, : box.inner_width])
    way = cv2.INTER_AREA if box.inner_width > box.width else cv2.INTER_NEAREST
    out = cv2.resize(inner, (box.width, box.height), interpolation=way)
    return np.where(out > 0, 255, 0).astype(np.uint8)
