"""Edits one arm of a study, from files to files (pipeline.py edits arrays alone).

symbols   arm     the feasible or the infeasible edits of one attribute of a data set
          table   images of the data set with their guidance (sources.read_inputs)

Invariant (tests/notebooks/test_study.py): an arm that was interrupted, or made in shards, ends with
the bytes of one that was not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..core import arms, storage
from ..core.stage import Run
from ..core.study_paths import StudyPaths
from ..models import distributed, loaders
from ..models.residence import Residence
from ..prompts import phrase_bank
from ..verification import clip_verifier, features
from ..verification.build import Verified, Verifier, build_verifier
from . import batches, compositing, exemption, fits, passes, phases, pipeline, roles, sources
from .slices import EditStage, GuidanceStage, VerifierSettings

__all__ = ["EditStage", "GuidanceStage"]


@dataclass(frozen=True)
class Job:
    """An arm that is ready to be made: rows to edit, pipelines, priors, verifier. One phase's
    models are in memory at a time (models/residence.py)."""

    batches: batches.Batches
    rows: pd.DataFrame
    bank: phrase_bank.Bank
    pipes: roles.Pipes
    priors: passes.Priors
    verifier: Verifier
    source_of: Callable[[str], sources.Source]


def prepare(run: Run[EditStage], table: pd.DataFrame, part: tuple[int, int] | None = None) -> Job:
    """Plan the edits, set the verifier's thresholds, draw the priors: one model at a time.

    part: (1, 4) makes this process the second of 4 that share the arm or shard between them;
    without it, edit.processes of them make the batches before this process loads a model.
    """
    settings, dataset = run.settings, run.target["dataset"]
    edit, attribute = settings.edit, settings.attribute
    if part is None and edit.processes > 1:
        distributed.share(_share, edit.processes, run.device, run)
    bank = phrase_bank.of_arm(
        storage.read_json(run.paths.phrase_bank(dataset)), arms.value(settings.feasibility)
    )
    train = table[table["split"] == "train"]
    rows = pipeline.plan(train, bank, settings)
    home = Residence()
    pipes = roles.load(settings, run.device, run.dtype, home)
    pipes.fits.update(fits.read(fits.file_of(run)))
    source_of = sources.reader(run.study, table, attribute)
    verifier = build_verifier(
        Verified(
            run.study, table, bank, attribute, settings.seed, _thresholds_file(run, table, bank)
        ),
        settings.verify,
        settings.models,
        run.device,
        home,
    )
    if exemption.applies(settings.verify):
        verifier = exemption.exempting(verifier)
    arm_dir = run.paths.edits(dataset, attribute, settings.feasibility)
    stamp = batches.stamp(run.rests_on(), verifier.thresholds, bank, train, rows, run.study)
    ids = batches.batch_ids(len(rows), edit.batch_size, run.target.get("shard", ""), part or (0, 1))
    own = batches.Batches(arm_dir, arm_dir / "parts" / stamp, edit.batch_size, ids)
    batches.reuse_batches(edit.reuse, run.study, own.batch_dir)
    own.remove_damaged(run.study, edit.prior_variants if pipes.drawn else 0)
    todo = own.phrases(rows, finished=False)
    stored = set(own.phrases(rows, finished=True)) - set(todo)
    size = max(source_of(train["image_id"].iloc[0]).image.shape[:2])
    priors = own.stored_priors(stored, edit.prior_variants)
    priors |= passes.prior_bank(pipes, bank, todo, settings, size)
    return Job(own, rows, bank, pipes, dict(sorted(priors.items())), verifier, source_of)


def _thresholds_file(run: Run[EditStage], table: pd.DataFrame, bank: phrase_bank.Bank) -> Path:
    """Where the verifier's thresholds are kept for all jobs, shards and arms of the attribute: a
    name made of the verifier, its settings, the phrases, and the validation photographs."""
    own, val = run.settings, table[table["split"] == "val"]
    models = own.models.only(*own.models.verifier_roles())
    verifier = VerifierSettings(
        seed=own.seed, attribute=own.attribute, verify=own.verify, models=models
    )
    rests_on = {
        **run.rests_on(verifier),
        "dataset": run.target["dataset"],
        "bank": bank,
        "photographs": val["sha256"].tolist(),
        "labels": val["label"].tolist(),
        "classes": sorted(table["class_name"].unique()),
        "masks": [storage.sha256_file(run.study / p) for p in val["mask_path"].dropna()],
    }
    return run.paths.thresholds(storage.sha256_json(rests_on))


def _share(part: tuple[int, int], run: Run[EditStage]) -> None:
    """Make the batches of one of several processes that share an arm, or its shard."""
    run_batches(run, prepare(run, sources.read_inputs(run.paths, run.target["dataset"]), part))


def make(run: Run[EditStage], job: Job) -> pd.DataFrame:
    """Run the arm, its shard, or what is left of it, and write edits.parquet. Returns its rows."""
    run_batches(run, job)
    made = [storage.read_table(job.batches.file(i)) for i in job.batches.batch_ids]
    edits = pd.concat(made, ignore_index=True)
    if run.settings.edit.distances:
        edits = edits.assign(distance=_distances(run, job, made))
    storage.write_table(run.out / "edits.parquet", edits)
    return edits


def _distances(run: Run[EditStage], job: Job, made: list[pd.DataFrame]) -> np.ndarray:
    """(N,) 1 minus the cosine of the CLIP features of each edit and of its photograph, 0..2.

    On an accelerator those of each batch are kept beside it, so that a run that only collects what
    shards have made loads no model. On a CPU all are computed together: shards change no byte.
    """
    load = partial(features.ClipFeatures, run.settings.models, run.device)
    if run.device.type == "cpu":
        return _apart(load(), run, job, pd.concat(made, ignore_index=True))
    clip, out = None, []
    for number, rows in zip(job.batches.batch_ids, made, strict=True):
        known: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):  # absent or damaged: computed
            known = storage.read_json(job.batches.distances(number))
        keys = [f"{edit} {digest}" for edit, digest in zip(rows["edit_id"], rows["sha256"])]
        if not set(keys) <= set(known):
            clip = clip or load()
            known = dict(zip(keys, _apart(clip, run, job, rows).tolist()))
            storage.write_json(job.batches.distances(number), known)
        out += [known[key] for key in keys]
    return np.array(out, float)


def _apart(
    clip: features.ClipFeatures, run: Run[EditStage], job: Job, edits: pd.DataFrame
) -> np.ndarray:
    """`_distances` of some edits."""
    out = []
    for start in range(0, len(edits), features.BATCH):
        part = edits.iloc[start : start + features.BATCH]
        made = clip.embed_images([storage.read_image(run.study / p) for p in part["path"]])
        before = clip.embed_images([job.source_of(i).image for i in part["image_id"]])
        out.append(1 - (made * before).sum(axis=1))
    return np.concatenate(out).astype(float)


def run_batches(run: Run[EditStage], job: Job) -> None:
    """Make those of a job's batches that are not there yet."""
    own, settings = job.batches, run.settings
    own.remove_others()
    for (phrase, variant), picture in job.priors.items():
        storage.write_image(own.arm_dir / batches.prior_file(phrase, variant), picture)
    images = own.arm_dir.relative_to(run.study) / "images"
    names = storage.to_json(loaders.describe(settings.models))
    done = sum(own.finished(i) for i in own.batch_ids)
    bar = tqdm(total=len(own.batch_ids), desc="batches", initial=done)
    for number, pictures, rows in phases.run(
        job.pipes,
        job.rows,
        job.source_of,
        job.priors,
        job.bank,
        settings,
        job.verifier.score,
        own.spent(settings.edit.max_attempts),
    ):
        paths = [images / f"{storage.slug(i)}.png" for i in rows["edit_id"]]
        digests = [
            storage.write_image(run.study / p, picture) for p, picture in zip(paths, pictures)
        ]
        rows = rows.assign(path=[p.as_posix() for p in paths], sha256=digests, models=names)
        run.rests_on()  # models are loaded late: raises where their weights have changed since
        storage.write_table(own.file(number), rows)
        fits.write(fits.file_of(run), job.pipes.fits)
        bar.update(1)
    bar.close()


