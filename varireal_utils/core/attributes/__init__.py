"""Registry of the attributes that a study can edit: one file and one line here for each.

`ATTRIBUTES` maps names to entries in the order of tables and figures. A study names its own subset
under `attributes`, with a section `edit.<name>`.
"""

from importlib import import_module

from .attribute import Attribute

__all__ = ["ATTRIBUTES", "Attribute", "attribute"]
MODULES = (
    "background",
    "color",
    "texture",
)
_ENTRIES: list[Attribute] = [import_module(f".{m}", __name__).ATTRIBUTE for m in MODULES]
ATTRIBUTES: dict[str, Attribute] = {entry.name: entry for entry in _ENTRIES}


def attribute(name: str) -> Attribute:
    """The entry of a name. Raises ValueError that lists the known ones."""
    if name not in ATTRIBUTES:
        raise ValueError(
            f"attribute {name!r} is not known; known: {', '.join(ATTRIBUTES)}. "
            "A new one is a file in core/attributes and a line in its __init__.py"
        )
    return ATTRIBUTES[name]
