"""Figure of test accuracy by experimental arm.

symbols   paired   thick bars: difference-adjusted intervals of two paired arms (marks.py)
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from . import marks
from .marks import TRAININGS, mark, mark_key, paired_intervals, panels
from .style import (
    INK,
    PALE,
    WIDE,
    arm_color,
    arm_label,
    drawn,
    label,
    need,
)

MOST_DOTS = 10  # of one arm
REAL_ALONE = "real photographs"  # the one panel of a study without edited or generated images


@drawn
def accuracy_by_arm(
    main: pd.DataFrame, each: pd.DataFrame | None = None, effects: pd.DataFrame | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Top-1 by arm: a row per data set, a panel per attribute, in it both trainings. Thin bars are
    95 % intervals of the mean, thick bars paired intervals; bands are real only and zero-shot.

    main: of tables.main_table; each: of tables.by_seed, then each seed or replicate is a small dot,
    unless they are more than MOST_DOTS: what is drawn for all arms alike spreads those far more
    than the arms differ; effects: of effects.effects, then the feasible and the infeasible arm have
    paired intervals. Arms that the paper has not (marks.paper_arms) are left out. DataDream has an
    axis of its own, so that the other panels show differences of one point. Returns the plotted
    rows; column seed is missing for means, else the seed that `mean` is of.
    """
    columns = ["dataset", "attribute", "training", "arm", "mean", "low", "high"]
    columns += [c for c in ("recipe", "seeds", "n") if c in main or each is not None]
    need(main, columns, "accuracy by arm")
    main = marks.paper_arms(main.assign(attribute=main["attribute"].fillna("")))
    if effects is not None:
        main = paired_intervals(main, effects)
        columns += ["paired_low", "paired_high"]
    dots = _per_seed(main, each)
    names, titles = list(main["dataset"].unique()), list(panels(main)) or [REAL_ALONE]
    fig, axes = plt.subplots(
        len(names),
        len(titles),
        squeeze=False,
        sharex="col",
        figsize=(WIDE, 1.7 * len(names) + 0.65),
        layout="constrained",
    )
    for line, dataset in zip(axes, names, strict=True):
        here, seeds = (t[t["dataset"] == dataset] for t in (main, dots))
        _accuracy_row(dict(zip(titles, line, strict=True)), here, seeds)
        line[0].set_ylabel(f"{label(dataset)}\ntop-1 accuracy (%)")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    _accuracy_legend(fig, main, dots)
    shown = main[columns].assign(seed=pd.Series(pd.NA, main.index, dtype="Int64"))
    if len(dots):
        shown = pd.concat([shown, dots.reindex(columns=shown.columns)], ignore_index=True)
    return fig, shown.astype({"seed": "Int64"})


