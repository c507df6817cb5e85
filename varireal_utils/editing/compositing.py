"""Composition: what must not change does not change by a single pixel."""

from __future__ import annotations

import cv2
import numpy as np


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
            f"{editable.shape}; take both back from the canvas before composing"
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
