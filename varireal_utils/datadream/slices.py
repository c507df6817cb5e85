"""What 05_datadream depends on: its slice of the configuration."""

from __future__ import annotations

from typing import Any, Literal, Self

from ..core.config import StudyConfig
from ..core.config_sections import ADAPTED, BASELINES, DataDreamSettings, ModelRoles
from ..core.stage import StageSettings
from ..training import recipes

VARIANTS = (*ADAPTED, *BASELINES)


class DataDreamStage(StageSettings):
    """What one run of 05_datadream depends on. models: the text-to-image model (role datadream,
    else prior), CLIP, and the verifier's CLIP, which measures what the adapters changed."""

    seed: int
    variant: Literal["cls", "dset", "untuned", "img2img"]
    datadream: DataDreamSettings
    models: ModelRoles

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of one run. target: variant. Raises ValueError for an unknown one, or without
        the section datadream."""
        variant = target["variant"]
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}, wanted one of {VARIANTS}")
        if config.datadream is None:
            raise ValueError(
                f"{config.file}: recipes ask for datadream, whose settings "
                "(`datadream`) are missing"
            )
        verifier = config.models.verifier
        roles = (config.models.generator_role(), "clip", "verifier")
        return cls(
            seed=config.draw_seed,
            variant=variant,
            datadream=config.datadream,
            models=config.models.only(*roles, *([verifier.role] if verifier else [])),
        )


def named_variants(config: StudyConfig) -> list[str]:
    """The variants that the recipes of a study train on, sorted."""
    return recipes.generators(config.classify.recipes)
