"""The study's tables: accuracy by arm, feasible minus infeasible, and the paper's claims.

Reads classify/<dataset>/<recipe>/seed<k>/{metrics.json, predictions.parquet} of a study and turns
them into tidy frames (PROTOCOL.md, A: the paper's tables cannot be read, its claims can).

symbols   answers   long frame  dataset, recipe, seed, image_id, correct: one row per test image
          arm       feasible, infeasible, mixed; real and zero-shot where nothing is edited
          training  edited only, real + edited, none
          points    percentage points of top-1 accuracy; every interval is stats.interval's

Invariant: a comparison uses exactly the seeds that both arms have, and the same test images in the
same order; arms tested on different images are an error, never an intersection.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ..core import storage
from ..core.attributes import ATTRIBUTES as REGISTERED
from ..training import recipes
from . import bootstrap

ARM_ORDER = ["zero-shot", "real", "feasible", "infeasible", "mixed"]
TRAINING_ORDER = ["none", "edited only", "real + edited"]
ATTRIBUTES = tuple(REGISTERED)
POOLED = "pooled"
ANSWERS = ["dataset", "recipe", "seed", "image_id", "correct"]
ESTIMATE = [
    "difference",
    "low",
    "high",
    "low90",
    "high90",
    "se",
    "df",
    "seeds",
    "n",
    "p",
    "p_equivalence",
    "verdict",
    "seeds_needed",
    "images_needed",
]  # of `estimate`
_WANTED = {"seeds_needed": "Int64", "images_needed": "Int64"}


def results(study_dir: str | Path, params: dict | None = None) -> list[Path]:
    """The metrics.json of a study's trainings, sorted: of the data sets, recipes and seeds that
    `params` asks for; without params, of all that lie there.

    A folder may also hold trainings of earlier parameters, with more seeds or other recipes. They
    are kept, but no table may mix them in.
    """
    home = Path(study_dir) / "classify"
    if params is None:
        return sorted(home.glob("*/*/*/metrics.json"))
    asked = params["classify"]
    found = [
        home / storage.slug(d) / storage.slug(r) / f"seed{k}" / "metrics.json"
        for d in params["datasets"]
        for r in asked["recipes"]
        for k in asked["seeds"]
    ]
    return sorted(p for p in found if p.is_file())


def edits(study_dir: str | Path, params: dict) -> pd.DataFrame:
    """edits.parquet of every data set, attribute and arm that `params` asks for, with `dataset`."""
    paths = [
        (d, Path(study_dir) / f"edits/{storage.slug(d)}/{a}/{arm}/edits.parquet")
        for d in params["datasets"]
        for a in params["attributes"]
        for arm in ("feasible", "infeasible")
    ]
    return pd.concat(
        [storage.read_table(p).assign(dataset=d) for d, p in paths if p.is_file()],
        ignore_index=True,
    )


def collect(study_dir: str | Path, params: dict | None = None) -> pd.DataFrame:
    """The answers of a study (`results`), ANSWERS, sorted. Raises FileNotFoundError where there
    are none."""
    parts = []
    for path in results(study_dir, params):
        metrics = storage.read_json(path)
        rows = storage.read_table(path.with_name("predictions.parquet"))[["image_id", "correct"]]
        parts.append(
            rows.assign(
                dataset=metrics["dataset"],
                seed=int(metrics["seed"]),
                recipe=str(recipes.parse(metrics["recipe"])),
            )[ANSWERS]
        )
    if not parts:
        raise FileNotFoundError(
            f"No metrics.json under {Path(study_dir) / 'classify'}: run 06_classify first."
        )
    frame = pd.concat(parts, ignore_index=True).astype({"correct": bool})
    double = frame.duplicated(ANSWERS[:4])
    if double.any():
        raise ValueError(f"Two answers for one test image: {frame[double].iloc[0].to_dict()}.")
    return frame.sort_values(ANSWERS[:4], ignore_index=True)


def beside(df: pd.DataFrame, others: dict[str, Path]) -> pd.DataFrame:
    """The answers with those of other studies (store.others), whose recipes stand behind the
    study's name and a colon. One that was not run adds nothing, and claims that need it say so."""
    found = [
        storage.read_table(path).assign(recipe=lambda t, n=name: f"{n}:" + t["recipe"])
        for name, path in others.items()
    ]
    return pd.concat([df, *found], ignore_index=True)


