"""What an attribute of a photograph is, and how an edit changes it.

symbols   region   the part that an edit may change: the background, or the object's surface
          prior    what the inpainting starts from: scene (a generated background), flat (one
                   colour), surface (a generated pattern in the object's mean colour)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Attribute:
    """One attribute.

    name: as in parameter files, tables and folders; label: in figures; what: tells a language model
    what changes; instruct: an instruction to an editor, with {class} and {phrase}, where the phrase
    file has none. Descriptions for the edit, the prior and the verifier are in the phrase file.
    """

    name: str
    label: str
    region: Literal["background", "object"]
    prior: Literal["scene", "flat", "surface"]
    what: str
    instruct: str = "make the {class} {phrase}"

    @property
    def coloured(self) -> bool:
        """Whether each phrase needs an RGB value: a flat prior is painted with it."""
        return self.prior == "flat"

    @property
    def generates_prior(self) -> bool:
        """Whether a text-to-image model draws the prior (models.prior)."""
        return self.prior != "flat"
