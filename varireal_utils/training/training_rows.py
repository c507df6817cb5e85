"""The rows that a recipe trains on (the table of recipes.py), from photographs, edits and generated
images.

symbols   slot   (source photograph, attribute, k): the k-th edit of that photograph
          pair   the slot's feasible and its infeasible edit, which share their noise

Invariant: feasible, infeasible and mixed arms of one attribute come from the same slots, row by
row: equal n, equal labels, equal sources. Nothing here reads an image.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..core import arms, seeds
from ..data.shots import few_shot
from . import matching
from .recipes import ARMS, ATTRIBUTES, LEVEL, MATCHED, Recipe, parse

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
    if recipe.maker in LEVEL:
        return _of_every_value(recipe, edits, seed, keep)
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


def _of_every_value(
    recipe: Recipe, edits: pd.DataFrame, seed: int, keep: str
) -> tuple[pd.DataFrame, dict]:
    """One infeasible edit of each photograph, of those to every value (matching.one_of_each)."""
    own = edits[edits["attribute"] == recipe.attribute]
    if keep != "all":
        own = own[own["accepted"].astype(bool)]
    familiar, wide = (own[own["feasibility"] == arm] for arm in recipe.reads(True))
    if familiar.empty or wide.empty:
        raise ValueError(
            f"recipe {str(recipe)!r} needs the {' and '.join(recipe.reads(True))} edits of "
            f"{recipe.attribute!r}, which are missing: run 04_edit for them"
        )
    familiar = familiar.sort_values("k").drop_duplicates("image_id")
    wide = wide[wide["image_id"].isin(familiar["image_id"])]
    wide = wide.sort_values(["place", "k"], ignore_index=True)
    rows, gap = matching.one_of_each(recipe.maker, wide, familiar, seed)
    slots = int(edits.loc[edits["attribute"] == recipe.attribute, "image_id"].nunique())
    rows = rows.astype({"label": int, "is_real": bool})
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
