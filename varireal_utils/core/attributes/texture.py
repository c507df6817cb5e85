"""Texture: the material or pattern of the object's surface."""

from .attribute import Attribute

ATTRIBUTE = Attribute(
    name="texture",
    label="texture",
    region="object",
    prior="surface",
    what="the material or pattern of the object's surface",
)
