"""Which images a classifier is trained on, from the name of a recipe (docs/protocol.md, C2 and A6).

    recipe                              training images                                 fraction
    zero_shot                           none: CLIP as it comes                              -
    real                                the photographs of the train split                  -
    edit(attribute,feasible)            their edits within the real distribution            0
    edit(attribute,infeasible)          their edits outside of it                           1
    edit(attribute,familiar)            in studies of three values: feasible and in the
                                        data set                                            0
    edit(attribute,unfamiliar)          feasible, yet held out of the data set              0
    edit(attribute,familiar,half=1)     placebo: one half of those values                   0
    perfect(attribute,value)            the world's own edits of the same slots          as edit
    matched(attribute,value)            slots whose familiar and infeasible edits are
                                        equally far from the source (CLIP features)      as edit
    unmatched(attribute,value)          as many slots a class, whatever their distance   as edit
    nearest(attribute,infeasible)       of the world's edits of each slot to every infeasible
                                        value, the one as far from the source as the slot's
                                        familiar edit (CLIP features)                       1
    wide(attribute,infeasible)          one of them by a hash, whatever its distance        1
    mix(attribute,fraction)             one or the other for each slot, `fraction` of them
                                        infeasible (the paper's mixed arm: 0.5)           fraction
    real+edit(...), real+mix(...), ...  the photographs as well
    datadream(cls|dset), real+datadream(...)   the generated images of 05_datadream         -
    generated(untuned|img2img), real+...       its baselines: the model as it comes, from class
                                               names; from photographs of the few shots       -
    real@4, edit(...)@4, real+edit(...)@4      the same from 4 photographs of each class alone:
                                               the first of the few-shot list of the study's seed

`classify.real: shots` gives every recipe without @ the photographs that 05_datadream learned from.

symbols   slot   (source photograph, attribute, k): the k-th edit of that photograph
          attribute   background, color, texture or all; "all" gives each (photograph, k) one
                      attribute, drawn by a seeded hash, so that n stays that of one attribute

The rows of a recipe are training_rows.training_set's. Nothing here reads a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..core import arms, attributes
from ..core.config_sections import ADAPTED, BASELINES

ATTRIBUTES = (*attributes.ATTRIBUTES, "all")
ARMS = arms.SIDES
VALUES = ("feasible", *arms.THREE)  # two of them in a study, or three
MATCHED = ("matched", "unmatched")  # makers that choose slots
LEVEL = ("nearest", "wide")  # makers that choose an edit of each slot
MAKERS = ("edit", "perfect", *MATCHED, *LEVEL)
HALVED = ("edit", "perfect")  # makers that take half=
EXAMPLES = (
    "zero_shot, real, edit(color,feasible), real+edit(color,infeasible), mix(color,0.5), "
    "real+mix(all,0.5), datadream(cls), real@4"
)


@dataclass(frozen=True)
class Recipe:
    """kind: zero_shot, real, edit, mix or datadream; fraction: the share of infeasible edits;
    shots: photographs of a class that it may use, None for all; of an edit: maker, one of MAKERS,
    value, one of VALUES, and half (1 or 2) of the feasible ones, None for all."""

    kind: str
    attribute: str | None = None
    fraction: float | None = None
    with_real: bool = False
    variant: str | None = None  # of datadream, one of VARIANTS
    shots: int | None = None
    value: str | None = None
    maker: str = "edit"
    half: int | None = None

    @property
    def arm(self) -> str | None:
        """An edit's value, as feasible or infeasible, or mixed; None where nothing is edited."""
        return "mixed" if self.kind == "mix" else self.value

    def reads(self, three: bool) -> list[str]:
        """The arms of edits (core/arms.py) that it trains on or is chosen by, feasible first.

        three: whether the study has three values.
        """
        if self.kind not in ("edit", "mix"):
            return []
        feasible = arms.THREE[0] if three else ARMS[0]
        if self.kind == "mix" or self.maker in MATCHED:
            both = [feasible, ARMS[1]]
            return both + [v for v in (self.value,) if v and v not in both]
        if self.maker in LEVEL:
            return [arms.THREE[0] + arms.PERFECT, arms.WIDE + arms.PERFECT]
        name = arms.PLACEBO if self.half == 2 else str(self.value)
        return [name + arms.PERFECT * (self.maker == "perfect")]

    def __str__(self) -> str:
        """The canonical spelling, which `parse` reads back."""
        end = f"@{self.shots}" * (self.shots is not None)
        if self.kind in ("zero_shot", "real"):
            return f"{self.kind}{end}"
        half = f",half={self.half}" if self.half else ""
        inner = {
            "edit": f"{self.attribute},{self.value}{half}",
            "datadream": self.variant,
            "mix": f"{self.attribute},{self.fraction}",
        }[self.kind]
        kind = self.maker if self.kind == "edit" else self.kind
        kind = "generated" if self.variant in BASELINES else kind
        return f"{'real+' * self.with_real}{kind}({inner}){end}"


