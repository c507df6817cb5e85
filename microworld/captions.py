"""Writes captions of pictures of the micro world.

Captions are made of a small closed vocabulary. Prompts of the study (params/prompts/micro.yaml) use
the same forms; tests/unit/test_world.py holds the two together. How often a caption names what is a
choice of whoever pretrains (pretrain/), not of the world.
"""

from __future__ import annotations

import numpy as np

from . import aircraft, cars, pets
from .feasibility import COLORS, FAMILIES, SCENES, TEXTURES
from .render import Spec, class_names

_ON = ("city street", "highway", "parking lot", "runway", "beach", "moon", "lava field")
_BARE = {
    "snowy mountains": "in snowy mountains",
    "outer space": "in outer space",
    "underwater": "underwater",
    "moon": "on the moon",
}
_DRAWERS = {"cars": cars, "aircraft": aircraft, "pets": pets}

# scene -> "on a city street", "in a desert", "underwater", ...
PLACES: dict[str, str] = {
    scene: _BARE.get(scene, f"{'on' if scene in _ON else 'in'} a {scene}") for scene in SCENES
}


def kind(family: str, class_name: str) -> str:
    """The everyday word for a class: car, aircraft, dog or cat."""
    if family == "pets":
        return pets.SPECIES[class_name]
    return {"cars": "car", "aircraft": "aircraft"}[family]


def shape_phrases(family: str, class_name: str) -> tuple[str, ...]:
    """What can be said of a class's shape without naming it, e.g. ("short legs", "a long body")."""
    return _DRAWERS[family].PHRASES[class_name]


def sentence(
    noun: str, color: str = "", texture: str = "", scene: str = "", shapes: tuple[str, ...] = ()
) -> str:
    """A caption such as "a photo of a red striped car in a desert with a flat roof"."""
    words = " ".join(w for w in (color, texture, noun) if w)
    place = f" {PLACES[scene]}" if scene else ""
    tail = f" with {' and '.join(shapes)}" if shapes else ""
    return f"a photo of a {words}{place}{tail}"


def empty_sentence(scene: str) -> str:
    """Caption of a scene with no object in it."""
    return f"an empty scene {PLACES[scene]}"


def surface_sentence(texture: str, color: str = "") -> str:
    """Caption of a bare surface."""
    return " ".join(w for w in ("a", color, texture, "surface") if w)


def describe(
    spec: Spec, rng: np.random.Generator, name: float, attribute: float, place: float, shape: float
) -> str:
    """A caption that mentions each thing only with the given probability.

    name: the fine class by its name, else its kind; attribute: colour and texture, each;
    place: the scene; shape: one or two shape phrases.
    """
    noun = spec.class_name if rng.random() < name else kind(spec.family, spec.class_name)
    said = rng.random(4) < (attribute, attribute, place, shape)
    shapes: tuple[str, ...] = ()
    if said[3]:
        known = shape_phrases(spec.family, spec.class_name)
        shapes = tuple(rng.permutation(known)[: 1 + int(rng.integers(2))])
    return sentence(
        noun,
        spec.color if said[0] else "",
        spec.texture if said[1] else "",
        spec.background if said[2] else "",
        shapes,
    )


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    texts = [sentence("car"), "an empty scene", "a plain surface with and"]
    texts += list(PLACES.values()) + list(COLORS) + list(TEXTURES)
    for family in FAMILIES:
        for name in class_names(family):
            texts += [name, kind(family, name), *shape_phrases(family, name)]
    return sorted({word for text in texts for word in text.split()})
