"""Measures how well each arm of a data set was edited, from files to tables (07_quality).

Invariant (tests/unit/test_quality.py): only edits of attributes and images of variants that the
configuration names are read, whatever else lies in the study's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import storage
from ..core.stage import Run
from ..datadream import sampling
from ..datadream.slices import DataDreamStage
from ..datadream.stage import UNADAPTED
from ..editing import sources
from ..prompts import phrase_bank
from ..prompts.phrase_bank import ARMS
from ..verification.features import ClipFeatures
from . import edit_metrics
from .slices import QualityStage

NO_EDITS = [*edit_metrics.KEPT, "path", "phrase", "label"]
NOTHING = edit_metrics.empty(), np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class Sets:
    """Sets of images of one data set, measured against its photographs for training.

    photographs, captions: features; numbers: label -> row of captions.
    """

    photographs: np.ndarray
    captions: np.ndarray
    numbers: dict[int, int]

    def measure(
        self, name: str, features: np.ndarray, rows: pd.DataFrame, own: np.ndarray
    ) -> dict[str, Any]:
        """Measures of one set. own: (N,) row of the photograph that an image was made from, -1 for
        none."""
        labels = rows["label"].map(self.numbers).to_numpy()
        return {
            "set": name,
            "recognised": edit_metrics.recognised(features, labels, self.captions),
            **edit_metrics.of_set(features, self.photographs, own),
        }


def edits_tables(run: Run[QualityStage]) -> list[Path]:
    """The edits of the configuration's attributes, of those that are there."""
    dataset, attributes = run.target["dataset"], sorted(run.settings.attributes)
    files = [run.paths.edits_table(dataset, a, arm) for a in attributes for arm in ARMS]
    return [p for p in files if p.is_file()]


def samples_tables(run: Run[QualityStage]) -> dict[str, Path]:
    """Variant -> generated images, of those that the recipes name and that are there."""
    dataset, variants = run.target["dataset"], sorted(run.settings.variants)
    files = {v: run.paths.samples_table(dataset, v) for v in variants}
    return {v: p for v, p in files.items() if p.is_file()}


def input_files(run: Run[QualityStage]) -> list[Path]:
    """The tables that a run reads; they name the pictures with their digests."""
    dataset = run.target["dataset"]
    edited = run.settings.attributes
    own = sources.input_files(run.paths, dataset) if edited else [run.paths.images_table(dataset)]
    return [*own, *edits_tables(run), *samples_tables(run).values()]


def read_edits(run: Run[QualityStage]) -> pd.DataFrame:
    """Read the edits that are measured; a study without attributes has none."""
    found = [storage.read_table(p) for p in edits_tables(run)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=NO_EDITS)


