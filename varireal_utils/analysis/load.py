"""Collects what the stages before 07_claims wrote, into long tables.

Reads classify/<dataset>/<recipe>/seed<k>/{metrics.json, predictions.parquet} and
edits/<dataset>/<attribute>/<arm>/edits.parquet of a study.

symbols   predictions   long frame dataset, recipe, seed, image_id, correct: one row per test image;
                        of a study of replicates also replicate, within which seeds are starts
          asked         the slice of 07_claims (stage.py): data sets, attributes, recipes, seeds

Invariant (tests/unit/test_tables.py): only what `asked` names is collected; a folder may also hold
trainings and edits of earlier parameters.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd

from ..core import storage
from ..core.study_paths import StudyPaths
from ..training import matching, recipes
from ..training.result import EDITED_TEST
from .contrasts import REPLICATE, canonical, describe
from .stage import ClaimsStage

PREDICTIONS = ["dataset", "recipe", "seed", "image_id", "correct"]
CURVES = [
    "dataset",
    "recipe",
    "attribute",
    "arm",
    "training",
    "seed",
    "step",
    "quantity",
    "value",
]
NO_EDITS = [
    "dataset",
    "edit_id",
    "image_id",
    "label",
    "class_name",
    "attribute",
    "feasibility",
    "k",
    "phrase",
    "accepted",
    "attribute_passed",
    "identity_passed",
    "identity",
]


def metrics_files(paths: StudyPaths, asked: ClaimsStage) -> list[Path]:
    """metrics.json of each training that was asked for and has run, sorted."""
    found = [
        place.metrics(d, r, k)
        for place in asked.places(paths)
        for d in asked.datasets
        for r in asked.recipe_names()
        for k in asked.classify.seeds
    ]
    return sorted(p for p in found if p.is_file())


def prediction_files(paths: StudyPaths, asked: ClaimsStage) -> list[Path]:
    """predictions.parquet of each training that was asked for and has run, sorted."""
    return [p.with_name("predictions.parquet") for p in metrics_files(paths, asked)]


def predictions(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """Predictions of every training, PREDICTIONS, sorted. Raises FileNotFoundError where there are
    none, ValueError where one test image has two in one training."""
    parts = []
    for path in metrics_files(paths, asked):
        metrics = storage.read_json(path)
        rows = storage.read_table(path.with_name("predictions.parquet"))[["image_id", "correct"]]
        named = {
            "dataset": metrics["dataset"],
            "recipe": str(recipes.parse(metrics["recipe"])),
            "seed": int(metrics["seed"]),
        }
        if metrics.get(REPLICATE) is not None:
            named[REPLICATE] = int(metrics[REPLICATE])
        parts.append(rows.assign(**named))
    if not parts:
        raise FileNotFoundError(f"No metrics.json under {paths.trainings}: run 06_classify first.")
    frame = pd.concat(parts, ignore_index=True).astype({"correct": bool})
    keys = [*PREDICTIONS[:3], *([REPLICATE] if REPLICATE in frame else []), "image_id"]
    if REPLICATE in frame and frame[REPLICATE].isna().any():
        raise ValueError("Some trainings are of a replicate and some of none: one study, one kind.")
    double = frame.duplicated(keys)
    if double.any():
        raise ValueError(f"Two answers for one test image: {frame[double].iloc[0].to_dict()}.")
    return frame.sort_values(keys, ignore_index=True)[[*keys, "correct"]]


def add_other_studies(df: pd.DataFrame, others: dict[str, Path]) -> pd.DataFrame:
    """The predictions with those of other studies (ClaimsStage.other_studies), whose recipes stand
    behind the study's name and a colon. Claims that need a study that was not run are not run."""
    found = [
        storage.read_table(path).assign(recipe=lambda t, n=name: f"{n}:" + t["recipe"])
        for name, path in others.items()
    ]
    return pd.concat([df, *found], ignore_index=True)


