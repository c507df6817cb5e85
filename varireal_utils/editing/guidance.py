"""Guidance maps of a photograph: object mask and canny lines (VariReal's method figure).

symbols   image  (H, W, 3) uint8 RGB;  mask (H, W) uint8 0 | 255
          lines  uint8 0 | 255, of the canvas's size

Masks are the data set's own where it has them; editing/segmentation.py finds the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd

from ..core import storage
from ..core.config_editing import GuidanceOnCanvas
from ..core.seeds import seed_for
from . import canvas

VERDICTS = ("ok", "empty", "tiny", "huge", "in pieces")


def canny(
    image: np.ndarray,
    mask: np.ndarray,
    blur: int = 5,
    low: float = 0.7,
    high: float = 255,
    median: Literal["object", "picture"] = "object",
) -> np.ndarray:
    """Lines of the object over white; (H, W) uint8 0 | 255.

    The lower threshold is `low` times a median, the upper one `high`. median "object": of the
    object's grey values after a `blur` x `blur` Gaussian, and Canny sees the blurred picture, so
    thresholds depend on the object alone. "picture", the reference's rule (docs/protocol.md, C1):
    of the whole picture over white after a mean blur, and Canny sees the unblurred colours.
    """
    over_white = np.where(mask[..., None] > 0, image, 255).astype(np.uint8)
    if median == "picture":
        middle = float(np.median(cv2.blur(over_white, (blur, blur))))
        bgr = np.ascontiguousarray(over_white[..., ::-1])  # of equal channels, the first one counts
        return cv2.Canny(bgr, int(max(0.0, low * middle)), high)
    grey = cv2.GaussianBlur(cv2.cvtColor(over_white, cv2.COLOR_RGB2GRAY), (blur, blur), 0)
    inside = grey[mask > 0]
    middle = float(np.median(inside)) if inside.size else 255.0
    return cv2.Canny(grey, min(low * middle, high), high)


def lines_of(image: np.ndarray, mask: np.ndarray, settings: GuidanceOnCanvas) -> np.ndarray:
    """Lines of a photograph's object, drawn on the canvas that it is edited on."""
    if settings.canvas.canvas:
        image, mask = (canvas.place(a, settings.canvas)[0] for a in (image, mask))
    own = settings
    return canny(image, mask, own.canny_blur, own.canny_low, own.canny_high, own.canny_median)


