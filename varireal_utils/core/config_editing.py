"""Guidance and editing: the sections `guidance` and `edit` of a parameter file.

symbols   share   a number from 0 to 1
          arm     feasible or infeasible
          alpha   weight of the prior's colours over the photograph's
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from .attributes import ATTRIBUTES
from .config_base import (
    EXECUTION,
    INLINE,
    Count,
    Number,
    Settings,
    Share,
    Whole,
    odd,
    unknown,
    wanted,
)

Canvas = Annotated[
    int,
    Field(ge=0, lt=2**31, multiple_of=8),
    wanted("an int, a multiple of 8 (0: each photograph's own size)"),
]


class GuidanceSettings(Settings):
    """Edge maps and masks. canny_low: a share of the upper threshold; noun: "" names the class;
    compare: given masks that the finder is measured against."""

    canny_low: Number
    canny_high: Number
    canny_blur: Annotated[Count, AfterValidator(odd)]
    noun: str = ""
    box_threshold: Share = 0.4
    compare: Whole = 8


class EditStep(Settings):
    """Settings of the diffusion of one attribute's edits; None: not given.

    alpha: weight of the prior's colours; dilate, prior_size, prior_crop: pixels.
    """

    prior_steps: Whole | None = None
    prior_guidance_scale: Number | None = None
    prior_size: Count | None = None
    prior_crop: Whole | None = None
    steps: Count | None = None
    guidance_scale: Number | None = None
    strength: Share | None = None
    dilate: Whole | None = None
    alpha: Share | None = None
    refine_steps: Whole | None = None
    refine_strength: Share | None = None
    refine_guidance_scale: Number | None = None
    controlnet_scale: Number | None = None
    ip_scale: Number | None = None
    prompt_weight: Number | None = None
    image_guidance_scale: Number | None = None


class Arms(Settings):
    """What an arm has otherwise than its attribute: under protocol faithful alone."""

    feasible: EditStep = EditStep()
    infeasible: EditStep = EditStep()


class AttributeEdit(Settings):
    """Settings of one attribute's edits. Those that VariReal's pipeline cannot do without for an
    attribute must stand in the file (`needed`).

    prior_size: None takes edit.canvas, or the photograph's size. prior_crop 0: the whole surface.
    """

    prior_steps: Whole = 0
    prior_guidance_scale: Number = 1.0
    prior_size: Count | None = None
    prior_crop: Whole = 0
    steps: Count
    guidance_scale: Number
    strength: Share = 1.0
    dilate: Whole = 0
    alpha: Share = 1.0
    refine_steps: Whole = 0
    refine_strength: Share = 1.0
    refine_guidance_scale: Number = 1.0
    controlnet_scale: Number = 1.0
    ip_scale: Number = 1.0
    prompt_weight: Number = 1.0
    image_guidance_scale: Number = 1.5
    arms: Arms = Arms()

    def of_arm(self, feasibility: str = "") -> AttributeEdit:
        """These settings with those of an arm over them; "" leaves them as they are."""
        own = getattr(self.arms, feasibility) if feasibility else EditStep()
        changed = {name: getattr(own, name) for name in type(own).model_fields}
        return self.model_copy(update={k: v for k, v in changed.items() if v is not None})

    def needed(self, prior: str, appearance: bool) -> list[str]:
        """Settings that the file must give and does not.

        prior: of the attribute (scene, flat or surface); appearance: whether an IP-Adapter takes
        part in the refinement.
        """
        names = ["strength", *PRIOR_NEEDS[prior]]
        if self.refine_steps:
            names += ["refine_strength", "refine_guidance_scale", "controlnet_scale"]
            names += ["ip_scale"] if appearance else []
        return [name for name in names if name not in self.model_fields_set]

    def own_arms(self) -> bool:
        """Whether an arm has settings of its own."""
        return self.arms != Arms()


PRIOR_NEEDS = {
    "scene": ("prior_steps", "prior_guidance_scale", "dilate"),
    "flat": ("alpha",),
    "surface": ("prior_steps", "prior_guidance_scale", "alpha"),
}
# edit.editor -> its module below varireal_utils.editing; VariReal's own pipeline is in pipeline.py
VARIREAL = "varireal"
EDITORS = {
    "img2img": "img2img",
    "instruct": "instruct",
}


def _known_editor(name: str) -> str:
    if name not in (known := (VARIREAL, *EDITORS)):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": f"one of {sorted(known)}"})
    return name


class EditSettings(Settings):
    """Editing. Beside these keys the file has a section for each attribute (`attributes` here)."""

    images_per_real: Count
    batch_size: Count
    max_attempts: Count
    prior_variants: Count
    canvas: Canvas = 0
    compose: bool = True
    editor: Annotated[str, AfterValidator(_known_editor)] = VARIREAL
    shards: Annotated[Count, EXECUTION] = 1
    processes: Annotated[Count, EXECUTION] = 1
    pool: Annotated[Count, EXECUTION] = 16  # batches that are painted before they are verified
    reuse: Annotated[str, EXECUTION] = ""  # a study whose edits are copied where they are the same
    attributes: Annotated[dict[str, AttributeEdit], INLINE, Field(alias="<attributes>")]

    def only(self, attribute: str, feasibility: str) -> EditSettings:
        """These settings with those of one attribute and arm alone: what a stage's slice holds."""
        own = self.attributes[attribute].of_arm(feasibility).model_copy(update={"arms": Arms()})
        return self.model_copy(update={"attributes": {attribute: own}})

    @classmethod
    def arranged(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Sections of attributes under one key."""
        common = {
            name: data[name] for name in data if name in cls.model_fields and name != "attributes"
        }
        sections = {
            name: value
            for name, value in data.items()
            if name not in common
            and (isinstance(value, dict | AttributeEdit) or name in ATTRIBUTES)
        }
        for name in data:
            if name not in common and name not in sections:
                known = [*(f for f in cls.model_fields if f != "attributes"), *ATTRIBUTES]
                raise unknown(name, known)
        return common | {"<attributes>": sections}
