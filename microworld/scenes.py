"""Draws backgrounds: the eighteen scenes of the micro world, each a flat-with-shading illustration.

The one invariant: a scene keeps its layout and its dominant colours whatever the random numbers
say; they only move, resize and re-tone what is there. What identifies a scene also shows around
the border of the picture, where no object covers it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import skia

from . import scenes_built, scenes_wild
from .canvas import Brush, Ground

_SCENES: dict[str, Callable[[Brush], Ground]] = {
    "city street": scenes_built.city_street,
    "highway": scenes_built.highway,
    "parking lot": scenes_built.parking_lot,
    "desert": scenes_wild.desert,
    "pine forest": scenes_wild.pine_forest,
    "snowy mountains": scenes_wild.snowy_mountains,
    "runway": scenes_built.runway,
    "hangar": scenes_built.hangar,
    "cloudy sky": scenes_wild.cloudy_sky,
    "sunset sky": scenes_wild.sunset_sky,
    "living room": scenes_built.living_room,
    "kitchen": scenes_built.kitchen,
    "grassy park": scenes_wild.grassy_park,
    "beach": scenes_wild.beach,
    "underwater": scenes_wild.underwater,
    "moon": scenes_wild.moon,
    "lava field": scenes_wild.lava_field,
    "outer space": scenes_wild.outer_space,
}


def draw(canvas: skia.Canvas, scene: str, rng: np.random.Generator) -> Ground:
    """Paint the whole background `scene`; answers where an object may stand in it."""
    return _SCENES[scene](Brush(canvas, rng))
