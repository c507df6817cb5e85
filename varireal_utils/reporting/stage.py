"""What the results of 08_figures depend on.

Invariant (tests/unit/test_gallery.py): figures show data sets and attributes of the configuration
alone, whatever else lies in the study's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from ..core import shown, storage
from ..core.config import StudyConfig
from ..core.config_base import SOURCE_FILE
from ..core.stage import StageSettings


class FiguresStage(StageSettings):
    """Slice of 08_figures. source: a published folder to draw from, "" for the study's results;
    published: effects that a small study is shown over, those of the study that README shows; ""
    without one, and for that study itself, whose publication writes them."""

    computes = False  # matplotlib draws on the CPU, the same on every machine

    datasets: list[str]
    attributes: list[str]
    margin: float
    source: str = ""
    published: Annotated[str, SOURCE_FILE] = ""

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of one run. target: source."""
        return cls(
            datasets=sorted(config.datasets),  # a frozen configuration has them sorted
            attributes=config.attributes,
            margin=config.claims.margin,
            source=str(target.get("source", "")),
            published=_published(config.study),
        )

    def source_files(self) -> list[Path]:
        """`published`, and tables and pictures of `source`; none of the study itself, whose stages
        come first."""
        beside = super().source_files()
        if not self.source:
            return beside
        folder = Path(self.source)
        return sorted([*beside, *folder.glob("*.csv"), *folder.glob("pictures/*")])


def _published(study: str) -> str:
    """`published` of a study's figures."""
    if not shown.FILE.is_file() or shown.name() == storage.slug(study):
        return ""
    return (shown.folder() / "effects.csv").as_posix()
