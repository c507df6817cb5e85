"""What 03_guidance and 04_edit depend on: their slices of the configuration.

Invariant (tests/unit/test_arms.py): an edit depends on the settings of its own attribute and arm,
on the models that it is made and verified with, and on no others.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from ..core.attributes import attribute as registered
from ..core.config import StudyConfig
from ..core.config_editing import (
    AttributeEdit,
    EditSettings,
    GuidanceOnCanvas,
    GuidanceSettings,
)
from ..core.config_sections import ClipVerifierSettings, ModelRoles
from ..core.stage import StageSettings
from . import editors


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


class EditStage(StageSettings):
    """What one run of 04_edit depends on.

    edit: with the section of this attribute alone, settings of the arm laid over it; verify: of the
    kind of the verifier; models: those that edit and those that verify.
    """

    seed: int
    attribute: str
    feasibility: Literal["feasible", "infeasible"]
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
        roles = editing_roles(edit.editor, attribute, edit.attributes[attribute].refine_steps > 0)
        return cls(
            seed=config.seed,
            attribute=attribute,
            feasibility=feasibility,
            edit=edit,
            verify=config.verify.of_kind(models.verifier_kind()),
            models=models.only(*roles, *models.verifier_roles()),
        )

    @property
    def own(self) -> AttributeEdit:
        """The settings of the attribute's edits."""
        return self.edit.attributes[self.attribute]


def editing_roles(editor: str, attribute: str, refined: bool) -> tuple[str, ...]:
    """The roles that an editor paints an attribute with."""
    if editor in editors.EDITORS:
        return (editors.EDITORS[editor].role,)
    prior = ("prior",) if registered(attribute).generates_prior else ()
    refiner = ("controlnet", "refine", "ip_adapter") if refined else ()
    return ("inpaint", *prior, *refiner)
