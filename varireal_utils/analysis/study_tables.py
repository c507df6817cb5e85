"""Every table of 07_claims: the notebook and `verify` compute the same ones.

symbols   asked   the slice of 07_claims (stage.py)
          kept    what tables follow from: predictions, edits, and tables of the study (GIVEN)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core import storage
from ..core.study_paths import StudyPaths
from . import claim_file, claims, effects, load, parts, published, robustness, tables
from .gates import Gates
from .stage import ClaimsStage

GIVEN = ("trainings", "curves", "by_class", "by_shots")  # need the study's trainings, photographs
QUALITY = ("quality_sets", "quality_balance", "embedding")  # of 07_quality
LEARNED = "learned"  # of 05_datadream: what its adapters changed
EDITED = "edited_test"  # of 06_classify: answers to edited test photographs
IF_THERE = (*QUALITY, LEARNED, EDITED)


@dataclass(frozen=True)
class Kept:
    """What the other tables follow from. given: GIVEN, and those of IF_THERE
    whose stages ran; others:
    name -> answers of another study."""

    predictions: pd.DataFrame
    edits: pd.DataFrame
    given: dict[str, pd.DataFrame]
    others: dict[str, Path]

    @classmethod
    def of_study(
        cls, paths: StudyPaths, asked: ClaimsStage, quality: dict[str, pd.DataFrame]
    ) -> Kept:
        """Collected from a study's trainings and edits. quality: of edit_metrics.collected."""
        df, options = load.predictions(paths, asked), asked.interval_options
        given = {
            "trainings": load.trainings(paths, asked),
            "curves": load.curves(paths, asked),
            "by_class": effects.by_class(df, paths, **options),
            "by_shots": tables.by_shots(df, paths, **options),
        }
        own = {LEARNED: load.learned(paths, asked), EDITED: load.edited_test(paths, asked)}
        given |= {name: table for name, table in own.items() if len(table)}
        edits = load.drop_model_columns(load.edits(paths, asked))
        return cls(df, edits, given | quality, asked.other_studies())

    @classmethod
    def of_folder(cls, folder: Path, others: dict[str, Path]) -> Kept:
        """Read from a results folder. Raises FileNotFoundError where one of its tables is
        missing."""
        return cls(
            predictions=storage.read_table(folder / "answers.parquet"),
            edits=storage.read_table(folder / "edits.parquet"),
            given={n: storage.read_table(folder / f"{n}.csv") for n in GIVEN} | given_of(folder),
            others=others,
        )

    def everyone(self) -> pd.DataFrame:
        """The predictions with those of the other studies."""
        return load.add_other_studies(self.predictions, self.others)

    def gates(self, main: pd.DataFrame) -> Gates:
        """What the gates measured; main: of tables.main_table."""
        return Gates.of(main, self.given)


def of_replicates(
    df: pd.DataFrame, listed: list[claim_file.Claim], asked: ClaimsStage
) -> dict[str, pd.DataFrame]:
    """name -> table that only a study of replicates has; those without a row are left out."""
    listed = claim_file.chosen(listed, asked.claims.only)
    found = {
        "decomposition": parts.by_attribute(df, listed, asked.claims.confidence),
        "true_effects": parts.true_effects(df, listed, asked.claims.confidence),
    }
    return {name: table for name, table in found.items() if len(table)}


def given_of(folder: Path) -> dict[str, pd.DataFrame]:
    """name -> table of a results folder, of GIVEN and IF_THERE, those that are there."""
    files = {name: folder / f"{name}.csv" for name in (*GIVEN, *IF_THERE)}
    return {name: storage.read_table(file) for name, file in files.items() if file.is_file()}


def statistics(kept: Kept, asked: ClaimsStage) -> dict[str, pd.DataFrame]:
    """name -> table, of those that follow from what a results folder keeps."""
    df, options = kept.predictions, asked.interval_options
    everyone = kept.everyone()
    main = tables.main_table(df, **options)
    gates = kept.gates(main)
    effect = effects.effects(df, **options)
    model = robustness.mixed_model(df)
    listed = claim_file.load(asked.claims_file)
    return of_replicates(df, listed, asked) | {
        "main_table": main,
        "known": published.with_ours(main, published.load(asked.known_file)),
        "effects": effect,
        "protocols": effects.by_protocol(everyone, asked.protocol_name, **options),
        "claims": claims.evaluate(
            everyone,
            listed,
            kept.given["trainings"],
            gates,
            asked.planned,
            asked.claims.only,
            **options,
        ),
        "mcnemar": robustness.mcnemar(df),
        "mixed_model": model,
        "cross_checks": robustness.compare(df, effect, model),
        "seeds": tables.by_seed(df),
        "acceptance": tables.acceptance(kept.edits),
    }
