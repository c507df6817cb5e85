"""The study's figures: from tables to a matplotlib Figure and the numbers it plots.

    results    accuracy_by_arm, effect_forest
    checks     acceptance, learning_curves, attribute_mask_quality

symbols   training    filled marks: edited only; open marks: real + edited
          protocol    filled: controlled; open: faithful; triangles: filtered

A table that lacks a column is an error that names it. Grids of pictures are
in image_grids.py, the look and `save` in style.py.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from .style import (
    ARM_COLORS,
    ATTRIBUTES,
    BAND,
    COLUMN,
    INK,
    PALE,
    VERDICT_COLORS,
    WIDE,
    arm_color,
    arm_label,
    drawn,
    label,
    need,
)

TRAININGS = ("edited only", "real + edited")
PROTOCOLS = ("controlled", "faithful", "filtered")
_OPEN, _SHAPES = ("real + edited", "faithful"), {"pooled": "D", "filtered": "^"}


def _mark(axis: Axes, x: float, y: float, color: str, what: str, size: float = 4.2) -> None:
    axis.plot(
        x,
        y,
        _SHAPES.get(what, "o"),
        ms=size,
        mec=color,
        mew=1.1,
        zorder=4,
        mfc="white" if what in _OPEN else color,
    )


def _key(what: str, color: str = INK) -> Line2D:
    """The legend's mark of a training or protocol, as `_mark` draws it."""
    return Line2D(
        [],
        [],
        ls="",
        marker=_SHAPES.get(what, "o"),
        ms=4.2,
        mec=color,
        mew=1.1,
        mfc="white" if what in _OPEN else color,
    )


