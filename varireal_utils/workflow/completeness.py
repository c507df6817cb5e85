"""Refuses a study that could not run to its end, before anything is loaded.

Invariant (tests/unit/test_plan.py): each refusal names file, key, value and what to do.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..core.attributes import ATTRIBUTES
from ..core.config import ParameterError, StudyConfig
from ..core.config_editing import VARIREAL
from ..core.config_sections import ModelRoles, ModelSpec
from ..data import registry
from ..models import trained_with
from ..training import recipes
from . import stages


def roles_of(config: StudyConfig, attribute: str) -> tuple[str, ...]:
    """The roles that edits of an attribute cannot do without."""
    if config.edit.editor == VARIREAL:
        return ("inpaint", "prior") if ATTRIBUTES[attribute].generates_prior else ("inpaint",)
    from ..editing import editors  # which loads torch

    return (editors.EDITORS[config.edit.editor].role,)


def refined(config: StudyConfig, attribute: str) -> bool:
    """Whether edits of an attribute have a second diffusion stage."""
    own = config.edit.attributes[attribute]
    return own.refine_steps > 0 and config.edit.editor == VARIREAL


def complete(config: StudyConfig) -> None:
    """Raise ParameterError for what the study lacks: a role, a local model, a phrase file; and for
    a model that is not built as its weights were trained."""
    has_parts(config)
    if found := trained_with.faults(config.models):
        raise ParameterError(f"{config.file}: {'; '.join(found)}")


def has_parts(config: StudyConfig) -> None:
    """Raise ParameterError for what the study lacks: a role, a local model, a phrase file."""
    _check_recipes(config)
    models = config.models.present()
    for role, why in _needed(config, models).items():
        if role not in models:
            raise ParameterError(
                f"{config.file}: models.{role}: got nothing, wanted a local folder or a hub id: "
                f"{why}"
            )
    for role, spec in models.items():
        _check_model(config.file, role, spec, config.models)
    _check_inputs(config)
    _check_arms(config)
    _check_claims(config)


def _check_claims(config: StudyConfig) -> None:
    """Claims that the study asks are there."""
    if not config.claims.only:
        return
    from ..analysis import claim_file  # which loads scipy

    try:
        claim_file.chosen(claim_file.load(), config.claims.only)
    except ParameterError as error:
        raise ParameterError(f"{config.file}: {error}") from error


def _check_recipes(config: StudyConfig) -> None:
    """Each recipe known, and none given twice in other spellings (mix(color,0.5), 0.50)."""
    known: dict[str, str] = {}
    for recipe in config.classify.recipes:
        try:
            name = str(recipes.parse(recipe))
        except ValueError as error:
            raise ParameterError(f"{config.file}: classify.recipes: {error}") from error
        if known.setdefault(name, recipe) != recipe:
            raise ParameterError(
                f"{config.file}: classify.recipes: {recipe!r} is {known[name]!r} again; take one "
                "out"
            )


def _check_arms(config: StudyConfig) -> None:
    """Recipes ask for values that the data sets have, for edits that can be made and matched."""
    parsed = [recipes.parse(name) for name in config.classify.recipes]
    where, three = f"{config.file}: classify.recipes", stages.three_values(config)
    drawn = config.draws()[0]
    for dataset in config.datasets:
        has = bool(registry.of_study(drawn, dataset).values())
        edited = [r for r in parsed if r.kind in ("edit", "mix")]
        if edited and three != has:
            asked = "familiar and unfamiliar" if three else "feasible"
            remedy = (
                "three values need source: world and replicates of at least 1"
                if three
                else "a replicate of the world has familiar, unfamiliar and infeasible ones"
            )
            raise ParameterError(
                f"{where}: {str(edited[0])!r} and others ask for {asked} values, which {dataset} "
                f"has not got; {remedy}"
            )
        drawn_by_world = {r.maker for r in parsed} & {"perfect", *recipes.LEVEL}
        if drawn_by_world and not registry.draws(config.datasets[dataset]):
            raise ParameterError(
                f"{where}: {min(drawn_by_world)}(...) needs a data set of source world, and "
                f"{dataset} is none"
            )
    chosen = {r.maker for r in parsed} & {*recipes.MATCHED, *recipes.LEVEL}
    if chosen and not config.edit.distances:
        raise ParameterError(f"{where}: {min(chosen)}(...) needs edit.distances: true")


def _needed(config: StudyConfig, models: dict[str, ModelSpec]) -> dict[str, str]:
    """Role -> why the study needs it."""
    needed = {"clip": "06_classify fine-tunes it (name, weights)"}
    for attribute in config.attributes:
        for role in roles_of(config, attribute):
            needed[role] = f"edits of {attribute} need it"
        if refined(config, attribute):
            needed["controlnet"] = f"edit.{attribute}.refine_steps is above 0; or set it to 0"
    if generators := recipes.generators(config.classify.recipes):
        if config.datadream is None:
            raise ParameterError(
                f"{config.file}: datadream: got nothing, wanted its settings: recipes "
                "ask for it; add them, or take those recipes out"
            )
        if "datadream" not in models:
            needed.setdefault("prior", "datadream adapts it")
        _check_trained(config, generators[0])
    pair = {"detector", "segmenter"} & set(models)
    for role in ({"detector", "segmenter"} - pair) if pair else ():
        needed[role] = f"models.{min(pair)} is there; name both, or neither for GrabCut"
    return needed


def _check_trained(config: StudyConfig, variant: str) -> None:
    """The generator that DataDream adapts has float32 weights."""
    role = "datadream" if config.models.datadream else "prior"
    spec = config.models.get(role)
    if spec is not None and spec.dtype != "float32":
        raise ParameterError(
            f"{config.file}: models.{role}.dtype: got {spec.dtype!r}, wanted 'float32': "
            f"datadream({variant}) trains this model, under autocast; give role datadream "
            "its weights in float32, or take the recipes out"
        )


def _check_model(where: str, role: str, spec: ModelSpec, models: ModelRoles) -> None:
    if not (spec.path or spec.name or spec.role):
        raise ParameterError(
            f"{where}: models.{role}.path: got nothing, wanted a local folder or "
            "a hub id (clip: name)"
        )
    if spec.role and models.get(spec.role) is None:
        raise ParameterError(
            f"{where}: models.{role}.role: got {spec.role!r}, wanted a role "
            f"that is there: {sorted(models.present())}"
        )
    if spec.kind == "vlm" and not spec.path:
        raise ParameterError(
            f"{where}: models.{role}.path: got nothing, wanted the folder or hub "
            "id of a vision-language model, for kind vlm"
        )
    local = spec.local()
    if local is not None and not local.exists():
        raise ParameterError(
            f"{where}: models.{role}.path: got {str(local)!r}, which is not "
            "here; clone the repository with its models/ folder, or name a hub id"
        )


def _check_inputs(config: StudyConfig) -> None:
    """The data sets' settings and their phrases."""
    if config.attributes and not Path(config.phrase_file).is_file():
        raise ParameterError(
            f"{config.file}: prompts: got {config.phrase_file!r}, which is not there; "
            "wanted a YAML file of phrases, as params/prompts/custom.yaml"
        )
    for dataset in config.datasets:
        try:
            family = registry.of_study(config, dataset).phrase_family(dataset)
        except ValueError as error:
            raise ParameterError(f"{config.file}: {error}") from error
        for attribute in config.attributes:
            if not count_phrases(config, dataset, attribute):
                raise ParameterError(
                    f"{config.file}: prompts: {config.phrase_file} has no phrases of {attribute} "
                    f"for {family!r}; add them under families, or take "
                    f"{attribute!r} out of attributes"
                )


@lru_cache(maxsize=8)
def _phrases(file: Path, changed: int) -> Any:
    """A phrase file as it was at its time of change; a plan asks for it a hundred times."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def count_phrases(config: StudyConfig, dataset: str, attribute: str) -> int:
    """How many different phrases the phrase file has for a data set, of both arms."""
    file = Path(config.phrase_file)
    data = _phrases(file, file.stat().st_mtime_ns)
    family = registry.of_study(config, dataset).phrase_family(dataset)
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if not (key == "classes" and isinstance(value, list)):
                    walk(value)
        elif isinstance(node, list):
            found.update(map(str, node))

    walk(data.get("families", {}).get(family, {}).get(attribute, {}))
    return len(found)
