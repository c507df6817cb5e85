"""Operating characteristics: how often each rule gives which verdict, where the truth is known.

    python -m varireal_utils.analysis.operating      writes results/operating.csv

Simulates the registered claims themselves: an accuracy for every arm of claims.yaml in every
replicate and data set, from them each claim's cells, its rule, and verdict.decide.

symbols   arm       (data set, recipe)
          accuracy  truth + draw + training / sqrt(starts) + images, normal, in points
          draw      what another draw of photographs, phrases and edits does to an arm
          truth     points by which the arms of a claim truly differ (`TRUTHS`)

The noise of `PILOT` is that of results/micro_full as it stands at commit 9690598 (5 seeds, 800
test images a data set: standard deviations between seeds and over images of feasible minus
infeasible), halved over the two arms; of the draw, which no study of one draw can show, 1 point for
a difference is assumed. The registered study has 400 test images a data set: its image noise is
that of 800 times the root of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..core import storage
from ..training import recipes
from . import claim_file, claims
from .claim_file import Claim
from .claim_rules import RULES, Evidence
from .contrasts import canonical
from .verdict import PLACEBO, Finding, decide

DATASETS = ("one", "two", "three")
REPLICATES = (4, 8, 12, 21, 27, 42)
TRUTHS = (0.0, 0.15, 0.3, 0.6, 1.0)
STUDIES = 400
RULE_CLAIMS = ("A1", "A2", "A3", "A4", "E1", "P0")  # each rule; "within" on each set of arms
PATH = Path("results/operating.csv")


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one arm's accuracy in points: of a training on edits alone, and with
    the photographs; of test images, alike; of the draw; starts averaged in a replicate."""

    training: float = 2.34 / 2**0.5
    training_real: float = 1.66 / 2**0.5
    images: float = 0.73
    images_real: float = 0.51
    draw: float = 1.0 / 2**0.5
    starts: int = 1

    def of(self, recipe: str) -> float:
        """The standard deviation of one arm."""
        real = recipes.parse(recipe).with_real
        start = self.training_real if real else self.training
        images = self.images_real if real else self.images
        return (start**2 / self.starts + images**2 + self.draw**2) ** 0.5


PILOT = Noise()


def arms(listed: Iterable[Claim]) -> list[str]:
    """Every recipe of the claims, sorted."""
    return sorted({name for claim in listed for name in claim.recipe_names()})


def accuracies(
    names: list[str],
    truth: dict[str, float],
    shape: tuple[int, int],
    noise: Noise,
    rng: np.random.Generator,
) -> np.ndarray:
    """(studies, R, data sets, arms) accuracies in points; shape: (studies, R); truth: recipe ->
    points, 0 where it is not named."""
    mean = np.array([truth.get(name, 0.0) for name in names])
    scale = np.array([noise.of(name) for name in names])
    return mean + scale * rng.standard_normal((*shape, len(DATASETS), len(names)))


@dataclass(frozen=True)
class Design:
    """A claim's cells as weights over arms. matrix: (data sets * arms, k)."""

    claim: Claim
    keys: list[tuple[str, ...]]
    trainings: list[str]
    matrix: np.ndarray

    @classmethod
    def of(cls, claim: Claim, names: list[str]) -> Design:
        """The design of a claim; names: of `arms`."""
        keys: list[tuple[str, ...]] = []
        columns = []
        for place, dataset in enumerate(DATASETS):
            for values, weights in claim.cells():
                column = np.zeros((len(DATASETS), len(names)))
                for recipe, weight in weights.items():
                    column[place, names.index(canonical(recipe))] += weight
                keys.append((dataset, *values))
                columns.append(column.ravel())
        trainings = [claims.claim_training(claim, key) for key in keys]
        return cls(claim, keys, trainings, np.stack(columns, 1))

    def finding(self, study: np.ndarray, placebo: bool = True) -> Finding:
        """The finding in a simulated study (R, data sets, arms), all of whose cells were run."""
        claim = self.claim
        cells = study.reshape(len(study), -1) @ self.matrix
        found = RULES[claim.test](
            Evidence(
                cells,
                self.keys,
                claim.places(),
                claim.margin,
                0.95,
                self.trainings,
                claim.rule_prior(),
            )
        )
        return Finding(
            claim.id,
            claim.family,
            found.p_holds,
            found.p_denied,
            1,
            1,
            len(study),
            least=found.least,
            margin=claim.margin,
            placebo=placebo and PLACEBO in claim.gates,
        )


def truths(claim: str, size: float) -> dict[str, float]:
    """The arms' true accuracies, in which the quantity of one of RULE_CLAIMS is `size`: A1, A3, E1
    and P0 in every cell, A2 between the outer two attributes, A4 the gain of every cell."""
    each = {"background": size, "color": size, "texture": size}
    if claim == "A2":
        each = {"background": 0.0, "color": size / 2, "texture": size}
    made = {
        "A3": "{r}mix({a},0.5)",
        "E1": "{r}perfect({a},unfamiliar)",
        "P0": "{r}perfect({a},familiar)",
    }.get(claim, "{r}edit({a},feasible)")
    found = {
        canonical(made.format(r=r, a=a)): value for a, value in each.items() for r in ("", "real+")
    }
    if claim == "A4":
        found |= {name.replace(",feasible", ",infeasible"): v for name, v in found.items()}
    return found


def is_false(claim: str, word: str, size: float, margin: float = 0.3) -> bool:
    """Whether a verdict on one of RULE_CLAIMS is wrong at a truth. A1, A3, E1 and P0 hold below
    the margin, A2 and A4 above 0; the opposite of A2 is "less than the margin", of A4 "below 0"."""
    if claim == "A2":
        return word == ("reproduced" if size == 0 else "different" if size >= margin else "")
    if claim == "A4":
        return word == "different" or (word == "reproduced" and size <= 0)
    return word == ("different" if size < margin else "reproduced")


def table(
    replicates: Iterable[int] = REPLICATES,
    sizes: Iterable[float] = TRUTHS,
    studies: int = STUDIES,
    noise: Noise = PILOT,
    which: Iterable[str] = RULE_CLAIMS,
) -> pd.DataFrame:
    """claim, test, replicates, truth (points), shares of studies: reproduced, different,
    inconclusive, no verdict, and false (a verdict that is wrong at this truth)."""
    listed = {c.id: c for c in claim_file.load()}
    rows = []
    for name in which:
        claim = listed[name]
        names = arms([claim])
        design = Design.of(claim, names)
        for count in replicates:
            for size in sizes:
                rng = np.random.default_rng([*map(ord, name), count, round(1000 * size)])
                drawn = accuracies(names, truths(name, size), (studies, count), noise, rng)
                words = [decide([design.finding(s, False)])[name].word for s in drawn]
                shares = {w: words.count(w) / studies for w in WORDS}
                wrong = sum(is_false(name, w, size, claim.margin) for w in words) / studies
                head = {"claim": name, "test": claim.test, "replicates": count, "truth": size}
                rows.append(head | shares | {"false": wrong})
    return pd.DataFrame(rows)


def kept(root: Path = Path(".")) -> pd.DataFrame:
    """The table that was written to PATH. Raises FileNotFoundError where it was not."""
    return pd.read_csv(root / PATH)


WORDS = ("reproduced", "different", "inconclusive", "no verdict")


if __name__ == "__main__":
    storage.write_table(PATH, table())
    print(f"{PATH}: written")
