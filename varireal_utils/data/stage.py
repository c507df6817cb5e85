"""Declares what the table of a data set depends on: the slice of stage 01_data."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ..core.config import StudyConfig
from ..core.stage import StageSettings
from . import registry
from .data_set import DataSetSpec


class DataStage(StageSettings):
    """spec: the data set's own settings; seed: of the carved splits and of what is taken."""

    computes = False  # no network runs

    dataset: str
    spec: DataSetSpec
    seed: int

    @classmethod
    def of(cls, config: StudyConfig, **target: str) -> Self:
        """The slice of data set `target["dataset"]`."""
        name = target["dataset"]
        return cls(dataset=name, spec=registry.of_study(config, name), seed=config.seed)

    @property
    def fetches(self) -> bool:
        """Whether a run downloads photographs that were not there when it began."""
        return bool(getattr(self.spec, "download", False))

    def source_files(self) -> list[Path]:
        """Photographs, masks and lists that the data set reads."""
        return registry.source_files(self.dataset, self.spec)
