"""The stages of a study and their graph: what each depends on, makes, and waits for.

    STAGES           one line a stage: notebook, slice of the configuration, folder, targets
    jobs(config)     every job of a study, upstream first
    Job              one run of a stage for one target; its key, record, command

symbols   target     what one run is of: data set, attribute, feasibility, recipe, seed, ...
          upstream   jobs whose files a job reads
          record     run.json in the job's folder, written last

The Snakefile, `status`, `plan` and `begin` read this registry. A new stage is a module with its
slice (docs/extending.md) and one line in STAGES. A slice is imported when its key is asked for, so
that the graph is built without torch.

Invariant (tests/unit/test_stages.py): no two jobs share a folder, and upstream jobs are jobs of
the same study that come first.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import ParameterError, StudyConfig
from ..core.stage import Key, SourceDigests, StageSettings
from ..core.study_paths import StudyPaths
from ..training import recipes

Target = Mapping[str, Any]
ARMS = recipes.ARMS


@dataclass(frozen=True)
class Stage:
    """One line of the registry.

    name: of its notebook; rule: in the Snakefile; settings: "module:class" of its slice; targets:
    what a study wants of it; folder: where a target's files lie; upstream: (stage, target) that it
    reads; parts: targets that several jobs make it from; variant: end of the rule's name for a
    target; parallel: whether a job takes all threads of a job; gpu: whether it computes on a GPU,
    where there is one, by the study's configuration; priority: begun first among equals;
    clears: a run begins with an empty folder, so that nothing of earlier settings stays in it;
    whole: of the study, not of each of its replicates; pieces: computations of a job of which
    none needs another.
    """

    name: str
    rule: str
    settings: str
    targets: Callable[[StudyConfig], list[dict[str, Any]]]
    folder: Callable[[StudyPaths, Target], Path]
    upstream: Callable[[StudyConfig, Target], list[tuple[str, dict[str, Any]]]]
    parts: Callable[[StudyConfig, Target], list[dict[str, Any]]] = lambda config, target: []
    variant: Callable[[Target], str] = lambda target: ""
    parallel: bool = False
    gpu: Callable[[StudyConfig], bool] = lambda config: False
    priority: int = 0
    clears: bool = False
    whole: bool = False
    pieces: Callable[[StudyConfig, Target], int] = lambda config, target: 1

    def slice_class(self) -> type[StageSettings]:
        """The class of its slice, imported now."""
        module, _, name = self.settings.partition(":")
        return getattr(importlib.import_module(f"varireal_utils.{module}"), name)


@dataclass(frozen=True)
class Job:
    """One run of a stage: `target` of the configuration of a study, or of one replicate."""

    stage: Stage
    config: StudyConfig = field(repr=False)
    target: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where its files and its record lie."""
        return self.stage.folder(self.config.paths, self.target)

    @property
    def name(self) -> str:
        """Its folder below the study's: what a record calls an upstream job."""
        return self.folder.relative_to(self.config.whole.root).as_posix()

    @property
    def record(self) -> Path:
        """Its record."""
        return self.folder / "run.json"

    @property
    def rule(self) -> str:
        """Its rule in the Snakefile."""
        return self.stage.rule + self.stage.variant(self.target)

    @property
    def what(self) -> str:
        """Its target in words, as "micro_cars color feasible"."""
        replicate = self.config.replicate
        words = [] if replicate is None else [f"replicate {replicate}"]
        return " ".join([*words, *(str(v) for v in self.given().values())])

    def upstream(self) -> list[Job]:
        """The jobs whose files it reads."""
        return [
            Job(STAGES[name], config, target)
            for name, target in self.stage.upstream(self.config, self.target)
            for config in self._draws(STAGES[name])
        ]

    def _draws(self, upstream: Stage) -> list[StudyConfig]:
        """The configurations in which an upstream stage runs for this job."""
        each = self.stage.whole and not upstream.whole
        return self.config.draws() if each else [self.config]

    def parts(self) -> list[Job]:
        """The jobs that make parts of its files; none where one job makes them all."""
        return [Job(self.stage, self.config, t) for t in self.stage.parts(self.config, self.target)]

    def settings(self) -> StageSettings:
        """Its slice of the configuration."""
        return self.stage.slice_class().of(self.config, **self.target)

    def key(self, notebook: Path, digests: SourceDigests) -> Key:
        """What makes it run again, on this machine."""
        return Key.of(self.settings(), self.config, notebook, digests)

    def command(
        self, params: str, overrides: Mapping[str, Any], notebooks: str, frozen: str = ""
    ) -> str:
        """The shell command that runs it. frozen: the configuration as the driver read it."""
        words = [sys.executable, "-m", "varireal_utils", "run", self.stage.name]
        words += ["--notebooks", notebooks, "--params", params]
        words += ["--frozen", frozen] if frozen else []
        if self.config.replicate is not None:
            overrides = {**overrides, "replicate": self.config.replicate}
        if overrides:
            words += ["--set", f"overrides={json.dumps(overrides)}"]
        for key, value in self.given().items():
            words += ["--set", f"{key}={value}"]
        return shlex.join(words)

    def given(self) -> dict[str, Any]:
        """The parameters of its notebook that differ from their defaults."""
        return {k: v for k, v in self.target.items() if v != "" and v != -1 and v is not False}


