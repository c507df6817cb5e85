"""What the data of a study say of each other, where every digest may have been repaired.

    pictures      each against its sha256 in images, edits and samples
    edits         rows of the arm, attribute and photographs of their folder
    predictions   labels of the data stage; prediction = argmax of the logits; correct = their
                  agreement; metrics.json computed again
    settings      of every record those that the study's parameters say

symbols   records   job -> record, by the job's folder below the study's

Invariant (tests/unit/test_consistency.py): each of these contradictions is named, with file, row
and both values; a study that nobody touched has none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import storage
from ..core.config_base import content, flattened
from ..core.study_paths import StudyPaths
from ..training import recipes, result
from . import expected, stages
from .provenance import Check

CLOSE = 1e-6
Digest = Callable[[Path], str]
Records = dict[str, dict[str, Any]]


def hold(folder: Path, records: Records, digest: Digest, away: set[Path], check: Check) -> None:
    """Add each contradiction to `check.wrong`, and what was compared to `check.checked`.

    away: files that lie on another machine (elsewhere.files).
    """
    study = StudyPaths(folder)
    pictures = _each("pictures", study, check, lambda root: _pictures(root, digest, away, check))
    trainings = _each("predictions", study, check, lambda root: _predictions(root, check))
    jobs = _guarded("settings", study, check, lambda: _settings(study, records, check))
    check.checked += [f"{pictures} pictures against their tables"] * bool(pictures)
    check.checked += [f"{trainings} trainings against their logits and labels"] * bool(trainings)
    check.checked += [f"settings of {jobs} records against the study's parameters"] * bool(jobs)


def _each(what: str, study: StudyPaths, check: Check, compare: Callable[[StudyPaths], int]) -> int:
    """How many were compared in the study and in each of its replicates."""
    return sum(_guarded(what, root, check, partial(compare, root)) for root in study.roots())


def _guarded(what: str, root: StudyPaths, check: Check, compare: Callable[[], int]) -> int:
    """How many were compared; what cannot be read is a fault."""
    try:
        return compare()
    except (KeyError, OSError, TypeError, ValueError) as error:
        check.wrong.append(f"{root.root}: its {what} cannot be read ({error!r})")
        return 0


def _tables(paths: StudyPaths) -> Iterator[Path]:
    yield from (*paths.images_tables(), *paths.edits_tables(), *paths.samples_tables())


def _pictures(paths: StudyPaths, digest: Digest, away: set[Path], check: Check) -> int:
    """Every picture that a table names has the sha256 that the table says; how many are here."""
    count = 0
    for file in _tables(paths):
        table = storage.read_table(file)
        if not {"path", "sha256"} <= set(table):
            continue
        for name, wanted in zip(table["path"], table["sha256"], strict=True):
            picture = paths.root / str(name)
            if picture in away:
                continue
            count += 1
            if not picture.is_file():
                check.wrong.append(f"{picture}: missing; {file} names it")
            elif digest(picture) != wanted:
                check.wrong.append(
                    f"{picture}: sha256 {digest(picture)[:12]}, but {file} says {str(wanted)[:12]}"
                )
    for file in paths.edits_tables():
        check.wrong += _of_its_arm(paths, file)
    return count


def _of_its_arm(paths: StudyPaths, file: Path) -> Iterator[str]:
    """Rows of an arm's edits that are of another arm, attribute, or photograph."""
    attribute, arm = file.relative_to(paths.root).parts[2:4]
    table, images = storage.read_table(file), paths.images_table(paths.dataset_of(file))
    for column, wanted in (("attribute", attribute), ("feasibility", arm)):
        if column in table and not (table[column] == wanted).all():
            row = int(np.flatnonzero(table[column] != wanted)[0])
            yield f"{file}: row {row + 1}: {column} {table[column][row]!r}, wanted {wanted!r}"
    if images.is_file():
        known = storage.read_table(images).set_index("image_id")["label"]
        for row, (image_id, label) in enumerate(
            zip(table["image_id"], table["label"], strict=True)
        ):
            if image_id not in known.index or known[image_id] != label:
                yield f"{file}: row {row + 1}: {image_id!r} with label {label} is not in {images}"
                return