def acceptance(run: Run[EditStage]) -> pd.DataFrame:
    """Compare what the filter accepts in both arms (clip_verifier.by_arm), of those that are there:
    whichever arm is run second sees both."""
    dataset, attribute = run.target["dataset"], run.settings.attribute
    beside = arms.beside(run.settings.feasibility)
    files = [run.paths.edits_table(dataset, attribute, arm) for arm in beside]
    files = [f for f in files if f.exists()] or [run.out / "edits.parquet"]  # a first shard's own
    return clip_verifier.by_arm(
        pd.concat([storage.read_table(f) for f in files], ignore_index=True)
    )


def trace_edit(run: Run[EditStage], job: Job, row: pd.Series) -> dict[str, np.ndarray]:
    """Make every step of one edit again, for the pipeline figure; written to strip/. A strip of the
    same edit that this arm or one of its shards has drawn is taken over: a run that only collects
    loads no model."""
    kept = ("edit_id", "phrase", "prompt", "attribute", "feasibility", "class_name", "sha256")
    about = {k: row[k] for k in kept} | {"batches": job.batches.batch_dir.name}
    steps = _drawn(job.batches.arm_dir, about)
    if steps is None:
        source = job.source_of(row["image_id"])
        steps = pipeline.trace_edit(
            job.pipes, source, row.to_dict(), job.priors, job.bank, run.settings
        )
    for number, (name, picture) in enumerate(steps.items()):
        storage.write_image(run.out / "strip" / f"{number}_{name}.png", picture)
    storage.write_json(run.out / "strip" / "about.json", about | {"steps": list(steps)})
    return steps


def _drawn(arm_dir: Path, about: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """The steps of an edit as a strip of the arm or of a shard shows them; None without one."""
    for folder in (arm_dir, *sorted(arm_dir.glob("shards/*"))):
        with contextlib.suppress(OSError, ValueError, KeyError):  # absent or damaged: drawn again
            strip = folder / "strip"
            found = storage.read_json(strip / "about.json")
            if all(found[k] == value for k, value in about.items()):
                return {
                    name: storage.read_picture(strip / f"{number}_{name}.png")
                    for number, name in enumerate(found["steps"])
                }
    return None


def changed_outside(run: Run[EditStage], table: pd.DataFrame, edits: pd.DataFrame) -> int:
    """Count the pixels, over all edits, that differ from the source where nothing may change
    (sources.untouched)."""
    read = sources.reader(run.study, table, run.settings.attribute)
    total = 0
    for row in edits.itertuples():
        source = read(str(row.image_id))
        made = storage.read_image(run.study / str(row.path))
        kept, region = sources.untouched(source, run.settings.edit, run.settings.attribute)
        total += compositing.changed_outside(kept, made, region)
    return total


def of_study(paths: StudyPaths) -> dict[str, Any]:
    """All edits of a study with their sources' paths, for figures and `explore`: edits, and
    images by data set."""
    frames = [
        storage.read_table(p).assign(dataset=paths.dataset_of(p)) for p in paths.edits_tables()
    ]
    names = [paths.dataset_of(p) for p in paths.images_tables()]
    return {
        "edits": pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        "images": {name: sources.read_inputs(paths, name) for name in names},
    }
