"""What 03_guidance and 04_edit depend on: their slices of the configuration.

Invariant (tests/unit/test_arms.py): an edit depends on the settings of its own attribute and arm,
on the models that it is made and verified with, and on no others.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator

from ..core import arms
from ..core.attributes import attribute as registered
from ..core.config import StudyConfig
from ..core.config_base import Settings
from ..core.config_editing import (
    PERFECT,
    AttributeEdit,
    EditSettings,
    GuidanceOnCanvas,
    GuidanceSettings,
)
from ..core.config_sections import ClipVerifierSettings, ModelRoles
from ..core.stage import StageSettings
from . import editors


def _arm(name: str) -> str:
    arms.value(name)
    return name


class GuidanceStage(StageSettings):
    """What one run of 03_guidance depends on. models: detector and segmenter, or none."""

    guidance: GuidanceOnCanvas
    models: ModelRoles

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of a run; it is the same for each data set."""
        own = {name: getattr(config.guidance, name) for name in GuidanceSettings.model_fields}
        guidance = GuidanceOnCanvas(**own, canvas=config.edit.own())
        return cls(guidance=guidance, models=config.models.only("detector", "segmenter"))


class VerifierSettings(Settings):
    """What the thresholds of an attribute's verifier depend on, whichever arm they are for."""

    seed: int
    attribute: str
    verify: ClipVerifierSettings
    models: ModelRoles


class EditStage(StageSettings):
    """What one run of 04_edit depends on.

    feasibility: the arm (core/arms.py); edit: with the section of this attribute alone, settings
    of the arm laid over it; verify: of the kind of the verifier; models: those that edit and those
    that verify.
    """

    seed: int
    attribute: str
    feasibility: Annotated[str, AfterValidator(_arm)]
    edit: EditSettings
    verify: ClipVerifierSettings
    models: ModelRoles

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of one run. target: attribute, feasibility. Raises ValueError for an attribute
        that is not registered or has no settings."""
        attribute, feasibility = target["attribute"], target["feasibility"]
        registered(attribute)
        if attribute not in config.edit.attributes:
            raise ValueError(
                f"{config.file}: attribute {attribute!r} has no settings; give them at "
                f"edit.{attribute}"
            )
        edit, models = config.edit.only(attribute, feasibility), config.models
        if arms.perfect(feasibility):  # the same each time: one attempt
            edit = edit.model_copy(update={"editor": PERFECT, "max_attempts": 1})
        clip = (models.clip_role(),) if edit.distances else ()
        roles = editing_roles(edit.editor, attribute, edit.attributes[attribute].refine_steps > 0)
        return cls(
            seed=config.draw_seed,
            attribute=attribute,
            feasibility=feasibility,
            edit=edit,
            verify=config.verify.of_kind(models.verifier_kind()),
            models=models.only(*roles, *models.verifier_roles(), *clip),
        )

    @property
    def own(self) -> AttributeEdit:
        """The settings of the attribute's edits."""
        return self.edit.attributes[self.attribute]


def editing_roles(editor: str, attribute: str, refined: bool) -> tuple[str, ...]:
    """The roles that an editor paints an attribute with."""
    if editor in editors.EDITORS:
        role = editors.EDITORS[editor].role
        return (role,) if role else ()
    prior = ("prior",) if registered(attribute).generates_prior else ()
    refiner = ("controlnet", "refine", "ip_adapter") if refined else ()
    return ("inpaint", *prior, *refiner)
