"""Describes a drawn object as parts: one list gives both its picture and its exact masks.

Object coordinates: x to the right (the object faces right), y **down**, the ground under the feet
or wheels at y = 0, the whole object about 1 wide and centred on x = 0. The renderer scales, flips
and places them; parts have no pixels.

Invariant (tests/unit/test_world.py): object mask = union of all parts; paint mask = body parts
minus the details drawn over them; both come from the very paths that are painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import skia


@dataclass(frozen=True)
class Part:
    """One closed shape (or stroke) of an object, in drawing order (first is furthest away).

    role:      "body" - the paintable surface, filled with the object's colour and texture;
               "detail" - everything else (windows, wheels, eyes, nose, undercarriage), own colour.
    color:     RGB 0..255; only for details.
    bottom:    RGB 0..255 of a vertical gradient's lower end; details only; None for a flat fill.
    light:     lightness factor for a body part's whole area: 1 neutral, 0.7 for the far legs or the
               far wing, 1.15 for a surface that faces the sky.
    volume:    strength 0..1 of the top-light / bottom-dark shading over a body part's own bounds,
               which makes it look round; 0 is flat.
    stroke:    0 fills the path; > 0 strokes it with this width (object units, round caps).
    """

    path: skia.Path
    role: str
    color: tuple[int, int, int] = (0, 0, 0)
    bottom: tuple[int, int, int] | None = None
    light: float = 1.0
    volume: float = 0.6
    stroke: float = 0.0


def body(path: skia.Path, light: float = 1.0, volume: float = 0.6, stroke: float = 0.0) -> Part:
    """A paintable part."""
    return Part(path, "body", light=light, volume=volume, stroke=stroke)


def detail(
    path: skia.Path,
    color: tuple[int, int, int],
    bottom: tuple[int, int, int] | None = None,
    stroke: float = 0.0,
) -> Part:
    """A part with a colour of its own."""
    return Part(path, "detail", color=color, bottom=bottom, stroke=stroke)
