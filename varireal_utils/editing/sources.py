"""Photographs with their guidance, as an edit reads them.

symbols   image     (H, W, 3) uint8 RGB;  mask, lines (H, W) uint8 0 | 255
          editable  (H, W) uint8 0 | 255, what an edit may change
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..core import storage
from ..core.attributes import ATTRIBUTES
from ..core.study_paths import StudyPaths
from . import compositing


@dataclass(frozen=True)
class Source:
    """A photograph and its guidance; arrays as in the module's symbols."""

    image: np.ndarray
    mask: np.ndarray
    editable: np.ndarray
    lines: np.ndarray


def editable_mask(attribute: str, mask: np.ndarray, paint: np.ndarray | None) -> np.ndarray:
    """What an attribute's edit may change, (H, W) uint8 0 | 255: all but the object, or its
    paintable surface, the whole object where `paint` is None."""
    if ATTRIBUTES[attribute].region == "background":
        return np.where(mask > 0, 0, 255).astype(np.uint8)
    return mask if paint is None else np.where(paint > 0, 255, 0).astype(np.uint8)


def boxed(source: Source, size: int) -> tuple[Source, compositing.Box | None]:
    """A photograph and its guidance on a square canvas of `size` pixels; 0 leaves it as it is."""
    if not size:
        return source, None
    parts = [
        compositing.letterbox(a, size, size)
        for a in (source.image, source.mask, source.editable, source.lines)
    ]
    return Source(*(canvas for canvas, _ in parts)), parts[0][1]


def input_files(paths: StudyPaths, dataset: str) -> list[Path]:
    """The tables that edits rest on; their rows name the pictures with their digests."""
    return [
        paths.images_table(dataset),
        paths.guidance_table(dataset),
        paths.phrase_bank(dataset),
    ]


def read_inputs(paths: StudyPaths, dataset: str) -> pd.DataFrame:
    """Read the images of a data set with their guidance, indexed by image_id."""
    table = storage.read_table(paths.images_table(dataset))
    guide = storage.read_table(paths.guidance_table(dataset))
    columns = ["image_id", "mask_path", "canny_path"]
    return (
        table.drop(columns="mask_path", errors="ignore")
        .merge(guide[columns], on="image_id", how="left")
        .set_index("image_id", drop=False)
    )


def reader(study: Path, table: pd.DataFrame, attribute: str) -> Callable[[str], Source]:
    """image_id -> photograph with its guidance, for edits of an attribute; table: of
    `read_inputs`."""
    paints = table.get("paint_mask_path", pd.Series(None, index=table.index))

    def read(image_id: str) -> Source:
        row, paint = table.loc[image_id], paints[image_id]
        mask = storage.read_mask(study / row["mask_path"])
        own = storage.read_mask(study / paint) if isinstance(paint, str) and paint else None
        return Source(
            storage.read_image(study / row["path"]),
            mask,
            editable_mask(attribute, mask, own),
            storage.read_mask(study / row["canny_path"]),
        )

    return read
