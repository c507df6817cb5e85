"""Composition: what must not change does not change by a single pixel.

Also the letterbox that lets models with fixed sizes see photographs of any shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


def compose(
    source: np.ndarray, edited: np.ndarray, editable: np.ndarray, feather: int = 0
) -> np.ndarray:
    """`edited` where `editable` (H, W) uint8 is 255, `source` where it is 0, byte for byte.

    feather: pixels over which the edit fades in, inside the editable region only, so that nothing
    outside it changes. Raises ValueError when the three differ in size.
    """
    if source.shape != edited.shape or source.shape[:2] != editable.shape:
        raise ValueError(
            f"sizes differ: source {source.shape}, edited {edited.shape}, mask "
            f"{editable.shape}; undo the letterbox before composing"
        )
    if feather <= 0:
        return np.where(editable[..., None] > 0, edited, source)
    depth = cv2.distanceTransform((editable > 0).astype(np.uint8), cv2.DIST_L2, 5)
    weight = np.clip(depth / (feather + 1), 0, 1)[..., None]
    mixed = np.rint((1 - weight) * source + weight * edited).astype(np.uint8)
    return np.where(editable[..., None] > 0, mixed, source)


def changed_outside(source: np.ndarray, result: np.ndarray, editable: np.ndarray) -> int:
    """Number of pixels outside the editable region that differ; 0 for every edit of the study."""
    return int(((source != result).any(axis=2) & (editable == 0)).sum())


@dataclass(frozen=True)
class Box:
    """How a picture was letterboxed: its own size and its size inside the box, (height, width)."""

    height: int
    width: int
    inner_height: int
    inner_width: int


def letterbox(image: np.ndarray, size: int, multiple: int = 8) -> tuple[np.ndarray, Box]:
    """Longest side to `size`, padded with black on the right and below to multiples of `multiple`.

    (H, W, 3) pictures are scaled by LANCZOS, (H, W) masks by nearest neighbour.
    """
    h, w = image.shape[:2]
    scale = size / max(h, w)
    ih, iw = max(1, round(h * scale)), max(1, round(w * scale))
    way = Image.Resampling.LANCZOS if image.ndim == 3 else Image.Resampling.NEAREST
    inner = np.asarray(Image.fromarray(image).resize((iw, ih), way))
    out = np.zeros(
        (-(-ih // multiple) * multiple, -(-iw // multiple) * multiple, *image.shape[2:]), np.uint8
    )
    out[:ih, :iw] = inner
    return out, Box(h, w, ih, iw)


def unletterbox(image: np.ndarray, box: Box) -> np.ndarray:
    """Back to the picture's own size."""
    inner = image[: box.inner_height, : box.inner_width]
    if inner.shape[:2] == (box.height, box.width):
        return inner.copy()
    way = Image.Resampling.LANCZOS if image.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(inner).resize((box.width, box.height), way))