def _predictions(paths: StudyPaths, check: Check) -> int:
    """Every training's answers follow from its logits and the labels of the data stage; how many
    trainings there are."""
    count = 0
    for images in paths.images_tables():
        table = storage.read_table(images)
        names = table.drop_duplicates("label").sort_values("label")["class_name"].tolist()
        test = table[table["split"] == "test"].set_index("image_id")["label"]
        for file in sorted(
            paths.classify(paths.dataset_of(images)).glob("*/*/predictions.parquet")
        ):
            count += 1
            check.wrong += _of_training(file, test, names)
    return count


def _of_training(answers: Path, test: pd.Series, names: list[str]) -> Iterator[str]:
    """What the predictions and metrics of one training contradict. test: image_id -> label."""
    file = answers.with_name("metrics.json")
    frame, metrics = storage.read_table(answers), storage.read_json(file)
    labels = dict(zip(frame["image_id"], frame["label"], strict=True))
    other = sorted(set(labels.items()) ^ set(test.items()), key=str)
    if other or len(labels) != len(frame):
        said = f"image and label {other[0]}" if other else "an image twice"
        yield f"{answers}: {said}: not the test split of the data stage"
    logits = frame[[c for c in frame if c.startswith("logit_")]].to_numpy()
    highest = logits[np.arange(len(frame)), frame["prediction"].to_numpy(np.int64)]
    pairs = (
        ("prediction", highest != logits.max(axis=1), "is not the largest logit"),
        ("correct", frame["correct"] != (frame["prediction"] == frame["label"]), "is wrong"),
    )
    for column, wrong, words in pairs:
        if np.any(wrong):
            row = int(np.flatnonzero(wrong)[0])
            yield f"{answers}: row {row + 1}: {column} {frame[column][row]!r} {words}"
    if not other:
        yield from _of_metrics(file, metrics, result.metrics(frame, names))
    yield from _of_another_folder(file, metrics)


def _of_another_folder(file: Path, metrics: dict[str, Any]) -> Iterator[str]:
    """A training that says another recipe or seed than its folder."""
    recipe, seed = file.parent.parent.name, file.parent.name
    with contextlib.suppress(ValueError):  # the shortened slug of an overlong recipe
        recipe = str(recipes.parse(storage.unslug(recipe)))
        if (recipe, seed) != (str(recipes.parse(metrics["recipe"])), f"seed{metrics['seed']}"):
            said = f"{metrics['recipe']} seed {metrics['seed']}"
            yield f"{file}: says {said}, lies under {recipe}/{seed}"


def _of_metrics(file: Path, kept: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    flat, again = flattened(kept), flattened(now)
    for key, value in again.items():
        before = flat.get(key)
        same = before == value or (
            isinstance(before, int | float)
            and isinstance(value, int | float)
            and abs(before - value) <= CLOSE
        )
        if not same:
            yield f"{file}: {key} {before}, from the predictions {value}"
    curve = [value for _, value in kept.get("val_curve", [])]
    if curve and abs(max(curve) - kept["val_top1"]) > CLOSE:
        yield f"{file}: val_top1 {kept['val_top1']}, from val_curve {max(curve)}"


def _settings(paths: StudyPaths, records: Records, check: Check) -> int:
    """Every record was made with the settings that the parameters of the newest one say; how many
    were compared."""
    jobs, count = expected.of_records(paths.root, records, parts=True), 0
    for name, job in (jobs or {}).items():
        record = records.get(name, {})
        key = record.get("key")
        if not isinstance(key, dict) or not isinstance(key.get("settings"), dict):
            continue
        count += 1
        check.wrong += _other_settings(paths.root / name / "run.json", job, key["settings"])
        own = expected.config_of(record.get("parameters"), name)
        twin = stages.find(str(record.get("stage")), own, job.target) if own else None
        if twin is not None:
            check.wrong += _other_settings(paths.root / name / "run.json", twin, key["settings"])
    return count


def _other_settings(file: Path, job: stages.Job, kept: dict[str, Any]) -> Iterator[str]:
    wanted = flattened(content(job.settings()))
    for key in sorted({*wanted, *kept}):
        now, before = wanted.get(key, "(none)"), kept.get(key, "(none)")
        if now != before:
            yield f"{file}: made with {key} {before}, the study's parameters say {now}"
