"""One batch of edits of each attribute and arm, made by the stage itself at its real size.

symbols   region   where an edit may change the photograph, found here from the masks alone
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...core import storage
from ...core.attributes import ATTRIBUTES
from ...core.config import StudyConfig
from ...editing import stage
from ...editing.slices import EditStage, editing_roles
from ...prompts import phrase_bank
from ...prompts.phrase_bank import ARMS
from ..check import Check, Finding, judged
from ..watch import Seen, blurred, lost, watch
from ..workspace import Workspace

BLACK, SAME = 4, 1.0  # grey levels: largest of a black region, mean change of an unchanged one
SHOWN = 4  # edits of an arm on the contact sheet
KEPT = 0.5  # of the zero-shot probability of the class, after a background has changed
OWN = 0.5  # of edits that are nearest to a phrase of their own arm
CALIBRATION = 8  # photographs that a vision-language verifier's thresholds rest on here


@dataclass(frozen=True)
class Made:
    """A batch of edits. rows: of edits.parquet; sources, pictures: (H, W, 3) uint8; regions: (H, W)
    bool; seen: what passed through the networks; rate: images a second."""

    attribute: str
    arm: str
    rows: pd.DataFrame
    sources: list[np.ndarray]
    pictures: list[np.ndarray]
    regions: list[np.ndarray]
    seen: dict[str, Seen]
    rate: float

    @property
    def what(self) -> str:
        """The name of the batch in the table."""
        return f"{self.attribute}, {self.arm}"


def run(bench: Workspace) -> Iterator[Finding]:
    """Up to seven findings for each attribute and arm, and one for each attribute."""
    if not bench.config.attributes:
        yield Finding("edits", "attributes", "skip", "none in this study", "-")
    for attribute in bench.config.attributes:
        votes: dict[str, float] = {}
        wrong: list[str] = []
        for arm in ARMS:
            with watch() as seen:
                try:
                    made = make(bench, attribute, arm, seen)
                except Exception:
                    if lost(seen):  # why there is no picture
                        yield from numbers(f"{attribute}, {arm}", seen)
                    raise
            _show(bench, made)
            yield from numbers(made.what, made.seen)
            yield from pixels(bench, made)
            yield from meaning(bench, made, votes)
            wrong += _strange(bench, made)
        yield arms(attribute, votes, wrong)


def make(bench: Workspace, attribute: str, arm: str, seen: dict[str, Seen]) -> Made:
    """Make the batch through the stage. seen: filled by `watch`."""
    config = _shortened(bench.config)
    sample, table = bench.sample(), bench.guided
    settings = EditStage.of(config, attribute=attribute, feasibility=arm)
    out = bench.paths.edits(sample.name, attribute, arm)
    target = {"dataset": sample.name, "attribute": attribute, "feasibility": arm}
    current = bench.run("04_edit", settings, out, **target)
    job = stage.prepare(current, table)
    loading, started = job.pipes.residence.seconds, time.perf_counter()
    rows = stage.make(current, job)
    taken = time.perf_counter() - started - (job.pipes.residence.seconds - loading)
    rate = len(rows) / taken
    bench.rates["04_edit", f"{attribute} {sample.name} {arm}"] = rate
    photographs = table.loc[rows["image_id"]]
    return Made(
        attribute,
        arm,
        rows,
        [storage.read_image(p) for p in photographs["path"]],
        [storage.read_image(bench.paths.root / p) for p in rows["path"]],
        [region(bench, attribute, row) for row in photographs.to_dict("records")],
        seen,
        rate,
    )


def _shortened(config: StudyConfig) -> StudyConfig:
    """One attempt, one prior a phrase, one process."""
    edit = config.edit.model_copy(
        update={
            "images_per_real": 1,
            "max_attempts": 1,
            "prior_variants": 1,
            "processes": 1,
            "reuse": "",
        }
    )
    few = min(config.verify.calibration, CALIBRATION)
    verify = config.verify.model_copy(update={"calibration": few})
    return config.model_copy(update={"edit": edit, "verify": verify})


def region(bench: Workspace, attribute: str, row: dict) -> np.ndarray:
    """(H, W) bool, where an edit may change a photograph; not by the editor's own code."""
    mask = storage.read_mask(bench.paths.root / row["mask_path"]) > 0
    if ATTRIBUTES[attribute].region == "background":
        return ~mask
    paint = row.get("paint_mask_path")
    return storage.read_mask(paint) > 0 if isinstance(paint, str) and paint else mask


def _show(bench: Workspace, made: Made) -> None:
    for i in range(min(SHOWN, len(made.rows))):
        row = made.rows.iloc[i]
        bench.show(made.what, row["class_name"], made.sources[i])
        bench.show(made.what, row["phrase"], made.pictures[i])


def numbers(what: str, seen: dict[str, Seen]) -> Iterator[Finding]:
    """Latents, networks and decoder give finite numbers, and half types are not mixed."""
    bad = lost(seen)
    calls = sum(s.calls for s in seen.values())
    yield judged(
        "edits",
        f"{what}, finite numbers",
        not bad,
        f"not finite: {'; '.join(bad)}" if bad else f"{calls} calls of networks, all finite",
        "latents and pictures that are finite",
        "a half type overflows: set the role's dtype or precision to bfloat16 or float32, and give "
        "SDXL the float16-safe autoencoder (vae: madebyollin/sdxl-vae-fp16-fix)",
    )
    mixed = blurred(seen)
    yield judged(
        "edits",
        f"{what}, type of the guided prediction",
        not mixed,
        "; ".join(mixed) or "networks answer in the type of their weights, or float32's autocast",
        "no autocast over half-precision weights",
        "guidance multiplies that rounding: give the role float32 weights, or no autocast",
    )