def jobs(config: StudyConfig) -> list[Job]:
    """Every job of a study, upstream first. Raises ParameterError for recipes without images."""
    edited(config), datadream_variants(config)
    of_draws = [
        Job(stage, draw, target)
        for draw in config.draws()
        for stage in STAGES.values()
        if not stage.whole
        for target in stage.targets(draw)
    ]
    if config.replicate is not None:
        return of_draws
    whole = [stage for stage in STAGES.values() if stage.whole]
    return [*of_draws, *(Job(s, config, target) for s in whole for target in s.targets(config))]


def find(stage: str, config: StudyConfig, target: Target) -> Job | None:
    """The job of a stage's notebook with these parameters; None for a notebook of no stage."""
    known = STAGES.get(stage)
    return Job(known, config, dict(target)) if known else None


def edited(config: StudyConfig, recipe: str = "") -> list[str]:
    """The attributes whose edits a recipe reads; "" for all recipes of the study."""
    names = [recipe] if recipe else config.classify.recipes
    try:
        return recipes.edited_attributes(names, config.attributes)
    except ValueError as error:
        raise ParameterError(f"{config.file}: {error}") from error


def three_values(config: StudyConfig) -> bool:
    """Whether the study's recipes name familiar and unfamiliar values. Raises ParameterError."""
    try:
        return recipes.three_values(config.classify.recipes)
    except ValueError as error:
        raise ParameterError(f"{config.file}: classify.recipes: {error}") from error


def datadream_variants(config: StudyConfig, recipe: str = "") -> list[str]:
    """The variants of DataDream that a recipe reads; "" for all recipes of the study."""
    found = recipes.generators([recipe] if recipe else config.classify.recipes)
    if found and config.datadream is None:
        raise ParameterError(
            f"{config.file}: recipes ask for datadream, whose settings (`datadream`) are missing"
        )
    return found


def _each_dataset(config: StudyConfig) -> list[dict[str, Any]]:
    return [{"dataset": name} for name in config.datasets]


def _each_edited_dataset(config: StudyConfig) -> list[dict[str, Any]]:
    """No phrases and no masks where nothing is edited."""
    return _each_dataset(config) if config.attributes else []


def _writes_phrases(config: StudyConfig) -> bool:
    """Whether a language model of this machine writes the phrases."""
    return not isinstance(config.prompts, str) and config.prompts.model.kind == "local"


def _measured(config: StudyConfig) -> list[dict[str, Any]]:
    """07_quality compares two arms of one draw; no claim about replicates needs it."""
    return [] if config.replicates else _each_dataset(config)


def _arms(
    config: StudyConfig, dataset: str, attributes: list[str], recipe: str = ""
) -> Iterator[dict[str, Any]]:
    """The arms that a recipe reads; "" for all recipes of the study."""
    names, three = [recipe] if recipe else config.classify.recipes, three_values(config)
    keep = config.verify.keep
    for attribute in attributes:
        for arm in recipes.arms_read(names, attribute, keep, three):
            yield {
                "dataset": dataset,
                "attribute": attribute,
                "feasibility": arm,
                "shard": "",
            }


def _shards(config: StudyConfig, arm: Target) -> list[dict[str, Any]]:
    """The parts that an arm is collected from; none where one job makes it."""
    count = config.edit.shards
    whole = count == 1 or arm.get("shard")
    return [] if whole else [{**arm, "shard": f"{n}/{count}"} for n in range(1, count + 1)]


def _edit_targets(config: StudyConfig) -> list[dict[str, Any]]:
    arms = [a for d in config.datasets for a in _arms(config, d, config.attributes)]
    return [*(shard for arm in arms for shard in _shards(config, arm)), *arms]


def _trainings(config: StudyConfig) -> list[dict[str, Any]]:
    """classify.job: one job for each data set, for each seed, or for each recipe and seed."""
    seeds, names = config.classify.seeds, config.classify.recipes
    parts = {
        "dataset": [("", -1)],
        "seed": [("", seed) for seed in seeds],
        "recipe": [(r, k) for r in names for k in (seeds[:1] if r == "zero_shot" else seeds)],
    }[config.classify.job]
    return [
        {"dataset": dataset, "recipe": recipe, "seed": seed}
        for dataset in config.datasets
        for recipe, seed in parts
    ]


def _trainings_of(config: StudyConfig, target: Target) -> int:
    """Trainings of one job of 06_classify, at most: zero-shot is none."""
    recipes, seeds = config.classify.recipes, config.classify.seeds
    return (1 if target.get("recipe") else len(recipes)) * (
        1 if target.get("seed", -1) >= 0 else len(seeds)
    )


