"""What 07_quality depends on: its slice of the configuration."""

from __future__ import annotations

from typing import Any, Self

from ..core.config import StudyConfig
from ..core.config_sections import ModelRoles
from ..core.stage import StageSettings
from ..datadream.slices import named_variants


class QualityStage(StageSettings):
    """What one run of 07_quality depends on.

    attributes, variants: whose edits and generated images are measured; template: of the captions
    that name the classes, has {class}; models: the verifier's CLIP, which looks at all images.
    """

    attributes: list[str]
    variants: list[str]
    template: str
    models: ModelRoles

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of a run; it is the same for each data set."""
        models = config.models
        return cls(
            attributes=config.attributes,
            variants=named_variants(config),
            template=config.classify.templates[0],
            models=models.only("verifier", models.clip_role()),
        )
