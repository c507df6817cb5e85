"""Background: the place in which the object is seen."""

from .attribute import Attribute

ATTRIBUTE = Attribute(
    name="background",
    label="background",
    region="background",
    prior="scene",
    what="the place or surroundings in which the object is seen",
    instruct="put the {class} {phrase}",
)
