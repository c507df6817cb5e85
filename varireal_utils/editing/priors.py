"""Computes VariReal's "real prior", which inpainting starts from (docs/protocol.md, C1).

symbols   image, prior  (H, W, 3) uint8 RGB     mask  (H, W) uint8 0 | 255, the region concerned
          alpha         weight of what is new, 0 keeps the photograph, 1 replaces it

Invariant: outside the mask (for backgrounds: inside the object) a prior equals the photograph byte
for byte; inside, values are rounded, not truncated.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image


def dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask grown by `pixels` in every direction (a disc); negative values shrink it."""
    if pixels == 0:
        return mask.copy()
    # By distances, not by a structuring element: exact, and as fast for 120 pixels as for 2.
    seeds = (mask == 0 if pixels > 0 else mask > 0).astype(np.uint8)
    if seeds.all():
        return mask.copy()
    near = cv2.distanceTransform(seeds, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= abs(pixels) + 1e-3
    return np.where(near if pixels > 0 else ~near, 255, 0).astype(np.uint8)


def fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a picture to cover height x width (LANCZOS) and cut the middle out of it."""
    h, w = picture.shape[:2]
    if (h, w) == (height, width):
        return picture
    scale = max(height / h, width / w)
    size = (max(width, round(w * scale)), max(height, round(h * scale)))
    grown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    y, x = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return grown[y : y + height, x : x + width]


def background_prior(
    image: np.ndarray, mask: np.ndarray, background: np.ndarray, dilate_px: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The object, with a rim of `dilate_px` pixels of its surroundings, on a new background.

    Returns the prior and the inpainting mask, 255 everywhere but on the object.
    """
    keep = dilate(mask, dilate_px)[..., None] > 0
    scene = fit(background, *image.shape[:2])
    return (
        np.where(keep, image, scene).astype(np.uint8),
        np.where(mask > 0, 0, 255).astype(np.uint8),
    )


def color_prior(
    image: np.ndarray, mask: np.ndarray, rgb: tuple[int, int, int], alpha: float
) -> np.ndarray:
    """The paper's flat blend: (1 - alpha) image + alpha rgb inside the mask."""
    flat = np.broadcast_to(np.asarray(rgb, np.uint8), image.shape)
    return _blend(image, flat, mask, alpha)


def texture_prior(
    image: np.ndarray, mask: np.ndarray, texture: np.ndarray, alpha: float, crop: int = 0
) -> np.ndarray:
    """A surface picture that covers the photograph, blended in inside the mask.

    The surface keeps one scale over all photographs: fitted to each object it would be finer on a
    small one, and what a pattern is depends on its scale. crop: side in pixels of the middle of
    `texture` that is used (the reference: 256 of 512), 0 all of it.
    """
    if crop:
        y, x = ((size - crop) // 2 for size in texture.shape[:2])
        if min(y, x) < 0:
            raise ValueError(
                f"a crop of {crop} pixels does not fit into a surface picture of "
                f"{texture.shape[1]} x {texture.shape[0]}: lower prior_crop"
            )
        texture = texture[y : y + crop, x : x + crop]
    return _blend(image, fit(texture, *image.shape[:2]), mask, alpha)


def keep_mean(texture: np.ndarray, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The surface in the object's own mean colour, so that a texture edit changes texture only."""
    goal = image[mask > 0].mean(axis=0) if mask.any() else texture.reshape(-1, 3).mean(axis=0)
    grey = texture.astype(np.float64).mean(axis=2, keepdims=True)
    return np.clip(np.rint(goal + (grey - grey.mean())), 0, 255).astype(np.uint8)


def _blend(image: np.ndarray, new: np.ndarray, mask: np.ndarray, alpha: float) -> np.ndarray:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share from 0 to 1, got {alpha}")
    mixed = (1 - alpha) * image.astype(np.float64) + alpha * new.astype(np.float64)
    rounded = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0, rounded, image)
