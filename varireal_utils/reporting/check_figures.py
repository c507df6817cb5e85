"""Figures that check a study: accepted edits, learning curves, masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from . import marks
from .marks import TRAININGS, panels
from .style import (
    ARM_COLORS,
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

SMOOTH = 5  # steps over which a drawn loss is averaged


def wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a share, 0..1, of n trials; right at 0 and 1 too."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


@drawn
def acceptance(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Share of edits that the verifier accepted, with 95 % intervals and counts, by attribute and
    arm: a panel per data set. Unequal arms would confound the effect. One column wide.

    table: attribute, feasibility, edits (count), accepted (share 0..1), perhaps dataset.
    """
    need(table, ["attribute", "feasibility", "edits", "accepted"], "acceptance")
    table = marks.paper_arms(table, "feasibility")
    low, high = wilson(table["accepted"].to_numpy(float), table["edits"].to_numpy(float))
    table = table.assign(low=low, high=high).reset_index(drop=True)
    names = list(table["dataset"].unique()) if "dataset" in table else [""]
    attributes = attribute_order(table["attribute"])
    fig, axes = plt.subplots(
        len(names),
        1,
        sharex=True,
        squeeze=False,
        layout="constrained",
        figsize=(COLUMN, len(names) * (0.33 * len(attributes) + 0.28) + 0.6),
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        for row in (table[table["dataset"] == name] if name else table).itertuples():
            y = attributes.index(row.attribute) + (0.2 if row.feasibility == "infeasible" else -0.2)
            _accepted_bar(axis, row, y)
        axis.set(xlim=(0, 101), title=label(name))
        axis.set_yticks(range(len(attributes)), [label(a) for a in attributes])
        axis.set_ylim(len(attributes) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    axes[-1, 0].set_xlabel("accepted by the verifier (%)")
    fig.legend(
        [plt.Rectangle((0, 0), 1, 1, fc=ARM_COLORS[a]) for a in ("feasible", "infeasible")],
        ["feasible", "infeasible"],
        loc="outside upper center",
        ncols=2,
    )
    return fig, table


def _accepted_bar(axis: Axes, row, y: float) -> None:
    """One arm's bar with its interval; its counts stand inside, or beside a short bar."""
    axis.barh(y, 100 * row.accepted, 0.36, color=arm_color(row.feasibility), lw=0)
    axis.plot([100 * row.low, 100 * row.high], [y, y], color="black", lw=0.9)
    inside = row.accepted > 0.25
    axis.text(
        1.5 if inside else 100 * row.high + 1.5,
        y,
        f"{row.accepted * row.edits:.0f} / {row.edits}",
        va="center",
        fontsize=6,
        color="white" if inside else INK,
    )


@drawn
def learning_curves(curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Validation accuracy and training loss over the steps, a row per attribute. Thick: mean over
    seeds; thin: each seed; dashed: real + edited. One column wide. Where the last step alone was
    validated, which is no curve, the loss stands alone.

    curves: of load.curves, of one data set. `real` is drawn in every row. The loss is the mean
    over seeds (and replicates) alone, smoothed over SMOOTH steps; DataDream has axes of its own.
    """
    need(
        curves,
        ["attribute", "arm", "training", "seed", "step", "quantity", "value"],
        "learning curves",
    )
    if "dataset" in curves and curves["dataset"].nunique() > 1:
        raise ValueError(
            "learning curves: one data set at a time, not "
            f"{', '.join(sorted(curves['dataset'].unique()))}"
        )
    curves = curves.assign(attribute=curves["attribute"].fillna(""))
    curves = marks.paper_arms(curves)
    curves = curves[(curves["arm"] != "zero-shot")].reset_index(drop=True)
    rows_of = panels(curves) or {"real only": curves}
    real = curves[curves["arm"] == "real"]
    validated = curves[curves["quantity"] == "val_top1"]
    kinds = {
        "validation top-1 (%)": ("val_top1", _validation_curves),
        "training loss": ("loss", _loss_curves),
    }
    if validated["step"].nunique() < 2:
        del kinds["validation top-1 (%)"]
    fig, axes = plt.subplots(
        len(rows_of),
        len(kinds),
        sharex=True,
        squeeze=False,
        figsize=(COLUMN, 1.12 * len(rows_of) + 0.75),
        layout="constrained",
    )
    for line, (title, rows) in zip(axes, rows_of.items(), strict=True):
        rows = pd.concat([real, rows]).drop_duplicates()
        for axis, (quantity, draw) in zip(line, kinds.values(), strict=True):
            draw(axis, rows[rows["quantity"] == quantity])
        line[0].set_ylabel(title, fontweight="bold")
    for column in axes[[title != "DataDream" for title in rows_of]].T:
        _one_range(column)
    for axis, title in zip(axes[0], kinds, strict=True):
        axis.set_title(title, fontweight="normal")
    for axis in axes[-1]:
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    arms = ["real"][: len(real)] + marks.colored_arms(curves["arm"])
    fig.legend(
        [Line2D([], [], color=arm_color(a)) for a in arms]
        + [Line2D([], [], color=PALE, ls=s) for s in "- --".split()],
        [arm_label(a) for a in arms] + list(TRAININGS),
        loc="outside upper center",
        ncols=3,
    )
    return fig, curves


def _lines(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """How to draw each arm and training, and its values: a row per step, a column per seed."""
    for (arm, training), lines in rows.groupby(["arm", "training"]):
        how: dict[str, Any] = {
            "color": arm_color(arm),
            "ls": "--" if training == TRAININGS[1] else "-",
        }
        yield how, lines.pivot_table("value", "step", "seed")


def _validation_curves(axis: Axes, rows: pd.DataFrame) -> None:
    for how, table in _lines(rows):
        axis.plot(100 * table, lw=0.4, alpha=0.25, **how)
        axis.plot((100 * table).mean(axis=1), lw=1.1, **how)
    axis.grid(axis="y")


def _loss_curves(axis: Axes, rows: pd.DataFrame) -> None:
    for how, table in _lines(rows):
        smooth = table.mean(axis=1).rolling(SMOOTH, center=True, min_periods=1).mean()
        axis.plot(smooth, lw=0.9, **how)
    axis.grid(axis="y")


def _one_range(axes: np.ndarray) -> None:
    """Give several axes the range that holds all their lines."""
    limits = np.array([axis.get_ylim() for axis in axes])
    for axis in axes:
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())


@drawn
def attribute_mask_quality(guidance: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Checks of the masks: their area, the sides of the picture that they touch, the verdicts.

    guidance: of 03_guidance: area (0..1), touches ("left bottom"), verdict, perhaps dataset.
    Returns the shares that are plotted: dataset, panel, key, share, n (masks).
    """
    need(guidance, ["area", "touches", "verdict"], "mask quality")
    if "dataset" not in guidance:
        guidance = guidance.assign(dataset="masks")
    edges = np.linspace(0, 1, 21)
    table = pd.DataFrame(
        [
            {"dataset": dataset, "panel": panel, "key": key, "share": share, "n": len(rows)}
            for dataset, rows in guidance.groupby("dataset", sort=False)
            for panel, of in _mask_shares(rows, edges).items()
            for key, share in of.items()
        ]
    )
    names = table["dataset"].unique()
    colors = dict(zip(names, sns.color_palette("crest", len(names)), strict=True))
    fig, axes = plt.subplots(
        1, 3, figsize=(WIDE, 2.1), layout="constrained", width_ratios=[1.5, 1, 1]
    )
    steps = [
        _area_line(axes[0], rows, edges, colors) for _, rows in table.groupby("dataset", sort=False)
    ]
    for axis, panel in zip(axes[1:], ("touches", "verdict"), strict=True):
        _share_bars(axis, table[table["panel"] == panel], colors)
    axes[0].set(
        xlabel="area of the mask (% of the picture)",
        ylabel="share of masks (%)",
        xlim=(0, 100),
        title="area",
    )
    axes[1].set_title("touches the border")
    axes[2].set_title("verdict")
    words = [f"{label(d)} (n = {table.loc[table['dataset'] == d, 'n'].max()})" for d in names]
    fig.legend(steps, words, loc="outside upper center", ncols=len(colors))
    return fig, table


def _mask_shares(rows: pd.DataFrame, edges: np.ndarray) -> dict[str, dict[str, float]]:
    """Panel -> key -> share 0..1 of one data set's masks."""
    words = rows["touches"].fillna("").str.split()
    counts = np.histogram(rows["area"], edges)[0] / len(rows)
    verdicts = sorted(rows["verdict"].unique(), key=lambda v: (v != "ok", v))
    sides = ("left", "right", "top", "bottom")
    return {
        "area": dict(zip((f"{e:.2f}" for e in edges[:-1]), counts, strict=True)),
        "touches": {s: words.map(lambda w, s=s: s in w).mean() for s in sides},
        "verdict": {v: (rows["verdict"] == v).mean() for v in verdicts},
    }


def _area_line(axis: Axes, rows: pd.DataFrame, edges: np.ndarray, colors: dict) -> Artist:
    """The histogram of one data set's areas."""
    shares = 100 * rows.loc[rows["panel"] == "area", "share"]
    return axis.stairs(shares, 100 * edges, lw=1.3, color=colors[rows["dataset"].iloc[0]])


def _share_bars(axis: Axes, rows: pd.DataFrame, colors: dict) -> None:
    sns.barplot(
        rows.assign(share=100 * rows["share"]),
        y="key",
        x="share",
        hue="dataset",
        palette=colors,
        ax=axis,
        errorbar=None,
        saturation=1,
        legend=False,
    )
    axis.set(ylabel="", xlabel="share of masks (%)", xlim=(0, 100))
    axis.tick_params(axis="y", length=0)
