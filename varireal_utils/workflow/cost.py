"""What a study costs, before it runs: jobs, images, hours and disk.

    hours   results/<study>/runs.csv, where the study has been run; else the operations of each
            network (models.<role>.tflop) over the rate of its kind of work (rates.py), an estimate
            of its networks alone: decoding, disk and idle time come on top
    disk    images x pixels x 1.7 bytes (PNG, measured on 20 photographs of Pets)

symbols   tflop   1e12 operations of a network for one image, once forward

Every number says where it comes from; what nobody measured and nothing can be derived from says
"not measured". Reads the phrase file, tables and measured times that are there; loads no torch.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..core import arms, storage
from ..core.attributes import ATTRIBUTES
from ..core.config import StudyConfig
from ..core.config_editing import VARIREAL
from ..core.config_sections import ADAPTED
from ..data import registry
from ..training import recipes
from .completeness import count_phrases, refined, roles_of
from .rates import rates

BYTES = 1.7  # of a PNG, a pixel
QUESTION = 0.01  # of reading a picture: some 24 tokens behind some 2,400 (params/paper.yaml)
MICRO_PIXELS = 128 * 128  # of the micro world; larger images are generated at 512 x 512
Hours = tuple[float, float]  # least, most
Work = dict[str, float]  # kind of work (rates.py) -> 1e12 operations


@dataclass(frozen=True)
class Job:
    """One line of the plan: `count` alike jobs that make `images` images in all (None: unknown).

    hours: of all of them, (low, high), or None where nobody knows; gb: on disk, or None; kinds:
    of work that the hours are of (rates.py).
    """

    stage: str
    what: str
    count: int = 1
    images: int | None = 0
    hours: Hours | None = None
    source: str = ""
    gb: float | None = 0.0
    kinds: tuple[str, ...] = ()


def sizes(config: StudyConfig, dataset: str) -> tuple[dict[str, int] | None, int, str]:
    """(images of each split or None, number of classes or 0, where that is known from)."""
    table = config.paths.images_table(dataset)
    if table.exists():
        rows = storage.read_table(table)
        return rows["split"].value_counts().to_dict(), int(rows["label"].nunique()), str(table)
    spec = registry.of_study(config, dataset)
    known = spec.sizes(registry.DATA_SETS[spec.source])
    return known or (None, 0, "unknown until 01_data has run")


def measured(config: StudyConfig) -> dict[tuple[str, str], float]:
    """(stage, what) -> seconds, of the study's own runs that results/ keeps."""
    path = Path("results") / storage.slug(config.study) / "runs.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {(r["stage"], r["what"]): float(r["seconds"]) for r in csv.DictReader(file)}


def _costs(config: StudyConfig) -> dict[str, float]:
    """Role -> tflop, of the roles that state it."""
    return {r: s.tflop for r, s in config.models.present().items() if s.tflop is not None}


def edit_tflop(config: StudyConfig, attribute: str, feasibility: str) -> float | None:
    """1e12 operations of the networks for one attempt at one edit; None where a role has no tflop.

    Guidance above 1 doubles each step, for the pass without a text; strength s of n steps runs
    s x n, and a refinement from noise all n.
    """
    if arms.perfect(feasibility):
        return 0.0
    cost, editor = _costs(config), config.edit.editor
    first = ("inpaint",) if editor == VARIREAL else roles_of(config, attribute)
    own = config.edit.attributes[attribute].of_arm(feasibility)
    passes = guided_rows(own.guidance_scale) * math.ceil(own.steps * own.strength)
    parts: list[tuple[int, tuple[str, ...]]] = [
        {
            "instruct": (3 * own.steps, ("instruct",)),  # with text and picture, picture, neither
            "img2img": (passes, ("prior",)),
        }.get(editor, (passes, first))
    ]
    if refined(config, attribute):
        base = "refine" if config.models.refine else "inpaint"
        part = own.refine_strength if own.refine_from == "edit" else 1.0
        steps = math.ceil(own.refine_steps * part)
        parts.append((guided_rows(own.refine_guidance_scale) * steps, (base, "controlnet")))
    if any(r not in cost for _, roles in parts for r in roles):
        return None
    return sum(n * sum(cost[r] for r in roles) for n, roles in parts)


