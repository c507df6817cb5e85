"""Reads claims.yaml, version 2: what each claim is about, and by which rule it is decided.

    claim     a statement of the paper, or of this study, that is decided by a rule
    estimand  the quantity, in words; population: over what its mean is taken
    contrast  recipe -> weight; {names} take the values of `over`
    cell      one combination of values of `over`, on one data set
    group     cells that share the values of `between`, which a rule compares
    family    the claims whose p values are corrected together (verdict.decide)

Adding a claim is one entry of the file; adding a rule is in claim_rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ValidationError
from pydantic_core import PydanticCustomError

from ..core.config_base import Filled, Number, Positive, Settings, Share
from ..core.config_errors import ParameterError, explained, nearest
from ..training import recipes
from .claim_rules import RULES, Prior
from .contrasts import canonical


def _rule(name: str) -> str:
    if name not in RULES:
        words = f"one of {', '.join(RULES)}"
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": words})
    return name


class PriorSettings(Settings):
    """Prior of mostly_within. spread: of the true effects' standard deviation, half-normal of
    `scale` points; mean: flat; threshold: which share of the effects is "mostly"."""

    mean: Literal["flat"] = "flat"
    spread: Literal["half-normal"] = "half-normal"
    scale: Positive
    threshold: Share


class Exclusions(Settings):
    """What is left out, fixed before the run. unequal: numbers of metrics.json in which a claim's
    arms must agree, else their data set is left out of the claim. Nothing else is: a replicate
    that lacks an arm leaves the claim without a verdict."""

    unequal: list[Literal["n_train_images", "steps"]] = []


class Claim(Settings):
    """One claim. between: "dataset" or names of `over`; margin: half width of equivalence in
    points; reported: what the paper says; source: where; again: the claim whose question it asks
    again; by_name: whether it was written after studies were read. A claim that is either is asked
    by studies that name it under `claims.only` and nowhere else."""

    id: str
    says: str
    estimand: str
    population: str
    unit: Literal["replicate"]
    contrast: Annotated[dict[str, Number], Filled]
    over: dict[str, Annotated[list[str], Filled]] = {}
    between: list[str] = []
    test: Annotated[str, AfterValidator(_rule)]
    margin: Positive
    prior: PriorSettings | None = None
    family: str
    gates: list[Literal["head_room", "class_named", "equal_distance", "placebo"]]
    exclusions: Exclusions = Exclusions()
    reported: str
    source: str
    again: str = ""
    by_name: bool = False

    def places(self) -> tuple[int, ...]:
        """Where in a cell's key (data set, values of `over`) the values of `between` stand."""
        names = ["dataset", *self.over]
        return tuple(names.index(name) for name in self.between)

    def rule_prior(self) -> Prior | None:
        """The prior as the rule takes it."""
        return Prior(self.prior.scale, self.prior.threshold) if self.prior else None

    def cells(self) -> list[tuple[tuple[str, ...], dict[str, float]]]:
        """(values, {recipe: weight}) of every combination of `over`.

        A key of several words takes values of as many words. Raises ValueError or KeyError where
        they do not fit.
        """
        out = []
        keys = [k.split() for k in self.over]
        for values in product(*self.over.values()):
            words: dict[str, str] = {}
            for names, value in zip(keys, values, strict=True):
                parts = [value] if len(names) == 1 else value.split()
                if len(parts) != len(names):
                    raise ValueError(f"{value!r} has not one word for each of {' '.join(names)!r}")
                words |= dict(zip(names, parts, strict=True))
            out.append((values, {_filled(r, words): float(w) for r, w in self.contrast.items()}))
        return out

    def recipe_names(self) -> set[str]:
        """Every recipe that the claim compares, in its canonical spelling."""
        return {canonical(r) for _, weights in self.cells() for r in weights}


