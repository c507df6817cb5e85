"""Draws grids of pictures: the qualitative grid and the steps of an edit.

symbols   picture  (H, W, 3) or (H, W) uint8

publishing.py chooses the pictures.
"""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core import arms
from .style import ARM_COLORS, COLUMN, INK, PAGE, PALE, WIDE, attribute_order, drawn, label

STEPS = ("source", "mask", "canny", "prior", "inpainted", "refined", "result")


class _Sheet:
    """A page on which things are placed in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.fig, self.width, self.height = plt.figure(figsize=(width, height)), width, height

    def picture(
        self, picture: np.ndarray, x: float, y: float, size: float, frame: str | None = None
    ) -> None:
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise ValueError(
                f"a picture is (H, W, 3) or (H, W) uint8, not {picture.shape} {picture.dtype}"
            )
        axis = self.fig.add_axes(
            (x / self.width, 1 - (y + size) / self.height, size / self.width, size / self.height)
        )
        axis.imshow(
            picture,
            cmap="gray" if picture.ndim == 2 else None,
            vmin=0,
            vmax=255,
            interpolation="lanczos",
        )
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=True, edgecolor=frame or "#c4c4c4", linewidth=1.3 if frame else 0.5)

    def text(self, x: float, y: float, text: str, size: float = 6.5, **how) -> None:
        """Lines of text, the baseline of the first at y; so neighbours stand on one line."""
        how = {"color": INK, "ha": "center", "va": "baseline"} | how
        for i, line in enumerate(text.split("\n")):
            self.fig.text(
                x / self.width,
                1 - (y + i * size * 1.2 / 72) / self.height,
                line,
                fontsize=size,
                **how,
            )

    def line(self, x0: float, x1: float, y: float, color: str = PALE, width: float = 0.7) -> None:
        self.fig.add_artist(
            Line2D(
                [x0 / self.width, x1 / self.width], [1 - y / self.height] * 2, color=color, lw=width
            )
        )

    def arrow(self, x0: float, x1: float, y: float) -> None:
        level = 1 - y / self.height
        self.fig.add_artist(
            plt.Annotation(
                "",
                xy=(x1 / self.width, level),
                xytext=(x0 / self.width, level),
                xycoords="figure fraction",
                arrowprops={
                    "arrowstyle": "-|>,head_width=0.14,head_length=0.26",
                    "color": "#555555",
                    "lw": 0.8,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
        )


def _wrap(text: str, width: float, size: float = 6, lines: int = 2) -> str:
    """Text that fits `width` inches at `size` points, in at most so many lines."""
    letters = max(6, int(width * 72 / (0.56 * size)))
    return "\n".join(textwrap.wrap(text, letters, max_lines=lines, placeholder="…"))


def _caption(phrase: str, width: float) -> str:
    """A phrase under its picture; that the verifier rejected it is never cut off."""
    head, rejected, _ = phrase.partition(" (rejected)")
    text = _wrap(head, width)
    if not rejected:
        return text
    line = f"{text} (rejected)"
    return line if _wrap(line, width, lines=1) == line else f"{text}\n(rejected)"


def _spread(rows: list[dict], most: int) -> list[dict]:
    """At most so many rows in their order, evenly spread, so that no data set is left out."""
    count = min(len(rows), most)
    return [rows[i * len(rows) // count] for i in range(count)]


@drawn
def qualitative_grid(rows: list[dict]) -> tuple[Figure, pd.DataFrame]:
    """The question in pictures: photograph, then feasible | infeasible for each attribute.

    rows: {"name", "source": picture, attribute: {"feasible": (picture, phrase), "infeasible":
    (picture, phrase)}}; an attribute or an arm that a row lacks stays blank. Of more rows than
    a page holds, some are shown, evenly spread.
    """
    attributes = attribute_order(
        k for r in rows for k in r if k not in ("dataset", "name", "source")
    )
    if not attributes:
        raise ValueError("qualitative grid: no row has an edit of an attribute")
    near, far, margin, top = 0.035, 0.13, 0.03, 0.43
    size = (WIDE - 2 * margin - len(attributes) * (far + near)) / (1 + 2 * len(attributes))
    phrases = [
        _caption(row[a][arm][1], size)
        for row in rows
        for a in attributes
        if a in row
        for arm in row[a]
    ] + [_wrap(row["name"], size) for row in rows]
    pitch = size + 0.07 + 0.1 * max(p.count("\n") + 1 for p in phrases)
    rows = _spread(rows, int((PAGE - top) / pitch))
    sheet = _Sheet(WIDE, top + len(rows) * pitch)
    left = {a: margin + size + far + i * (2 * size + near + far) for i, a in enumerate(attributes)}
    sheet.text(margin + size / 2, top - 0.07, "photograph", 7)
    for attribute, x in left.items():
        sheet.text(x + size + near / 2, 0.14, label(attribute), 8.5, weight="bold")
        sheet.line(x, x + 2 * size + near, 0.21)
        for arm, middle in (("feasible", size / 2), ("infeasible", 1.5 * size + near)):
            sheet.text(x + middle, top - 0.07, arm, 7, color=ARM_COLORS[arm], weight="bold")
    table = []
    for number, row in enumerate(rows):
        y = top + number * pitch
        sheet.picture(row["source"], margin, y, size)
        sheet.text(margin + size / 2, y + size + 0.105, _wrap(row["name"], size), 6, weight="bold")
        for attribute in attributes:
            for arm, (picture, phrase) in row.get(attribute, {}).items():
                x = left[attribute] + (size + near) * (arm == "infeasible")
                sheet.picture(picture, x, y, size, ARM_COLORS[arm])
                sheet.text(x + size / 2, y + size + 0.105, _caption(phrase, size), 6)
                table.append(
                    {
                        "row": number,
                        "name": row["name"],
                        "attribute": attribute,
                        "arm": arm,
                        "phrase": phrase,
                    }
                )
    return sheet.fig, pd.DataFrame(table)


@drawn
def generated_grid(rows: list[dict]) -> tuple[Figure, pd.DataFrame]:
    """DataDream's pictures: a row a class; shots, then the model's pictures before and after
    adaptation from the same prompts and noise. One column wide.

    rows: {"dataset", "name", "photographs", "before", "after": pictures}.
    """
    kinds = ("photographs", "before", "after")
    if not rows:
        raise ValueError("generated grid: no row; 05_datadream keeps its pictures")
    each = max(len(row[k]) for row in rows for k in kinds)
    near, far, margin, top, head = 0.03, 0.1, 0.03, 0.22, 0.62
    size = (COLUMN - 2 * margin - head - 2 * far - 3 * (each - 1) * near) / (3 * each)
    pitch = size + 0.05
    sheet = _Sheet(COLUMN, top + len(rows) * pitch)
    left = {k: margin + head + i * (each * (size + near) - near + far) for i, k in enumerate(kinds)}
    for kind, x in left.items():
        middle = x + (each * (size + near) - near) / 2
        words = {"before": "not adapted", "after": "adapted"}.get(kind, kind)
        sheet.text(middle, top - 0.07, words, 6.5, weight="bold")
    table = []
    for number, row in enumerate(rows):
        y = top + number * pitch
        words = f"{_wrap(row['name'], head, 6)}\n{label(row['dataset'])}"
        sheet.text(margin, y + size / 2 - 0.04, words, 5.5, ha="left")
        for kind, x in left.items():
            for n, picture in enumerate(row[kind]):
                sheet.picture(picture, x + n * (size + near), y, size)
            table.append(
                {"row": number, "name": row["name"], "kind": kind, "pictures": len(row[kind])}
            )
    return sheet.fig, pd.DataFrame(table)


@drawn
def pipeline_strip(strips: list[dict]) -> tuple[Figure, pd.DataFrame]:
    """Draw the steps of edits: a strip for each edit, the steps in columns joined by arrows.

    strips: {"title", "phrase", "steps": {name: picture}}. Steps stand in the order of STEPS, those
    of another editor before the result; an arrow skips a step that a strip does not have (a
    background is not refined).
    """
    found = dict.fromkeys(name for strip in strips for name in strip["steps"])
    own = [name for name in found if name not in STEPS]
    names = [s for s in (*STEPS[:-1], *own, STEPS[-1]) if s in found]
    gap, margin, top, head = 0.15, 0.03, 0.22, 0.2
    size = (WIDE - 2 * margin - gap * (len(names) - 1)) / len(names)
    pitch = head + size + 0.1
    sheet = _Sheet(WIDE, top + len(strips) * pitch - 0.06)
    at = {name: margin + i * (size + gap) for i, name in enumerate(names)}
    for name, x in at.items():
        sheet.text(x + size / 2, 0.13, name, 7.5, weight="bold")
    for number, strip in enumerate(strips):
        y = top + number * pitch + head
        arm = {arms.THREE[0]: "feasible"}.get(strip["title"].split(", ")[-1], "")
        arm = next((a for a in ("infeasible", "feasible") if strip["title"].endswith(a)), arm)
        color = ARM_COLORS.get(arm, INK)
        title = " ".join(label(w) for w in strip["title"].replace(",", " ,").split())
        sheet.text(
            margin,
            y - 0.055,
            f"{title.replace(' ,', ',')}:  {strip['phrase']}",
            6.5,
            ha="left",
            color=color,
        )
        last = None
        for name in (n for n in names if n in strip["steps"]):
            sheet.picture(
                strip["steps"][name], at[name], y, size, color if name == "result" and arm else None
            )
            if last is not None:
                sheet.arrow(at[last] + size + 0.025, at[name] - 0.025, y + size / 2)
            last = name
    return sheet.fig, pd.DataFrame(
        [
            {
                "strip": s["title"],
                "phrase": s["phrase"],
                "steps": " ".join(n for n in names if n in s["steps"]),
            }
            for s in strips
        ]
    )