def slim(edits: pd.DataFrame) -> pd.DataFrame:
    """The rows of `edits` without the models that made them, which the records name."""
    return edits.drop(columns="models", errors="ignore").reset_index(drop=True)


def acceptance(edits: pd.DataFrame) -> pd.DataFrame:
    """dataset, attribute, feasibility, edits (their number), and the verifier's means, 0..1."""
    each = edits.groupby(["dataset", "attribute", "feasibility"])
    table = each[["accepted", "attribute_passed", "identity_passed", "identity"]].mean()
    table.insert(0, "edits", each.size())
    return table.reset_index()


def by_seed(df: pd.DataFrame) -> pd.DataFrame:
    """dataset, recipe, seed, top1 (0..1): a row for each training."""
    keys = ["dataset", "recipe", "seed"]
    table = df.groupby(keys, as_index=False, observed=True)["correct"].mean()
    return table.rename(columns={"correct": "top1"})


def trainings(study_dir: str | Path, params: dict | None = None) -> pd.DataFrame:
    """dataset, recipe, seed, n_train_images, steps: a row for each training of `results`."""
    columns = ["dataset", "recipe", "seed", "n_train_images", "steps"]
    found = [storage.read_json(p) for p in results(study_dir, params)]
    return pd.DataFrame(
        [{c: one[c] for c in columns} | {"recipe": canonical(one["recipe"])} for one in found],
        columns=columns,
    )


def curves(study_dir: str | Path, params: dict | None = None) -> pd.DataFrame:
    """`curves_of` the trainings of `results`."""
    return curves_of([storage.read_json(path) for path in results(study_dir, params)])


def curves_of(trained: list[dict]) -> pd.DataFrame:
    """Loss and validation accuracy over the steps of trainings, given as their metrics: dataset,
    recipe, attribute, arm, training, seed, step, quantity ("loss", or "val_top1" 0..1), value;
    those with all photographs only."""
    rows = []
    for one in trained:
        if recipes.parse(one["recipe"]).shots is not None:
            continue
        what = {
            "dataset": one["dataset"],
            "recipe": one["recipe"],
            **describe(one["recipe"]),
            "seed": one["seed"],
        }
        rows += [
            {**what, "step": step, "quantity": quantity, "value": value}
            for quantity, curve in (
                ("loss", enumerate(one["loss_curve"], 1)),
                ("val_top1", one["val_curve"]),
            )
            for step, value in curve
        ]
    return pd.DataFrame(
        rows,
        columns=[
            "dataset",
            "recipe",
            "attribute",
            "arm",
            "training",
            "seed",
            "step",
            "quantity",
            "value",
        ],
    )


def describe(recipe: str) -> dict:
    """attribute, arm and training of a recipe, in the tables' words (its shots are not in them)."""
    r = recipes.parse(recipe)
    if r.kind in ("zero_shot", "real"):
        return {
            "attribute": "",
            "arm": "zero-shot" if r.kind == "zero_shot" else "real",
            "training": "none" if r.kind == "zero_shot" else "real",
        }
    arm = r.arm or f"datadream {r.variant}"
    if r.kind == "mix" and r.fraction != 0.5:
        arm = f"mixed {r.fraction:g}"
    return {
        "attribute": r.attribute or "",
        "arm": arm,
        "training": "real + edited" if r.with_real else "edited only",
    }


