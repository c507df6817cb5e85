"""Photographs with their guidance, as an edit reads them.

symbols   image     (H, W, 3) uint8 RGB;  mask (H, W) uint8 0 | 255
          lines     uint8 0 | 255, of the canvas's size
          editable  (H, W) uint8 0 | 255, what an edit may change
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..core import storage
from ..core.attributes import ATTRIBUTES
from ..core.config_editing import CanvasSettings, EditSettings
from ..core.study_paths import StudyPaths
from . import canvas


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


def placed(
    source: Source, settings: CanvasSettings, attribute: str
) -> tuple[Source, canvas.Box | None]:
    """A photograph and its guidance on the canvas; without one, as they are.

    Its lines were drawn there by 03_guidance. What is beside the photograph may be painted where an
    edit changes the background. Raises ValueError for lines of another canvas.
    """
    if not settings.canvas:
        return source, None
    image, box = canvas.place(source.image, settings)
    mask, _ = canvas.place(source.mask, settings)
    if source.lines.shape != mask.shape:
        raise ValueError(
            f"lines of {source.lines.shape} pixels for a canvas of {mask.shape}: edit.canvas, "
            "canvas_shape or resize changed; run 03_guidance again"
        )
    if ATTRIBUTES[attribute].region == "background":
        return Source(image, mask, editable_mask(attribute, mask, None), source.lines), box
    return Source(image, mask, canvas.place(source.editable, settings)[0], source.lines), box


def canvas_shape(source: Source, settings: CanvasSettings) -> tuple[int, int]:
    """(height, width) of what a model sees of a photograph: equal ones make a batch."""
    if not settings.canvas:
        height, width = source.image.shape[:2]
        return height, width
    return canvas.shape_of(canvas.box_of(source.image, settings), settings)


def untouched(
    source: Source, settings: EditSettings, attribute: str
) -> tuple[np.ndarray, np.ndarray]:
    """What an edit leaves as it is: the picture that it must equal, and where it may differ.

    Composed on the canvas, the whole picture is resized there and back, so that pixels within the
    filter's reach of the edited region differ too.
    """
    if settings.compose_on == "photograph" or not settings.canvas:
        return source.image, source.editable
    inside, box = placed(source, settings, attribute)
    assert box is not None
    near = np.ones((2 * box.reach + 1,) * 2, np.uint8)
    region = canvas.take_back(inside.editable, box)
    return canvas.take_back(inside.image, box), cv2.dilate(region, near)


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