def measure(run: Run[QualityStage]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Measure every edit (edit_metrics.measure), every set (of_set), and project the features."""
    study, dataset = run.study, run.target["dataset"]
    edits = read_edits(run)
    table = (
        sources.read_inputs(run.paths, dataset)
        if run.settings.attributes
        else storage.read_table(run.paths.images_table(dataset))
    )
    clip = ClipFeatures(run.settings.models, run.device)
    images, features = _measure_edits(run, table, edits, clip) if len(edits) else NOTHING
    train = table[table["split"] == "train"]
    photographs = clip.embed_images([storage.read_image(study / p) for p in train["path"]])
    known = table.drop_duplicates("label").sort_values("label")
    template = run.settings.template
    captions = clip.embed_texts([template.replace("{class}", c) for c in known["class_name"]])
    sets = Sets(photographs, captions, {label: i for i, label in enumerate(known["label"])})
    groups = {"real": photographs}
    real = sets.measure("real", photographs, train, np.arange(len(train)))
    rows = [real | {"kernel_distance_x1000": np.nan}]  # of itself
    rank = {image_id: i for i, image_id in enumerate(train["image_id"])}
    for (attribute, arm), part in edits.groupby(["attribute", "feasibility"], sort=True):
        name = f"{attribute} {arm}"
        groups[name] = features[part.index]
        rows.append(sets.measure(name, groups[name], part, part["image_id"].map(rank).to_numpy()))
    for variant, path in samples_tables(run).items():
        name, part = f"datadream {variant}", storage.read_table(path)
        groups[name] = clip.embed_images([storage.read_image(study / p) for p in part["path"]])
        rows.append(sets.measure(name, groups[name], part, np.full(len(part), -1)))
    return images, pd.DataFrame(rows), edit_metrics.projection(groups)


def _measure_edits(
    run: Run[QualityStage], table: pd.DataFrame, edits: pd.DataFrame, clip: ClipFeatures
) -> tuple[pd.DataFrame, np.ndarray]:
    """edit_metrics.measure of every edit."""
    study, bank = run.study, storage.read_json(run.paths.phrase_bank(run.target["dataset"]))
    readers = {a: sources.reader(study, table, a) for a in edits["attribute"].unique()}

    def read(row: Any) -> tuple[np.ndarray, ...]:
        source = readers[row.attribute](row.image_id)
        return source.image, storage.read_image(study / row.path), source.mask, source.editable

    def sentence(row: Any) -> str:
        return phrase_bank.verify_prompt(bank, row.attribute, row.phrase, row.class_name)

    look = edit_metrics.Look(clip.embed_images, clip.embed_texts, clip.patch_features)
    return edit_metrics.measure(edits, read, sentence, look)


def learned(
    run: Run[DataDreamStage], shots: pd.DataFrame, samples: pd.DataFrame, count: int = 4
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Compare the first `count` pictures of each class with those that DataDream's model draws from
    the same prompts and seeds without any adapter: what the adapters changed.

    Returns one row for each kind (unadapted, adapted, and the photographs themselves): images,
    photographs, kernel_distance_x1000 to the few shots (unbiased, so it may be below 0; of few
    images it is noisy), class_named (0..1: zero-shot CLIP names the class); and the unadapted
    pictures, in the order of the samples, which stay in the run's folder.
    """
    settings, chosen = run.settings.datadream, samples[samples["k"] < count]
    pipe = sampling.load(run.settings.models, run.device)
    before: list[np.ndarray] = []
    for i in range(0, len(chosen), settings.batch_size):
        part = chosen.iloc[i : i + settings.batch_size]
        seeds = [int(s) for s in part["seed"]]
        before += sampling.draw(pipe, list(part["prompt"]), seeds, settings, run.dtype)
    for path, picture in zip(chosen["path"], before, strict=True):
        storage.write_image(run.out / UNADAPTED / Path(path).name, picture)
    clip = ClipFeatures(run.settings.models, run.device)
    names = shots.drop_duplicates("label").sort_values("label")
    captions = clip.embed_texts(
        [settings.template.replace("{class}", c) for c in names["class_name"]]
    )
    numbers = {label: i for i, label in enumerate(names["label"])}
    drawn, seen = (t["label"].map(numbers).to_numpy() for t in (chosen, shots))
    photographs = clip.embed_images([storage.read_image(run.study / p) for p in shots["path"]])
    scale, rows = np.sqrt(photographs.shape[1]), []
    after = [storage.read_image(run.study / p) for p in chosen["path"]]
    for kind, features, places in (
        ("unadapted", clip.embed_images(before), drawn),
        ("adapted", clip.embed_images(after), drawn),
        ("photographs", photographs, seen),
    ):
        itself = features is photographs
        distance = edit_metrics.kernel_distance(scale * features, scale * photographs)
        rows.append(
            {
                "model": kind,
                "images": len(features),
                "photographs": len(photographs),
                "kernel_distance_x1000": np.nan if itself else 1000 * distance,
                "class_named": edit_metrics.recognised(features, places, captions),
            }
        )
    return pd.DataFrame(rows), before
