"""Guidance maps of a photograph: object mask and canny lines (VariReal's method figure).

symbols   image  (H, W, 3) uint8 RGB;  mask (H, W) uint8 0 | 255;  lines (H, W) uint8 0 | 255
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from . import store


def canny(image: np.ndarray, mask: np.ndarray, blur: int = 5, low: float = 0.7,
          high: float = 255) -> np.ndarray:
    """Lines of the object over white, by the paper's rule (PROTOCOL.md, C1).

    Grey values are blurred with a `blur` x `blur` Gaussian; the lower threshold is `low` times
    their median, the upper one `high`. Returns (H, W) uint8 0 | 255.
    """
    over_white = np.where(mask[..., None] > 0, image, 255).astype(np.uint8)
    grey = cv2.GaussianBlur(cv2.cvtColor(over_white, cv2.COLOR_RGB2GRAY), (blur, blur), 0)
    inside = grey[mask > 0]
    median = float(np.median(inside)) if inside.size else 255.0
    return cv2.Canny(grey, min(low * median, high), high)


def grabcut_mask(image: np.ndarray, margin: float = 0.08, rounds: int = 4) -> np.ndarray:
    """A mask where a data set ships none and no segmenter is named: GrabCut from a centred box.

    The box leaves out `margin` of each side, so an object that leaves the picture is cut off there.
    A rough stand-in (mean IoU of about 0.6 with the trimaps of 70 real pets), so its rows are
    marked in the quality table. Returns (H, W) uint8 0 | 255, never empty.
    """
    height, width = image.shape[:2]
    dx, dy = max(1, int(width * margin)), max(1, int(height * margin))
    marks = np.zeros((height, width), np.uint8)
    box = (dx, dy, max(1, width - 2 * dx), max(1, height - 2 * dy))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(np.ascontiguousarray(image[..., ::-1]), marks, box, np.zeros((1, 65)),
                    np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_RECT)
        mask = np.where((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    except cv2.error:  # a flat picture has no two colour models
        mask = np.zeros((height, width), np.uint8)
    mask = largest(mask)
    if not mask.any():
        mask[box[1]:box[1] + box[3], box[0]:box[0] + box[2]] = 255
    return mask


def largest(mask: np.ndarray) -> np.ndarray:
    """Only the largest connected piece of a mask, its holes filled."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return np.zeros_like(mask)
    one = np.where(pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), 255, 0).astype(np.uint8)
    outlines, _ = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(one, outlines, -1, 255, cv2.FILLED)


def mask_quality(mask: np.ndarray) -> dict[str, float | int | str]:
    """What a reader wants to know of a mask before trusting it.

    area: share of the picture, 0..1; pieces: connected parts of at least 0.5 % of the object;
    touches: sides of the picture that the object reaches, e.g. "left bottom"; verdict: "ok",
    "empty", "tiny" (< 2 %), "huge" (> 90 %), "in pieces" (> 3).
    """
    on = mask > 0
    area = float(on.mean())
    count, _, stats, _ = cv2.connectedComponentsWithStats(on.astype(np.uint8), connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA] if count > 1 else np.zeros(0)
    pieces = int((sizes >= 0.005 * on.sum()).sum()) if on.any() else 0
    sides = {"left": on[:, 0], "right": on[:, -1], "top": on[0], "bottom": on[-1]}
    touches = " ".join(name for name, edge in sides.items() if edge.any())
    verdict = ("empty" if area == 0 else "tiny" if area < 0.02 else "huge" if area > 0.90
               else "in pieces" if pieces > 3 else "ok")
    return {"area": area, "pieces": pieces, "touches": touches, "verdict": verdict}


def guide(row: dict, study: Path, out: Path, settings: dict) -> dict:
    """Mask and lines of one image, written to out/mask and out/canny; returns its row.

    row: of images.parquet. The data set's own mask is used where there is one (origin "given"),
    else GrabCut's ("grabcut").
    """
    image = store.read_image(study / row["path"])
    given = row.get("mask_path")
    has = isinstance(given, str) and bool(given)
    mask = store.read_mask(study / given) if has else grabcut_mask(image)
    lines = canny(image, mask, settings["canny_blur"], settings["canny_low"],
                  settings["canny_high"])
    name, paths = f"{store.slug(row['image_id'])}.png", {}
    for kind, picture in (("mask", mask), ("canny", lines)):
        store.write_image(out / kind / name, picture)
        paths[f"{kind}_path"] = (out / kind / name).relative_to(study).as_posix()
    return {"image_id": row["image_id"], "path": row["path"], "split": row["split"],
            "origin": "given" if has else "grabcut", **paths, **mask_quality(mask),
            "line_share": float((lines > 0).mean())}
