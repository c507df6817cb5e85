"""More figures, from tables to a matplotlib Figure and the numbers it plots (see figures.py).

results    infeasible_share, accuracy_by_shots, effect_by_class
checks     quality_balance, embedding_map, cost
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import (
    ARM_COLORS,
    ATTRIBUTES,
    COLUMN,
    INK,
    PALE,
    WIDE,
    arm_color,
    arm_label,
    drawn,
    label,
    need,
)

SHARES = {"feasible": 0.0, "infeasible": 1.0, "mixed": 0.5}
STAGES = {
    "01_data": "data",
    "02_attributes": "phrases",
    "03_guidance": "guidance",
    "04_edit": "editing",
    "05_datadream": "DataDream",
    "06_classify": "classifiers",
    "07_quality": "quality",
    "07_claims": "claims",
    "08_figures": "figures",
}
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


def _share(arm: str) -> float:
    head, _, rest = arm.partition(" ")
    return float(rest) if rest else SHARES[head]


@drawn
def infeasible_share(main: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Top-1 over the share of infeasible edits, 0 to 100 %: a panel per data set, a line per
    attribute (trained on edits alone), 95 % intervals.

    main: of tables.main_table.
    """
    need(
        main, ["dataset", "attribute", "training", "arm", "mean", "low", "high"], "infeasible share"
    )
    rows = main[
        (main["training"] == "edited only") & main["arm"].str.split(" ").str[0].isin(SHARES)
    ].copy()
    if rows.empty:
        raise ValueError("infeasible share: no row is trained on edits alone; see classify.recipes")
    rows["share"] = rows["arm"].map(_share)
    rows = rows.sort_values(["dataset", "attribute", "share"], ignore_index=True)
    names = list(rows["dataset"].unique())
    fig, axes = plt.subplots(
        1,
        len(names),
        sharex=True,
        squeeze=False,
        layout="constrained",
        figsize=(COLUMN if len(names) == 1 else WIDE, 2.3),
    )
    shades = dict(zip(ATTRIBUTES, ("#4C78A8", "#B279A2", "#72853A", "#111111"), strict=True))
    marks = dict(zip(ATTRIBUTES, "os^D", strict=True))
    found = [a for a in ATTRIBUTES if (rows["attribute"] == a).any()]
    for axis, name in zip(axes[0], names, strict=True):
        for number, attribute in enumerate(found):
            line = rows[(rows["dataset"] == name) & (rows["attribute"] == attribute)]
            x = 100 * line["share"] + 2.2 * (number - (len(found) - 1) / 2)  # bars side by side
            axis.vlines(x, line["low"], line["high"], color=shades[attribute], lw=0.8, alpha=0.6)
            axis.plot(
                x, line["mean"], marks[attribute] + "-", ms=3.4, lw=1.0, color=shades[attribute]
            )
        axis.set(title=label(name), xticks=[0, 25, 50, 75, 100])
        axis.grid(axis="y")
    axes[0, 0].set_ylabel("top-1 accuracy (%)")
    fig.supxlabel("infeasible edits (%)", fontsize=8)
    fig.legend(
        [Line2D([], [], marker=marks[a], color=shades[a], ms=3.4, lw=1) for a in found],
        [label(a) for a in found],
        loc="outside upper center",
        ncols=len(found),
    )
    return fig, rows


@drawn
def accuracy_by_shots(table: pd.DataFrame, margin: float) -> tuple[Figure, pd.DataFrame]:
    """Top-1 over the photographs of a class that there are, and below it the paired effect of
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
    fig.supxlabel("photographs of a class", fontsize=8)
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


@drawn
def effect_by_class(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Feasible minus infeasible by class, sorted, with 95 % intervals; a panel per data set; of
    more than 24 classes the twelve at either end.

    table: of tables.by_class.
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


@drawn
def quality_balance(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Is one arm edited less well: feasible minus infeasible of every measure, in standard
    deviations; filled where it is beyond chance (Holm). A panel per attribute, a mark per data set.

    table: of quality.balance, with dataset.
    """
    need(table, ["dataset", "attribute", "metric", "effect", "uneven"], "quality balance")
    metrics = [m for m in METRIC_WORDS if (table["metric"] == m).any()]
    found = [a for a in ATTRIBUTES if (table["attribute"] == a).any()]
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


