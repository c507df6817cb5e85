"""Figures of a study of replicates: what its claims are made of, one dot a replicate.

symbols   part   a claim of analysis.parts.FAMILIES, by attribute
          true   posterior mean of a cell's true effect, with its 95 % interval
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..analysis import few, inference
from ..core import arms
from .marks import mark, mark_key, signed
from .style import BAND, COLUMN, INK, PALE, WIDE, attribute_order, drawn, label, need

PARTS = {  # claim -> heading of its panel, and the two directions
    "E1": ("feasibility", "unfamiliar − infeasible"),
    "E2": ("familiarity", "familiar − unfamiliar"),
    "E3": ("editor", "diffusion − perfect"),
    "E4": ("magnitude", "equal size − any size"),
    "F1": ("feasibility", "unfamiliar − infeasible"),
    "F2": ("familiarity", "familiar − unfamiliar"),
    "F3": ("editor", "diffusion − perfect"),
    "F4": ("magnitude", "equal size − any size"),
}
SUM = ("E1", "E2", "E3", "F1", "F2", "F3")  # add up to the effect
DOTS = "#0072B2"
VALUES = ("unedited", *arms.THREE)
TINTS = ("#4C78A8", "#B279A2", "#72853A")  # of data sets


@drawn
def decomposition(table: pd.DataFrame, margin: float) -> tuple[Figure, pd.DataFrame]:
    """The parts of the effect by attribute, and their mean, which is the claim's number: one dot a
    replicate, mean with 95 % (thin) and 90 % (thick) intervals over the margin. Parts that add up
    to the effect share an axis. Numbers without verdicts.

    table: of analysis.parts.by_attribute. Returns it with the rows of attribute "pooled".
    """
    need(table, ["claim", "attribute", "replicate", "difference", "low", "high"], "decomposition")
    table = pd.concat([table, _pooled_parts(table)], ignore_index=True)
    found = [c for c in PARTS if c in set(table["claim"])] or sorted(set(table["claim"]))
    rows = [*attribute_order(table["attribute"]), "pooled"]
    fig, axes = plt.subplots(
        1,
        len(found),
        sharey=True,
        squeeze=False,
        layout="constrained",
        figsize=(WIDE, 0.48 * len(rows) + 0.95),
    )
    for axis, claim in zip(axes[0], found, strict=True):
        own = table[table["claim"] == claim]
        axis.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
        axis.axvline(0, color=PALE, lw=0.7, zorder=1)
        for y, attribute in enumerate(rows):
            _part(axis, y, own[own["attribute"] == attribute])
        head, sides = PARTS.get(claim, (claim, ""))
        axis.set_title(f"{head} ({claim})", fontsize=8)
        axis.set_xlabel(sides, fontsize=7)
        axis.set_yticks(range(len(rows)), [label(a) for a in rows[:-1]] + ["all attributes"])
        axis.set_ylim(len(rows) - 0.45, -0.55)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
        reach = 1.08 * _most(table, [c for c in found if (c in SUM) == (claim in SUM)])
        axis.set_xlim(-reach, reach)
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    fig.supxlabel("points of top-1 accuracy", fontsize=8)
    keys = [
        Line2D([], [], ls="", marker="o", ms=2.6, color=DOTS, alpha=0.6, mew=0),
        mark_key("edited only"),
        plt.Rectangle((0, 0), 1, 1, fc=BAND, ec="none"),
    ]
    words = ["one replicate", "mean, 95 % and 90 %", f"margin: ±{margin:g} points"]
    fig.legend(keys, words, loc="outside upper center", ncols=3)
    return fig, table


def _pooled_parts(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over a claim's attributes, of each replicate that has all of them, and of these."""
    parts = []
    for claim, own in table[table["replicate"].notna()].groupby("claim"):
        each = own.pivot(index="replicate", columns="attribute", values="difference").dropna()
        if each.empty:
            continue
        got = inference.estimate(each.mean(axis=1).to_numpy(float), 1.0)
        bounds = {k: float(getattr(got, k)) for k in few.BOUNDS}
        mean = {"difference": float(got.mean), **bounds, "units": len(each)}
        rows = each.mean(axis=1).rename("difference").reset_index()
        rows = pd.concat([pd.DataFrame([mean]), rows], ignore_index=True)
        parts.append(rows.assign(claim=claim, attribute="pooled"))
    return few.without_few(pd.concat(parts)) if parts else table.head(0)


