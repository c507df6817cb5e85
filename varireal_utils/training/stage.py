"""Trains and tests the classifiers of 06_classify: from the study's files to predictions.

symbols   recipe   names a training set (recipes.py)
          keep     verify.keep: how edits that the verifier rejected are handled

Invariant (tests/unit/test_classify_stage.py): only edits of attributes and images of variants that
the configuration names are read, whatever else lies in the study's folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..core import storage
from ..core.cores import cores, side_by_side, threads
from ..core.stage import Run
from ..core.study_paths import StudyPaths
from ..models import classifiers, distributed
from . import edited_test, recipes, result, training_rows
from .slices import ClassifyStage
from .train import CHECKPOINT, Training, evaluate, fingerprint, train, train_shared


@dataclass(frozen=True)
class StudyImages:
    """Images that the recipes of a data set train on: tables with paths below the study's folder.

    images: photographs; edits, samples: None where there are none; files: the tables' files.
    """

    images: pd.DataFrame
    edits: pd.DataFrame | None
    samples: pd.DataFrame | None
    files: list[Path]


def load_images(run: Run[ClassifyStage]) -> StudyImages:
    """Read the photographs, edits and generated images that the run's recipes name."""
    settings, paths, dataset = run.settings, run.paths, run.target["dataset"]
    edited = [
        paths.edits_table(dataset, attribute, arm)
        for attribute in settings.attributes
        for arm in settings.arms[attribute]
    ]
    generated = [paths.samples_table(dataset, variant) for variant in settings.variants]
    edited, generated = ([p for p in found if p.is_file()] for found in (edited, generated))
    table = paths.images_table(dataset)
    return StudyImages(
        storage.read_table(table), _joined(edited), _joined(generated), [table, *edited, *generated]
    )


def _joined(files: list[Path]) -> pd.DataFrame | None:
    return pd.concat([storage.read_table(p) for p in files]) if files else None


def training_set(settings: ClassifyStage, recipe: str, data: StudyImages) -> pd.DataFrame:
    """The rows that a recipe trains on (training_rows.training_set)."""
    return training_rows.training_set(
        recipe,
        data.images,
        data.edits,
        settings.seed,
        settings.keep,
        data.samples,
        settings.shots,
    )


def train_all(run: Run[ClassifyStage], data: StudyImages) -> Iterator[dict[str, Any]]:
    """`train_and_test` of every training of the run, in their order; several at once on a
    CPU where the driver says so (cores.side_by_side), which changes no byte."""
    todo = run.settings.trainings()
    count = min(side_by_side(), len(todo)) if run.device.type == "cpu" else 1
    if count > 1:
        yield from distributed.each(_one, todo, count, run.device, run, data)
        return
    for recipe, seed in todo:
        yield train_and_test(run, data, recipe, seed)


def _one(training: tuple[str, int], run: Run[ClassifyStage], data: StudyImages) -> dict[str, Any]:
    return train_and_test(run, data, *training)


def train_and_test(
    run: Run[ClassifyStage], data: StudyImages, recipe: str, seed: int, workers: int | None = None
) -> dict[str, Any]:
    """Train one recipe with one seed, test it once, write predictions.parquet and metrics.json.

    workers: processes that load images, by default none beside a CPU and up to 8 beside a GPU.
    A result of the same images, weights and settings is read, not made again; a training that was
    killed is resumed from its checkpoint. Returns the content of metrics.json.
    """
    settings, dataset = run.settings, run.target["dataset"]
    out, spec = run.paths.classify(dataset, recipe, seed), settings.classifier
    rows = training_set(settings, recipe, data)
    val, test = (data.images[data.images["split"] == s] for s in ("val", "test"))
    names = data.images.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    net = classifiers.load(spec, names, settings.training.templates, run.device)
    training = Training(
        root=run.paths.root,
        out=out,
        seed=settings.start(seed),
        dtype=run.dtype,
        workers=_workers(run.device, workers),
        rests_on=storage.sha256_json(run.rests_on(spec)),  # once the weights have been loaded
        maps=run.paths.pixel_maps,
    )
    of = fingerprint([rows, val, test], training, settings.training, net.identity())
    asked = bool(settings.values) and recipe == "real"
    if asked:
        of = storage.sha256_json([of, settings.edited_test, settings.values])
    if (old := _finished_result(out, of)) is not None:
        return old
    if settings.training.processes > 1 and not rows.empty:
        report = train_shared(net, spec, names, rows, val, settings.training, training)
    else:
        report = train(net, rows, val, settings.training, training)
    predictions = _test(net, test, training, settings.training.eval_batch_size)
    storage.write_table(out / "predictions.parquet", predictions)
    if asked:
        shown = edited_test.chosen(test, settings.edited_test)
        size = settings.training.eval_batch_size
        found = edited_test.answers(net, shown, settings.values, training.dtype, size)
        storage.write_table(out / result.EDITED_TEST, found)
    del report["seconds"]  # the same inputs give the same bytes; run.json has the time
    content = {
        **result.metrics(predictions, names),
        **report,
        "dataset": dataset,
        "seed": seed,
        **({} if settings.replicate is None else {"replicate": settings.replicate}),
        "recipe": str(recipes.parse(recipe)),
        "fingerprint": of,
        **rows.attrs,
    }
    result.write_sums(out)
    storage.write_json(out / "metrics.json", content)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return content


def _finished_result(out: Path, of: str) -> dict[str, Any] | None:
    """The metrics of an earlier training with this fingerprint whose files are all as it left
    them; another's are removed."""
    file = out / "metrics.json"
    with contextlib.suppress(OSError, ValueError):  # absent or damaged: trained again
        old = storage.read_json(file)
        if old.get("fingerprint") == of and result.is_whole(out):
            return old
    file.unlink(missing_ok=True)
    return None


def _workers(device: torch.device, workers: int | None) -> int:
    if workers is not None:
        return workers
    if device.type == "cpu":
        return 0
    return min(8, cores() - 1, threads() or 8)  # told where several jobs share the machine


def _test(
    net: classifiers.Classifier, test: pd.DataFrame, training: Training, batch_size: int
) -> pd.DataFrame:
    """The only look at the test split: its predictions."""
    logits = evaluate(net, training.images(test["path"], net), training.dtype, batch_size)
    return result.predictions_frame(test, logits)


def result_files(paths: StudyPaths, results: Iterable[dict[str, Any]]) -> list[Path]:
    """The files of finished trainings, from their metrics."""
    folders = [paths.classify(r["dataset"], r["recipe"], r["seed"]) for r in results]
    return [file for folder in folders for file in result.files(folder)]
