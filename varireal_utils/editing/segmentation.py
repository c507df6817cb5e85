"""Finds the object of a photograph by its name: Grounding DINO's best box, cut out by SAM 2.

symbols   image   (H, W, 3) uint8 RGB;  mask (H, W) uint8 0 | 255, one piece without holes
          box     (x0, y0, x1, y1) in pixels of the image, 0 <= x0 < x1 <= W
          score   the detector's confidence in a box, 0..1

    1. ask for "<noun> <class>", then for the noun alone      -> the best box of those found
    2. SAM 2 in that box; a mask of almost nothing counts as none               origin "sam2"
    3. else GrabCut in the box, or in the middle of the picture where there is none   "grabcut"

GrabCut comes with OpenCV (Apache 2.0) and needs no weights: the fallback may be used wherever the
study may. Invariant (tests/unit/test_detect.py): whatever the models answer, a photograph gets a
mask that is not empty, and its row says where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.config_editing import GuidanceOnCanvas, GuidanceSettings
from ..core.config_sections import ModelRoles
from ..models import loaders
from . import canvas
from .guidance import grabcut_mask, largest

Box = tuple[float, float, float, float]
Propose = Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]]
Cut = Callable[[np.ndarray, Box], np.ndarray]
LEAST = 0.05  # of its box that a mask must fill to count


@dataclass(frozen=True)
class Found:
    """A mask, where it comes from ("sam2" or "grabcut"), the box and its score (None: no box)."""

    mask: np.ndarray
    origin: str
    box: Box | None = None
    score: float | None = None
    asked: str = ""

    def facts(self) -> dict[str, Any]:
        """The columns of guidance.parquet that tell how the mask was found."""
        box = self.box or (np.nan,) * 4
        return {
            "asked": self.asked,
            "box_score": np.nan if self.score is None else self.score,
            **{f"box_{k}": float(v) for k, v in zip(("x0", "y0", "x1", "y1"), box)},
        }


def phrase_of(class_name: str, noun: str = "") -> str:
    """One phrase for Grounding DINO, lower case and with the full stop that ends it.

    "." and "?" separate phrases, so those of a name ("16.4", "Conv.") become spaces; "/" and other
    marks are words of their own to it and become spaces too: "F-16A/B" is asked as "f-16a b". The
    noun ("aircraft") comes first unless the name has it. Raises ValueError for a name of no words.
    """
    words = re.sub(r"[^\w\s'&+-]", " ", class_name.lower(), flags=re.UNICODE).split()
    start = noun.lower().split()
    words = words if set(start) <= set(words) else start + words
    if not any(c.isalnum() for w in words for c in w):
        raise ValueError(
            f"class name {class_name!r} leaves nothing to ask a detector for; set "
            "guidance.noun to what the photographs show, e.g. car"
        )
    return f"a {' '.join(words)}."


def best_box(
    scores: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> tuple[Box, float] | None:
    """The box with the highest score, and that score; of equal ones the largest; None for none.

    scores: (N,) 0..1; boxes: (N, 4) x0, y0, x1, y1 in pixels; size: (H, W). Boxes are clipped to
    the picture; those of less than two pixels a side there, of numbers that are none, or with a
    score below `threshold` do not count.
    """
    height, width = size
    scores, boxes = np.asarray(scores, float), np.asarray(boxes, float).reshape(-1, 4)
    clipped = np.clip(boxes, 0, [width, height, width, height])
    sides = clipped[:, 2:] - clipped[:, :2]
    good = (
        np.isfinite(scores)
        & np.isfinite(boxes).all(axis=1)
        & (scores >= threshold)
        & (sides >= 2).all(axis=1)
    )
    if not good.any():
        return None
    best = max(np.flatnonzero(good), key=lambda i: (scores[i], sides[i].prod()))
    x0, y0, x1, y1 = (float(v) for v in clipped[best])
    return (x0, y0, x1, y1), float(scores[best])


@torch.no_grad()
def boxes_of(
    detector: tuple[Any, Any], image: np.ndarray, phrase: str
) -> tuple[np.ndarray, np.ndarray]:
    """Every box that the detector proposes for a phrase: (N,) scores, (N, 4) boxes in pixels."""
    model, processor = detector
    inputs = processor(images=Image.fromarray(image), text=phrase, return_tensors="pt")
    inputs = inputs.to(model.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    found = processor.post_process_grounded_object_detection(
        model(**inputs),
        inputs["input_ids"],
        threshold=0.0,
        text_threshold=0.0,
        target_sizes=[image.shape[:2]],
    )[0]
    return found["scores"].float().cpu().numpy(), found["boxes"].float().cpu().numpy()


@torch.no_grad()
def cut_out(segmenter: tuple[Any, Any], image: np.ndarray, box: Box) -> np.ndarray:
    """SAM 2's mask of what a box holds, (H, W) uint8 0 | 255; its largest piece, holes filled."""
    model, processor = segmenter
    inputs = processor(
        images=Image.fromarray(image), input_boxes=[[list(box)]], return_tensors="pt"
    )
    sizes = inputs["original_sizes"]
    inputs = inputs.to(model.device)
    for key in ("pixel_values", "input_boxes"):
        inputs[key] = inputs[key].to(model.dtype)
    low = model(**inputs, multimask_output=False).pred_masks.float().cpu()
    mask = processor.post_process_masks(low, sizes)[0].numpy().reshape(image.shape[:2])
    return largest(np.where(mask, 255, 0).astype(np.uint8))