def _most(table: pd.DataFrame, claims: list[str]) -> float:
    """The largest value or bound of some claims' rows, without its sign."""
    rows = table[table["claim"].isin(claims)]
    return float(np.nanmax(rows[["difference", "low", "high"]].abs().to_numpy(float)))


def _part(axis: Axes, y: int, rows: pd.DataFrame) -> None:
    """One attribute's dots, below its mean with both intervals."""
    each, mean = rows[rows["replicate"].notna()], rows[rows["replicate"].isna()]
    spread = 0.1 * ((np.arange(len(each)) * 0.618) % 1 - 0.5)  # so that equal dots stay apart
    axis.plot(each["difference"], y + 0.2 + spread, "o", ms=2.2, color=DOTS, alpha=0.45, mew=0)
    for row in mean.itertuples():
        axis.plot([row.low, row.high], [y - 0.12] * 2, color=INK, lw=0.9, zorder=2)
        axis.plot([row.low90, row.high90], [y - 0.12] * 2, color="#9a9a9a", lw=2.6, zorder=3)
        mark(axis, row.difference, y - 0.12, INK, "edited only", 2.8)
        axis.text(
            *(0, y - 0.36, signed(row.difference, row.low, row.high)),
            fontsize=5.5,
            ha="center",
            va="center_baseline",
            color=INK,
            bbox={"fc": "white", "ec": "none", "pad": 0.8},
        )