def guided_rows(guidance_scale: float) -> int:
    """Rows of a denoising pass for one image: two where guidance needs the pass without a text."""
    return 2 if guidance_scale > 1 else 1


def verify_tflop(config: StudyConfig, attempts: int = 1) -> float | None:
    """1e12 operations of the verifier for one edit and so many attempts at it; None where nobody
    knows.

    A vision-language model reads a picture once, and all questions about it branch from that
    reading (verification/vlm_asker.py). The photograph is asked one question, at the first attempt
    alone, as its answers are remembered. Not counted: the photographs of edits that only fail as
    their own class (editing/exemption.py), and calibration, once an attribute.
    """
    cost, verify = _costs(config), config.verify
    if config.models.verifier_kind() == "clip":
        return attempts * 3 * cost["clip"] if cost.get("clip") else None
    asked = 4 if verify.rule == "faithful" else 2 * (1 + verify.controls) + 1
    readings = attempts * (1 + QUESTION * asked)
    if verify.rule == "strict":
        readings += photographs_read(config.edit.images_per_real, config.edit.batch_size) + QUESTION
    return readings * cost["verifier"] if cost.get("verifier") else None


def photographs_read(edits: int, batch: int) -> float:
    """Photographs that a verifier reads for each edit: once for those of its `edits` that stand in
    one batch, which cuts some photographs' edits in two."""
    return 1 / edits + 1 / batch - 1 / math.lcm(edits, batch)


def jobs(config: StudyConfig) -> list[Job]:
    """Every job of the study, alike ones, such as those of its replicates, in one line."""
    seconds, draws = measured(config), config.draws()
    found = [job for dataset in config.datasets for job in _of_dataset(draws[0], dataset)]
    timed = [_times(_timed(job, seconds), len(draws)) for job in found]
    return [*timed, Job("07_claims", ""), Job("08_figures", "")]


def _times(job: Job, count: int) -> Job:
    """`count` times a job."""
    return replace(
        job,
        count=job.count * count,
        images=None if job.images is None else job.images * count,
        hours=None if job.hours is None else (job.hours[0] * count, job.hours[1] * count),
        gb=None if job.gb is None else job.gb * count,
    )


def _of_dataset(config: StudyConfig, dataset: str) -> Iterator[Job]:
    known, classes, _ = sizes(config, dataset)
    gb = registry.of_study(config, dataset).pixels() * BYTES / 1e9  # of one image
    images = sum(known.values()) if known else None
    train = known["train"] if known else None
    masks = known["train"] + known["val"] if known else None
    yield Job("01_data", dataset, images=images, gb=None if images is None else images * gb)
    if config.attributes:
        yield Job("02_attributes", dataset)
        yield Job(
            "03_guidance",
            dataset,
            images=None if masks is None else 2 * masks,
            gb=None if masks is None else 0.1 * masks * gb,
        )
    count = None if train is None else train * config.edit.images_per_real
    three = recipes.three_values(config.classify.recipes)
    for attribute in config.attributes:
        for arm in recipes.arms_read(config.classify.recipes, attribute, config.verify.keep, three):
            what, size = f"{attribute} {dataset} {arm}", None if count is None else count * gb
            made = _edit_hours(config, dataset, attribute, arm, count)
            yield Job("04_edit", what, 1, count, made.hours, made.source, size, made.kinds)
    yield from _generated(config, dataset, classes, gb)
    yield from _trainings(config, dataset, classes, known["val"] if known else 0)
    if not config.replicates:
        yield Job("07_quality", dataset)


def _timed(job: Job, seconds: dict[tuple[str, str], float]) -> Job:
    """The job with the hours that results/ has measured, where it has."""
    found = seconds.get((job.stage, job.what))
    if found is None:
        return job
    return replace(job, hours=(found / 3600, found / 3600), source="measured")


@dataclass(frozen=True)
class _Estimate:
    hours: Hours | None = None
    source: str = "not measured"
    kinds: tuple[str, ...] = ()