def fills(mask: np.ndarray, box: Box) -> float:
    """Share of a box that the mask covers, 0..1."""
    x0, y0, x1, y1 = (round(v) for v in box)
    inside = mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] > 0
    return float(inside.mean()) if inside.size else 0.0


def find(
    image: np.ndarray, class_name: str, settings: GuidanceSettings, propose: Propose, cut: Cut
) -> Found:
    """Find the mask of the object by the three steps of the module's docstring.

    propose(image, phrase) -> scores, boxes; cut(image, box) -> mask; of `settings` noun and
    box_threshold are read.
    """
    noun, best, phrase = settings.noun, None, ""
    for name in (class_name, noun) if noun else (class_name,):
        phrase = phrase_of(name, noun)
        scores, boxes = propose(image, phrase)
        height, width = image.shape[:2]
        best = best_box(scores, boxes, (height, width), settings.box_threshold)
        if best:
            break
    if best is None:
        return Found(grabcut_mask(image), "grabcut", asked=phrase)
    box, score = best
    mask = cut(image, box)
    if fills(mask, box) >= LEAST:
        return Found(mask, "sam2", box, score, phrase)
    return Found(grabcut_mask(image, box=box), "grabcut", box, score, phrase)


def build_finder(
    settings: GuidanceOnCanvas, models: ModelRoles, device: torch.device
) -> Callable[[np.ndarray, str], Found]:
    """(image, class name) -> Found, by the detector and the segmenter; GrabCut without any. They
    see the photograph, or, with find_on "canvas", the canvas.

    Raises ValueError where one of the two is named and not the other.
    """
    look = _finder(settings, models, device)
    if settings.find_on == "photograph":
        return look
    return lambda image, class_name: _found_on_canvas(image, class_name, settings, look)


def _found_on_canvas(
    image: np.ndarray,
    class_name: str,
    settings: GuidanceOnCanvas,
    look: Callable[[np.ndarray, str], Found],
) -> Found:
    """What is found on the canvas, in pixels of the photograph."""
    placed, box = canvas.place(image, settings.canvas)
    found = look(placed, class_name)
    mask = canvas.take_back(found.mask, box)
    if not mask.any():  # found beside the photograph alone
        mask = grabcut_mask(image)
        return Found(mask, "grabcut", asked=found.asked)
    if found.box is None:
        return replace(found, mask=mask)
    x, y = box.width / box.inner_width, box.height / box.inner_height
    x0, y0, x1, y1 = found.box
    return replace(found, mask=mask, box=(x0 * x, y0 * y, x1 * x, y1 * y))


def _finder(
    settings: GuidanceSettings, models: ModelRoles, device: torch.device
) -> Callable[[np.ndarray, str], Found]:
    there = [r for r in ("detector", "segmenter") if models.get(r)]
    if not there:
        return lambda image, class_name: Found(grabcut_mask(image), "grabcut")
    if len(there) == 1:
        missing = ({"detector", "segmenter"} - set(there)).pop()
        raise ValueError(
            f"parameters: models.{missing} is missing beside models.{there[0]}; name both, or "
            "neither for GrabCut"
        )
    detector = loaders.load_detector(models, device)
    segmenter = loaders.load_segmenter(models, device)

    def look(image: np.ndarray, class_name: str) -> Found:
        return find(
            image,
            class_name,
            settings,
            lambda *asked: boxes_of(detector, *asked),
            lambda *asked: cut_out(segmenter, *asked),
        )

    return look
