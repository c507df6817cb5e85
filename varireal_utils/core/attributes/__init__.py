"""Registry of the attributes that a study can edit: one file and one line here for each.

`ATTRIBUTES` maps names to entries in the order of tables and figures. A study names its own subset
under `attributes`, with a section `edit.<name>`.
"""

from .attribute import Attribute
from .background import BACKGROUND
from .color import COLOR
from .texture import TEXTURE

__all__ = ["ATTRIBUTES", "Attribute", "attribute"]
ATTRIBUTES: dict[str, Attribute] = {a.name: a for a in (BACKGROUND, COLOR, TEXTURE)}


def attribute(name: str) -> Attribute:
    """The entry of a name. Raises ValueError that lists the known ones."""
    if name not in ATTRIBUTES:
        raise ValueError(
            f"attribute {name!r} is not known; known: {', '.join(ATTRIBUTES)}. "
            "A new one is a file in core/attributes and a line in its __init__.py"
        )
    return ATTRIBUTES[name]