def pixels(bench: Workspace, made: Made) -> Iterator[Finding]:
    """Not black, changed inside the region, unchanged outside."""
    inside = [r for r in range(len(made.rows)) if made.regions[r].any()]
    black = [i for i in inside if made.pictures[i][made.regions[i]].max() <= BLACK]
    yield judged(
        "edits",
        f"{made.what}, not black",
        not black,
        f"{len(black)} of {len(inside)} are black where they may change",
        "none",
        "a safety checker or numbers that are not finite blacken pictures: take the checker out "
        "of the pipeline, or raise the precision",
    )
    gaps = [_change(made, i) for i in inside]
    same = sum(gap < SAME for gap in gaps)
    yield judged(
        "edits",
        f"{made.what}, changed inside",
        same <= 0.1 * len(gaps),
        f"{same} of {len(gaps)} equal their photograph; mean change {np.mean(gaps or [0]):.1f}",
        f"at most a tenth that change by less than {SAME:g} grey level",
        f"the editor returns its source: raise edit.{made.attribute}.strength, steps or alpha, and "
        "look at the mask",
    )
    outside = sum(
        int(((s != p).any(2) & ~r).sum())
        for s, p, r in zip(made.sources, made.pictures, made.regions)
    )
    if bench.config.edit.compose:
        yield judged(
            "edits",
            f"{made.what}, unchanged outside",
            not outside,
            f"{outside:,} pixels differ outside the region",
            "0",
            "the mask is inverted or the composition is broken: see editing/sources.py "
            "(editable_mask) and editing/compositing.py",
        )


def _change(made: Made, i: int) -> float:
    """Mean absolute change inside the region, in grey levels."""
    before, after = (x[i][made.regions[i]].astype(float) for x in (made.sources, made.pictures))
    return float(np.abs(after - before).mean())


def meaning(bench: Workspace, made: Made, votes: dict[str, float]) -> Iterator[Finding]:
    """CLIP: the attribute has moved to its phrase, the object is still there. Adds to `votes` the
    share of edits that are nearest to a phrase of their own arm."""
    after = bench.clip.embed_images(made.pictures)
    before = bench.clip.embed_images(made.sources)
    moved, own = [], []
    bank = bench.sample().bank
    for row, a, b in zip(made.rows.to_dict("records"), after, before):
        name = row["class_name"]
        options = phrase_bank.alternatives(bank, made.attribute, name)
        texts = bench.clip.embed_texts(
            [phrase_bank.verify_prompt(bank, made.attribute, p, name) for p in options]
        )
        if row["phrase"] in options:
            asked = texts[options.index(row["phrase"])]
            moved.append(float(asked @ (a - b)))
        nearest = options[int((texts @ a).argmax())]
        own.append(nearest in phrase_bank.lists(bank, made.attribute, name)[made.arm])
    votes[made.arm] = float(np.mean(own))
    yield judged(
        "edits",
        f"{made.what}, moved to its phrase",
        bool(moved) and float(np.mean(moved)) > 0,
        f"CLIP similarity to the phrase {np.mean(moved or [0]):+.4f}",
        "above 0",
        f"the edits do not show what was asked: raise edit.{made.attribute}.guidance_scale or "
        "strength; look at scheduler, prior and text encoder",
    )
    if ATTRIBUTES[made.attribute].region == "background":
        sample = bench.sample()
        labels = np.arange(len(made.rows)), made.rows["label"].to_numpy()
        was, now = (
            float(bench.chances(sample, x)[labels].mean()) for x in (made.sources, made.pictures)
        )
        yield judged(
            "edits",
            f"{made.what}, object recognised",
            now >= KEPT * was,
            f"probability of the class {was:.2f} before, {now:.2f} after",
            f"at least {KEPT:g} of before",
            "the edit has painted over the object: the mask may be inverted or empty",
        )


def _strange(bench: Workspace, made: Made) -> list[str]:
    """Phrases of an arm that are not in its list."""
    bank = bench.sample().bank
    return [
        f"{r.phrase!r} in the {made.arm} arm"
        for r in made.rows.itertuples()
        if r.phrase not in phrase_bank.lists(bank, made.attribute, str(r.class_name))[made.arm]
    ]


def arms(attribute: str, votes: dict[str, float], wrong: list[str]) -> Finding:
    """Edits of each arm show phrases of that arm."""
    told = ", ".join(f"{arm} {share:.0%}" for arm, share in votes.items())
    good = not wrong and float(np.mean(list(votes.values()))) >= OWN
    return judged(
        "edits",
        f"{attribute}, arms not swapped",
        good,
        wrong[0] if wrong else f"nearest to a phrase of their own arm: {told}",
        f"at least {OWN:.0%}, and each phrase from its own list",
        f"the arms of {attribute} look swapped, or show nothing that was asked: compare the "
        "phrases of each arm's edits with the phrase file",
    )


def roles(config: StudyConfig) -> list[str]:
    """What edits and verifies."""
    found: set[str] = set()
    for attribute in config.attributes:
        refined = config.edit.attributes[attribute].refine_steps > 0
        found |= set(editing_roles(config.edit.editor, attribute, refined))
    return sorted(r for r in found | set(config.models.verifier_roles()) if config.models.get(r))


CHECK = Check(
    "edits",
    "Is a batch of edits of each attribute and arm what was asked?",
    run,
    "the message names what is wrong; out of memory: lower edit.batch_size or set offload: model",
    roles,
)