@drawn
def edited_test(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy of classifiers of real photographs on edited test photographs, familiar to
    infeasible: a panel an attribute, a colour a data set, one dot a replicate; lines join means,
    bars are 95 % intervals from four replicates on; left, the same photographs unedited.

    table: of analysis.load.edited_test.
    """
    need(table, ["dataset", "replicate", "attribute", "value", "top1"], "edited test")
    values = [v for v in VALUES if v in set(table["value"])]
    each = table.groupby(["dataset", "attribute", "value", "replicate"])["top1"].mean()
    attributes, datasets = attribute_order(table["attribute"]), list(table["dataset"].unique())
    fig, axes = plt.subplots(
        1, len(attributes), sharey=True, squeeze=False, layout="constrained", figsize=(WIDE, 2.2)
    )
    rows = []
    for axis, attribute in zip(axes[0], attributes, strict=True):
        for number, dataset in enumerate(datasets):
            shift, color = 0.14 * (number - (len(datasets) - 1) / 2), TINTS[number % len(TINTS)]
            means = []
            for x, value in enumerate(values):
                own = 100 * each[dataset, attribute, value].to_numpy()
                got = inference.estimate(own, 1.0)
                axis.plot([x + shift] * len(own), own, "o", ms=1.9, color=color, alpha=0.35, mew=0)
                if len(own) >= inference.LEAST:
                    axis.plot([x + shift] * 2, [got.low, got.high], color=color, lw=1.4)
                means.append(float(got.mean))
                head = {"dataset": dataset, "attribute": attribute, "value": value}
                rows.append({**head, "mean": means[-1], "replicates": len(own)})
            axis.plot(np.arange(len(values)) + shift, means, "-o", ms=3.2, lw=0.8, color=color)
        axis.set_title(label(attribute))
        axis.set_xticks(range(len(values)), values, fontsize=6)
        axis.set_xlim(-0.5, len(values) - 0.5)
        axis.grid(axis="y")
    axes[0, 0].set_ylabel("top-1 accuracy (%)")
    keys = [Line2D([], [], marker="o", ms=3.2, lw=0.8, color=c) for c in TINTS[: len(datasets)]]
    fig.legend(keys, [label(d) for d in datasets], loc="outside upper center", ncols=3)
    return fig, pd.DataFrame(rows)


@drawn
def dots_over_published(
    units: pd.DataFrame, published: pd.DataFrame, margin: float
) -> tuple[Figure, pd.DataFrame]:
    """A small study beside the published one: feasible minus infeasible of each seed or replicate
    (dots; open: real and edited images) over the published study's 95 % interval (grey bars).

    units: of analysis.effects.by_unit; published: effects.csv of the published study. Cells that
    the published study has not are left out. One column wide.
    """
    keys = ["dataset", "attribute", "training"]
    need(units, [*keys, "difference"], "dots over published")
    need(published, [*keys, "low", "high"], "dots over published")
    rows = units.merge(published[[*keys, "low", "high"]], on=keys)
    need(rows, keys, "dots over published")
    lines = list(rows.groupby(keys, sort=False))
    fig, axis = plt.subplots(figsize=(COLUMN, 0.2 * len(lines) + 0.9), layout="constrained")
    axis.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    axis.axvline(0, color=PALE, lw=0.7, zorder=1)
    for y, ((_, _, training), own) in enumerate(lines):
        axis.plot(
            [own["low"].iloc[0], own["high"].iloc[0]], [y, y], color="#c4c4c4", lw=5, zorder=2
        )
        for value in own["difference"]:
            mark(axis, value, y, DOTS, training, 3.0)
    names = [f"{label(d)}, {label(a)}" for (d, a, _), _ in lines]
    axis.set_yticks(range(len(lines)), names, fontsize=6.5)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.set_xlabel("feasible − infeasible (points)")
    drawn_from = [Line2D([], [], color="#c4c4c4", lw=5)]
    fig.legend(
        [*drawn_from, mark_key("edited only", DOTS), mark_key("real + edited", DOTS)],
        ["published, 95 %", "one seed, edited only", "real + edited"],
        loc="outside upper center",
        ncols=3,
        fontsize=6.5,
    )
    return fig, rows


@drawn
def true_effects(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The distribution of true effects: each cell's estimate (grey) and its posterior (black) with
    95 % intervals, sorted, over the margin. Open: trained on real and edited images.

    table: of analysis.parts.true_effects, of one claim.
    """
    columns = ["dataset", "attribute", "training", "difference", "low", "high", "true", "margin"]
    need(table, columns, "true effects")
    rows = table.sort_values("true", ignore_index=True)
    margin = float(rows["margin"].iloc[0])
    trainings = rows["training"].fillna("")  # "" is missing once it was written and read
    fig, axis = plt.subplots(figsize=(COLUMN, 0.145 * len(rows) + 0.85), layout="constrained")
    axis.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    axis.axvline(0, color=PALE, lw=0.7, zorder=1)
    for y, (row, training) in enumerate(zip(rows.itertuples(), trainings, strict=True)):
        what = "real + edited" if training else "edited only"
        axis.plot([row.low, row.high], [y + 0.2] * 2, color="#b5b5b5", lw=0.8, zorder=2)
        axis.plot(row.difference, y + 0.2, "o", ms=2.2, color="#9a9a9a", mew=0, zorder=3)
        axis.plot([row.true_low, row.true_high], [y - 0.15] * 2, color=INK, lw=1.1, zorder=3)
        mark(axis, row.true, y - 0.15, INK, what, 3.0)
    names = [f"{label(r.dataset)}, {label(r.attribute)}" for r in rows.itertuples()]
    axis.set_yticks(range(len(rows)), names, fontsize=6)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.set_xlabel("feasible − infeasible (points)")
    keys = [
        Line2D([], [], color="#b5b5b5", marker="o", ms=2.4, mew=0, lw=0.8),
        mark_key("edited only"),
        mark_key("real + edited"),
    ]
    words = ["estimate", "true, edited only", "true, real + edited"]
    fig.legend(keys, words, loc="outside upper center", ncols=3, fontsize=6.5)
    return fig, rows