def chosen(listed: Iterable[Claim], only: Iterable[str] = ()) -> list[Claim]:
    """The claims that a study asks: those of `only` (`claims.only`), without it all but those that
    are asked by name. Raises ParameterError for an id that is not there."""
    listed, only = list(listed), list(only)
    if unknown := sorted(set(only) - (known := {c.id for c in listed})):
        raise ParameterError(
            f"claims.only: {unknown[0]!r} is no claim of claims.yaml"
            f"{nearest(unknown[0], known)}; it has {', '.join(sorted(known))}"
        )
    return [c for c in listed if (c.id in only if only else not (c.again or c.by_name))]


def lacking(listed: Iterable[Claim], trained: Iterable[str]) -> dict[str, list[str]]:
    """Claim -> its recipes that are not among those `trained`, sorted; claims that lack none are
    left out. Recipes of other studies are theirs to train. The familiar arm of a study of three
    values is the paper's feasible one (contrasts.spelled)."""
    own = {canonical(name).replace(",familiar", ",feasible") for name in trained}
    out = {}
    for claim in listed:
        names = {n for n in claim.recipe_names() if ":" not in n}
        if missing := sorted(n for n in names if n.replace(",familiar", ",feasible") not in own):
            out[claim.id] = missing
    return out


def _filled(recipe: str, words: dict[str, str]) -> str:
    """A recipe with {names} replaced by their words."""
    return re.sub(r"\{(\w+)\}", lambda match: words[match[1]], recipe)


VERSION = 2
KEYS = {"version", "defaults", "claims"}


def load(path: str | Path = "claims.yaml") -> list[Claim]:
    """The claims of a file, checked; each takes the keys of `defaults` that it does not have.
    Raises ParameterError that names claim, key and remedy."""
    path = Path(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParameterError(f"{path}: not there; it stands in the repository's root") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("claims"), list):
        raise ParameterError(f"{path}: wanted a list under the key claims")
    if found.get("version") != VERSION or set(found) - KEYS:
        raise ParameterError(
            f"{path}: wanted version: {VERSION}, defaults and claims, got version "
            f"{found.get('version')!r} and keys {sorted(found)}"
        )
    common = found.get("defaults") or {}
    if not isinstance(common, dict):
        raise ParameterError(
            f"{path}: defaults: wanted keys with values below them, got {common!r}"
        )
    claims = [
        checked(common | c if isinstance(c, dict) else c, f"{path}: claim {n}")
        for n, c in enumerate(found["claims"], 1)
    ]
    ids = [c.id for c in claims]
    if len(set(ids)) < len(ids):
        raise ParameterError(f"{path}: an id stands twice: {sorted(ids)}")
    for claim in claims:
        if claim.again and (claim.again not in ids or claim.again == claim.id):
            raise ParameterError(
                f"{path}: claim {claim.id}: again: got {claim.again!r}, wanted another claim's id"
            )
    return claims


def checked(claim: Any, where: str) -> Claim:
    """A claim from the keys and values of the file. Raises ParameterError naming `where`."""
    if not isinstance(claim, dict):
        raise ParameterError(f"{where}: got {claim!r}, wanted keys and values")
    where = f"{where} ({claim.get('id', 'without id')})"
    for key, field in Claim.model_fields.items():
        if field.is_required() and key not in claim:
            raise ParameterError(f"{where}: {key} is missing")
    try:
        found = Claim.model_validate(claim)
    except ValidationError as error:
        raise explained(error, where) from None
    try:
        for _, weights in found.cells():
            for recipe in weights:
                recipes.parse(recipe.rpartition(":")[2])
        found.places()
    except (ValueError, KeyError) as error:
        raise ParameterError(f"{where}: contrast, over or between: {error}") from error
    if (found.test == "mostly_within") != (found.prior is not None):
        raise ParameterError(f"{where}: prior: mostly_within needs one, no other test takes it")
    if (found.test in ("varies", "all_gain")) != bool(found.between):
        raise ParameterError(f"{where}: between: varies and all_gain need it, no other test does")
    return found
