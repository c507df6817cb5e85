"""Defines the micro world: its values, and which are feasible for which family.

Feasibility is a table here, not an opinion. `FEASIBLE` *is* the real distribution: "photographs"
(the splits of micro_cars, micro_aircraft, micro_pets) are drawn from it alone, each attribute
uniformly and independently of the class and of the other attributes. `INFEASIBLE` lists, in equal
number, what never occurs in a photograph of that family.

In a study of replicates each attribute has six feasible and six infeasible values (`values`), and
`split` divides them anew for each replicate:

    familiar     feasible, and in the data set's photographs: four, in two halves
    unfamiliar   feasible in the world, held out of the data set's photographs: two
    infeasible   two of the six

Every arm of edits asks for two values, so that none sees more variety than another: the first half
of the familiar ones, the unfamiliar ones, the infeasible ones; the second half is the placebo.

Invariant (tests/unit/test_replicate_world.py): over three replicates in a row, from a multiple of
three on, each feasible value is once in each half and once held out, each infeasible value is
asked for once, and which comes when is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 128  # pixels, square

FAMILIES = ("cars", "aircraft", "pets")

# RGB, 0..255
COLORS: dict[str, tuple[int, int, int]] = {
    "white": (240, 240, 236),
    "grey": (148, 152, 158),
    "black": (40, 40, 46),
    "red": (200, 38, 38),
    "orange": (236, 128, 36),
    "brown": (118, 72, 40),
    "cream": (232, 205, 138),
    "yellow": (246, 210, 44),
    "green": (52, 142, 68),
    "teal": (36, 172, 172),
    "blue": (44, 92, 204),
    "purple": (126, 62, 170),
    "pink": (242, 120, 182),
}

# Every texture tints the object's own colour, so that texture and colour are independent.
TEXTURES = (
    "glossy",
    "striped",
    "riveted",
    "camouflage",
    "furry",
    "spotted",
    "tabby",
    "patched",
    "brick",
    "wooden",
    "scaly",
    "mosaic",
)

SCENES = (
    "city street",
    "highway",
    "parking lot",
    "desert",
    "pine forest",
    "snowy mountains",
    "runway",
    "hangar",
    "cloudy sky",
    "sunset sky",
    "living room",
    "kitchen",
    "grassy park",
    "beach",
    "underwater",
    "moon",
    "lava field",
    "outer space",
)

FEASIBLE = {
    "cars": {
        "background": (
            "city street",
            "highway",
            "parking lot",
            "desert",
            "pine forest",
            "snowy mountains",
        ),
        "color": ("white", "grey", "black", "red", "blue"),
        "texture": ("glossy", "striped", "riveted", "camouflage"),
    },
    "aircraft": {
        "background": ("runway", "hangar", "cloudy sky", "sunset sky", "desert", "snowy mountains"),
        "color": ("white", "grey", "cream", "red", "blue"),
        "texture": ("glossy", "striped", "riveted", "camouflage"),
    },
    "pets": {
        "background": (
            "living room",
            "kitchen",
            "grassy park",
            "beach",
            "pine forest",
            "snowy mountains",
        ),
        "color": ("white", "black", "grey", "brown", "orange"),
        "texture": ("furry", "spotted", "tabby", "patched"),
    },
}

INFEASIBLE = {
    "cars": {
        "background": (
            "underwater",
            "moon",
            "lava field",
            "outer space",
            "living room",
            "cloudy sky",
        ),
        "color": ("pink", "purple", "teal", "orange", "green"),
        "texture": ("brick", "wooden", "scaly", "mosaic"),
    },
    "aircraft": {
        "background": (
            "underwater",
            "moon",
            "lava field",
            "outer space",
            "living room",
            "pine forest",
        ),
        "color": ("pink", "purple", "teal", "brown", "green"),
        "texture": ("brick", "wooden", "scaly", "mosaic"),
    },
    "pets": {
        "background": ("underwater", "moon", "lava field", "outer space", "cloudy sky", "runway"),
        "color": ("blue", "green", "purple", "pink", "teal"),
        "texture": ("brick", "wooden", "scaly", "mosaic"),
    },
}

# (feasible, infeasible) beside those above, where a study has replicates
FURTHER: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "cars": {
        "color": (("yellow",), ("brown",)),
        "texture": (("spotted", "patched"), ("furry", "tabby")),
    },
    "aircraft": {
        "color": (("black",), ("orange",)),
        "texture": (("spotted", "patched"), ("furry", "tabby")),
    },
    "pets": {
        "color": (("cream",), ("red",)),
        "texture": (("glossy", "striped"), ("riveted", "camouflage")),
    },
}
ATTRIBUTES = ("background", "color", "texture")
ALL = {"background": SCENES, "color": tuple(COLORS), "texture": TEXTURES}
_ROTATION = 12  # the stream of `split`, apart from the streams of render.py


@dataclass(frozen=True)
class Split:
    """The values of one attribute in a replicate, two each.

    familiar and placebo: the halves of those that the photographs show, so that the difference
    between edits to the one and to the other is 0 in truth.
    """

    familiar: tuple[str, ...]
    placebo: tuple[str, ...]
    unfamiliar: tuple[str, ...]
    infeasible: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """What the photographs show, four values."""
        return self.familiar + self.placebo


def values(family: str, attribute: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All feasible and all infeasible values of an attribute, six each."""
    more = FURTHER[family].get(attribute, ((), ()))
    return FEASIBLE[family][attribute] + more[0], INFEASIBLE[family][attribute] + more[1]


def split(family: str, attribute: str, base: int, replicate: int) -> Split:
    """The values of a replicate. base: the study's seed. Raises ValueError for a negative index.

    Three replicates in a row share a drawn order of the values and take its pairs by turns.
    """
    if replicate < 0 or base < 0:
        raise ValueError(f"replicate {replicate} of seed {base}: wanted indices and seeds from 0")
    block, turn = divmod(replicate, 3)
    parts = (_ROTATION, base, block, FAMILIES.index(family), ATTRIBUTES.index(attribute))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(parts))))

    def pairs(names: tuple[str, ...]) -> list[tuple[str, ...]]:
        order = [names[i] for i in rng.permutation(len(names))]
        return [tuple(order[i : i + 2]) for i in (0, 2, 4)]

    feasible, infeasible = (pairs(names) for names in values(family, attribute))
    first, second, third = (feasible[(turn + k) % 3] for k in range(3))
    return Split(first, second, third, infeasible[turn])