def grabcut_mask(
    image: np.ndarray,
    margin: float = 0.08,
    rounds: int = 4,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """A mask where a data set ships none and no segmenter finds one: GrabCut from a box.

    box: (x0, y0, x1, y1) in pixels; without it a centred one that leaves out `margin` of each side,
    so an object that leaves the picture is cut off there.
    A rough stand-in (mean IoU of about 0.6 with the trimaps of 70 real pets), so its rows are
    marked in the quality table. Returns (H, W) uint8 0 | 255, never empty.
    """
    height, width = image.shape[:2]
    marks = np.zeros((height, width), np.uint8)
    box = _rectangle(box, width, height, margin)
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(
            np.ascontiguousarray(image[..., ::-1]),
            marks,
            box,
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            rounds,
            cv2.GC_INIT_WITH_RECT,
        )
        mask = np.where((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    except cv2.error:  # a flat picture has no two colour models
        mask = np.zeros((height, width), np.uint8)
    mask = largest(mask)
    if not mask.any():
        mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 255
    return mask


def _rectangle(box: tuple | None, width: int, height: int, margin: float) -> tuple:
    """(x, y, width, height) for GrabCut, which needs some background: a pixel on each side."""
    if box is None:
        dx, dy = max(1, int(width * margin)), max(1, int(height * margin))
        return dx, dy, max(1, width - 2 * dx), max(1, height - 2 * dy)
    x0, x1 = (int(np.clip(round(v), 1, max(1, width - 1))) for v in (box[0], box[2]))
    y0, y1 = (int(np.clip(round(v), 1, max(1, height - 1))) for v in (box[1], box[3]))
    return x0, y0, max(1, x1 - x0), max(1, y1 - y0)


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
    verdict = (
        "empty"
        if area == 0
        else "tiny"
        if area < 0.02
        else "huge"
        if area > 0.90
        else "in pieces"
        if pieces > 3
        else "ok"
    )
    return {"area": area, "pieces": pieces, "touches": touches, "verdict": verdict}


def guide(
    row: dict, study: Path, out: Path, settings: GuidanceOnCanvas, find: Callable | None = None
) -> dict:
    """Mask and lines of one image, written to out/mask and out/canny; returns its row.

    row: of images.parquet. The data set's own mask is used where there is one (origin "given"),
    unless guidance.masks is "found", else what find(image, class name) -> segmentation.Found finds
    ("sam2" or "grabcut", with its box and score), else GrabCut's.
    """
    image = storage.read_image(study / row["path"])
    has, facts = has_mask(row) and settings.masks == "given", {}
    if has:
        mask, origin = storage.read_mask(study / row["mask_path"]), "given"
    elif find is None:
        mask, origin = grabcut_mask(image), "grabcut"
    else:
        found = find(image, row["class_name"])
        mask, origin, facts = found.mask, found.origin, found.facts()
    lines = lines_of(image, mask, settings)
    name, paths = f"{storage.slug(row['image_id'])}.png", {}
    for kind, picture in (("mask", mask), ("canny", lines)):
        storage.write_image(out / kind / name, picture)
        paths[f"{kind}_path"] = (out / kind / name).relative_to(study).as_posix()
    return {
        "image_id": row["image_id"],
        "path": row["path"],
        "split": row["split"],
        "origin": origin,
        **paths,
        **mask_quality(mask),
        "line_share": float((lines > 0).mean()),
        **(facts if facts.get("asked") else {}),
    }


def has_mask(row: dict) -> bool:
    """Does images.parquet name a mask for this photograph?"""
    return isinstance(row.get("mask_path"), str) and bool(row["mask_path"])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two (H, W) masks, 0..1; 1 for two empty ones."""
    a, b = a > 0, b > 0
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def compare(
    table: pd.DataFrame, study: Path, find: Callable, count: int, out: Path | None = None
) -> pd.DataFrame:
    """How well the finder does where the data set tells: its masks against the given ones.

    table: of images.parquet; `count` of its photographs with a given mask are taken, by a hash of
    their ids. Found masks are written to out/found. Returns image_id, class_name, path, given_path,
    found_path, origin, box_score, iou (0..1), one row a photograph.
    """
    given = [r for r in table.to_dict("records") if has_mask(r)]
    given.sort(key=lambda r: (seed_for("guidance", "compare", r["image_id"]), r["image_id"]))
    rows = []
    for row in given[:count]:
        found = find(storage.read_image(study / row["path"]), row["class_name"])
        path = ""
        if out is not None:
            file = out / "found" / f"{storage.slug(row['image_id'])}.png"
            storage.write_image(file, found.mask)
            path = file.relative_to(study).as_posix()
        rows.append(
            {
                "image_id": row["image_id"],
                "class_name": row["class_name"],
                "path": row["path"],
                "given_path": row["mask_path"],
                "found_path": path,
                "origin": found.origin,
                "box_score": np.nan if found.score is None else found.score,
                "iou": iou(found.mask, storage.read_mask(study / row["mask_path"])),
            }
        )
    return pd.DataFrame(
        rows,
        columns=[
            "image_id",
            "class_name",
            "path",
            "given_path",
            "found_path",
            "origin",
            "box_score",
            "iou",
        ],
    ).astype({"box_score": float, "iou": float})


def quality(maps: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """The quality table, a row for each origin of masks (given, sam2, grabcut).

    masks: how many the study uses; ok, empty, tiny, huge, in pieces: of each verdict; area: median
    share of the picture; compared: photographs whose given mask was found again this way; iou,
    iou_p10: mean and lowest tenth of their IoU (nan: none compared); bad: share of IoU below 0.5.
    """
    rows = []
    for origin in ("given", "sam2", "grabcut"):
        here, there = maps[maps["origin"] == origin], compared[compared["origin"] == origin]
        if here.empty and there.empty:
            continue
        counts = here["verdict"].value_counts()
        rows.append(
            {
                "origin": origin,
                "masks": len(here),
                **{v: int(counts.get(v, 0)) for v in VERDICTS},
                "area": here["area"].median(),
                "compared": len(there),
                "iou": there["iou"].mean(),
                "iou_p10": there["iou"].quantile(0.1),
                "bad": (there["iou"] < 0.5).mean() if len(there) else np.nan,
            }
        )
    return pd.DataFrame(rows).set_index("origin")


def worst(maps: pd.DataFrame, compared: pd.DataFrame, count: int = 8) -> pd.DataFrame:
    """The masks to look at first, with path, mask_path and a `note` that says why; beside_path is
    the picture to show next to it and `beside` says what that is, lines or the given mask.

    First those whose verdict is not "ok", then, of the compared ones, those of the lowest IoU, then
    the largest ones.
    """
    found = compared.rename(columns={"found_path": "mask_path", "given_path": "beside_path"})
    found = found.assign(
        beside="given mask",
        rank=1.0 + found["iou"],
        note=[f"{o}, IoU {v:.2f}" for o, v in zip(found["origin"], found["iou"])],
    )
    used = maps.rename(columns={"canny_path": "beside_path"})
    rank = np.where(maps["verdict"] != "ok", 0.0, 3 - maps["area"])
    used = used.assign(
        beside="lines",
        rank=rank,
        note=[
            f"{o}, {v}, {a:.0%}" for o, v, a in zip(maps["origin"], maps["verdict"], maps["area"])
        ],
    )
    columns = ["image_id", "path", "mask_path", "beside_path", "note", "beside", "rank"]
    rows = [used[columns], found.loc[found["mask_path"] != "", columns]]
    both = pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True)
    return both.sort_values(["rank", "image_id"], ignore_index=True).head(count)
