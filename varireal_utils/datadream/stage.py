"""DataDream: adapts a text-to-image model to a few photographs by LoRA, then draws a data set.

After "DataDream: Few-shot Guided Dataset Generation" (arXiv 2407.10910); settings in
docs/protocol.md, C3. `cls` trains one adapter per class, `dset` one for all classes. Two baselines
adapt nothing: `untuned` draws `candidates` times as many images from the class names and keeps
those with the highest CLIP probability (as IsSynth does); `img2img` starts from a photograph of the
shots and its caption, where the table has a column of that name (as DISEF does).

symbols   shots    photographs of a class that may be learned from, drawn from the train split

Invariant (tests/unit/test_datadream.py): every random number comes from (seed, adapter, step) or
(seed, variant, class, index), so a run that was killed resumes to the same bytes; images are drawn
from the adapters as stored.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import oom_retry, storage
from ..core.config_sections import BASELINES
from ..core.seeds import seed_for
from ..core.stage import Run
from ..data.shots import few_shot
from ..models import loaders
from . import adapters, sampling
from .slices import DataDreamStage

ALL = "all classes"
UNADAPTED = "unadapted"  # folder of what the model draws without its adapters
PROBABILITY_BATCH = 64  # images


def make(
    run: Run[DataDreamStage], table: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, list[float]]]:
    """Adapt, then draw. table: images.parquet of the data set.

    Writes samples.parquet, few_shot.csv, adapters and images; returns the rows of samples.parquet
    and the losses of each adapter. What was finished before a kill is kept.
    """
    settings = run.settings
    shots = few_shot(table, settings.datadream.shots, settings.seed)
    pipe = sampling.load(settings.models, run.device)
    _forget_other_settings(run, shots)
    _forget_damaged(run)
    storage.write_table(run.out / "few_shot.csv", shots[["image_id", "class_name", "sha256"]])
    losses: dict[str, list[float]] = {}
    if settings.variant in BASELINES:
        samples = _baseline(run, pipe, shots)
    else:
        by_class = settings.variant == "cls"
        groups = dict(tuple(shots.groupby("class_name"))) if by_class else {ALL: shots}
        losses = {name: _adapter(run, pipe, name, rows) for name, rows in groups.items()}
        samples = _adapted(run, pipe, list(groups), shots)
    storage.write_table(run.out / "samples.parquet", samples)
    return samples, losses


def _adapter(run: Run[DataDreamStage], pipe: Any, group: str, rows: pd.DataFrame) -> list[float]:
    """Train the adapter of a group of shots, unless it is there; its losses."""
    settings, out = run.settings, _adapter_dir(run, group)
    if not (out / "losses.json").exists() or not (out / adapters.WEIGHTS).exists():
        shots = adapters.Shots.of(
            rows, lambda p: storage.read_image(run.study / p), settings.datadream.template
        )
        seed = seed_for(settings.seed, "datadream", settings.variant, group)
        adapters.adapt(pipe, shots, settings.datadream, out, seed, run.dtype)
    return storage.read_json(out / "losses.json")


def _adapter_dir(run: Run[DataDreamStage], group: str) -> Path:
    return run.out / "adapters" / storage.slug(group)


def _adapted(
    run: Run[DataDreamStage], pipe: Any, groups: list[str], shots: pd.DataFrame
) -> pd.DataFrame:
    """Images of every class, drawn with the stored adapter of its group."""
    rows: list[dict] = []
    fit = oom_retry.Fit()
    labels = shots.drop_duplicates("label").set_index("class_name")["label"]
    for group in groups:
        folder = _adapter_dir(run, group)
        digest = storage.sha256_file(folder / adapters.WEIGHTS)
        pipe.load_lora_weights(str(folder), weight_name=adapters.WEIGHTS)
        for name in labels.index if group == ALL else [group]:
            planned = _plan(run, name, int(labels[name]), run.settings.datadream.images_per_class)
            rows += _draw_class(run, pipe, [r | {"adapter": digest} for r in planned], fit)
        pipe.unload_lora_weights()
    return pd.DataFrame(rows)


def _baseline(run: Run[DataDreamStage], pipe: Any, shots: pd.DataFrame) -> pd.DataFrame:
    """Images of a model that learned nothing."""
    settings, variant = run.settings.datadream, run.settings.variant
    count, rows, fit = settings.images_per_class, [], oom_retry.Fit()
    if variant == "img2img":
        pipe = sampling.image_to_image(pipe)
    else:
        count *= settings.candidates
    for (label, name), members in shots.groupby(["label", "class_name"]):
        starts = members if variant == "img2img" else None
        rows += _draw_class(run, pipe, _plan(run, name, int(label), count, starts), fit)
    samples = pd.DataFrame(rows)
    if variant == "untuned":
        samples = samples.assign(probability=_probability(run, samples))
        best = samples.groupby("label")["probability"].rank(method="first", ascending=False)
        samples = samples[best <= settings.images_per_class].reset_index(drop=True)
    return samples


def _forget_other_settings(run: Run[DataDreamStage], shots: pd.DataFrame) -> None:
    """Remove adapters and images of other settings, photographs or models."""
    settings = run.settings
    generator = settings.models.only(settings.models.generator_role())
    kept = settings.model_copy(update={"models": generator})
    stamp = storage.sha256_json([run.rests_on(kept), shots["sha256"].tolist()])
    path = run.out / "stamp.json"
    if path.exists() and storage.read_json(path) == stamp:
        return
    for old in [*run.out.glob("adapters/*/*"), *run.out.glob("*/*.png")]:
        old.unlink()
    storage.write_json(path, stamp)


def _forget_damaged(run: Run[DataDreamStage]) -> None:
    """Remove images and adapters that are not as a finished run left them, to be made again."""
    table = run.out / "samples.parquet"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):  # no finished run, or its table is damaged
        kept = storage.read_table(table)
        known = dict(zip(kept["path"], kept["sha256"], strict=True))
        digests = set(kept["adapter"])
        for weights in run.out.glob(f"adapters/*/{adapters.WEIGHTS}"):
            if storage.sha256_file(weights) not in digests:
                weights.unlink()
    for picture in sorted((run.out / "images").glob("*.png")):
        name = picture.relative_to(run.study).as_posix()
        empty = picture.stat().st_size == 0
        if empty or known.get(name, "") not in ("", storage.sha256_file(picture)):
            picture.unlink()


def _probability(run: Run[DataDreamStage], samples: pd.DataFrame) -> np.ndarray:
    """(N,) CLIP's zero-shot probability, 0..1, that an image is of the class it was drawn for."""
    names = samples.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    spec = loaders.required(run.settings.models, "clip")
    template = run.settings.datadream.template
    measure = sampling.ClassProbability(spec, names, template, run.device)
    out = []
    for i in range(0, len(samples), PROBABILITY_BATCH):
        rows = samples.iloc[i : i + PROBABILITY_BATCH]
        images = [storage.read_image(run.study / p) for p in rows["path"]]
        out.append(measure(images, rows["class_name"].tolist()))
    return np.concatenate(out)


