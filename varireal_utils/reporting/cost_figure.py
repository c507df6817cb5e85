"""Figure of what a study cost: time by stage and by arm."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import (
    COLUMN,
    WIDE,
    arm_color,
    drawn,
    label,
    need,
)

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


@drawn
def cost(runs: pd.DataFrame, sets: pd.DataFrame | None = None) -> tuple[Figure, pd.DataFrame]:
    """Time of all jobs of a stage, added, with their files; beside it, with `sets`, the time that
    each arm's images took, over all data sets, with their number.

    runs: of overview.runs; jobs that ran side by side count each. sets: of quality_sets.csv.
    Returns stage, arm ("" for a whole stage), hours, jobs, files, images.
    """
    need(runs, ["stage", "seconds", "outputs"], "cost")
    stages, arms = _stage_cost(runs), _arm_cost(runs, sets)
    most = max(len(stages), len(arms))
    fig, axes = plt.subplots(
        1,
        2 if len(arms) else 1,
        squeeze=False,
        layout="constrained",
        figsize=(WIDE if len(arms) else COLUMN, 0.17 * most + 0.55),
    )
    _bars(
        axes[0, 0],
        stages,
        [STAGES[s] for s in stages["stage"]],
        [f"({r.jobs} job{'s' * (r.jobs != 1)}, {r.files:,} files)" for r in stages.itertuples()],
        [arm_color("zero-shot")] * len(stages),
    )
    if len(arms):
        _bars(
            axes[0, 1],
            arms,
            [_arm_words(a) for a in arms["arm"]],
            [
                f"({r.images:,} images, {3600 * r.hours / r.images:.2g} s each)"
                for r in arms.itertuples()
            ],
            [_arm_tint(a) for a in arms["arm"]],
        )
    for axis in axes[0]:
        axis.set_ylim(most - 0.5, -0.5)
    table = pd.concat([stages.assign(arm="", images=pd.NA), arms], ignore_index=True)
    return fig, table.assign(hours=np.round(table["hours"].astype(float), 4))[
        ["stage", "arm", "hours", "jobs", "files", "images"]
    ]


def _bars(
    axis: Axes, table: pd.DataFrame, names: list[str], notes: list[str], colors: list[str]
) -> None:
    """A bar for each row with its time and note, in minutes or hours."""
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
    axis.set(xlabel=f"{unit}, all jobs added", xlim=(0, 1.85 * factor * max(longest, 1e-9)))
    axis.tick_params(axis="y", length=0)
    axis.set_xticks([t for t in axis.get_xticks() if 0 <= t <= 1.05 * factor * longest])


def _stage_cost(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per stage: hours, jobs, files."""
    rows = (
        runs[runs["stage"].isin(STAGES)]
        .groupby("stage", as_index=False)
        .agg(
            hours=("seconds", lambda s: s.sum() / 3600),
            jobs=("seconds", "size"),
            files=("outputs", "sum"),
        )
    )
    return rows.sort_values("stage", key=lambda s: s.map(list(STAGES).index), ignore_index=True)


def _is_edit(arm: str) -> bool:
    """Whether an arm of quality_sets.csv is of edits, "<attribute> <feasibility>"."""
    return arm.rpartition(" ")[2] in ("feasible", "infeasible")


def _arm_words(arm: str) -> str:
    head, _, rest = arm.partition(" ")
    return f"{label(head)}, {rest}" if _is_edit(arm) else f"DataDream, {rest}"


def _arm_tint(arm: str) -> str:
    head, _, rest = arm.partition(" ")
    return arm_color(rest if _is_edit(arm) else head)


def _arm_cost(runs: pd.DataFrame, sets: pd.DataFrame | None) -> pd.DataFrame:
    """A row for each arm of quality_sets.csv: its jobs' hours, and its images."""
    rows = []
    if sets is not None and len(sets) and "what" in runs:
        for arm, images in sets.groupby("set")["images"].sum().items():
            stage = "05_datadream" if arm.startswith("datadream ") else "04_edit"
            words = set(arm.split()) - {"datadream"}
            jobs = runs[
                (runs["stage"] == stage)
                & runs["what"].fillna("").map(lambda w, o=words: o <= set(w.split()))
            ]
            if arm != "real" and len(jobs):
                rows.append(
                    {
                        "stage": stage,
                        "arm": arm,
                        "hours": jobs["seconds"].sum() / 3600,
                        "jobs": len(jobs),
                        "files": jobs["outputs"].sum(),
                        "images": int(images),
                    }
                )
    table = pd.DataFrame(rows, columns=["stage", "arm", "hours", "jobs", "files", "images"])
    return table.sort_values(["stage", "arm"], ignore_index=True)
