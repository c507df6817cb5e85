"""What all figures share: the look, the colours and names of arms, and how a figure is saved.

symbols   arm         feasible, infeasible, mixed, real, zero-shot, datadream: one colour each
          COLUMN      8.5 cm, WIDE 17 cm, in inches: the widths at which text is readable

Every figure (figures.py, image_grids.py) comes as (Figure, table of what it plots).
Only `save` touches files, and none of them holds a date: equal input, equal bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..core import attributes, storage
from ..data import registry

# Okabe and Ito's colours, which stay apart for colour-blind readers (the purple made lighter:
# theirs is close to the blue for protanopes).
ARM_COLORS = {
    "feasible": "#0072B2",
    "infeasible": "#D55E00",
    "mixed": "#D98CB8",
    "real": "#222222",
    "zero-shot": "#8C8C8C",
    "datadream": "#009E73",
}
# No arm's colours: a verdict is not an arm.
VERDICT_COLORS = {"equivalent": "#1B6E3C", "different": "#8B1A4A", "inconclusive": "#6B6B6B"}
ATTRIBUTES = (*attributes.ATTRIBUTES, "all")
COLUMN, WIDE = 8.5 / 2.54, 17 / 2.54
INK, PALE, BAND = "#333333", "#8a8a8a", "#DCE9DF"
_LABELS = {
    "zero-shot": "zero-shot CLIP",
    "real": "real only",
    "datadream": "DataDream",
    **{a.name: a.label for a in attributes.ATTRIBUTES.values()},
    "all": "all three",
    "pooled": "Pooled",
    **registry.titles(),
}


@functools.cache
def _wake() -> None:
    """Load matplotlib's backend: a notebook's would turn interactive within `look`, whose end takes
    that back, and no later figure would be shown."""
    plt.switch_backend(plt.get_backend())


@contextlib.contextmanager
def look() -> Iterator[None]:
    """The study's look (study.mplstyle) while the block lasts."""
    _wake()
    with (
        resources.as_file(resources.files(__package__) / "study.mplstyle") as path,
        plt.style.context(path),
    ):
        yield


def drawn(draw: Callable) -> Callable:
    """Draws in the study's look, whatever the caller's own matplotlib settings are."""

    @functools.wraps(draw)
    def inner(*args, **options):
        with look():
            return draw(*args, **options)

    return inner


def arm_label(arm: str) -> str:
    """An arm as a reader is told it: "zero-shot" -> "zero-shot CLIP", "mixed 0.25" as it is."""
    head, _, rest = arm.partition(" ")
    return f"{_LABELS.get(head, head)} {rest}".strip()


def arm_color(arm: str) -> str:
    """Colour of an arm or of a variant of it ("mixed 0.25", "datadream cls"). KeyError if none."""
    if arm.split(" ")[0] not in ARM_COLORS:
        raise KeyError(f"no colour for arm {arm!r}; drawing.ARM_COLORS has {list(ARM_COLORS)}")
    return ARM_COLORS[arm.split(" ")[0]]


def label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " "))


def need(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"{what}: the table lacks column {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise ValueError(f"{what}: the table has no row; run the stage that fills it first")


def sample_size(table: pd.DataFrame) -> str:
    """n for a caption, from columns seeds and n: "2-5 seeds, 400 test images a data set"."""
    need(table, ["seeds", "n"], "sample size")
    rows = table[table["arm"] != "zero-shot"] if "arm" in table else table
    seeds, images = (
        "-".join(str(int(v)) for v in sorted({rows[c].min(), rows[c].max()}))
        for c in ("seeds", "n")
    )
    return f"{seeds} seed{'s' * (seeds != '1')}, {images} test images a data set"


def save(
    fig: Figure, folder: str | Path, name: str, table: pd.DataFrame, runs: list[str], caption: str
) -> list[Path]:
    """Write name.png (200 dpi), .pdf, .svg, .csv (numbers), .json (caption, runs); their paths."""
    folder = Path(folder)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "pdf", "svg", "csv", "json")]
    undated = {"Software": None}, {"CreationDate": None}, {"Date": None}
    for path, about in zip(paths[:3], undated, strict=True):
        buffer = io.BytesIO()
        with look(), plt.rc_context({"svg.hashsalt": name}):
            fig.savefig(buffer, format=path.suffix[1:], metadata=about)
        storage.write_bytes(path, buffer.getvalue())
    storage.write_table(paths[3], table)
    storage.write_json(paths[4], {"caption": caption, "runs": sorted(runs)})
    return paths
