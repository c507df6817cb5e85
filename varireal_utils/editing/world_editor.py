"""The world's own edit: the same photograph, rendered with another value of one attribute.

What a flawless editor would give: nothing else changes, at a few milliseconds a picture. For a
background the object of the photograph, with its place, pose and light, stands in another scene.
It edits data sets of source `world` alone. Under `edit.compose` it may change what every editor may
change and no more, so that the arms of two editors differ in what was painted there.

Invariant (tests/unit/test_world_editor.py): the value that is painted is the value of the phrase
that the other editor is asked for in the same slot.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..data.sets import world
from .editor import Editor


def draw(row: dict[str, Any]) -> np.ndarray:
    """The photograph of a planned edit with the value of its phrase, (H, W, 3) uint8.

    row: attribute, phrase, and `facts` of its photograph, world.FACTS as JSON.
    """
    return world.edited(json.loads(row["facts"]), row["attribute"], row["phrase"])


EDITOR = Editor(role="", prompt="edit", draw=draw, facts=world.FACTS)
