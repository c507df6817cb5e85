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
          pair   the slot's feasible and its infeasible edit, which share their noise
          attribute   background, color, texture or all; "all" gives each (photograph, k) one
                      attribute, drawn by a seeded hash, so that n stays that of one attribute

Invariant: feasible, infeasible and mixed arms of one attribute come from the same slots, row by
row: equal n, equal labels, equal sources. Nothing here reads an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..core import arms, attributes, seeds
from ..core.config_sections import ADAPTED, BASELINES
from ..data.shots import few_shot
from . import matching

ATTRIBUTES = (*attributes.ATTRIBUTES, "all")
ARMS = arms.SIDES
VALUES = ("feasible", *arms.THREE)  # two of them in a study, or three
MAKERS = ("edit", "perfect", "matched", "unmatched")
MATCHED = ("matched", "unmatched")  # makers that choose slots
HALVED = ("edit", "perfect")  # makers that take half=
KEEP = ("paired", "accepted", "all")  # verify.keep
COLUMNS = [
    "path",
    "label",
    "class_name",
    "is_real",
    "image_id",
    "attribute",
    "feasibility",
    "k",
    "phrase",
]
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
        found.setdefault(parse(name).value or "", str(name))
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
    order = [v + end for end in ("", arms.PERFECT) for v in (*arms.THREE, arms.PLACEBO)]
    if keep == "paired":
        found |= {a for a in order if a in {b for f in found for b in arms.beside(f)}}
    return [a for a in order if a in found]


def generators(names: Iterable[str]) -> list[str]:
    """The variants of 05_datadream that the recipes of these names train on, sorted."""
    return sorted({r.variant for r in map(parse, names) if r.variant})


def training_set(
    recipe: str | Recipe,
    images: pd.DataFrame,
    edits: pd.DataFrame | Mapping[object, pd.DataFrame] | None,
    seed: int,
    keep: str = "paired",
    samples: pd.DataFrame | None = None,
    shots: int | None = None,
) -> pd.DataFrame:
    """The rows to train on, with COLUMNS; the photographs first, in the order of `images`.

    images: images.parquet of the data set (only its train split is used).
    edits: the rows of all its edits.parquet, in one frame or as a mapping of frames.
    seed: the study's seed: which slots are infeasible in a mix, which attribute in "all".
    keep: `verify.keep`, how edits that the verifier rejected are handled:
      "paired"    drop the slot from both arms (needs both arms' edits)
      "accepted"  drop that edit; the other arm keeps its own
      "all"       keep everything
    samples: the rows of the data set's samples.parquet (05_datadream), for datadream recipes.
    shots: photographs of a class that a recipe without @ may use, None for all: the first of the
      list that 05_datadream learns from.
    The frame's .attrs hold {"slots", "dropped", "classes_without_images"}.
    Raises ValueError for missing arms, edits of images outside the train split, an empty result.
    """
    recipe = parse(recipe)
    if keep not in KEEP:
        raise ValueError(f"verify.keep is {keep!r}, wanted one of {KEEP}.")
    train = images[images["split"] == "train"].reset_index(drop=True)
    slots = _slots(edits, train) if recipe.kind in ("edit", "mix") else None
    if (most := recipe.shots or shots) is not None:
        few = set(few_shot(train, most, seed)["image_id"])
        train = train[train["image_id"].isin(few)].reset_index(drop=True)
        slots = slots if slots is None else slots[slots["image_id"].isin(few)]
    real = train.assign(is_real=True, attribute=None, feasibility="real", k=0, phrase="")
    parts, notes = [real[COLUMNS]] if recipe.with_real else [], {"slots": 0, "dropped": 0}
    if recipe.kind in ("edit", "mix"):
        chosen, notes = _edited(recipe, train, slots, seed, keep)
        parts.append(chosen[COLUMNS])
    if recipe.kind == "datadream":
        parts.append(_generated(recipe, train, samples)[COLUMNS])
    rows = pd.concat(parts, ignore_index=True) if parts else real[COLUMNS].iloc[:0].copy()
    if recipe.kind != "zero_shot" and rows.empty:
        raise ValueError(
            f"recipe {str(recipe)!r} leaves no image ({notes}): no train split, or "
            "every edit was rejected. Look at the edits, or set verify.keep to all."
        )
    missing = sorted(set(train["class_name"]) - set(rows["class_name"]))
    rows.attrs = notes | {"classes_without_images": missing}
    return rows


def _generated(recipe: Recipe, train: pd.DataFrame, samples: pd.DataFrame | None) -> pd.DataFrame:
    """The images of one variant of DataDream; their labels must be those of the photographs."""
    mine = None if samples is None else samples[samples["variant"] == recipe.variant]
    if mine is None or mine.empty:
        raise ValueError(
            f"recipe {str(recipe)!r} needs the images of 05_datadream with "
            f"variant={recipe.variant}: run it first."
        )
    known = train.drop_duplicates("class_name").set_index("class_name")["label"]
    if not (mine["class_name"].map(known) == mine["label"]).all():
        raise ValueError(
            f"recipe {str(recipe)!r}: the generated images were made for other "
            "classes: run 05_datadream again."
        )
    return mine.assign(
        is_real=False, attribute=None, feasibility="datadream", phrase=mine["prompt"]
    )