def answers(df: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(dataset, recipe) -> bool frame (seeds, images), both sorted. Checks that it is complete."""
    cells = {}
    for (dataset, recipe), rows in df.groupby(["dataset", "recipe"], sort=True):
        table = rows.pivot(index="seed", columns="image_id", values="correct")
        if table.isna().any(axis=None):
            raise ValueError(f"{dataset}, {recipe}: its seeds were tested on different images.")
        cells[dataset, recipe] = table.astype(bool)
    return cells


def canonical(recipe: str) -> str:
    """A recipe in its one spelling; a recipe of another study keeps that study's name and colon."""
    study, colon, own = recipe.rpartition(":")
    return f"{study}{colon}{recipes.parse(own)}"


def contrast(cells: dict, dataset: str, weights: dict[str, float]) -> pd.DataFrame | None:
    """Weighted sum of recipes' answers, (seeds, images) floats, on the seeds that all have.

    {"edit(color,feasible)": 1, "edit(color,infeasible)": -1} is the effect of feasibility. None
    where a recipe, or a common seed, is lacking. Raises ValueError for different test images.
    """
    found = {r: cells.get((dataset, canonical(r))) for r in weights}
    if any(t is None for t in found.values()):
        return None
    first = next(iter(found.values()))
    other = [r for r, t in found.items() if not t.columns.equals(first.columns)]
    if other:
        raise ValueError(
            f"{dataset}: {other[0]} was tested on other images than "
            f"{next(iter(found))}. Run 06_classify again for both."
        )
    seeds = sorted(set.intersection(*(set(t.index) for t in found.values())))
    if not seeds:
        return None
    return sum(w * found[r].loc[seeds].astype(float) for r, w in weights.items())


def average(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean of several contrasts of one data set on their common seeds: they share its images, so
    they are not independent and must not be pooled like data sets."""
    seeds = sorted(set.intersection(*(set(t.index) for t in tables)))
    if not seeds:
        raise ValueError("The cells to be averaged have no seed in common: run the same seeds.")
    return sum(t.loc[seeds] for t in tables) / len(tables)


def estimate(tables: list[pd.DataFrame], margin: float, **options) -> dict:
    """Mean of contrasts of one or more data sets in points, interval, verdict, size wanted."""
    arrays = [t.to_numpy() for t in tables]
    got, need = bootstrap.interval(arrays, **options), bootstrap.needed(arrays, margin)
    return {
        "difference": got.mean,
        "low": got.low,
        "high": got.high,
        "low90": got.low90,
        "high90": got.high90,
        "se": got.se,
        "df": got.df,
        "seeds": got.seeds,
        "n": got.images,
        "p": got.p,
        "p_equivalence": bootstrap.p_equivalence(got, margin),
        "verdict": bootstrap.verdict(got, margin),
        "seeds_needed": need["seeds"],
        "images_needed": need["images"],
    }


def main_table(df: pd.DataFrame, **options) -> pd.DataFrame:
    """One row per data set and recipe: dataset, attribute, training, arm, mean, low, high
    (points), seeds, n (test images), recipe. `options` go to stats.interval. Recipes with a number
    of photographs (@4) are not in it; see `by_shots`."""
    rows = []
    for (dataset, recipe), table in answers(df).items():
        if recipes.parse(recipe).shots is not None:
            continue
        got = bootstrap.interval(table.to_numpy(), **options)
        rows.append(
            {
                "dataset": dataset,
                **describe(recipe),
                "mean": got.mean,
                "low": got.low,
                "high": got.high,
                "seeds": got.seeds,
                "n": got.images,
                "recipe": recipe,
            }
        )
    table = pd.DataFrame(rows)
    rank = table["arm"].map({a: i for i, a in enumerate(ARM_ORDER)}).fillna(len(ARM_ORDER))
    head = ~table["arm"].isin(["zero-shot", "real"])
    training = table["training"].map({t: i for i, t in enumerate(TRAINING_ORDER)}).fillna(0)
    table = table.assign(_h=head, _t=training, _r=rank)
    table = table.sort_values(
        ["dataset", "_h", "attribute", "_t", "_r", "recipe"], ignore_index=True
    )
    return table.drop(columns=["_h", "_t", "_r"])


def by_shots(df: pd.DataFrame, study: str | Path, **options) -> pd.DataFrame:
    """Accuracy over the photographs of a class that a recipe may use: the columns of `main_table`
    and shots, for each recipe that was trained with fewer (@4) as well as with all, and the effect
    of feasibility with as many (arm "feasible − infeasible"), where both arms are there.

    shots of "all" is the mean number of train photographs of a class. Empty without such recipes.
    """
    cells, rows = answers(df), []
    whole = {
        (d, str(replace(recipes.parse(r), shots=None)))
        for d, r in cells
        if recipes.parse(r).shots is not None
    }
    most = {d: _photographs(study, d) for d in {d for d, _ in whole}}
    for (dataset, recipe), table in cells.items():
        one = recipes.parse(recipe)
        plain = str(replace(one, shots=None))
        if (dataset, plain) not in whole:
            continue
        own = {"dataset": dataset, **describe(recipe), "shots": one.shots or most[dataset]}
        found = {recipe: table}
        if one.kind == "edit" and one.arm == "feasible":
            other = str(replace(one, fraction=1.0))
            pair = contrast(cells, dataset, {recipe: 1.0, other: -1.0})
            if pair is not None:
                found[f"{recipe} - {other}"] = pair
        for name, values in found.items():
            got = bootstrap.interval(values.to_numpy(), **options)
            arm = own["arm"] if name == recipe else "feasible − infeasible"
            rows.append(
                own
                | {
                    "arm": arm,
                    "mean": got.mean,
                    "low": got.low,
                    "high": got.high,
                    "seeds": got.seeds,
                    "n": got.images,
                    "recipe": name,
                }
            )
    columns = [
        "dataset",
        "attribute",
        "training",
        "arm",
        "shots",
        "mean",
        "low",
        "high",
        "seeds",
        "n",
        "recipe",
    ]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["dataset", "attribute", "training", "arm", "shots"], ignore_index=True
    )


def _photographs(study: str | Path, dataset: str) -> float:
    images = storage.read_table(Path(study) / f"data/{storage.slug(dataset)}/images.parquet")
    return float(images[images["split"] == "train"].groupby("label").size().mean())


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The main table as one reads it: a row per dataset, attribute and training, a column per arm,
    cells 'mean [low, high]'; zero-shot and real stand in every row of their data set."""
    text = table.apply(lambda r: f"{r['mean']:.1f} [{r['low']:.1f}, {r['high']:.1f}]", axis=1)
    table = table.assign(cell=text)
    base = table[table["attribute"] == ""].drop_duplicates(["dataset", "arm"])
    base = base.pivot(index="dataset", columns="arm", values="cell")
    rows = table[table["attribute"] != ""]
    out = rows.pivot(index=["dataset", "attribute", "training"], columns="arm", values="cell")
    counts = rows.groupby(out.index.names)[["seeds", "n"]].min()
    out = out.reset_index().merge(base.reset_index(), on="dataset", how="outer")
    out = out.merge(counts.reset_index(), on=list(counts.index.names), how="left")
    arms = [a for a in ARM_ORDER if a in out] + sorted(
        set(out) - set(ARM_ORDER) - {"dataset", "attribute", "training", "seeds", "n"}
    )
    out = out[["dataset", "attribute", "training", *arms, "seeds", "n"]]
    return out.astype({"seeds": "Int64", "n": "Int64"}).fillna({c: "" for c in arms})


def feasibility(attribute: str, training: str) -> dict[str, float]:
    """Weights of the contrast feasible minus infeasible."""
    real = "real+" * (training == "real + edited")
    return {
        f"{real}edit({attribute},{arm})": sign
        for arm, sign in (("feasible", 1.0), ("infeasible", -1.0))
    }


def feasibility_cells(
    cells: dict,
    attributes: tuple[str, ...] = ATTRIBUTES,
    study: str = "",
) -> dict[tuple[str, str, str], pd.DataFrame]:
    """(dataset, attribute, training) -> feasible minus infeasible, (seeds, images), of all that
    were run; cells: of `answers`; study: the name of one beside this (`beside`)."""
    head = f"{study}:" if study else ""
    found = {}
    for key in product(sorted({d for d, _ in cells}), attributes, TRAINING_ORDER[1:]):
        weights = {f"{head}{recipe}": w for recipe, w in feasibility(*key[1:]).items()}
        table = contrast(cells, key[0], weights)
        if table is not None:
            found[key] = table
    return found


def effects(df: pd.DataFrame, margin: float, **options) -> pd.DataFrame:
    """Feasible minus infeasible, in points: a row per data set, attribute and training, then rows
    with "pooled" in place of one, two or all of them (equal weight for each data set; the recipes
    of attribute "all" have rows of their own and are not pooled).

    Columns: difference, low, high (95 %), low90, high90 (for the equivalence test), se, seeds, n,
    verdict, seeds_needed, images_needed (to show equivalence within `margin` with 80 % power; <NA>
    where no number would do), cells (pooled from), mcnemar_p (exact, the median over seeds),
    p and p_equivalence (of the two-sided test of no difference, and of two one-sided tests), and
    both by Holm's correction over the cells that are not pooled (<NA> in pooled rows).
    """
    single, rows = feasibility_cells(answers(df), (*ATTRIBUTES, "all")), []
    for (dataset, attribute, training), d in single.items():
        p = np.median([bootstrap.mcnemar(row > 0, row < 0)["p"] for row in d.to_numpy()])
        rows.append(
            {
                "dataset": dataset,
                "attribute": attribute,
                "training": training,
                **estimate([d], margin, **options),
                "cells": 1,
                "mcnemar_p": float(p),
            }
        )
    trainings = [t for t in TRAINING_ORDER[1:] if any(k[2] == t for k in single)]
    for attribute in (*ATTRIBUTES, POOLED):
        for training in [*trainings, POOLED]:
            members = {
                k: t
                for k, t in single.items()
                if k[1] in ATTRIBUTES and attribute in (k[1], POOLED) and training in (k[2], POOLED)
            }
            if members and (training != POOLED or len(trainings) > 1):
                rows.append(
                    {
                        "dataset": POOLED,
                        "attribute": attribute,
                        "training": training,
                        **estimate(by_dataset(members), margin, **options),
                        "cells": len(members),
                        "mcnemar_p": np.nan,
                    }
                )
    columns = ["dataset", "attribute", "training", *ESTIMATE, "cells", "mcnemar_p"]
    return _holm(pd.DataFrame(rows, columns=columns).astype(_WANTED))


def pooled_effects(df: pd.DataFrame) -> dict[tuple[str, str, str], list[np.ndarray]]:
    """(dataset, attribute, training) -> tables of feasible minus infeasible, (seeds, images): each
    cell, then each attribute and all of them with "pooled" for what is pooled."""
    found = feasibility_cells(answers(df))
    out = {key: [table.to_numpy()] for key, table in found.items()}
    for attribute in (*ATTRIBUTES, POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if members:
            out[POOLED, attribute, POOLED] = [t.to_numpy() for t in by_dataset(members)]
    return out


def protocol(params: dict) -> str:
    """How a study edits and selects, in a word: its protocol, or "filtered" where 06_classify is
    not given every edit."""
    return params["protocol"] if params["verify"]["keep"] == "all" else "filtered"


def by_protocol(df: pd.DataFrame, margin: float, own: str, **options) -> pd.DataFrame:
    """Feasible minus infeasible in points, the mean of both trainings, for this study (its
    protocol is `own`) and for those beside it (`beside`): protocol, dataset, attribute, cells and
    the columns of `estimate`; rows with dataset "pooled" come last. A study beside it that has the
    name `own` is left out; that two protocols differ is for claims S1 and S2 to say, by pairs."""
    others = {r.rpartition(":")[0] for r in df["recipe"].unique()} - {"", own}
    cells, rows = answers(df), []
    found = {
        name: feasibility_cells(cells, study="" if name == own else name)
        for name in [own, *sorted(others)]
    }
    datasets = sorted({key[0] for each in found.values() for key in each})
    for dataset, attribute, (name, each) in product([*datasets, POOLED], ATTRIBUTES, found.items()):
        members = {k: t for k, t in each.items() if dataset in (k[0], POOLED) and k[1] == attribute}
        if members:
            rows.append(
                {
                    "dataset": dataset,
                    "attribute": attribute,
                    "protocol": name,
                    **estimate(by_dataset(members), margin, **options),
                    "cells": len(members),
                }
            )
    columns = ["dataset", "attribute", "protocol", *ESTIMATE, "cells"]
    return pd.DataFrame(rows, columns=columns).astype(_WANTED)


def by_class(df: pd.DataFrame, study: str | Path) -> pd.DataFrame:
    """Feasible minus infeasible in points by class, over all attributes, trainings and seeds:
    dataset, class_name, difference, low, high (95 %, by t over the class's test images), n."""
    from scipy.stats import t as student

    found, rows = feasibility_cells(answers(df)), []
    for dataset in sorted({key[0] for key in found}):
        images = storage.read_table(Path(study) / f"data/{storage.slug(dataset)}/images.parquet")
        names = images.set_index("image_id")["class_name"]
        own = [t for key, t in found.items() if key[0] == dataset]
        each = 100 * average(own).mean(axis=0)  # of each test image
        for name, points in each.groupby(names.reindex(each.index)):
            half = (
                student.ppf(0.975, max(len(points) - 1, 1)) * points.sem()
                if len(points) > 1
                else np.nan
            )
            rows.append(
                {
                    "dataset": dataset,
                    "class_name": name,
                    "difference": points.mean(),
                    "low": points.mean() - half,
                    "high": points.mean() + half,
                    "n": len(points),
                }
            )
    return pd.DataFrame(rows, columns=["dataset", "class_name", "difference", "low", "high", "n"])


def mcnemar(df: pd.DataFrame) -> pd.DataFrame:
    """Single trainings: the feasible against the infeasible arm of every data set, attribute,
    training and seed. Columns: these four, only_feasible, only_infeasible (images that this one
    alone gets right), p (exact, two-sided, not corrected)."""
    rows = []
    for key, table in feasibility_cells(answers(df), (*ATTRIBUTES, "all")).items():
        for seed, row in table.iterrows():
            got = bootstrap.mcnemar(row > 0, row < 0)
            rows.append(
                {
                    **dict(zip(("dataset", "attribute", "training"), key)),
                    "seed": seed,
                    "only_feasible": got["only_a"],
                    "only_infeasible": got["only_b"],
                    "p": got["p"],
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "dataset",
            "attribute",
            "training",
            "seed",
            "only_feasible",
            "only_infeasible",
            "p",
        ],
    )


def _holm(effects_: pd.DataFrame) -> pd.DataFrame:
    """With Holm's correction of both p values over the family of single cells."""
    from statsmodels.stats.multitest import multipletests

    own = effects_["dataset"] != POOLED
    for name in ("p", "p_equivalence"):
        effects_[f"{name}_holm"] = np.nan
        if own.any():
            effects_.loc[own, f"{name}_holm"] = multipletests(
                effects_.loc[own, name], method="holm"
            )[1]
    return effects_


def mixed_model(df: pd.DataFrame) -> pd.DataFrame:
    """A cross-check of the pooled effect: feasible minus infeasible accuracy of every data set,
    attribute, training and seed, in points, by restricted maximum likelihood (statsmodels).

    Fixed: a mean, and what each attribute and training differ from it (sums are zero); random: an
    intercept of each data set and seed, for a seed's two arms share their luck. Returns term,
    estimate, low, high (95 %, normal), note; no rows where there is too little to fit.
    """
    import warnings

    import statsmodels.formula.api as smf

    rows = [
        {
            "unit": f"{dataset} {seed}",
            "attribute": attribute,
            "training": training,
            "points": 100 * row.mean(),
        }
        for (dataset, attribute, training), table in feasibility_cells(answers(df)).items()
        for seed, row in table.iterrows()
    ]
    frame = pd.DataFrame(rows, columns=["unit", "attribute", "training", "points"])
    columns = ["term", "estimate", "low", "high", "note"]
    if frame["unit"].nunique() < 3 or frame["points"].var() == 0:
        return pd.DataFrame(columns=columns)
    terms = [f"C({k}, Sum)" for k in ("attribute", "training") if frame[k].nunique() > 1]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = smf.mixedlm(f"points ~ {' + '.join(terms) or '1'}", frame, groups="unit").fit()
    note = "" if fit.converged else "did not converge"
    if any("boundary" in str(w.message) for w in said):
        note = (note + "; " if note else "") + "no variance between seeds left"
    bounds = fit.conf_int()
    return pd.DataFrame(
        [
            {
                "term": "mean" if k == "Intercept" else k,
                "estimate": fit.params[k],
                "low": bounds.loc[k, 0],
                "high": bounds.loc[k, 1],
                "note": note,
            }
            for k in fit.fe_params.index
        ],
        columns=columns,
    )


def power_table(
    df: pd.DataFrame, margin: float, seeds: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 50, 100)
) -> pd.DataFrame:
    """What more seeds would give, from this study's own noise: for the effect of each attribute
    (both trainings, all data sets) and of all, seeds, se (points), chance of the verdict
    "equivalent" were there no difference, and smallest difference that is found with 80 % power."""
    found, rows = feasibility_cells(answers(df)), []
    for attribute in (*ATTRIBUTES, POOLED):
        members = {k: t for k, t in found.items() if attribute in (k[1], POOLED)}
        if members:
            arrays = [t.to_numpy() for t in by_dataset(members)]
            rows += [{"attribute": attribute, **bootstrap.power(arrays, margin, s)} for s in seeds]
    return pd.DataFrame(rows)


def by_dataset(members: dict[tuple, pd.DataFrame]) -> list[pd.DataFrame]:
    """One averaged table for each data set (the first part of the keys)."""
    names = sorted({key[0] for key in members})
    return [average([t for key, t in members.items() if key[0] == name]) for name in names]


def to_markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A pipe table; floats with `digits` decimals, missing values empty."""
    return _texts(table, digits).to_markdown(index=False) + "\n"


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "", digits: int = 2) -> str:
    """A booktabs table (the document needs \\usepackage{booktabs})."""
    escape = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})
    body = _texts(table, digits).map(lambda t: t.translate(escape))
    lines = [" & ".join(row) + r" \\" for row in body.itertuples(index=False)]
    head = " & ".join(str(c).translate(escape) for c in body.columns) + r" \\"
    numeric = [pd.api.types.is_numeric_dtype(table[c]) for c in table]
    out = [
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{caption}}}"] if caption else []),
        *([rf"\label{{{label}}}"] if label else []),
        rf"\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(out) + "\n"


def _texts(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    def text(value) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            return ""
        if isinstance(value, (float, np.floating)):
            return f"{value:.{digits}f}"
        return str(value)

    return pd.DataFrame({c: [text(v) for v in table[c]] for c in table.columns}, dtype=str)
