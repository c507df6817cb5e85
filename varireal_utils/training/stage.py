"""Trains and tests the classifiers of 06_classify: from the study's files to predictions.

symbols   recipe   names a training set (recipes.py)
          keep     verify.keep: how edits that the verifier rejected are handled

Invariant (tests/unit/test_classify_stage.py): only edits of attributes and images of variants that
the configuration names are read, whatever else lies in the study's folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import torch

from ..core import storage
from ..core.config import StudyConfig
from ..core.config_sections import ModelSpec, TrainSettings
from ..core.cores import cores, threads
from ..core.seeds import seed_for
from ..core.stage import Run, StageSettings
from ..core.study_paths import StudyPaths
from ..data import registry
from ..models import classifiers
from . import edited_test, recipes, result, training_rows
from .train import CHECKPOINT, Training, evaluate, fingerprint, train, train_shared


class ClassifyStage(StageSettings):
    """What one run of 06_classify depends on.

    seed: of the study or replicate, which draws mixed arms; seeds: of the trainings; replicate:
    whose starts the seeds are, None where they are those of one draw; attributes, variants: whose
    edits and generated images the recipes read; arms: of each attribute, those they read; shots:
    photographs of a class that recipes without @ take, None for all (classify.real); edited_test,
    values: test photographs of a class that are edited, and to what (edited_test.py).
    """

    seed: int
    replicate: int | None = None
    recipes: list[str]
    seeds: list[int]
    attributes: list[str]
    variants: list[str]
    arms: dict[str, list[str]]
    keep: Literal["all", "accepted", "paired"]
    shots: int | None
    classifier: ModelSpec
    training: TrainSettings
    edited_test: int = 0
    values: dict[str, dict[str, list[str]]] = {}

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """The slice of one run. target: recipe, "" for all; seed, -1 for all."""
        settings = config.classify
        few = settings.real == "shots"
        recipe, seed = target.get("recipe", ""), int(target.get("seed", -1))
        seeds = settings.seeds if seed < 0 else [seed]
        names = [recipe] if recipe else settings.recipes
        if settings.seeds[0] not in seeds:  # untrained, zero-shot has one result for all seeds
            names = [n for n in names if n != "zero_shot"]
        attributes = recipes.edited_attributes(names, config.attributes)
        three = recipes.three_values(settings.recipes)
        return cls(
            seed=config.draw_seed,
            replicate=config.replicate,
            recipes=names,
            seeds=seeds,
            attributes=attributes,
            arms={a: recipes.arms_read(names, a, config.verify.keep, three) for a in attributes},
            variants=recipes.generators(names),
            keep=config.verify.keep,
            shots=config.datadream.shots if few and config.datadream else None,
            classifier=classifiers.fine_tuned(config.models),
            training=settings.training(),
            **_edited_test(config, names, target),
        )

    def start(self, seed: int) -> int:
        """What a training's weights, order and dropout are drawn from."""
        return seed if self.replicate is None else seed_for(self.seed, "start", seed)

    def trainings(self) -> list[tuple[str, int]]:
        """(recipe, seed) of each training, recipe by recipe; zero-shot once."""
        return [
            (recipe, seed)
            for recipe in self.recipes
            for seed in (self.seeds[:1] if recipe == "zero_shot" else self.seeds)
        ]


def _edited_test(config: StudyConfig, names: list[str], target: dict[str, Any]) -> dict[str, Any]:
    """edited_test and values of the slice; none of runs without recipe real."""
    count = config.classify.edited_test
    if not count or "real" not in names or "dataset" not in target:
        return {}
    spec = registry.of_study(config, target["dataset"])
    found = {a: v for a, v in spec.values().items() if a in config.attributes}
    return {"edited_test": count, "values": found} if found else {}


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
