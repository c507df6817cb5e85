"""Colour: the main colour of the object."""

from .attribute import Attribute

COLOR = Attribute(
    name="color",
    label="colour",
    region="object",
    prior="flat",
    what="the main colour of the object",
)