@drawn
def embedding_map(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Real, feasible and infeasible images on the first two principal components of the real
    photographs' features: a row per data set, a panel per attribute.

    table: of quality.projection, with dataset; groups real and "<attribute> <arm>".
    """
    need(table, ["dataset", "group", "x", "y"], "embedding map")
    names = list(table["dataset"].unique())
    found = [a for a in ATTRIBUTES if table["group"].str.startswith(f"{a} ").any()]
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
            for arm in ("infeasible", "feasible"):
                rows = here[here["group"] == f"{attribute} {arm}"]
                axis.plot(
                    rows["x"],
                    rows["y"],
                    ".",
                    color=ARM_COLORS[arm],
                    ms=2.6,
                    mew=0,
                    alpha=0.65,
                    zorder=2,
                )
            axis.set(xticks=[], yticks=[])
            if number == len(names) - 1:
                axis.set_xlabel("first component", fontsize=6)
            if number == 0:
                axis.set_title(label(attribute))
        line[0].set_ylabel(f"{label(name)}\nsecond component")
    fig.legend(
        [
            Line2D([], [], ls="", marker="o", ms=3.5, color=c)
            for c in ("#c4c4c4", ARM_COLORS["feasible"], ARM_COLORS["infeasible"])
        ],
        ["photographs", "feasible edits", "infeasible edits"],
        loc="outside upper center",
        ncols=3,
    )
    return fig, table.reset_index(drop=True)


@drawn
def cost(runs: pd.DataFrame, sets: pd.DataFrame | None = None) -> tuple[Figure, pd.DataFrame]:
    """Time of all jobs of a stage, added, with their files; beside it, where there are `sets`, the
    time that each arm's images took, over all data sets, with their number.

    runs: of overview.runs; jobs that ran side by side count each. sets: of quality_sets.csv.
    Returns stage, arm ("" for a whole stage), hours, jobs, files, images.
    """
    need(runs, ["stage", "seconds", "outputs"], "cost")
    rows = (
        runs[runs["stage"].isin(STAGES)]
        .groupby("stage", as_index=False)
        .agg(
            hours=("seconds", lambda s: s.sum() / 3600),
            jobs=("seconds", "size"),
            files=("outputs", "sum"),
        )
    )
    rows = rows.sort_values("stage", key=lambda s: s.map(list(STAGES).index), ignore_index=True)
    arms = _arm_cost(runs, sets)
    parts = [
        (
            rows,
            [STAGES[s] for s in rows["stage"]],
            [f"({r.jobs} job{'s' * (r.jobs != 1)}, {r.files:,} files)" for r in rows.itertuples()],
            [arm_color("zero-shot")] * len(rows),
        )
    ]
    if len(arms):
        parts.append(
            (
                arms,
                [_arm_words(a) for a in arms["arm"]],
                [
                    f"({r.images:,} images, {3600 * r.hours / r.images:.2g} s each)"
                    for r in arms.itertuples()
                ],
                [_arm_tint(a) for a in arms["arm"]],
            )
        )
    most = max(len(part[0]) for part in parts)
    fig, axes = plt.subplots(
        1,
        len(parts),
        squeeze=False,
        layout="constrained",
        figsize=(WIDE if len(parts) > 1 else COLUMN, 0.17 * most + 0.55),
    )
    for axis, (table, names, notes, colors) in zip(axes[0], parts, strict=True):
        longest = table["hours"].max()
        unit, factor = ("hours", 1) if longest >= 2 else ("minutes", 60)
        axis.barh(table.index, factor * table["hours"], 0.62, color=colors, lw=0)
        for place, (hours, note) in enumerate(zip(table["hours"], notes, strict=True)):
            axis.text(
                factor * (hours + 0.012 * longest),
                place,
                f"{factor * hours:.1f}  {note}",
                va="center",
                fontsize=6,
            )
        axis.set_yticks(table.index, names)
        axis.set(
            xlabel=f"{unit}, all jobs added",
            ylim=(most - 0.5, -0.5),
            xlim=(0, 1.75 * factor * max(longest, 1e-9)),
        )
        axis.tick_params(axis="y", length=0)
        axis.set_xticks([t for t in axis.get_xticks() if 0 <= t <= 1.05 * factor * longest])
    table = pd.concat([rows.assign(arm="", images=pd.NA), arms], ignore_index=True)
    return fig, table.assign(hours=np.round(table["hours"].astype(float), 4))[
        ["stage", "arm", "hours", "jobs", "files", "images"]
    ]


def _arm_words(arm: str) -> str:
    head, _, rest = arm.partition(" ")
    return f"{label(head)}, {rest}" if head in ATTRIBUTES else f"DataDream, {rest}"


def _arm_tint(arm: str) -> str:
    head, _, rest = arm.partition(" ")
    return arm_color(rest if head in ATTRIBUTES else head)


def _arm_cost(runs: pd.DataFrame, sets: pd.DataFrame | None) -> pd.DataFrame:
    """A row for each arm of quality_sets.csv: its jobs' hours, and its images."""
    rows = []
    if sets is not None and len(sets) and "what" in runs:
        for arm, images in sets.groupby("set")["images"].sum().items():
            stage = "05_datadream" if arm.startswith("datadream ") else "04_edit"
            own = set(arm.split()) - {"datadream"}
            here = runs[
                (runs["stage"] == stage)
                & runs["what"].fillna("").map(lambda w, o=own: o <= set(w.split()))
            ]
            if arm != "real" and len(here):
                rows.append(
                    {
                        "stage": stage,
                        "arm": arm,
                        "hours": here["seconds"].sum() / 3600,
                        "jobs": len(here),
                        "files": here["outputs"].sum(),
                        "images": int(images),
                    }
                )
    table = pd.DataFrame(rows, columns=["stage", "arm", "hours", "jobs", "files", "images"])
    return table.sort_values(["stage", "arm"], ignore_index=True)
