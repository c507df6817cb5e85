"""What 06_classify depends on: its slice of the configuration."""

from __future__ import annotations

from typing import Any, Literal, Self

from ..core.config import StudyConfig
from ..core.config_sections import ModelSpec, TrainSettings
from ..core.seeds import seed_for
from ..core.stage import StageSettings
from ..data import registry
from ..models import classifiers
from . import recipes


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
