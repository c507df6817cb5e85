"""The look of all figures: sizes, colours and names of arms, and how a figure is saved.

symbols   arm         feasible, infeasible, mixed, real, zero-shot, datadream: one colour each
          COLUMN      8.5 cm, WIDE 17 cm, in inches: the widths at which text is readable
          PAGE        23 cm, in inches: the height of a page of A4 or US letter

Every figure (figures.py, image_grids.py) is a pair (Figure, table of what it plots). The look
starts from matplotlib's defaults, never from the user's matplotlibrc, and names are drawn as they
are, without TeX. `save` writes no date. Invariant (tests/unit/test_figures.py): equal input gives
equal bytes, whatever matplotlibrc says.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image as Picture

from ..analysis.few import BOUNDS as BOUNDS
from ..analysis.few import without_few
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
VERDICT_COLORS = {
    "reproduced": "#1B6E3C",
    "different": "#8B1A4A",
    "inconclusive": "#6B6B6B",
    "no verdict": "#6B6B6B",
    "withheld": "#8A5A00",
    "not valid": "#8A5A00",
}
ATTRIBUTES = (*attributes.ATTRIBUTES, "all")
COLUMN, WIDE, PAGE = 8.5 / 2.54, 17 / 2.54, 23 / 2.54
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
    """Load matplotlib's backend now: loaded within `look`, a notebook's backend would lose its
    interactive mode at the end of the block, and no later figure would be shown."""
    plt.switch_backend(plt.get_backend())


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Use matplotlib's defaults and study.mplstyle, and no user's setting, within the block."""
    _wake()
    with (
        resources.as_file(resources.files(__package__) / "study.mplstyle") as path,
        plt.style.context(path, after_reset=True),
    ):
        yield


def drawn(draw: Callable) -> Callable:
    """Decorate a figure's function: it draws in the study's look, and no interval that rests on
    fewer than few.LEAST seeds or replicates."""

    def shown(given: Any) -> Any:
        return without_few(given) if isinstance(given, pd.DataFrame) else given

    @functools.wraps(draw)
    def inner(*args, **options):
        with look():
            return draw(*map(shown, args), **{k: shown(v) for k, v in options.items()})

    return inner


def arm_label(arm: str) -> str:
    """Name of an arm in a legend: "zero-shot" -> "zero-shot CLIP", "mixed 0.25" as it is."""
    head, _, rest = arm.partition(" ")
    return f"{_LABELS.get(head, head)} {rest}".strip()


def arm_color(arm: str) -> str:
    """Colour of an arm or of a variant of it ("mixed 0.25", "datadream cls"). KeyError if none."""
    if arm.split(" ")[0] not in ARM_COLORS:
        raise KeyError(f"no colour for arm {arm!r}; style.ARM_COLORS has {list(ARM_COLORS)}")
    return ARM_COLORS[arm.split(" ")[0]]


def label(name: str) -> str:
    """Name of a data set or attribute in a figure; names of the user's own stay as they are."""
    return _LABELS.get(name, name)


def attribute_order(names: Iterable[str]) -> list[str]:
    """The attributes among `names`, each once: the paper's three, others by name, "all" last."""
    found = {str(n) for n in names if isinstance(n, str) and n and n != "pooled"}
    known = [a for a in ATTRIBUTES if a in found]
    others = sorted(found - set(ATTRIBUTES))
    return [a for a in known if a != "all"] + others + [a for a in known if a == "all"]


def need(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise ValueError that names the columns a table lacks, or says that it has no row."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"{what}: the table lacks column {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise ValueError(f"{what}: the table has no row; run the stage that fills it first")


def sample_size(table: pd.DataFrame) -> str:
    """n for a caption: "2-5 seeds, 400 test images a data set", of replicates where `unit` says so.

    table: n, and seeds (of tables.main_table) or units (of effects.effects).
    """
    counted = "seeds" if "seeds" in table else "units"
    need(table, [counted, "n"], "sample size")
    rows = table[table["arm"] != "zero-shot"] if "arm" in table else table
    many, images = (
        "-".join(str(int(v)) for v in sorted({rows[c].min(), rows[c].max()}))
        for c in (counted, "n")
    )
    of_draws = "unit" in rows and bool((rows["unit"] == "replicates").all())
    word = "replicate" if of_draws else "seed"
    each = " and replicate" * of_draws
    return f"{many} {word}{'s' * (many != '1')}, {images} test images a data set{each}"


def png(fig: Figure) -> bytes:
    """A figure as PNG in the study's look."""
    return _rendered(fig, "png", "figure")


def _rendered(fig: Figure, kind: str, name: str) -> bytes:
    undated = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    buffer = io.BytesIO()
    with look(), plt.rc_context({"svg.hashsalt": name}):
        fig.savefig(buffer, format=kind, metadata={undated[kind]: None})
    return buffer.getvalue()


def save(
    fig: Figure, folder: str | Path, name: str, table: pd.DataFrame, runs: list[str], caption: str
) -> list[Path]:
    """Write name.png (200 dpi), .pdf, .svg, .csv (numbers), .json (caption, runs); their paths."""
    folder = Path(folder)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "pdf", "svg", "csv", "json")]
    for path in paths[:3]:
        storage.write_bytes(path, _rendered(fig, path.suffix[1:], name))
    storage.write_table(paths[3], table)
    storage.write_json(paths[4], {"caption": caption, "runs": sorted(runs)})
    return paths


def show(figure: tuple[Figure, pd.DataFrame]) -> None:
    """Display a figure in a notebook as the PNG that `save` would write, and close it."""
    _display(figure[0], png(figure[0]), {})


def _display(fig: Figure, data: bytes, facts: dict[str, str]) -> None:
    from IPython.display import Image, display

    plt.close(fig)  # an inline backend would draw it once more, in the user's settings
    with Picture.open(io.BytesIO(data)) as picture:
        width = round(picture.width / 2)  # 200 dpi on a screen of 100
    display(Image(data, width=width, metadata=facts))


def _without_intervals(table: pd.DataFrame) -> str:
    """A sentence for the caption of a figure in which no row has an interval (few.py)."""
    bounds = [c for c in BOUNDS if c in table]
    if not bounds or not len(table) or table[bounds].notna().any(axis=None):
        return ""
    return "Too few seeds or replicates for an interval: none is drawn."


class FigureFolder:
    """Saves the figures of a run into one folder and shows each in the notebook.

    folder: where the files go; runs: what the figures are made from, for their .json.
    Attribute `paths`: every file so far.
    """

    def __init__(self, folder: str | Path, runs: list[str]):
        self.folder, self.runs = Path(folder), runs
        self.paths: list[Path] = []

    def add(self, name: str, figure: tuple[Figure, pd.DataFrame], caption: str) -> None:
        """Save a figure with its numbers and caption, and display it.

        The displayed output carries the name, so that the report can link to its cell.
        """
        fig, table = figure
        caption = f"{caption} {_without_intervals(table)}".rstrip()
        paths = save(fig, self.folder, name, table, self.runs, caption)
        self.paths += paths
        _display(fig, paths[0].read_bytes(), {"figure": name, "alt": caption})