def parse(recipe: str | Recipe) -> Recipe:
    """Read a recipe's name (spaces do not count). Raises ValueError that says what is wrong."""
    if isinstance(recipe, Recipe):
        return recipe
    text, at, shots = re.sub(r"\s+", "", str(recipe)).partition("@")
    if at:
        whole = parse(text)
        if not re.fullmatch(r"[1-9]\d{0,5}", shots):
            raise ValueError(
                f"recipe {recipe!r}: photographs of a class after @ are {shots!r}, "
                "wanted a number from 1."
            )
        if whole.kind not in ("real", "edit", "mix"):
            raise ValueError(
                f"recipe {recipe!r}: {whole.kind} takes no @: it trains on no "
                "photograph, or on datadream.shots of them."
            )
        return replace(whole, shots=int(shots))
    if text in ("zero_shot", "real"):
        return Recipe(text, with_real=text == "real")
    match = re.fullmatch(
        rf"(real\+)?({'|'.join(MAKERS)}|mix|datadream|generated)\(([^()]*)\)", text
    )
    if not match:
        raise ValueError(f"recipe {recipe!r} is not known. Wanted one like: {EXAMPLES}.")
    real, kind, inner = bool(match[1]), match[2], match[3].split(",")
    if kind in ("datadream", "generated"):
        known = BASELINES if kind == "generated" else ADAPTED
        _choice(recipe, "variant", inner[0], known, len(inner) == 1)
        return Recipe("datadream", with_real=real, variant=inner[0])
    if kind in MAKERS:
        return _edit(recipe, kind, inner, real)
    _choice(recipe, "attribute", inner[0], ATTRIBUTES, len(inner) == 2)
    try:
        fraction = float(inner[1])
    except ValueError:
        fraction = np.nan
    if not 0 <= fraction <= 1:
        raise ValueError(
            f"recipe {recipe!r}: fraction of infeasible edits is {inner[1]!r}, "
            "wanted a number from 0 to 1."
        )
    return Recipe(kind, inner[0], fraction, real)


def _edit(recipe, maker: str, inner: list[str], real: bool) -> Recipe:
    """A recipe of edits, from the words between its brackets."""
    head, halves = inner[:2], inner[2:]
    _choice(recipe, "attribute", head[0], ATTRIBUTES, len(head) == 2 and len(halves) < 2)
    _choice(recipe, "feasibility", head[1], VALUES)
    if maker in LEVEL and (head[1] != "infeasible" or head[0] == "all"):
        raise ValueError(f"recipe {recipe!r}: {maker} takes one attribute's infeasible values.")
    half = None
    if halves:
        if maker not in HALVED or head[1] not in ("feasible", "familiar"):
            raise ValueError(
                f"recipe {recipe!r}: half= is of feasible or familiar values of edit and perfect."
            )
        _choice(recipe, "half", halves[0], ("half=1", "half=2"))
        half = int(halves[0][-1])
    fraction = float(head[1] == "infeasible")
    return Recipe("edit", head[0], fraction, real, value=head[1], maker=maker, half=half)


def _choice(recipe, what: str, got: str, wanted: tuple[str, ...], complete: bool = True) -> None:
    if not complete:
        raise ValueError(f"recipe {recipe!r}: wrong number of arguments. Like: {EXAMPLES}.")
    if got not in wanted:
        raise ValueError(f"recipe {recipe!r}: {what} is {got!r}, wanted one of {wanted}.")


def edited(names: Iterable[str]) -> list[str]:
    """The attributes, or "all", whose edits the recipes of these names train on, sorted."""
    return sorted({r.attribute for r in map(parse, names) if r.attribute})


def edited_attributes(names: Iterable[str], attributes: list[str]) -> list[str]:
    """Those of a study's attributes whose edits the recipes of these names train on, in order.

    Raises ValueError where a recipe names an attribute that the study does not have.
    """
    found = edited(names)
    for name in found:
        if name not in (*attributes, "all"):
            raise ValueError(f"a recipe needs edits of {name!r}; attributes has {attributes}")
    return [a for a in attributes if a in found or "all" in found]


def three_values(names: Iterable[str]) -> bool:
    """Whether these recipes name familiar and unfamiliar values. Raises ValueError where others of
    them name feasible ones."""
    found: dict[str, str] = {}
    for name in names:
        recipe = parse(name)
        found.setdefault(recipe.value or "", str(name))
        if recipe.maker in LEVEL:  # read the familiar edits
            found.setdefault(arms.THREE[0], str(name))
    new = next((found[v] for v in arms.THREE[:2] if v in found), "")
    if new and ARMS[0] in found:
        raise ValueError(
            f"recipes {found[ARMS[0]]!r} and {new!r}: a study has feasible and infeasible edits, "
            "or familiar, unfamiliar and infeasible ones, not both"
        )
    return bool(new)


def arms_read(names: Iterable[str], attribute: str, keep: str, three: bool) -> list[str]:
    """The arms of one attribute's edits that recipes of these names read, in the order of tables.

    In a study of two values both; keep: under "paired" all arms that are compared; three: whether
    the study has three values (`three_values` of all its recipes).
    """
    parsed = [parse(name) for name in names]
    found = {a for r in parsed if r.attribute in (attribute, "all") for a in r.reads(three)}
    if not three:
        return [*ARMS, *sorted(found - set(ARMS))]
    every = (*arms.THREE, arms.PLACEBO, arms.WIDE)
    order = [v + end for end in ("", arms.PERFECT) for v in every]
    if keep == "paired":
        found |= {a for a in order if a in {b for f in found for b in arms.beside(f)}}
    return [a for a in order if a in found]


def generators(names: Iterable[str]) -> list[str]:
    """The variants of 05_datadream that the recipes of these names train on, sorted."""
    return sorted({r.variant for r in map(parse, names) if r.variant})
