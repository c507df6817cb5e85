"""Declares what the phrases of a data set depend on: the slice of stage 02_attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from ..core.config import Prompts, StudyConfig
from ..core.config_base import EXECUTION, SOURCE_FILE
from ..core.config_prompts import LlmPrompts, LocalModel
from ..core.stage import StageSettings
from ..core.study_paths import StudyPaths
from ..data import registry
from . import human_votes


class AttributesStage(StageSettings):
    """root: the study's folder, where votes lie; prompts: a phrase file, or what a language model
    is asked for; family: whose phrases of the file; protocol: controlled makes both arms equally
    long; seed: of draws and of the ballot; values: attribute -> arm -> values, of a replicate that
    holds values out."""

    root: Annotated[str, EXECUTION] = ""
    dataset: str
    family: str
    attributes: list[str]
    prompts: Annotated[Prompts, SOURCE_FILE]
    protocol: Literal["controlled", "faithful"]
    seed: int
    values: dict[str, dict[str, list[str]]] = {}

    @property
    def computes(self) -> bool:  # type: ignore[override]
        """Whether a network runs on this machine: a language model's local weights."""
        return isinstance(self.prompts, LlmPrompts) and any(
            isinstance(model, LocalModel) for model in (self.prompts.model, self.prompts.judge)
        )

    def source_files(self) -> list[Path]:
        """Phrase files, and the votes that people sent back."""
        votes = human_votes.files(StudyPaths(Path(self.root)).votes(self.dataset))
        return sorted({*super().source_files(), *votes})

    @property
    def controlled(self) -> bool:
        """Whether both arms draw from equally long lists."""
        return self.protocol == "controlled"

    @classmethod
    def of(cls, config: StudyConfig, **target: str) -> Self:
        """The slice of data set `target["dataset"]`."""
        name = target["dataset"]
        spec = registry.of_study(config, name)
        return cls(
            root=config.paths.root.as_posix(),
            dataset=name,
            family=spec.phrase_family(name),
            attributes=config.attributes,
            prompts=config.prompts,
            protocol=config.protocol,
            seed=config.draw_seed,
            values={a: v for a, v in spec.values().items() if a in config.attributes},
        )
