"""Colour: the main colour of the object."""

from .attribute import Attribute

ATTRIBUTE = Attribute(
    name="color",
    label="colour",
    region="object",
    prior="flat",
    what="the main colour of the object",
)