def _slots(edits, train: pd.DataFrame) -> pd.DataFrame:
    """All edits in one frame, checked, with k and the place of the source in the train split."""
    if edits is None or len(edits) == 0:
        raise ValueError("No edits were given: run 04_edit first.")
    frame = pd.concat(list(edits.values())) if isinstance(edits, Mapping) else edits
    frame = frame.reset_index(drop=True)
    place = pd.Series(np.arange(len(train)), index=train["image_id"])
    strangers = frame.loc[~frame["image_id"].isin(place.index), "image_id"]
    if len(strangers):
        raise ValueError(
            f"{len(strangers)} edits are of images outside the train split, first "
            f"{strangers.iloc[0]!r}: they would leak. Edit train images only."
        )
    if "k" not in frame:  # edits of one photograph are stored in the order of k
        frame["k"] = frame.groupby(["image_id", "attribute", "feasibility"]).cumcount()
    double = frame.duplicated(["image_id", "attribute", "feasibility", "k"])
    if double.any():
        row = frame[double].iloc[0]
        raise ValueError(
            f"Two edits for one slot: {row['image_id']!r}, {row['attribute']}, "
            f"{row['feasibility']}, k={row['k']}. Is a frame in there twice?"
        )
    return frame.assign(is_real=False, place=frame["image_id"].map(place))


def _edited(
    recipe: Recipe, train: pd.DataFrame, edits: pd.DataFrame, seed: int, keep: str
) -> tuple[pd.DataFrame, dict]:
    if recipe.attribute == "all":
        names = [a for a in ATTRIBUTES if a in set(edits["attribute"])]
    else:
        names = [str(recipe.attribute)]
    fraction = float(recipe.fraction or 0)
    gap: dict[str, float] = {}
    edits = edits[edits["attribute"].isin(names)]
    sides, wanted = _sides(recipe, edits, keep)
    compared = {b for a in wanted for b in arms.beside(a)}
    edits = edits[edits["feasibility"].isin(compared)]
    for name in names:
        lacking = wanted - set(edits.loc[edits["attribute"] == name, "feasibility"])
        if lacking:
            raise ValueError(
                f"recipe {str(recipe)!r} needs the {' and '.join(sorted(lacking))} edits of "
                f"{name!r}, which are missing: run 04_edit for them"
                + (" (verify.keep: paired compares both arms)." if keep == "paired" else ".")
            )
    key = ["image_id", "attribute", "k"]
    index = edits[key].drop_duplicates()
    index = index.assign(
        place=index["image_id"].map(
            edits.drop_duplicates("image_id").set_index("image_id")["place"]
        )
    )
    index = index.sort_values(["place", "attribute", "k"], ignore_index=True)
    slots = len(index[["image_id", "k"]].drop_duplicates() if recipe.attribute == "all" else index)
    if keep == "paired":
        good = edits["accepted"].astype(bool) & edits["feasibility"].isin(wanted)
        good = edits[good].groupby(key).size()
        index = index[index.set_index(key).index.map(good).fillna(0).to_numpy() == len(wanted)]
    if recipe.attribute == "all":
        index = index.assign(
            draw=[
                seeds.seed_for(seed, "all", i, a, int(k))
                for i, a, k in index[key].itertuples(index=False)
            ]
        )
        index = index.loc[index.groupby(["image_id", "k"])["draw"].idxmin().sort_values()]
    if recipe.maker in MATCHED:
        index, gap = matching.chosen(recipe.maker, index, edits, train, seed)
    arm = _arms(index, fraction, train, seed, sides)
    rows = index[key].assign(feasibility=arm).merge(edits, on=[*key, "feasibility"], how="left")
    absent = rows["path"].isna() | (rows["path"] == "")
    if keep == "paired" and absent.any():
        raise ValueError(f"{int(absent.sum())} slots of {str(recipe)!r} have no image.")
    kept = ~absent if keep == "all" else ~absent & (rows["accepted"] == True)  # noqa: E712
    rows = rows[kept].astype({"label": int, "is_real": bool})
    return rows, {"slots": slots, "dropped": slots - len(rows), **gap}


def _sides(recipe: Recipe, edits: pd.DataFrame, keep: str) -> tuple[tuple[str, str], set[str]]:
    """The arms that stand for fraction 0 and 1, and all arms that the recipe needs."""
    there = set(edits["feasibility"])
    three = bool(there & set(arms.THREE[:2])) and ARMS[0] not in there
    wanted = set(recipe.reads(three))
    if keep == "paired":
        asked = there if three else there | set(ARMS)
        wanted |= {b for a in wanted for b in arms.beside(a) if b in asked}
    own = recipe.reads(three)
    if recipe.kind == "mix":
        return (own[0], own[1]), wanted
    name = str(recipe.value) if recipe.maker in MATCHED else own[0]
    return (name, name), wanted


def _arms(
    index: pd.DataFrame, fraction: float, train: pd.DataFrame, seed: int, sides: tuple[str, str]
) -> np.ndarray:
    """For each slot its arm: in each class, the `fraction` with the smallest hashes, rounded.

    The seeded hash makes a smaller fraction's infeasible slots a subset of a larger one's.
    """
    if fraction in (0.0, 1.0):
        return np.full(len(index), sides[int(fraction)], dtype=object)
    draw = pd.Series(
        [
            seeds.seed_for(seed, "mix", i, a, int(k))
            for i, a, k in index[["image_id", "attribute", "k"]].itertuples(index=False)
        ],
        index=index.index,
        dtype="uint64",
    )
    label = index["image_id"].map(train.set_index("image_id")["label"])
    rank = draw.groupby(label).rank(method="first")  # 1..n in each class
    size = label.groupby(label).transform("size")
    return np.where(rank <= np.floor(fraction * size + 0.5), sides[1], sides[0])