def edits(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """edits.parquet of every data set, attribute and arm that was asked for, with `dataset`; of a
    study without edits, no row."""
    three = recipes.three_values(asked.classify.recipes)
    files = [
        (d, place.edits_table(d, a, arm))
        for place in asked.places(paths)
        for d in asked.datasets
        for a in asked.attributes
        for arm in recipes.arms_read(asked.classify.recipes, a, asked.verify.keep, three)
    ]
    found = [storage.read_table(p).assign(dataset=d) for d, p in files if p.is_file()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=NO_EDITS)


def drop_model_columns(edits: pd.DataFrame) -> pd.DataFrame:
    """The rows of `edits` without the models that made them, which the records name."""
    return edits.drop(columns="models", errors="ignore").reset_index(drop=True)


def trainings(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """dataset, recipe, seed, n_train_images, steps: one row per training; with its replicate, and
    what its matched slots measured (training/matching.py), where some training has them."""
    found = [storage.read_json(p) for p in metrics_files(paths, asked)]
    columns = ["dataset", "recipe", "seed", "n_train_images", "steps"]
    columns += [c for c in (REPLICATE, *matching.MEASURES) if any(c in one for one in found)]
    return pd.DataFrame(
        [{c: one.get(c) for c in columns} | {"recipe": canonical(one["recipe"])} for one in found],
        columns=columns,
    )


def edited_test(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """Accuracy of the classifiers of real photographs on edited test photographs: dataset,
    replicate, seed, attribute, value, top1 (0..1), n. Empty where none were shown."""
    rows = []
    keys = ["attribute", "value"]
    for number, place in enumerate(asked.places(paths)):
        for d, k in product(asked.datasets, asked.classify.seeds):
            file = place.classify(d, "real", k) / EDITED_TEST
            if file.is_file() and asked.replicates:
                share = storage.read_table(file).groupby(keys, sort=False)["correct"]
                table = share.agg(top1="mean", n="size").reset_index()
                rows.append(table.assign(**{"dataset": d, REPLICATE: number, "seed": k}))
    columns = ["dataset", REPLICATE, "seed", *keys, "top1", "n"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def learned(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """What DataDream's adapters changed (quality.stage.learned): a row for each data set, variant,
    and kind of pictures; with its replicate, if any. Empty where 05_datadream has not run."""
    rows = []
    for number, place in enumerate(asked.places(paths)):
        own = {REPLICATE: number} if asked.replicates else {}
        for d, v in product(asked.datasets, recipes.generators(asked.recipe_names())):
            record = place.datadream(d, v) / "run.json"
            found = storage.read_json(record)["metrics"] if record.is_file() else {}
            rows += [{"dataset": d, "variant": v, **own, **r} for r in found.get("learned", [])]
    return pd.DataFrame(rows)


def curves(paths: StudyPaths, asked: ClaimsStage) -> pd.DataFrame:
    """Learning curves of the trainings of a study (`learning_curves`)."""
    return learning_curves([storage.read_json(path) for path in metrics_files(paths, asked)])


def learning_curves(metrics: list[dict]) -> pd.DataFrame:
    """Loss and validation accuracy over the steps, CURVES, of trainings given as metrics.json.

    quantity: "loss", or "val_top1" (0..1). Trainings on fewer shots (@4) are left out.
    """
    rows = []
    for one in metrics:
        if recipes.parse(one["recipe"]).shots is not None:
            continue
        what = {
            "dataset": one["dataset"],
            "recipe": one["recipe"],
            **describe(one["recipe"]),
            "seed": one["seed"],
        }
        rows += [
            {**what, "step": step, "quantity": quantity, "value": value}
            for quantity, curve in (
                ("loss", enumerate(one["loss_curve"], 1)),
                ("val_top1", one["val_curve"]),
            )
            for step, value in curve
        ]
    return pd.DataFrame(rows, columns=CURVES)
