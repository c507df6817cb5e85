"""Conditions without which a claim is "not valid", fixed before the runs, and what they measured.

    gate            condition
    head_room       fine-tuning on real photographs gains HEAD_ROOM points over zero-shot on at
                    least one data set of the comparison, so that arms have room to differ
    class_named     of DataDream's pictures, before and after adaptation, zero-shot CLIP names the
                    class of at least NAMED times the share that it names of photographs, on every
                    data set: else they show no classes that a classifier could learn
    equal_distance  the CLIP distances of a matched pair from its photograph differ by at most EQUAL
                    of their mean, on average over pairs and then over the cells that the claim
                    pools: else they are not matched
    placebo         the claim of family "placebo" is reproduced (verdict.py)

Shares and distances are means over replicates, where a study has them. A gate that was not
measured holds.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

import pandas as pd

from ..training import recipes
from .contrasts import canonical

HEAD_ROOM = 10.0  # points of top-1
NAMED = 0.5
EQUAL = 0.2
PAIRED = ("matched", "nearest")  # makers whose edits are paired by distance
UNADAPTED, ADAPTED, SHOTS = "unadapted", "adapted", "photographs"  # of quality.stage.learned


@dataclass(frozen=True)
class Gates:
    """What the gates measured. gains: data set -> points that `real` gains over zero-shot; named:
    (data set, DataDream's variant, its pictures in words) -> shares 0..1 whose class is named, of
    these pictures and of photographs; gaps: (data set, recipe) -> mean difference of the two
    distances of a pair, over their mean."""

    gains: dict[str, float] = field(default_factory=dict)
    named: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict)
    gaps: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, main: pd.DataFrame, given: dict[str, pd.DataFrame] | None = None) -> Gates:
        """Gates from tables.main_table and the tables that the stages before 07_claims gave
        (study_tables.GIVEN, MEASURED), as far as they are there."""
        gains: dict[str, float] = {}
        for dataset, rows in main.groupby("dataset"):
            arms = rows.set_index("arm")["mean"]
            if {"real", "zero-shot"} <= set(arms.index):
                gains[str(dataset)] = float(arms["real"] - arms["zero-shot"])
        tables = given or {}
        sets, learned = (tables.get(n, pd.DataFrame()) for n in ("quality_sets", "learned"))
        named = _of_sets(sets) | _of_adapters(learned)
        return cls(gains, named, _gaps(tables.get("trainings", pd.DataFrame())))

    def failing(self, datasets: Iterable[str], names: Iterable[str], asked: Iterable[str]) -> str:
        """Which of the gates `asked` fail for a comparison of these data sets and recipes; "" where
        none does. The placebo's gate is verdict.decide's."""
        wanted, own, held = set(datasets), {canonical(n) for n in names}, set(asked)
        looks = {
            "head_room": lambda: self._no_room(wanted),
            "class_named": lambda: self._unnamed(wanted, own),
            "equal_distance": lambda: self._unmatched(wanted, own),
        }
        found = [look() for gate, look in looks.items() if gate in held]
        return "; ".join(filter(None, found))

    def _no_room(self, wanted: set[str]) -> str:
        gains = {d: self.gains[d] for d in sorted(wanted & set(self.gains))}
        if not gains or set(gains) != wanted or any(g >= HEAD_ROOM for g in gains.values()):
            return ""
        each = ", ".join(f"{d} {g:+.1f}" for d, g in gains.items())
        return (
            f"real gains less than {HEAD_ROOM:g} points over zero-shot on every data set ({each})"
        )

    def _unnamed(self, wanted: set[str], names: set[str]) -> str:
        variants = {recipes.parse(n.rpartition(":")[2]).variant for n in names}
        poor = [
            f"{d} {100 * own:.0f} % of {words} images, {100 * real:.0f} % of photographs"
            for (d, variant, words), (own, real) in sorted(self.named.items())
            if d in wanted and variant in variants and own < NAMED * real
        ]
        text = f"CLIP names the class of too few generated images ({'; '.join(poor)})"
        return text if poor else ""

    def cell_gaps(self, names: Container[str] | None = None) -> dict[tuple[str, str], float]:
        """(data set, attribute) -> gap, of these recipes or all; both arms of a matched pair have
        the same one."""
        return {
            (d, recipes.parse(r).attribute or ""): gap
            for (d, r), gap in sorted(self.gaps.items())
            if names is None or r in names
        }

    def _unmatched(self, wanted: set[str], names: set[str]) -> str:
        cells = {" ".join(c): gap for c, gap in self.cell_gaps(names).items() if c[0] in wanted}
        mean = sum(cells.values()) / max(1, len(cells))
        if mean <= EQUAL:
            return ""
        worst = max(cells, key=lambda cell: cells[cell])
        return (
            f"the distances of matched pairs differ by {100 * mean:.0f} % of their mean, more than "
            f"{100 * EQUAL:.0f} % ({worst} by {100 * cells[worst]:.0f} %)"
        )


def _of_sets(table: pd.DataFrame) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Shares named, of 07_quality's sets."""
    out: dict[tuple[str, str, str], tuple[float, float]] = {}
    for dataset, rows in table.groupby("dataset") if len(table) else ():
        share = rows.set_index("set")["recognised"]
        for name in share.index[share.index.str.startswith("datadream ")]:
            variant = name.removeprefix("datadream ")
            out[str(dataset), variant, variant] = float(share[name]), float(share["real"])
    return out


def _of_adapters(table: pd.DataFrame) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Shares named, of the first pictures of each class before and after adaptation."""
    out: dict[tuple[str, str, str], tuple[float, float]] = {}
    if not len(table):
        return out
    mean = table.groupby(["dataset", "variant", "model"])["class_named"].mean()
    for (dataset, variant), share in mean.groupby(level=[0, 1]):
        own = share.droplevel([0, 1])
        for model in {UNADAPTED, ADAPTED} & set(own.index) if SHOTS in own else ():
            pictures = f"{model} {variant}"
            out[str(dataset), str(variant), pictures] = float(own[model]), float(own[SHOTS])
    return out


def _gaps(trainings: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Relative gap of each matched arm, of load.trainings."""
    if "gap" not in trainings:
        return {}
    rows = trainings[trainings["recipe"].map(lambda r: recipes.parse(r).maker in PAIRED)]
    mean = rows.groupby(["dataset", "recipe"])[["gap", "distance"]].mean()
    return {
        (str(d), str(r)): float(row["gap"] / row["distance"])
        for (d, r), row in mean.iterrows()
        if row["distance"] > 0
    }
