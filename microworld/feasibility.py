"""Defines the micro world: its values, and which are feasible for which family.

Feasibility is a table here, not an opinion. `FEASIBLE` *is* the real distribution: "photographs"
(the splits of micro_cars, micro_aircraft, micro_pets) are drawn from it alone, each attribute
uniformly and independently of the class and of the other attributes. `INFEASIBLE` lists, in equal
number, what never occurs in a photograph of that family.
"""

from __future__ import annotations

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