def _estimate(
    config: StudyConfig, low: Work | None, high: Work | None = None, classes: int = 0
) -> _Estimate:
    """Hours of least and most work, at the rates of its kinds."""
    known = rates(config, classes)
    if low is None or not known:
        return _Estimate()
    both = (low, low if high is None else high)
    hours = [sum(n / known[kind].tflops for kind, n in work.items()) / 3600 for work in both]
    return _Estimate((hours[0], hours[1]), "estimate", tuple(low))


def _edit_hours(
    config: StudyConfig, dataset: str, attribute: str, arm: str, count: int | None
) -> _Estimate:
    """All edits at one attempt each, and at the most that the parameters allow."""
    make, most = edit_tflop(config, attribute, arm), config.edit.max_attempts
    once, always = verify_tflop(config), verify_tflop(config, most)
    if count is None or make is None or once is None or always is None:
        return _Estimate()
    priors = 0.0
    if ATTRIBUTES[attribute].generates_prior:
        cost, own = _costs(config).get("prior"), config.edit.attributes[attribute]
        if cost is None:
            return _Estimate()
        drawn = count_phrases(config, dataset, attribute) / 2 * config.edit.prior_variants
        priors = drawn * own.prior_steps * guided_rows(own.prior_guidance_scale) * cost
    kind = "read" if config.models.verifier_kind() == "vlm" else "evaluate"
    low, high = (
        {"paint": count * make * tries + priors, kind: count * check}
        for tries, check in ((1, once), (most, always))
    )
    return _estimate(config, low, high)


def _generated(config: StudyConfig, dataset: str, classes: int, gb: float) -> Iterator[Job]:
    """DataDream: training forwards and backwards (3 passes), then generation with guidance; its
    baselines generate only."""
    own = config.datadream
    if own is None:
        return
    cost = _costs(config).get("datadream" if config.models.datadream else "prior")
    size = 512 * 512 * BYTES / 1e9 if gb > MICRO_PIXELS * BYTES / 1e9 else gb
    for variant in recipes.generators(config.classify.recipes):
        count = classes * own.images_per_class or None
        learning = 3 * own.epochs * own.shots if variant in ADAPTED else 0
        drawn = own.images_per_class * (own.candidates if variant == "untuned" else 1)
        passes = classes * (learning + 2 * drawn * own.steps)
        work = {"learn": cost * passes} if cost is not None and classes else None
        known = _estimate(config, work)
        disk, what = None if count is None else count * size, f"{dataset} {variant}"
        yield Job("05_datadream", what, 1, count, known.hours, known.source, disk, known.kinds)


def _training_work(config: StudyConfig, classes: int, val: int) -> Work | None:
    """Operations of one training: its steps (forward and twice that back), its validations."""
    own, clip = config.classify, config.models.clip
    if not (clip and clip.tflop and clip.tflop_text and classes):
        return None
    step = 3 * (own.batch_size * clip.tflop + classes * clip.tflop_text)
    looks = own.steps // own.eval_every
    seen = looks * (val * clip.tflop + classes * clip.tflop_text)
    return {"train": own.steps * step, "evaluate": seen}


def _trainings(config: StudyConfig, dataset: str, classes: int, val: int) -> Iterator[Job]:
    """Jobs of the graph: a recipe and seed, a seed, or all at once."""
    own, work = config.classify, _training_work(config, classes, val)
    trained = [r for r in own.recipes if r.replace(" ", "") != "zero_shot"]

    def hours(runs: int) -> _Estimate:
        whole = None if work is None else {kind: n * runs for kind, n in work.items()}
        return _estimate(config, whole, classes=classes)

    if own.job == "recipe":
        for recipe in own.recipes:
            seeds = own.seeds if recipe in trained else own.seeds[:1]
            known = hours(len(seeds)) if recipe in trained else _Estimate()
            what = f"{dataset} {recipe} seeds {' '.join(map(str, seeds))}"
            count = len(seeds)
            yield Job("06_classify", what, count, 0, known.hours, known.source, None, known.kinds)
        return
    parts = [str(seed) for seed in own.seeds] if own.job == "seed" else [""]
    known = hours(len(trained) * (1 if own.job == "seed" else len(own.seeds)))
    for part in parts:
        what = f"{dataset} {part}".strip()
        yield Job("06_classify", what, 1, 0, known.hours, known.source, None, known.kinds)
