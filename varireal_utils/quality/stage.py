"""From files to tables for 07_quality: how well each arm of a data set was edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..core import storage
from ..core.config_sections import ModelSpec
from ..core.params import compute
from ..datadream import sampling
from ..editing import pipeline
from ..editing import stage as editing_stage
from ..models import loaders, preprocess
from ..prompts import phrase_bank
from ..workflow.run_record import Run
from . import edit_metrics


def inputs(study: Path, dataset: str) -> list[Path]:
    """The tables that the stage reads; they name the pictures with their digests."""
    name = storage.slug(dataset)
    return [
        *editing_stage.input_files(study, dataset),
        *sorted(study.glob(f"edits/{name}/*/*/edits.parquet")),
        *sorted(study.glob(f"datadream/{name}/*/samples.parquet")),
    ]


def onlooker(params: dict) -> Callable:
    """images -> (N, D) unit features of the verifier's CLIP, and a list of (C, h, w): the last
    patch tokens of each, normed."""
    device, _ = compute(params)
    clip, _, settings = loaders.load_clip(
        ModelSpec.model_validate(editing_stage.clip_role(params)), device
    )

    @torch.no_grad()
    def of_images(pictures: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        pixels = preprocess.network_input(pictures, settings, device)
        found = clip.forward_intermediates(
            image=pixels, image_indices=1, normalize_intermediates=True
        )
        return (
            found["image_features"].float().cpu().numpy(),
            list(found["image_intermediates"][-1].float().cpu().numpy()),
        )

    return of_images


def measure(run: Run, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(quality.measure of every edit, quality.of_set of every set, quality.projection)."""
    study, table = run.study, editing_stage.inputs(run.study, dataset)
    bank = storage.read_json(editing_stage.input_files(study, dataset)[2])
    parts = [storage.read_table(p) for p in inputs(study, dataset) if p.name == "edits.parquet"]
    edits = pd.concat(parts, ignore_index=True)
    readers = {a: editing_stage.reader(study, table, a) for a in edits["attribute"].unique()}
    embed, embed_text = editing_stage.embedder(run.params)

    def read(row) -> tuple[np.ndarray, ...]:
        source: pipeline.Source = readers[row.attribute](row.image_id)
        return source.image, storage.read_image(study / row.path), source.mask, source.editable

    def sentence(row) -> str:
        return phrase_bank.verify_prompt(bank, row.attribute, row.phrase, row.class_name)

    images, features = edit_metrics.measure(
        edits, read, sentence, embed, embed_text, onlooker(run.params)
    )
    train = table[table["split"] == "train"]
    rank = {image_id: i for i, image_id in enumerate(train["image_id"])}
    photographs = embed([storage.read_image(study / p) for p in train["path"]])
    known = table.drop_duplicates("label").sort_values("label")
    template = run.params["classify"]["templates"][0]
    captions = embed_text([template.replace("{class}", c) for c in known["class_name"]])
    number = {label: i for i, label in enumerate(known["label"])}

    def of_set(name: str, features: np.ndarray, rows: pd.DataFrame, own: np.ndarray) -> dict:
        labels = rows["label"].map(number).to_numpy()
        return {
            "set": name,
            "recognised": edit_metrics.recognised(features, labels, captions),
            **edit_metrics.of_set(features, photographs, own),
        }

    groups = {"real": photographs}
    sets = [
        of_set("real", photographs, train, np.arange(len(train)))
        | {"kernel_distance_x1000": np.nan}
    ]  # of itself
    for (attribute, arm), rows in edits.groupby(["attribute", "feasibility"], sort=True):
        name = f"{attribute} {arm}"
        groups[name] = features[rows.index]
        own = rows["image_id"].map(rank).to_numpy()
        sets.append(of_set(name, groups[name], rows, own))
    for path in inputs(study, dataset):
        if path.name == "samples.parquet":
            name = f"datadream {path.parent.name}"
            rows = storage.read_table(path)
            groups[name] = embed([storage.read_image(study / p) for p in rows["path"]])
            sets.append(of_set(name, groups[name], rows, np.full(len(rows), -1)))
    return images, pd.DataFrame(sets), edit_metrics.projection(groups)


def learned(
    run: Run, shots: pd.DataFrame, samples: pd.DataFrame, count: int = 4
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """What DataDream's adapters changed: the first `count` pictures of each class, beside those
    that the same model draws from the same prompts and seeds without any adapter.

    Returns one row for each kind (adapted, unadapted): images, photographs, kernel_distance_x1000
    to the few shots (unbiased, so it may be below 0; of few images it is noisy), class_named (0..1:
    zero-shot CLIP names the class); and the unadapted pictures, in the order of the samples.
    """
    settings, chosen = run.settings.datadream, samples[samples["k"] < count]
    pipe = sampling.load(run.settings.models, run.device)
    before: list[np.ndarray] = []
    for i in range(0, len(chosen), settings.batch_size):
        part = chosen.iloc[i : i + settings.batch_size]
        seeds = [int(s) for s in part["seed"]]
        before += sampling.draw(pipe, list(part["prompt"]), seeds, settings, run.dtype)
    of_images, of_texts = editing_stage.embedder(run.params)
    names = shots.drop_duplicates("label").sort_values("label")
    captions = of_texts([settings.template.replace("{class}", c) for c in names["class_name"]])
    places = chosen["label"].map({n: i for i, n in enumerate(names["label"])}).to_numpy()
    photographs = of_images([storage.read_image(run.study / p) for p in shots["path"]])
    scale, rows = np.sqrt(photographs.shape[1]), []
    after = [storage.read_image(run.study / p) for p in chosen["path"]]
    for kind, pictures in (("unadapted", before), ("adapted", after)):
        features = of_images(pictures)
        rows.append(
            {
                "model": kind,
                "images": len(features),
                "photographs": len(photographs),
                "kernel_distance_x1000": 1000
                * edit_metrics.kernel_distance(scale * features, scale * photographs),
                "class_named": edit_metrics.recognised(features, places, captions),
            }
        )
    return pd.DataFrame(rows), before