def _generated(config: StudyConfig, dataset: str, recipe: str = "") -> list[tuple[str, dict]]:
    """The edited and generated images that a recipe, or the whole study, is trained on."""
    return [
        *(
            ("05_datadream", {"dataset": dataset, "variant": v})
            for v in datadream_variants(config, recipe)
        ),
        *(("04_edit", arm) for arm in _arms(config, dataset, edited(config, recipe), recipe)),
    ]


def _before_edit(config: StudyConfig, target: Target) -> list[tuple[str, dict]]:
    dataset = {"dataset": target["dataset"]}
    return [("01_data", dataset), ("02_attributes", dataset), ("03_guidance", dataset)]


def _before_quality(config: StudyConfig, target: Target) -> list[tuple[str, dict]]:
    dataset = target["dataset"]
    return [
        ("01_data", {"dataset": dataset}),
        *[("03_guidance", {"dataset": dataset})] * bool(config.attributes),
        *(("04_edit", arm) for arm in _arms(config, dataset, config.attributes)),
        *(("05_datadream", {"dataset": dataset, "variant": v}) for v in datadream_variants(config)),
    ]


def _before_claims(config: StudyConfig, target: Target) -> list[tuple[str, dict]]:
    if target.get("source"):
        return []
    arms = [a for d in config.datasets for a in _arms(config, d, config.attributes)]
    return [
        *(("06_classify", t) for t in _trainings(config)),
        *(("04_edit", arm) for arm in arms),
        *_dreamed(config),
        *(("07_quality", t) for t in _measured(config)),
    ]


def _dreamed(config: StudyConfig) -> list[tuple[str, dict]]:
    """What DataDream's adapters changed."""
    each = [(d, v) for d in config.datasets for v in datadream_variants(config)]
    return [("05_datadream", {"dataset": d, "variant": v}) for d, v in each]


def _after_data(config: StudyConfig, target: Target) -> list[tuple[str, dict]]:
    return [("01_data", {"dataset": target["dataset"]})]


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "01_data",
            "data",
            "data.stage:DataStage",
            targets=_each_dataset,
            folder=lambda p, t: p.data(t["dataset"]),
            upstream=lambda c, t: [],
        ),
        Stage(
            "02_attributes",
            "attributes",
            "prompts.stage:AttributesStage",
            targets=_each_edited_dataset,
            folder=lambda p, t: p.attributes(t["dataset"]),
            upstream=_after_data,
            gpu=_writes_phrases,
        ),
        Stage(
            "03_guidance",
            "guidance",
            "editing.slices:GuidanceStage",
            targets=_each_edited_dataset,
            folder=lambda p, t: p.guidance(t["dataset"]),
            upstream=_after_data,
            parallel=True,
            gpu=lambda c: c.models.detector is not None,
        ),
        Stage(
            "04_edit",
            "edit",
            "editing.slices:EditStage",
            targets=_edit_targets,
            folder=lambda p, t: p.edits(
                t["dataset"], t["attribute"], t["feasibility"], t.get("shard", "")
            ),
            upstream=_before_edit,
            parts=_shards,
            variant=lambda t: "_shard" if t.get("shard") else "",
            parallel=True,
            gpu=lambda c: True,
        ),
        Stage(
            "05_datadream",
            "datadream",
            "datadream.slices:DataDreamStage",
            targets=lambda c: [target for _, target in _dreamed(c)],
            folder=lambda p, t: p.datadream(t["dataset"], t["variant"]),
            upstream=_after_data,
            parallel=True,
            gpu=lambda c: True,
            priority=1,  # the longest job: begun late, it would run on beside an idle core
        ),
        Stage(
            "06_classify",
            "classify",
            "training.slices:ClassifyStage",
            targets=_trainings,
            folder=lambda p, t: p.classify(
                t["dataset"], t.get("recipe", ""), None if t.get("seed", -1) < 0 else t["seed"]
            ),
            upstream=lambda c, t: [
                *_after_data(c, t),
                *_generated(c, t["dataset"], t.get("recipe", "")),
            ],
            pieces=_trainings_of,
            variant=lambda t: (
                "_one" if t.get("recipe") else "_seed" if t.get("seed", -1) >= 0 else ""
            ),
            parallel=True,
            gpu=lambda c: True,
        ),
        Stage(
            "07_quality",
            "quality",
            "quality.slices:QualityStage",
            targets=_measured,
            folder=lambda p, t: p.quality(t["dataset"]),
            upstream=_before_quality,
            parallel=True,
            gpu=lambda c: True,
        ),
        Stage(
            "07_claims",
            "claims",
            "analysis.stage:ClaimsStage",
            clears=True,
            whole=True,
            targets=lambda c: [{"source": ""}],
            folder=lambda p, t: p.recomputed if t.get("source") else p.results,
            upstream=_before_claims,
        ),
        Stage(
            "08_figures",
            "figures",
            "reporting.stage:FiguresStage",
            clears=True,
            whole=True,
            targets=lambda c: [{"source": "", "publish": False}],
            folder=lambda p, t: p.redrawn if t.get("source") else p.figures,
            upstream=lambda c, t: [] if t.get("source") else [("07_claims", {"source": ""})],
        ),
    )
}
