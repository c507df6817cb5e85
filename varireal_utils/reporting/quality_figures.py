"""Figures of edit quality: balance between the arms, and a map of image features."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core import arms
from .style import (
    ARM_COLORS,
    INK,
    PALE,
    WIDE,
    attribute_order,
    drawn,
    label,
    need,
)

METRIC_WORDS = {
    "change_inside": "change inside",
    "change_outside": "change outside",
    "ssim_inside": "SSIM inside",
    "ssim_outside": "SSIM outside",
    "feature_distance_inside": "feature distance inside",
    "feature_distance_outside": "feature distance outside",
    "phrase_similarity": "similarity to its phrase",
    "phrase_gain": "gain in that similarity",
    "identity": "same object",
}

DATADREAM = "datadream"  # group of its images, "datadream dset"


@drawn
def quality_balance(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Is one arm edited less well: feasible minus infeasible of every measure, in standard
    deviations; filled where it is beyond chance (Holm). A panel per attribute, a mark per data set.

    table: of quality.balance, with dataset.
    """
    need(table, ["dataset", "attribute", "metric", "effect", "uneven"], "quality balance")
    metrics = [m for m in METRIC_WORDS if (table["metric"] == m).any()]
    found = attribute_order(table["attribute"])
    names = list(table["dataset"].unique())
    marks = dict(zip(names, "osD^vPX*" * (1 + len(names) // 8)))
    fig, axes = plt.subplots(
        1,
        len(found),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(WIDE, 0.17 * len(metrics) + 0.95),
        layout="constrained",
    )
    for axis, attribute in zip(axes[0], found, strict=True):
        axis.axvline(0, color=PALE, lw=0.7)
        for row in table[table["attribute"] == attribute].itertuples():
            y = metrics.index(row.metric) + 0.22 * (names.index(row.dataset) - (len(names) - 1) / 2)
            color = ARM_COLORS["feasible" if row.effect > 0 else "infeasible"]
            axis.plot([0, row.effect], [y, y], color=color, lw=0.8)
            axis.plot(
                row.effect,
                y,
                marks[row.dataset],
                ms=3.4,
                mec=color,
                mew=0.9,
                mfc=color if row.uneven else "white",
            )
        axis.set_title(label(attribute))
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(metrics)), [METRIC_WORDS[m] for m in metrics])
    axes[0, 0].set_ylim(len(metrics) - 0.5, -0.5)
    fig.supxlabel("feasible − infeasible, in standard deviations", fontsize=8)
    fig.legend(
        [Line2D([], [], ls="", marker=marks[n], mfc="white", mec=INK, ms=4) for n in names]
        + [Line2D([], [], ls="", marker="o", color=INK, ms=4)],
        [*(label(n) for n in names), "beyond chance (filled)"],
        loc="outside upper center",
        ncols=len(names) + 1,
    )
    return fig, table.reset_index(drop=True)


def _map_points(here: pd.DataFrame, attribute: str) -> dict[str, pd.DataFrame]:
    """Arm -> its images in the panel of an attribute, or in DataDream's, which has no sides."""
    if attribute == DATADREAM:
        return {DATADREAM: here[here["group"].str.startswith(f"{DATADREAM} ")]}
    groups = {arm: f"{attribute} {arm}" for arm in reversed(arms.SIDES)}
    return {arm: here[here["group"] == group] for arm, group in groups.items()}


@drawn
def embedding_map(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Real, feasible and infeasible images on the first two principal components of the real
    photographs' features: a row per data set, a panel per attribute.

    table: of quality.projection, with dataset; groups real and "<attribute> <arm>". DataDream's
    images have a panel of their own.
    """
    need(table, ["dataset", "group", "x", "y"], "embedding map")
    names = list(table["dataset"].unique())
    found = attribute_order(g.rpartition(" ")[0] for g in table["group"])
    fig, axes = plt.subplots(
        len(names),
        len(found),
        squeeze=False,
        sharex="row",
        sharey="row",
        figsize=(WIDE, 1.75 * len(names) + 0.4),
        layout="constrained",
    )
    for number, (line, name) in enumerate(zip(axes, names, strict=True)):
        here = table[table["dataset"] == name]
        real = here[here["group"] == "real"]
        for axis, attribute in zip(line, found, strict=True):
            axis.plot(real["x"], real["y"], ".", color="#c4c4c4", ms=3, mew=0, zorder=1)
            for arm, rows in _map_points(here, attribute).items():
                how: dict[str, Any] = {"color": ARM_COLORS[arm], "mew": 0, "alpha": 0.65}
                axis.plot(rows["x"], rows["y"], ".", ms=2.6, zorder=2, **how)
            axis.set(xticks=[], yticks=[])
            if number == len(names) - 1:
                axis.set_xlabel("first component", fontsize=6)
            if number == 0:
                axis.set_title(label(attribute))
        line[0].set_ylabel(f"{label(name)}\nsecond component")
    words = {"photographs": "#c4c4c4", **{f"{a} edits": ARM_COLORS[a] for a in arms.SIDES}}
    if DATADREAM in found:
        words[label(DATADREAM)] = ARM_COLORS[DATADREAM]
    fig.legend(
        [Line2D([], [], ls="", marker="o", ms=3.5, color=c) for c in words.values()],
        list(words),
        loc="outside upper center",
        ncols=len(words),
    )
    return fig, table.reset_index(drop=True)