def _accuracy_row(axes: dict[str, Axes], here: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """The panels of one data set: all attributes share one range, DataDream has its own."""
    base = here[here["arm"].isin(["real", "zero-shot"])]
    edited = here.drop(base.index)
    rows_of = panels(edited)
    apart = [title for title in axes if title == "DataDream"]
    together = [title for title in axes if title not in apart]
    for group in filter(None, (together, apart)):
        rows = pd.concat([edited.head(0), *(rows_of[t] for t in group if t in rows_of)])
        own = seeds[seeds["arm"].isin([*rows["arm"], "real"])]
        own = own[own["attribute"].isin([*rows["attribute"], ""])]
        limits = _limits(rows, base, own)
        for title in group:
            axes[title].set_ylim(limits)
            _accuracy_panel(axes[title], rows_of.get(title, edited.head(0)), base, seeds)
        for title in group[1:]:
            axes[title].tick_params(axis="y", labelleft=False)
    _base_labels(list(axes.values())[-1], base)


def _accuracy_legend(fig: Figure, main: pd.DataFrame, dots: pd.DataFrame) -> None:
    arms = marks.colored_arms(main["arm"])
    keys = [mark_key(TRAININGS[0], arm_color(a)) for a in arms] + [mark_key(t) for t in TRAININGS]
    words = [arm_label(a) for a in arms] + list(TRAININGS)
    if "paired_low" in main and main["paired_low"].notna().any():
        keys.append(Line2D([], [], color=PALE, lw=marks.PAIRED))
        words.append("paired interval")
    if len(dots):
        keys.append(Line2D([], [], ls="", marker="o", ms=2, color=INK, mew=0))
        words.append("one replicate" if "replicate" in dots else "one seed")
    columns = len(keys) if sum(map(len, words)) < 75 else -(-len(keys) // 2)
    fig.legend(keys, words, loc="outside upper center", ncols=columns)


def _per_seed(main: pd.DataFrame, each: pd.DataFrame | None) -> pd.DataFrame:
    """Each seed's accuracy in points, in main's columns."""
    if each is None or main["seeds"].max() > MOST_DOTS:
        return main.head(0).assign(seed=pd.Series(dtype="Int64"))
    need(each, ["dataset", "recipe", "seed", "top1"], "accuracy by arm, each seed")
    each = each.assign(mean=100 * each["top1"], low=np.nan, high=np.nan)
    names = main[["dataset", "recipe", "attribute", "training", "arm"]]
    return each.drop(columns="top1").merge(names, on=["dataset", "recipe"])


def _limits(rows: pd.DataFrame, base: pd.DataFrame, seeds: pd.DataFrame) -> tuple[float, float]:
    """Range of the arms, their seeds and real only; of zero-shot too, unless it lies far below."""
    ends = ["low", "mean", "high"]  # without an interval, the mean alone
    real, zero = base[base["arm"] == "real"], base[base["arm"] == "zero-shot"]
    values = pd.concat([*(t[c] for t in (rows, real) for c in ends), seeds["mean"]])
    low, high = values.min(), values.max()
    span = max(high - low, 1.0)
    least, most = zero[ends].min().min(), zero[ends].max().max()
    if len(zero) and least > low - 0.35 * span:
        low, high = min(low, least), max(high, most)
    return low - 0.08 * span, high + 0.08 * span


def _accuracy_panel(
    axis: Axes, rows: pd.DataFrame, base: pd.DataFrame, seeds: pd.DataFrame
) -> None:
    arms = sorted(rows["arm"].unique(), key=marks.arm_rank)
    starts = {t: i * (len(arms) + 0.7) for i, t in enumerate(TRAININGS)}
    for row in base.itertuples():
        if not np.isnan(row.low):
            axis.axhspan(row.low, row.high, color=arm_color(row.arm), alpha=0.10, lw=0)
        axis.axhline(row.mean, color=arm_color(row.arm), lw=0.9, ls=(0, (4, 2)))
    for row in rows.itertuples():
        x, color = starts[row.training] + arms.index(row.arm), arm_color(row.arm)
        values = seeds.loc[seeds["recipe"] == row.recipe, "mean"] if len(seeds) else []
        axis.plot(
            np.full(len(values), x + 0.34), values, "o", ms=1.9, color=color, alpha=0.6, mew=0
        )
        axis.plot([x, x], [row.low, row.high], color=color, lw=0.8)
        if "paired_low" in rows:
            axis.plot(
                [x, x], [row.paired_low, row.paired_high], color=color, lw=marks.PAIRED, alpha=0.5
            )
        mark(axis, x, row.mean, color, row.training, 3.6)
    middle = (len(arms) - 1) / 2
    words = ["edited\nonly", "real +\nedited"] if arms else ["", ""]
    axis.set_xticks([s + middle for s in starts.values()], words)
    axis.tick_params(axis="x", length=0)
    axis.axvline(len(arms) - 0.15, color="#dddddd", lw=0.6)
    axis.set_xlim(-0.7, 2 * len(arms) + 0.5)
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.grid(axis="y")


def _base_labels(axis: Axes, base: pd.DataFrame) -> None:
    """Names of the reference lines beside the last panel, apart from each other."""
    low, high = axis.get_ylim()
    place = blended_transform_factory(axis.transAxes, axis.transData)
    close = np.ptp(base["mean"]) < 0.2 * (high - low) if len(base) > 1 else False
    for i, row in enumerate(base.sort_values("mean", ascending=False).itertuples()):
        below = bool(row.mean < low)
        side = "bottom" if below else ("bottom", "top")[i] if close else "center"
        axis.text(
            1.04,
            low if below else row.mean,
            f"{arm_label(row.arm)}\n{row.mean:.1f}" + (" ↓" if below else ""),
            transform=place,
            fontsize=6.5,
            va=side,
            color=arm_color(row.arm),
            linespacing=1.05,
        )
