"""Guidance and editing: the sections `guidance` and `edit` of a parameter file.

symbols   share   a number from 0 to 1
          arm     feasible or infeasible
          alpha   weight of the prior's colours over the photograph's
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from . import arms
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
    odd_or_none,
    unknown,
    wanted,
)

Canvas = Annotated[
    int,
    Field(ge=0, lt=2**31, multiple_of=8),
    wanted("an int, a multiple of 8 (0: each photograph's own size)"),
]


Resize = Literal["lanczos", "lanczos4"]  # Pillow's, antialiased; OpenCV's 8 x 8, which is not


class CanvasSettings(Settings):
    """The canvas that photographs are edited on, and their lines are drawn on.

    canvas: pixels of its longest side, 0 for the photograph itself; canvas_shape: square, black
    beside the photograph, or the photograph's own, its sides rounded up by mirrored pixels.
    """

    canvas: Canvas = 0
    canvas_shape: Literal["square", "photograph"] = "square"
    resize: Resize = "lanczos"

    def own(self) -> CanvasSettings:
        """These settings alone; all defaults where nothing is resized."""
        fields = CanvasSettings.model_fields
        return CanvasSettings(**({k: getattr(self, k) for k in fields} if self.canvas else {}))


class GuidanceSettings(Settings):
    """Edge maps and masks.

    canny_low: a share of the median that canny_median takes: of the blurred grey `object`, or of
    the `picture`, the blurred object over white, of which Canny then sees the unblurred one;
    masks: `given` ones first, or always `found` ones; find_on: what the detector sees; noun: ""
    names the class; compare: given masks that the finder is measured against.
    """

    canny_low: Number
    canny_high: Number
    canny_blur: Annotated[Count, AfterValidator(odd)]
    canny_median: Literal["object", "picture"] = "object"
    masks: Literal["given", "found"] = "given"
    find_on: Literal["photograph", "canvas"] = "photograph"
    noun: str = ""
    box_threshold: Share = 0.4
    compare: Whole = 8


class GuidanceOnCanvas(GuidanceSettings):
    """Guidance with the canvas of `edit`, on which lines are drawn: what 03_guidance reads."""

    canvas: CanvasSettings = CanvasSettings()


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

    prior_size: None takes edit.canvas, or the photograph's size. prior_prompt_weight: of the
    phrase; prior_negative: prompt that guidance leads away from. Of a surface: prior_crop, pixels
    of the square that is cut out, 0 for all of it, at crop_at (random: by the edit's seed); enlarge
    and sharpen, on its way to the canvas; surface_color, its own or the mean colour of the object.
    dilate: radius of a disc, or width of a square kernel, in pixels; mask_blur: width of the
    Gaussian that rounds the inpainting mask, 0 for none; refine_from: the first stage's picture at
    refine_strength, or noise, with lines and IP-Adapter alone.
    """

    prior_steps: Whole = 0
    prior_guidance_scale: Number = 1.0
    prior_prompt_weight: Number = 1.0
    prior_negative: str = ""
    prior_size: Count | None = None
    prior_crop: Whole = 0
    crop_at: Literal["middle", "random"] = "middle"
    enlarge: Literal["lanczos", "cubic"] = "lanczos"
    sharpen: bool = False
    surface_color: Literal["object", "own"] = "object"
    steps: Count
    guidance_scale: Number
    strength: Share = 1.0
    dilate: Whole = 0
    dilate_shape: Literal["disc", "square"] = "disc"
    mask_blur: Annotated[Whole, AfterValidator(odd_or_none)] = 0
    alpha: Share = 1.0
    refine_steps: Whole = 0
    refine_from: Literal["edit", "noise"] = "edit"
    refine_strength: Share = 1.0
    refine_guidance_scale: Number = 1.0
    controlnet_scale: Number = 1.0
    ip_scale: Number = 1.0
    prompt_weight: Number = 1.0
    image_guidance_scale: Number = 1.5
    arms: Arms = Arms()

    def of_arm(self, feasibility: str = "") -> AttributeEdit:
        """These settings with those of an arm over them; "" leaves them as they are."""
        own = getattr(self.arms, arms.side(feasibility)) if feasibility else EditStep()
        changed = {name: getattr(own, name) for name in type(own).model_fields}
        return self.model_copy(update={k: v for k, v in changed.items() if v is not None})

    def needed(self, prior: str, appearance: bool) -> list[str]:
        """Settings that the file must give and does not.

        prior: of the attribute (scene, flat or surface); appearance: whether an IP-Adapter takes
        part in the refinement.
        """
        names = ["strength", *PRIOR_NEEDS[prior]]
        if self.refine_steps:
            names += ["refine_strength"] if self.refine_from == "edit" else []
            names += ["refine_guidance_scale", "controlnet_scale"]
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
PERFECT = "world"  # edits the arms of core/arms.py that end with -perfect
EDITORS = {
    PERFECT: "world_editor",
    "img2img": "img2img",
    "instruct": "instruct",
}


def _known_editor(name: str) -> str:
    if name not in (known := (VARIREAL, *EDITORS)):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": f"one of {sorted(known)}"})
    return name


class EditSettings(CanvasSettings):
    """Editing. Beside these keys the file has a section for each attribute (`attributes` here).

    compose: lay the edit into the photograph where it may change; compose_on: the photograph
    itself, or the canvas, which then is resized back as a whole.
    distances: record how far CLIP sees each edit from its photograph; matched(...) needs it.
    """

    images_per_real: Count
    batch_size: Count
    max_attempts: Count
    prior_variants: Count
    compose: bool = True
    compose_on: Literal["photograph", "canvas"] = "photograph"
    distances: bool = False
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