def _plan(
    run: Run[DataDreamStage],
    name: str,
    label: int,
    count: int,
    starts: pd.DataFrame | None = None,
) -> list[dict]:
    """Rows of `count` images of a class; starts: photographs to start from, by turns."""
    settings, rows = run.settings, []
    folder = run.out.relative_to(run.study) / "images"
    for index in range(count):
        source = None if starts is None else starts.iloc[index % len(starts)]
        caption = None if source is None else source.get("caption")
        given = isinstance(caption, str) and caption.strip()
        prompt = caption if given else settings.datadream.template.replace("{class}", name)
        sample = f"{name}-{settings.variant}-{index:05d}"
        rows.append(
            {
                "image_id": sample,
                "path": (folder / f"{storage.slug(sample)}.png").as_posix(),
                "label": label,
                "class_name": name,
                "variant": settings.variant,
                "k": index,
                "prompt": prompt,
                "adapter": "",
                "source": "" if source is None else source["path"],
                "seed": seed_for(settings.seed, "draw", settings.variant, name, index),
                "models": storage.to_json(loaders.describe(settings.models)),
            }
        )
    return rows


def _draw_class(
    run: Run[DataDreamStage], pipe: Any, rows: list[dict], fit: oom_retry.Fit
) -> list[dict]:
    """Draw the images of rows that are not there; the rows with their images' sha256. fit: the
    batch size that fits into memory."""
    settings = run.settings.datadream

    def drawn(part: list[dict]) -> list[np.ndarray]:
        starts = [storage.read_image(run.study / r["source"]) for r in part if r["source"]]
        prompts, seeds = [r["prompt"] for r in part], [r["seed"] for r in part]
        return sampling.draw(pipe, prompts, seeds, settings, run.dtype, starts or None)

    for i in range(0, len(rows), settings.batch_size):  # batches are fixed, and redone whole
        part = rows[i : i + settings.batch_size]
        if all((run.study / r["path"]).exists() for r in part):
            continue
        images = oom_retry.retry_in_halves(drawn, part, fit=fit)
        for row, image in zip(part, images, strict=True):
            storage.write_image(run.study / row["path"], image)
    return [r | {"sha256": storage.sha256_file(run.study / r["path"])} for r in rows]


def output_files(run: Run[DataDreamStage], samples: pd.DataFrame) -> list[Path]:
    """What a run wrote: tables, adapters, images."""
    tables = [run.out / "samples.parquet", run.out / "few_shot.csv"]
    weights = sorted((run.out / "adapters").glob("*/*.safetensors"))
    before = sorted((run.out / UNADAPTED).glob("*.png"))
    return [*tables, *weights, *before, *(run.study / p for p in samples["path"])]


def metrics(
    samples: pd.DataFrame,
    shots: pd.DataFrame,
    losses: dict[str, list[float]],
    learned: pd.DataFrame | None,
) -> dict[str, Any]:
    """Figures of a run for its record. learned: of quality's `learned`, None for a baseline."""
    plain = None if learned is None else learned.astype(object).where(learned.notna(), None)
    return {
        "images": len(samples),
        "photographs": len(shots),
        "last_loss": {name: curve[-1] for name, curve in losses.items()},
        "learned": [] if plain is None else plain.to_dict("records"),
    }
