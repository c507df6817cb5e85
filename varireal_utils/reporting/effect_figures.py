"""Figures of effects: forests of numbers and of registered claims, and the effect by class."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from .marks import PROTOCOLS, TRAININGS, mark, mark_key, signed
from .style import (
    ARM_COLORS,
    BAND,
    BOUNDS,
    COLUMN,
    INK,
    PALE,
    VERDICT_COLORS,
    WIDE,
    drawn,
    label,
    need,
)


@drawn
def effect_forest(
    effects: pd.DataFrame, margin: float, by: str = "training"
) -> tuple[Figure, pd.DataFrame]:
    """Feasible minus infeasible in points, with 95 % (thin) and 90 % (thick) intervals, over the
    band +-margin. These are numbers without verdicts; `claim_forest` has those of the registered
    claims.

    effects: of effects.effects, whose lines are trainings, or of effects.by_protocol, with
    by="protocol"; rows with dataset "pooled" come last and heavier, and those pooled
    from a single cell, which they would repeat, are left out. An interval that is far wider than
    the others ends in an arrow at the border; its numbers stand at its right.
    """
    need(
        effects,
        ["dataset", "attribute", by, "difference", "low", "high", "low90", "high90"],
        "effect forest",
    )
    if "cells" in effects:
        effects = effects[(effects["dataset"] != "pooled") | (effects["cells"] > 1)]
    effects = effects.reset_index(drop=True)
    heads, at, y = {}, [], 0.0  # y in lines of text
    for dataset, block in effects.groupby("dataset", sort=False):
        heads[label(str(dataset))], y = y, y + 1.2
        for _, rows in block.groupby("attribute", sort=False):
            at += [(y + i, i == 0, row) for i, row in enumerate(rows.itertuples())]
            y += len(rows) + 0.4
        y += 0.4
    bounds = effects[["low", "high"]].abs().fillna(0).to_numpy()
    reach = 1.1 * max(
        1.5 * margin,
        effects["difference"].abs().max(),
        min(bounds.max(), 2 * np.quantile(bounds, 0.75)),
    )
    height = 0.135 * y + 0.87
    fig = plt.figure(figsize=(WIDE, height))
    axis = fig.add_axes(
        (1.83 / WIDE, 0.42 / height, (WIDE - 1.83 - 1.32) / WIDE, (height - 0.87) / height),
        xlim=(-reach, reach),
        ylim=(y - 0.6, -0.6),
        yticks=[],
    )
    axis.spines["left"].set_visible(False)
    axis.axvspan(-margin, margin, color=BAND, lw=0, zorder=0)
    axis.axvline(0, color=PALE, lw=0.7, zorder=1)
    for line, first, row in at:
        _effect_line(axis, line, first, row, getattr(row, by), reach)
    for name, line in heads.items():
        _beside(axis, -1.79, line, name, weight="bold", fontsize=8)
    _forest_words(axis, effects[by].unique(), margin)
    return fig, effects


def _beside(axis: Axes, inches: float, y: float, text: str, **how) -> None:
    """Text so many inches left (negative) of the plot or right of it, at the height of a line."""
    width = axis.bbox.width / axis.figure.dpi
    x = inches / width if inches < 0 else 1 + inches / width
    place = blended_transform_factory(axis.transAxes, axis.transData)
    axis.text(x, y, text, transform=place, **({"va": "center_baseline", "color": INK} | how))


def _forest_words(axis: Axes, lines: np.ndarray, margin: float) -> None:
    """Legend, headings and axis of the forest."""
    top = axis.get_ylim()[1] - 0.75
    _beside(axis, 0.12, top, "difference [95 %]", fontsize=6.5, color=PALE)
    for x, side, arm, text in (
        (0, "left", "infeasible", "← infeasible better"),
        (1, "right", "feasible", "feasible better →"),
    ):
        axis.text(
            x,
            top,
            text,
            ha=side,
            va="center_baseline",
            fontsize=6.5,
            color=ARM_COLORS[arm],
            transform=blended_transform_factory(axis.transAxes, axis.transData),
        )
    axis.set_xlabel("feasible − infeasible (points of top-1 accuracy)")
    found = [t for t in (*TRAININGS, *PROTOCOLS, "pooled") if t in lines]
    axis.figure.legend(
        [mark_key(t) for t in found] + [plt.Rectangle((0, 0), 1, 1, fc=BAND, ec="none")],
        [{"pooled": "both trainings"}.get(t, t) for t in found] + [f"margin: ±{margin:g} points"],
        loc="upper center",
        ncols=len(found) + 1,
        borderaxespad=0.2,
    )


def _effect_line(axis: Axes, y: float, first: bool, row, what: str, reach: float) -> None:
    """One interval with its words on both sides; an arrow where it leaves the picture."""
    heavy = row.dataset == "pooled"
    _interval(axis, y, row, reach, 3.2 if heavy else 2.4)
    mark(axis, row.difference, y, "#000000" if heavy else INK, what, 4.6 if heavy else 3.8)
    if first:
        name = "all attributes" if row.attribute == "pooled" else label(row.attribute)
        _beside(axis, -1.69, y, name, fontsize=7)
    _beside(axis, -0.1, y, "both" if what == "pooled" else what, ha="right", fontsize=6.5)
    _beside(axis, 0.12, y, signed(row.difference, row.low, row.high), fontsize=6.5)


@drawn
def claim_forest(claims: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The registered claims: estimate with 95 % (thin) and 90 % (thick) intervals over each claim's
    margin (shaded), and its verdict, the column that README and report print.

    claims: of claims.evaluate; those without a number are left out. An interval that is far wider
    than the others ends in an arrow at the border; an estimate far beyond them is an arrow with its
    number.
    """
    need(claims, ["claim", "estimand", "ours", *BOUNDS, "margin", "verdict"], "claim forest")
    rows = claims[claims["ours"].notna()].reset_index(drop=True)
    need(rows, ["claim"], "claim forest")
    reach = _claims_reach(rows)
    height = 0.2 * len(rows) + 0.98
    fig = plt.figure(figsize=(WIDE, height))
    axis = fig.add_axes(
        (0.55 / WIDE, 0.55 / height, (WIDE - 0.55 - 2.15) / WIDE, (height - 0.83) / height),
        xlim=(-reach, reach),
        ylim=(len(rows) - 0.5, -0.5),
        yticks=[],
    )
    axis.spines["left"].set_visible(False)
    axis.axvline(0, color=PALE, lw=0.7, zorder=1)
    for y, row in enumerate(rows.itertuples()):
        axis.fill_between([-row.margin, row.margin], y - 0.5, y + 0.5, color=BAND, lw=0, zorder=0)
        if abs(row.ours) > reach:
            _beyond(axis, float(y), row.ours, reach)
        else:
            _interval(axis, float(y), row, reach, 2.8)
            axis.plot(row.ours, y, "o", color=INK, ms=3.8, zorder=4)
        _beside(axis, -0.42, y, row.claim, weight="bold", fontsize=7)
        _beside(axis, 0.12, y, signed(row.ours, row.low, row.high), fontsize=6.5)
        color = VERDICT_COLORS.get(str(row.verdict), INK)
        _beside(axis, 1.42, y, row.verdict, fontsize=6.5, color=color, weight="bold")
    for inches, text in ((0.12, "estimate [95 %]"), (1.42, "verdict")):
        _beside(axis, inches, -0.9, text, fontsize=6.5, color=PALE)
    axis.set_xlabel(
        "points of top-1 accuracy; shaded: the margin; arrow: goes on\n"
        "intervals of each claim alone, verdicts after Holm in its family"
    )
    return fig, rows


