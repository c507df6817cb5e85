"""Contradictions that remain where a forger has repaired every digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import study_folder
from varireal_utils.core import storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.training import result
from varireal_utils.workflow import provenance, verify

NAME = "Mine / yours"


@pytest.fixture
def study(tmp_path: Path) -> StudyPaths:
    """The small study with a training whose answers follow from its logits."""
    paths = StudyPaths(study_folder.make(tmp_path / "runs/mine", NAME))
    images = storage.read_table(paths.images_table(NAME))
    test = images[images["split"] == "test"]
    logits = np.random.default_rng(0).normal(size=(len(test), 6)).astype(np.float32)
    frame = result.predictions_frame(test, logits)
    storage.write_table(paths.predictions(NAME, "real", 0), frame)
    about = {"recipe": "real", "seed": 0, "val_curve": [[1, 0.5], [2, 0.75]], "val_top1": 0.75}
    names = images.sort_values("label")["class_name"].tolist()
    storage.write_json(paths.metrics(NAME, "real", 0), result.metrics(frame, names) | about)
    repair(paths)
    assert verify.verify(paths.root).wrong == []
    return paths


def repair(paths: StudyPaths) -> None:
    """What a careful forger does: every digest of every record is made right again."""
    for path in paths.records():
        record = storage.read_json(path)
        for kind in ("inputs", "outputs"):
            record[kind] = {n: storage.sha256_file(paths.root / n) for n in record[kind]}
        storage.write_json(path, record)
        provenance.seal(path)


def table(path: Callable[[StudyPaths], Path], **columns: Any) -> Callable[[StudyPaths], None]:
    """Change the first row of a table."""

    def change(paths: StudyPaths) -> None:
        frame = storage.read_table(path(paths))
        for name, value in columns.items():
            frame[name] = frame[name].astype(object)
            frame.loc[0, name] = value(frame.loc[0, name]) if callable(value) else value
        storage.write_table(path(paths), frame.convert_dtypes(dtype_backend="numpy_nullable"))

    return change


def metrics(**values: Any) -> Callable[[StudyPaths], None]:
    def change(paths: StudyPaths) -> None:
        file = paths.metrics(NAME, "real", 0)
        storage.write_json(file, storage.read_json(file) | values)

    return change


def answers(paths: StudyPaths) -> Path:
    return paths.predictions(NAME, "real", 0)


def edits(paths: StudyPaths) -> Path:
    return paths.edits_table(NAME, "color", "feasible")


def swap_pictures(paths: StudyPaths) -> None:
    one, two = sorted(paths.root.glob("edits/*/color/feasible/images/*.png"))[:2]
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)


def no_test_image(paths: StudyPaths) -> None:
    frame = storage.read_table(answers(paths))
    storage.write_table(answers(paths), pd.concat([frame, frame]))


FORGED = [
    (swap_pictures, "edits.parquet says"),
    (table(answers, correct=lambda was: not was), "correct .* is wrong"),
    (table(answers, prediction=lambda was: (was + 1) % 6), "is not the largest logit"),
    (table(answers, label=3), "not the test split of the data stage"),
    (table(answers, image_id="i0"), "not the test split of the data stage"),
    (no_test_image, "an image twice"),
    (metrics(top1=0.123), "top1 0.123, from the predictions"),
    (metrics(ece=0.9), "ece 0.9, from the predictions"),
    (metrics(val_top1=1.0), "val_top1 1.0, from val_curve 0.75"),
    (metrics(seed=1), "seed 1, lies under real/seed0"),
    (table(edits, feasibility="infeasible"), "feasibility 'infeasible', wanted 'feasible'"),
    (table(edits, label=5), "'i0' with label 5 is not in"),
    (table(edits, image_id="nobody"), "'nobody' with label 0 is not in"),
]


@pytest.mark.parametrize(("forge", "words"), FORGED)
def test_a_contradiction_is_named_though_every_digest_is_right(
    study: StudyPaths, forge: Callable[[StudyPaths], None], words: str
) -> None:
    forge(study)
    repair(study)
    wrong = "\n".join(verify.verify(study.root).wrong)
    assert re.search(words, wrong), wrong


def test_what_was_compared_is_counted(study: StudyPaths) -> None:
    check = verify.verify(study.root)
    assert check.checked == [
        "14 pictures against their tables",
        "1 trainings against their logits and labels",
    ]
