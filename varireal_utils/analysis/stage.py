"""What 07_claims depends on: which trainings, which claims, margin, and studies to compare with.

Invariant (tests/unit/test_tables.py): a data set, attribute, recipe or seed that the slice does
not name is in no table, whatever lies in the study's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ..core.config import StudyConfig
from ..core.config_base import EXECUTION, SOURCE_FILE, Settings
from ..core.config_sections import ClaimSettings
from ..core.stage import StageSettings
from ..core.study_paths import StudyPaths
from ..training import recipes


class TrainingNames(Settings):
    """The trainings of a study: every recipe with every seed."""

    recipes: list[str]
    seeds: list[int]


class EditSelection(Settings):
    """Which edits are trained on: it tells the protocol "filtered" from the others."""

    keep: Literal["all", "accepted", "paired"]


class ClaimsStage(StageSettings):
    """Slice of 07_claims. root: the study's folder, which is never compared with itself."""

    computes = False  # counting and statistics in float64, on every machine

    root: Annotated[str, EXECUTION] = ""
    protocol: Literal["controlled", "faithful"]
    datasets: list[str]
    attributes: list[str]
    verify: EditSelection
    classify: TrainingNames
    claims: ClaimSettings
    replicates: int = 0
    claims_file: Annotated[str, SOURCE_FILE] = "claims.yaml"
    known_file: Annotated[str, SOURCE_FILE] = "known.yaml"

    @classmethod
    def of(cls, config: StudyConfig, **target: str) -> Self:
        """The slice of a study's configuration; the stage has one target, the study."""
        return cls(
            root=config.paths.root.as_posix(),
            protocol=config.protocol,
            datasets=sorted(config.datasets),  # a frozen configuration has them sorted
            attributes=config.attributes,
            verify=EditSelection(keep=config.verify.keep),
            classify=TrainingNames(recipes=config.classify.recipes, seeds=config.classify.seeds),
            claims=config.claims,
            replicates=config.replicates,
        )

    @classmethod
    def of_parameters(cls, parameters: dict[str, Any], root: str = "") -> Self:
        """The slice of the parameters that a record holds. Raises ValueError, KeyError, TypeError
        where they lack a key or a value has another type."""
        classify = parameters["classify"]
        return cls(
            root=root,
            protocol=parameters["protocol"],
            datasets=list(parameters["datasets"]),
            attributes=parameters["attributes"],
            verify=EditSelection(keep=parameters["verify"]["keep"]),
            classify=TrainingNames(recipes=classify["recipes"], seeds=classify["seeds"]),
            claims=ClaimSettings.model_validate(parameters["claims"]),
            replicates=parameters.get("replicates", 0),
        )

    def places(self, paths: StudyPaths) -> list[StudyPaths]:
        """The folders that hold trainings and edits: the study's, or its replicates'."""
        return [paths.replicate(r) for r in range(self.replicates)] or [paths]

    @property
    def planned(self) -> int | None:
        """Replicates without all of which no verdict is given; None for a study of one draw."""
        return self.replicates or None

    @property
    def protocol_name(self) -> str:
        """How the study edits and selects, in a word: its protocol, or "filtered" where training
        is not given every edit."""
        return self.protocol if self.verify.keep == "all" else "filtered"

    @property
    def interval_options(self) -> dict[str, Any]:
        """confidence and resamples, as bootstrap.interval takes them."""
        return {"confidence": self.claims.confidence, "resamples": self.claims.bootstrap}

    def recipe_names(self) -> list[str]:
        """The recipes, without those of attributes that the study does not name."""
        known = {"", "all", *self.attributes}
        return [r for r in self.classify.recipes if (recipes.parse(r).attribute or "") in known]

    def other_studies(self) -> dict[str, Path]:
        """name -> answers of each study of `claims.against` that was run."""
        return StudyPaths(Path(self.root)).other_studies(self.claims.against)

    def source_files(self) -> list[Path]:
        """Claims, published numbers and the answers of other studies."""
        return sorted({*super().source_files(), *self.other_studies().values()})