def _claims_reach(rows: pd.DataFrame) -> float:
    """Half width of the axis of claims: most intervals, and every estimate that is not far out."""
    alone = rows["ours"].abs()  # without an interval
    bounds = rows[["low", "high"]].abs().apply(lambda c: c.fillna(alone)).to_numpy()
    most = max(1.5 * rows["margin"].max(), min(bounds.max(), 2 * np.quantile(bounds, 0.6)))
    reach = 1.1 * max(most, alone[alone <= 2 * most].max())
    return 1.03 * bounds.max() if reach < 1.03 * bounds.max() < 1.3 * reach else reach


def _beyond(axis: Axes, y: float, value: float, reach: float) -> None:
    """An estimate that lies outside the picture: an arrow at the border, its number beside it."""
    left = value < 0
    edge = -reach if left else reach
    axis.plot(edge, y, "<" if left else ">", color=INK, ms=4.5, mew=0, clip_on=False, zorder=5)
    axis.annotate(
        signed(value, np.nan, np.nan),
        (edge, y),
        (6 if left else -6, 0),
        textcoords="offset points",
        ha="left" if left else "right",
        va="center_baseline",
        fontsize=6.5,
        color=INK,
    )


def _interval(axis: Axes, y: float, row, reach: float, thick: float) -> None:
    """Both intervals of a line; an arrow where one leaves the picture."""
    axis.plot([row.low, row.high], [y, y], color=INK, lw=0.9, zorder=2)
    axis.plot([row.low90, row.high90], [y, y], color="#9a9a9a", lw=thick, zorder=3)
    for outside, x, marker in ((row.low < -reach, -reach, "<"), (row.high > reach, reach, ">")):
        if outside:
            axis.plot(x, y, marker, color=INK, ms=3.5, mew=0, clip_on=False, zorder=5)


@drawn
def effect_by_class(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Feasible minus infeasible by class, sorted, with 95 % intervals; a panel per data set; of
    more than 24 classes the twelve at either end.

    table: of effects.by_class.
    """
    need(table, ["dataset", "class_name", "difference", "low", "high", "n"], "effect by class")
    parts = []
    for _, rows in table.groupby("dataset", sort=False):
        rows = rows.sort_values("difference", ignore_index=True)
        parts.append(rows if len(rows) <= 24 else pd.concat([rows.head(12), rows.tail(12)]))
    rows = pd.concat(parts, ignore_index=True)
    names = list(rows["dataset"].unique())
    most = max(len(p) for p in parts)
    fig, axes = plt.subplots(
        1,
        len(names),
        sharex=True,
        squeeze=False,
        layout="constrained",
        figsize=(COLUMN if len(names) == 1 else WIDE, 0.16 * most + 0.75),
    )
    for axis, name in zip(axes[0], names, strict=True):
        here = rows[rows["dataset"] == name].reset_index(drop=True)
        axis.axvline(0, color=PALE, lw=0.7)
        axis.hlines(here.index, here["low"], here["high"], color=INK, lw=0.9)
        axis.plot(here["difference"], here.index, "o", ms=3.4, color=INK)
        axis.set_yticks(here.index, here["class_name"], fontsize=6.5)
        axis.set(title=label(name), ylim=(-0.6, len(here) - 0.4))
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
    fig.supxlabel("feasible − infeasible (points)", fontsize=8)
    return fig, rows
