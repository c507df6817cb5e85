"""Marks, panels and paired intervals that several figures share.

symbols   training   filled marks: edited only; open marks: real + edited
          protocol   filled: controlled; open: faithful; triangles: filtered
          paired     an arm's mean, with the half width of its paired difference's interval
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..core import arms
from .style import INK, attribute_order, label, need

TRAININGS = ("edited only", "real + edited")
PROTOCOLS = ("controlled", "faithful", "filtered")
PAIRED = 3.0  # line width of a paired interval, points
_OPEN, _SHAPES = ("real + edited", "faithful"), {"pooled": "D", "filtered": "^"}


def mark(axis: Axes, x: float, y: float, color: str, what: str, size: float = 4.2) -> None:
    """Draw the mark of a training or protocol at x, y in data coordinates; size in points."""
    axis.plot(x, y, zorder=4, **_look(color, what, size))


def mark_key(what: str, color: str = INK) -> Line2D:
    """Legend entry of a training or protocol, as `mark` draws it."""
    return Line2D([], [], ls="", **_look(color, what, 4.2))


def signed(mean: float, low: float, high: float) -> str:
    """ "+0.70 [−0.10, +1.10]"; the mean alone without an interval."""
    between = "" if pd.isna(low) else f" [{low:+.2f}, {high:+.2f}]"
    return f"{mean:+.2f}{between}".replace("-", "−")


def _look(color: str, what: str, size: float) -> dict:
    return {
        "marker": _SHAPES.get(what, "o"),
        "ms": size,
        "mec": color,
        "mew": 1.1,
        "mfc": "white" if what in _OPEN else color,
    }


def paper_arms(table: pd.DataFrame, column: str = "arm") -> pd.DataFrame:
    """The rows of arms that the paper has, too: real, zero-shot, diffusion's edits, mixtures and
    DataDream. In a study of three values the familiar arm is the paper's feasible one, and is
    called so; perfect, matched, unfamiliar and placebo arms have figures of their own."""
    heads = table[column].replace(arms.THREE[0], arms.SIDES[0])
    known = {*arms.SIDES, "mixed", "real", "zero-shot", "datadream"}
    return table.assign(**{column: heads})[heads.str.split(" ").str[0].isin(known)]


def panels(main: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Panel title -> its rows; DataDream edits no attribute and has the last panel."""
    out = {label(a): main[main["attribute"] == a] for a in attribute_order(main["attribute"])}
    out["DataDream"] = main[main["arm"].str.startswith("datadream")]
    return {title: rows for title, rows in out.items() if len(rows)}


def arm_rank(arm: str) -> tuple[int, str]:
    """Sort key: feasible, the mixtures by their infeasible share, infeasible, DataDream."""
    order = ("feasible", "mixed", "infeasible", "datadream")
    return order.index(arm.split(" ")[0]), arm


def colored_arms(arms: Iterable[str]) -> list[str]:
    """Arms of a legend of colours; the mixtures share one entry."""
    return sorted(
        {"mixed" if a.startswith("mixed") else a for a in arms} - {"real", "zero-shot"},
        key=arm_rank,
    )


def paired_intervals(main: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """`main` with columns paired_low, paired_high: difference-adjusted 95 % intervals (Baguley
    2012, doi 10.3758/s13428-011-0123-7) of feasible and infeasible arms, missing elsewhere.

    Two arms' intervals are disjoint exactly if the interval of their paired difference excludes 0.
    main: of tables.main_table; effects: of effects.effects, a difference of the same two arms;
    without a row where a study has no such pair.
    """
    if len(effects):
        need(effects, ["dataset", "attribute", "training", "difference", "low", "high"], "pairs")
    cells = effects.set_index(["dataset", "attribute", "training"])
    out = main.assign(paired_low=float("nan"), paired_high=float("nan"))
    for row in main.itertuples():
        cell = (row.dataset, row.attribute, row.training)
        if row.arm not in ("feasible", "infeasible") or cell not in cells.index:
            continue
        effect = cells.loc[cell]
        below = (effect["difference"] - effect["low"]) / 2
        above = (effect["high"] - effect["difference"]) / 2
        if row.arm == "infeasible":
            below, above = above, below
        out.loc[row.Index, ["paired_low", "paired_high"]] = row.mean - below, row.mean + above
    return out