def _panels(main: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Panel title -> its rows; DataDream edits no attribute and has a panel of its own."""
    out = {label(a): main[main["attribute"] == a] for a in ATTRIBUTES}
    out["DataDream"] = main[main["arm"].str.startswith("datadream")]
    return {title: rows for title, rows in out.items() if len(rows)}


def _arm_rank(arm: str) -> tuple[int, str]:
    """feasible, the mixtures by their infeasible share, infeasible: a dose, from left to right."""
    order = ("feasible", "mixed", "infeasible", "datadream")
    return order.index(arm.split(" ")[0]), arm


def _colored(arms: pd.Series) -> list[str]:
    """The arms of a legend of colours; the mixtures have one."""
    return sorted(
        {"mixed" if a.startswith("mixed") else a for a in arms} - {"real", "zero-shot"},
        key=_arm_rank,
    )


@drawn
def accuracy_by_arm(
    main: pd.DataFrame, each: pd.DataFrame | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Top-1 with 95 % intervals by arm: a row per data set, a panel per attribute, in it both
    trainings; bands are real only and zero-shot (an arrow where it lies far below).

    main: of tables.main_table; each: of tables.by_seed, then each seed is a small dot. The table
    that is returned has column seed: missing for means, else the seed that `mean` is of.
    """
    columns = ["dataset", "attribute", "training", "arm", "mean", "low", "high"]
    columns += [c for c in ("recipe", "seeds", "n") if c in main or each is not None]
    need(main, columns, "accuracy by arm")
    main = main.assign(attribute=main["attribute"].fillna(""))
    dots = _per_seed(main, each)
    names, panels = list(main["dataset"].unique()), list(_panels(main))
    if not panels:
        raise ValueError("accuracy by arm: no row is trained on edits; see classify.recipes")
    fig, axes = plt.subplots(
        len(names),
        len(panels),
        sharey="row",
        squeeze=False,
        sharex="col",
        figsize=(WIDE, 1.6 * len(names) + 0.65),
        layout="constrained",
    )
    for number, (line, dataset) in enumerate(zip(axes, names, strict=True)):
        here, seeds = (t[t["dataset"] == dataset] for t in (main, dots))
        base = here[here["arm"].isin(["real", "zero-shot"])]
        edited = here.drop(base.index)
        _limits(line[0], edited, base[base["arm"] == "real"], seeds, base)
        rows_of = _panels(edited)
        for axis, title in zip(line, panels, strict=True):
            _accuracy_panel(axis, rows_of.get(title, edited.head(0)), base, seeds)
            axis.set_title(title if number == 0 else "")
        _base_labels(line[-1], base)
        line[0].set_ylabel(f"{label(dataset)}\ntop-1 accuracy (%)")
    arms = _colored(main["arm"])
    one = [Line2D([], [], ls="", marker="o", ms=2, color=INK, mew=0)][: len(dots)]
    keys = [_key(TRAININGS[0], arm_color(a)) for a in arms] + [_key(t) for t in TRAININGS] + one
    words = [arm_label(a) for a in arms] + [*TRAININGS, "one seed"][: 2 + len(one)]
    fig.legend(keys, words, loc="outside upper center", ncols=len(keys))
    shown = main[columns].assign(seed=pd.Series(pd.NA, main.index, dtype="Int64"))
    if len(dots):
        shown = pd.concat([shown, dots.reindex(columns=shown.columns)], ignore_index=True)
    return fig, shown.astype({"seed": "Int64"})


def _per_seed(main: pd.DataFrame, each: pd.DataFrame | None) -> pd.DataFrame:
    """Each seed's accuracy in points, in main's columns."""
    if each is None:
        return main.head(0).assign(seed=pd.Series(dtype="Int64"))
    need(each, ["dataset", "recipe", "seed", "top1"], "accuracy by arm, each seed")
    each = each.assign(mean=100 * each["top1"], low=np.nan, high=np.nan)
    names = main[["dataset", "recipe", "attribute", "training", "arm"]]
    return each.drop(columns="top1").merge(names, on=["dataset", "recipe"])


def _limits(
    axis: Axes, edited: pd.DataFrame, real: pd.DataFrame, seeds: pd.DataFrame, base: pd.DataFrame
) -> None:
    """The range of all arms but zero-shot, which would flatten the rest where it is far below."""
    seeds = seeds[~seeds["arm"].isin(["zero-shot"])]
    values = pd.concat([edited["low"], edited["high"], real["low"], real["high"], seeds["mean"]])
    low, high = values.min(), values.max()
    span = max(high - low, 1.0)
    zero = base[base["arm"] == "zero-shot"]
    if len(zero) and zero["low"].min() > low - 0.35 * span:
        low, high = min(low, zero["low"].min()), max(high, zero["high"].max())
    axis.set_ylim(low - 0.08 * span, high + 0.08 * span)


def _accuracy_panel(
    axis: Axes, rows: pd.DataFrame, base: pd.DataFrame, seeds: pd.DataFrame
) -> None:
    arms = sorted(rows["arm"].unique(), key=_arm_rank)
    starts = {t: i * (len(arms) + 0.7) for i, t in enumerate(TRAININGS)}
    for row in base.itertuples():
        axis.axhspan(row.low, row.high, color=arm_color(row.arm), alpha=0.10, lw=0)
        axis.axhline(row.mean, color=arm_color(row.arm), lw=0.9, ls=(0, (4, 2)))
    for row in rows.itertuples():
        x, color = starts[row.training] + arms.index(row.arm), arm_color(row.arm)
        own = seeds.loc[seeds["recipe"] == row.recipe, "mean"] if len(seeds) else []
        axis.plot(np.full(len(own), x + 0.3), own, "o", ms=1.9, color=color, alpha=0.6, mew=0)
        axis.plot([x, x], [row.low, row.high], color=color, lw=1.3)
        _mark(axis, x, row.mean, color, row.training)
    middle = (len(arms) - 1) / 2
    axis.set_xticks([s + middle for s in starts.values()], ["edited\nonly", "real +\nedited"])
    axis.tick_params(axis="x", length=0)
    axis.axvline(len(arms) - 0.15, color="#dddddd", lw=0.6)
    axis.set_xlim(-0.7, 2 * len(arms) + 0.5)
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


@drawn
def effect_forest(
    effects: pd.DataFrame, margin: float, by: str = "training"
) -> tuple[Figure, pd.DataFrame]:
    """Feasible minus infeasible in points, with 95 % (thin) and 90 % (thick) intervals, over the
    band within which the arms count as equivalent (90 % interval inside +-margin).

    effects: of tables.effects, whose lines are trainings, or of tables.by_protocol, with
    by="protocol"; rows with dataset "pooled" come last and heavier, and those pooled
    from a single cell, which they would repeat, are left out. An interval that is far wider than
    the others runs out of the picture with an arrow; its numbers stand beside it.
    """
    need(
        effects,
        ["dataset", "attribute", by, "difference", "low", "high", "low90", "high90", "verdict"],
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
    bounds = effects[["low", "high"]].abs().to_numpy()
    reach = 1.1 * max(
        1.5 * margin,
        effects["difference"].abs().max(),
        min(bounds.max(), 2 * np.quantile(bounds, 0.75)),
    )
    height = 0.135 * y + 0.87
    fig = plt.figure(figsize=(WIDE, height))
    axis = fig.add_axes(
        (1.83 / WIDE, 0.42 / height, _FOREST / WIDE, (height - 0.87) / height),
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


_FOREST = 2.95  # inches, the width of the part with the intervals


def _beside(axis: Axes, inches: float, y: float, text: str, **how) -> None:
    """Text so many inches left (negative) of the plot or right of it, at the height of a line."""
    x = inches / _FOREST if inches < 0 else 1 + inches / _FOREST
    place = blended_transform_factory(axis.transAxes, axis.transData)
    axis.text(x, y, text, transform=place, **({"va": "center_baseline", "color": INK} | how))


def _forest_words(axis: Axes, lines: np.ndarray, margin: float) -> None:
    """Legend, headings and axis of the forest."""
    top = axis.get_ylim()[1] - 0.75
    _beside(axis, 0.12, top, "difference [95 %]", fontsize=6.5, color=PALE)
    _beside(axis, 1.3, top, "verdict", fontsize=6.5, color=PALE)
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
        [_key(t) for t in found] + [plt.Rectangle((0, 0), 1, 1, fc=BAND, ec="none")],
        [{"pooled": "both trainings"}.get(t, t) for t in found]
        + [f"equivalence: ±{margin:g} points"],
        loc="upper center",
        ncols=len(found) + 1,
        borderaxespad=0.2,
    )


def _effect_line(axis: Axes, y: float, first: bool, row, what: str, reach: float) -> None:
    """One interval with its words on both sides; an arrow where it leaves the picture."""
    heavy = row.dataset == "pooled"
    axis.plot([row.low, row.high], [y, y], color=INK, lw=0.9, zorder=2)
    axis.plot([row.low90, row.high90], [y, y], color="#9a9a9a", lw=3.2 if heavy else 2.4, zorder=3)
    for outside, x, marker in ((row.low < -reach, -reach, "<"), (row.high > reach, reach, ">")):
        if outside:
            axis.plot(x, y, marker, color=INK, ms=3.5, mew=0, clip_on=False, zorder=5)
    _mark(axis, row.difference, y, "#000000" if heavy else INK, what, 4.6 if heavy else 3.8)
    if first:
        name = "all attributes" if row.attribute == "pooled" else label(row.attribute)
        _beside(axis, -1.69, y, name, fontsize=7)
    _beside(axis, -0.1, y, "both" if what == "pooled" else what, ha="right", fontsize=6.5)
    number = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]".replace("-", "−")
    _beside(axis, 0.12, y, number, fontsize=6.5)
    color = next((c for v, c in VERDICT_COLORS.items() if str(row.verdict).startswith(v)), INK)
    _beside(
        axis,
        1.3,
        y,
        row.verdict,
        fontsize=6.5,
        color=color,
        weight="bold" if row.verdict != "inconclusive" else "normal",
    )


# ---- checks ------------------------------------------------------------------------------------


def wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a share, 0..1, of n trials; right at 0 and 1 too."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


@drawn
def acceptance(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Share of edits that the verifier accepted, with 95 % intervals and counts, by attribute and
    arm: were both arms edited equally well?

    table: attribute, feasibility, edits (count), accepted (share 0..1), perhaps dataset.
    """
    need(table, ["attribute", "feasibility", "edits", "accepted"], "acceptance")
    low, high = wilson(table["accepted"].to_numpy(float), table["edits"].to_numpy(float))
    table = table.assign(low=low, high=high).reset_index(drop=True)
    names = list(table["dataset"].unique()) if "dataset" in table else [""]
    attributes = [a for a in ATTRIBUTES if (table["attribute"] == a).any()]
    fig, axes = plt.subplots(
        1,
        len(names),
        sharey=True,
        squeeze=False,
        layout="constrained",
        figsize=(COLUMN if len(names) == 1 else WIDE, 0.42 * len(attributes) + 0.75),
    )
    for axis, name in zip(axes[0], names, strict=True):
        for row in (table[table["dataset"] == name] if name else table).itertuples():
            arm = row.feasibility
            y, color = (
                attributes.index(row.attribute) + (0.2 if arm == "infeasible" else -0.2),
                arm_color(arm),
            )
            axis.barh(y, 100 * row.accepted, 0.36, color=color, lw=0)
            axis.plot([100 * row.low, 100 * row.high], [y, y], color="black", lw=0.9)
            axis.text(
                1.5,
                y,
                f"{row.accepted * row.edits:.0f} / {row.edits}",
                va="center",
                fontsize=6,
                color="white" if row.accepted > 0.25 else "none",
            )
            if row.accepted <= 0.25:
                axis.text(
                    100 * row.high + 1.5,
                    y,
                    f"{row.accepted * row.edits:.0f} / {row.edits}",
                    va="center",
                    fontsize=6,
                )
        axis.set(xlim=(0, 101), xlabel="accepted by the verifier (%)", title=label(name))
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(attributes)), [label(a) for a in attributes])
    axes[0, 0].set_ylim(len(attributes) - 0.5, -0.5)
    fig.legend(
        [plt.Rectangle((0, 0), 1, 1, fc=ARM_COLORS[a]) for a in ("feasible", "infeasible")],
        ["feasible", "infeasible"],
        loc="outside upper center",
        ncols=2,
    )
    return fig, table


@drawn
def learning_curves(curves: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Training loss and validation accuracy over the steps, a column per attribute; thick: mean
    over seeds, thin: each seed; dashed: real + edited.

    curves: of tables.curves, of one data set. `real` is drawn in every column.
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
    curves = curves[(curves["arm"] != "zero-shot")].reset_index(drop=True)
    panels = _panels(curves) or {"real only": curves}
    real = curves[curves["arm"] == "real"]
    fig, axes = plt.subplots(
        2,
        len(panels),
        sharex=True,
        sharey="row",
        squeeze=False,
        figsize=(WIDE, 3.2),
        layout="constrained",
    )
    for column, (title, rows) in zip(axes.T, panels.items(), strict=True):
        rows = pd.concat([real, rows]).drop_duplicates()
        for axis, quantity, factor in zip(column, ("val_top1", "loss"), (100, 1), strict=True):
            here = rows[rows["quantity"] == quantity]
            for (arm, training), lines in here.groupby(["arm", "training"]):
                how = {"color": arm_color(arm), "ls": "--" if training == TRAININGS[1] else "-"}
                table = lines.pivot_table("value", "step", "seed") * factor
                axis.plot(table, lw=0.4, alpha=0.35, **how)
                axis.plot(table.mean(axis=1), lw=1.3, **how)
            axis.grid(axis="y")
        column[0].set_title(title)
        column[1].set_xlabel("step")
    axes[0, 0].set_ylabel("validation top-1 (%)")
    axes[1, 0].set_ylabel("training loss")
    arms = ["real"][: len(real)] + _colored(curves["arm"])
    fig.legend(
        [Line2D([], [], color=arm_color(a)) for a in arms]
        + [Line2D([], [], color=PALE, ls=s) for s in "- --".split()],
        [arm_label(a) for a in arms] + list(TRAININGS),
        loc="outside upper center",
        ncols=len(arms) + 2,
    )
    return fig, curves


@drawn
def attribute_mask_quality(guidance: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Can the masks be trusted: their area, the sides they touch, and the verdict on each.

    guidance: of 03_guidance: area (0..1), touches ("left bottom"), verdict, perhaps dataset.
    Returns the shares that are plotted: dataset, panel, key, share, n (masks).
    """
    need(guidance, ["area", "touches", "verdict"], "mask quality")
    if "dataset" not in guidance:
        guidance = guidance.assign(dataset="masks")
    shares, edges = [], np.linspace(0, 1, 21)
    for dataset, rows in guidance.groupby("dataset", sort=False):
        words = rows["touches"].fillna("").str.split()
        found = {
            "area": dict(
                zip(
                    (f"{e:.2f}" for e in edges[:-1]),
                    np.histogram(rows["area"], edges)[0] / len(rows),
                    strict=True,
                )
            ),
            "touches": {
                s: words.map(lambda w, s=s: s in w).mean()
                for s in ("left", "right", "top", "bottom")
            },
            "verdict": {
                v: (rows["verdict"] == v).mean()
                for v in sorted(guidance["verdict"].unique(), key=lambda v: (v != "ok", v))
            },
        }
        shares += [
            {"dataset": dataset, "panel": panel, "key": key, "share": share, "n": len(rows)}
            for panel, of in found.items()
            for key, share in of.items()
        ]
    table = pd.DataFrame(shares)
    colors = dict(
        zip(
            table["dataset"].unique(),
            sns.color_palette("crest", table["dataset"].nunique()),
            strict=True,
        )
    )
    fig, axes = plt.subplots(
        1, 3, figsize=(WIDE, 2.1), layout="constrained", width_ratios=[1.5, 1, 1]
    )
    for dataset, rows in table.groupby("dataset", sort=False):
        axes[0].stairs(
            100 * rows.loc[rows["panel"] == "area", "share"],
            100 * edges,
            lw=1.3,
            color=colors[dataset],
            label=f"{label(str(dataset))} (n = {rows['n'].max()})",
        )
    for axis, panel in zip(axes[1:], ("touches", "verdict"), strict=True):
        rows = table[table["panel"] == panel]
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
    axes[0].set(
        xlabel="area of the mask (% of the picture)",
        ylabel="share of masks (%)",
        xlim=(0, 100),
        title="area",
    )
    axes[1].set_title("touches the border")
    axes[2].set_title("verdict")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(colors))
    return fig, table
