"""Figures of test accuracy over a dose: the share of infeasible edits, the number of shots.

symbols   paired   thick bars: difference-adjusted intervals of two paired arms (marks.py)
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from . import marks
from .marks import paired_intervals
from .style import (
    COLUMN,
    INK,
    PALE,
    WIDE,
    arm_color,
    arm_label,
    attribute_order,
    drawn,
    label,
    need,
)

SHARES = {"feasible": 0.0, "infeasible": 1.0, "mixed": 0.5}
_LINES = (("#4C78A8", "o"), ("#B279A2", "s"), ("#72853A", "^"), ("#B8651B", "v"), ("#5F5F5F", "P"))


def _share(arm: str) -> float:
    """Share 0..1 of infeasible edits in an arm: "mixed 0.25" -> 0.25."""
    head, _, rest = arm.partition(" ")
    return float(rest) if rest else SHARES[head]


@drawn
def infeasible_share(
    main: pd.DataFrame, effects: pd.DataFrame | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Top-1 over the share of infeasible edits, 0 to 100 %: a panel per data set, a line per
    attribute (trained on edits alone). Thin bars: 95 % intervals; thick: paired intervals.

    main: of tables.main_table; effects: of effects.effects, for the paired intervals of both ends.
    One column wide.
    """
    need(
        main, ["dataset", "attribute", "training", "arm", "mean", "low", "high"], "infeasible share"
    )
    main = marks.paper_arms(main)
    if effects is not None:
        main = paired_intervals(main, effects)
    rows = main[
        (main["training"] == "edited only") & main["arm"].str.split(" ").str[0].isin(SHARES)
    ].copy()
    if rows.empty:
        raise ValueError("infeasible share: no row is trained on edits alone; see classify.recipes")
    rows["share"] = rows["arm"].map(_share)
    rows = rows.sort_values(["dataset", "attribute", "share"], ignore_index=True)
    names, found = list(rows["dataset"].unique()), attribute_order(rows["attribute"])
    fig, axes = plt.subplots(
        len(names),
        1,
        sharex=True,
        squeeze=False,
        layout="constrained",
        figsize=(COLUMN, 1.45 * len(names) + 0.55),
    )
    looks: dict[str, dict[str, Any]] = {
        a: {"color": c, "marker": m} for a, (c, m) in zip(found, cycle(_LINES))
    }
    if "all" in looks:
        looks["all"] = {"color": "#111111", "marker": "D"}
    for axis, name in zip(axes[:, 0], names, strict=True):
        for number, attribute in enumerate(found):
            line = rows[(rows["dataset"] == name) & (rows["attribute"] == attribute)]
            shift = 3.0 * (number - (len(found) - 1) / 2)  # bars side by side
            _share_line(axis, line, shift, looks[attribute])
        axis.set(title=label(name), xticks=range(0, 101, 25), ylabel="top-1 (%)")
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.grid(axis="y")
    axes[-1, 0].set_xlabel("infeasible edits (%)")
    fig.legend(
        [Line2D([], [], ms=3.4, lw=1, **looks[a]) for a in found],
        [label(a) for a in found],
        loc="outside upper center",
        ncols=min(4, len(found)),
    )
    return fig, rows


def _share_line(axis: Axes, line: pd.DataFrame, shift: float, how: dict[str, Any]) -> None:
    x = 100 * line["share"] + shift
    axis.vlines(x, line["low"], line["high"], color=how["color"], lw=0.7)
    if "paired_low" in line:
        pairs = line["paired_low"].notna()
        axis.vlines(
            x[pairs],
            line.loc[pairs, "paired_low"],
            line.loc[pairs, "paired_high"],
            color=how["color"],
            lw=marks.PAIRED,
            alpha=0.5,
        )
    axis.plot(x, line["mean"], ms=3.2, lw=1.0, zorder=4, **how)


@drawn
def accuracy_by_shots(table: pd.DataFrame, margin: float) -> tuple[Figure, pd.DataFrame]:
    """Top-1 over the number of shots, and below it the paired effect of
    feasibility with its band of equivalence; a column per data set, 95 % intervals; open marks
    and dashed lines: real and edited images.

    table: of tables.by_shots; margin in points.
    """
    need(
        table,
        ["dataset", "attribute", "training", "arm", "shots", "mean", "low", "high"],
        "accuracy by shots",
    )
    if table["attribute"].nunique() > 2:  # "" of real, and one attribute
        table = table[table["attribute"].fillna("").isin(["", "all"])]
    table = table.reset_index(drop=True)
    names = list(table["dataset"].unique())
    effect = table["arm"].str.contains("−")
    rows = 2 if effect.any() else 1
    fig, axes = plt.subplots(
        rows,
        len(names),
        sharex=True,
        sharey="row",
        squeeze=False,
        figsize=(COLUMN if len(names) == 1 else WIDE, 1.1 + 1.5 * rows),
        layout="constrained",
        height_ratios=[3, 2][:rows],
    )
    ticks = sorted(table["shots"].unique())
    for column, name in zip(axes.T, names, strict=True):
        for axis, part in zip(column, (table[~effect], table[effect]), strict=False):
            lines = list(part[part["dataset"] == name].groupby(["training", "arm"], sort=True))
            for number, ((training, arm), line) in enumerate(lines):
                _by_shots(axis, line, arm, training, 1 + 0.04 * (number - (len(lines) - 1) / 2))
            axis.grid(axis="y")
        column[0].set_title(label(name))
        column[-1].set_xscale("log", base=2)
        column[-1].set_xticks(ticks, [f"{t:g}" for t in ticks])
        column[-1].minorticks_off()
        if rows == 2:
            column[1].axhspan(-margin, margin, color=PALE, alpha=0.35, lw=0)
            column[1].axhline(0, color=INK, lw=0.6)
    axes[0, 0].set_ylabel("top-1 (%)")
    if rows == 2:
        axes[1, 0].set_ylabel("feasible −\ninfeasible")
    fig.supxlabel("shots (photographs of a class)", fontsize=8)
    shown = table[~effect].drop_duplicates(["training", "arm"]).sort_values(["training", "arm"])
    fig.legend(
        [_shots_key(r.arm, r.training) for r in shown.itertuples()],
        [
            arm_label(r.arm) + (" + real" if r.training == "real + edited" else "")
            for r in shown.itertuples()
        ],
        loc="outside upper center",
        ncols=min(5, len(shown)),
    )
    return fig, table


def _by_shots(axis: Axes, line: pd.DataFrame, arm: str, training: str, shift: float) -> None:
    line = line.sort_values("shots")
    how = _shots_style(arm, training)
    axis.vlines(
        line["shots"] * shift, line["low"], line["high"], color=how["color"], lw=0.8, alpha=0.6
    )
    axis.plot(line["shots"] * shift, line["mean"], **how)


def _shots_key(arm: str, training: str) -> Line2D:
    return Line2D([], [], **_shots_style(arm, training))


def _shots_style(arm: str, training: str) -> dict:
    color, both = INK if "−" in arm else arm_color(arm), training == "real + edited"
    return {
        "color": color,
        "marker": "o",
        "ms": 3.4,
        "lw": 1.0,
        "ls": "--" if both else "-",
        "mfc": "white" if both else color,
    }
