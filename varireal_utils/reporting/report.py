"""One HTML page of a finished study: claims, figures, tables, images, limits, cost, notebooks.

The page holds its pictures, numbers and one script, and requests nothing from a server; beside it
lie the executed notebooks as HTML. The script filters and sorts lists in the browser; a policy in
the page allows it by its digest, and no other. The template escapes every text that comes from
data (phrases, class names, errors). Invariant (tests/unit/test_report.py): nothing from data is
markup or runs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from ..analysis.few import least_units, without_few
from ..core import storage
from ..core.config_base import flattened
from ..core.study_paths import StudyPaths
from . import answer, notebook_pages, publishing, result_blocks, style

FIGURES = {
    "qualitative_grid": "The question, as pictures",
    "pipeline_strip": "How an edit is made",
    "accuracy_by_arm": "Accuracy by arm",
    "claim_forest": "The registered claims",
    "effect_forest": "The effect of feasibility",
    "dots_over_published": "This study's seeds over the published one",
    "decomposition": "What the effect is made of",
    "true_effects": "The distribution of true effects",
    "edited_test": "Edited test photographs",
    "generated_grid": "DataDream before and after adaptation",
    "effect_by_protocol": "The effect under other protocols",
    "infeasible_share": "Accuracy over the share of infeasible edits",
    "accuracy_by_shots": "Accuracy over the number of shots",
    "effect_by_class": "The effect by class",
    "quality_balance": "Is one arm edited less well?",
    "acceptance": "Edits that the verifier accepts",
    "embedding_map": "Features of the images",
    "cost": "Time of each stage",
}
TABLES = {
    "main_table": (
        "Accuracy of every training",
        ["dataset", "attribute", "training", "arm", "mean", "low", "high", "seeds", "n"],
    ),
    "effects": (
        "Feasible minus infeasible, percentage points",
        [
            "dataset",
            "attribute",
            "training",
            "difference",
            "low",
            "high",
            "unit",
            "units",
        ],
    ),
    "quality_sets": ("Sets of images", None),
    "mixed_model": ("Cross-check: a mixed model", None),
    "cross_checks": ("Cross-check: other methods", None),
}
DIFFERS = [
    "Both arms have the same settings and equally many phrases; the reference's differ in "
    "strength, guidance, blend and number of phrases (protocol faithful has them as they are).",
    "The feasible and the infeasible edit of one photograph share their noise, and both "
    "classifiers their seeds and test images: arms are paired.",
    "The verifier never sees which answer is wanted, and a constant answer cannot pass.",
    "Validation photographs select the step to test; the test set is used once.",
    "Every mean has an interval. A verdict needs at least four replicates, each with photographs, "
    "phrases, edits and starts of its own; one draw with many seeds has numbers and no verdict.",
]


FILTERS = ("dataset", "attribute", "training", "arm", "set", "verdict")  # columns with a filter
MOST_VALUES = 40  # of a column with a filter
PAGE_WIDTH = 920  # pixels, of a figure of both columns
THUMB = 128  # pixels, the longest side of an image in the page
BOOKS = {"figures": "08_figures", "results": "07_claims"}  # where a figure or table comes from


def build(study: Path) -> Path:
    """Write <study>/report/index.html and report/notebooks/*.html; returns the page.

    Raises FileNotFoundError that names the command where the study has no results or figures.
    """
    paths = StudyPaths(study)
    for needed in (
        paths.results / "claims.csv",
        paths.results / "run.json",
        paths.figures / "run.json",
    ):
        if not needed.is_file():
            raise FileNotFoundError(
                f"{needed}: not there; run the study first (make study, with "
                "PARAMS for another one than params/micro.yaml)"
            )
    books = [book for book in _books(paths) if _is_of_a_run(paths, book)]
    for book in books:
        notebook_pages.export(book, paths.report / "notebooks")
    page = paths.report / "index.html"
    storage.write_text(page, render(paths, books))
    return page


def _books(paths: StudyPaths) -> list[Path]:
    """The executed notebooks of a study; of one of replicates its own and, as an example, those of
    the first replicate's first data set: all of them would be thousands of pages."""
    drawn, own = publishing.shown_paths(paths), notebook_pages.executed(paths)
    if drawn == paths:
        return own
    first = min((p.parent.name for p in drawn.images_tables()), default="")
    names = [(p, p.stem.partition("-")[2]) for p in notebook_pages.executed(drawn)]
    return [*(p for p, rest in names if rest == first or rest.startswith(f"{first}-")), *own]


def render(paths: StudyPaths, books: list[Path]) -> str:
    """The page's HTML. books: the executed notebooks that have a page beside it."""
    record = storage.read_json(paths.results / "run.json")
    params = record["parameters"]
    claims = without_few(storage.read_table(paths.results / "claims.csv"))
    rows = claims.to_dict("records")
    rendered = any(d.get("source") == "world" for d in params["datasets"].values())
    figure_cells, table_cells = (_cells(books, name) for name in BOOKS.values())
    script = _packaged("report_page.js")
    return _template().render(
        study=params["study"],
        protocol=params["protocol"],
        record=record,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        parameters=_parameters(params),
        rendered=rendered,
        answer=answer.sentences(rows, rendered),
        replicates=params.get("replicates") or 0,
        registered=_registered(params),
        datasets=list(params["datasets"]),
        command=_command(record["parameter_file"]),
        warnings=result_blocks.warnings(result_blocks.gates(paths.results)),
        claims=[_claim(row) for row in rows],
        claims_cell=table_cells.get("evaluate", ""),
        figures=[
            _figure(paths.figures / f"{name}.png", title, figure_cells)
            for name, title in _listed(paths.figures)
        ],
        figures_record=storage.read_json(paths.figures / "run.json"),
        tables=_tables(paths.results, table_cells),
        images=_images(paths),
        differs=DIFFERS,
        runs=_runs(paths, books),
        jobs=_jobs(paths),
    )


def _registered(params: dict[str, Any]) -> dict[str, str]:
    """File and date of the study's registration; {} for a study that is not registered."""
    file = Path(params.get("registration") or f"registrations/{storage.slug(params['study'])}.json")
    if not params.get("replicates") or not file.is_file():
        return {}
    return {"file": file.name, "date": str(storage.read_json(file).get("registered", ""))[:10]}


def _packaged(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _template() -> Any:
    import jinja2

    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_packaged("report_page.html"))


def _cells(books: list[Path], stage: str) -> dict[str, str]:
    """Name of a figure or table -> link to its cell in the page of a stage's notebook."""
    for book in books:
        if book.stem == stage:
            page = f"notebooks/{book.stem}.html"
            return {n: page + anchor for n, anchor in notebook_pages.cells_of(book).items()}
    return {}


def _parameters(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Dotted key and value of every parameter; the name of a key's variable stays out."""
    return [
        (key, "" if value is None else str(value))
        for key, value in sorted(flattened(params).items())
        if not key.startswith("_") and not key.endswith("api_key_env")
    ]


def _command(file: str) -> str:
    return "make study" if file == "params/micro.yaml" else f"make study PARAMS={file}"


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Name and heading of the figures there are, those of FIGURES first."""
    there = sorted(p.stem for p in folder.glob("*.json") if p.with_suffix(".png").is_file())
    own = [n for n in there if n not in FIGURES]
    return [*((n, t) for n, t in FIGURES.items() if n in there), *((n, _title(n)) for n in own)]


def _title(name: str) -> str:
    """Heading of a figure that FIGURES does not name: "Learning curves, Micro cars"."""
    head, curves, dataset = name.partition("learning_curves_")
    if curves and not head:
        whole = "%%" not in dataset  # a slug that was not shortened
        return f"Learning curves, {style.label(storage.unslug(dataset) if whole else dataset)}"
    return name.replace("_", " ").capitalize()


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _figure(path: Path, title: str, cells: dict[str, str]) -> dict[str, Any]:
    about = storage.read_json(path.with_suffix(".json"))
    return {
        "id": path.stem,
        "title": title,
        "caption": about["caption"],
        "runs": about["runs"],
        "cell": cells.get(path.stem, ""),
        "picture": _data(path.read_bytes(), "image/png"),
        "width": _shown_width(path),
        "csv": _data(path.with_suffix(".csv").read_bytes(), "text/csv"),
    }


def _shown_width(path: Path) -> int:
    """Pixels of the page for a figure, so that text of narrow and wide ones is equally large."""
    with Image.open(path) as picture:
        return round(picture.width * PAGE_WIDTH / (200 * style.WIDE))


def _number(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Values of a row for the page's script: numbers and texts, None where missing."""
    return {
        str(k): None if v is None or v is pd.NA or v != v else getattr(v, "item", lambda v=v: v)()
        for k, v in row.items()
    }


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    """A row of claims.csv as texts; its verdict is the column `verdict`, as everywhere."""
    known = not pd.isna(row.get("ours"))
    shown: dict[str, Any] = {k: _number(v) for k, v in row.items()}
    shown |= {k: f"{row[k]:.0f}" for k in ("datasets", "cells") if known}
    shown["units"] = result_blocks.units(row) if known else ""
    level = row.get("confidence", 0.95)
    percent = 95.0 if pd.isna(level) else 100 * level
    between = result_blocks.interval(row) if known else ""
    shown["interval"] = (
        f"{row['ours']:+.2f} points" + f", {percent:.3g} % interval {between}" * bool(between)
        if known
        else ""
    )
    shown["because"] = _number(row.get("because"))
    shown["item"] = _plain({k: row[k] for k in ("claim", "verdict", "ours") if k in row})
    return shown


def _tables(folder: Path, cells: dict[str, str]) -> list[dict[str, Any]]:
    """TABLES that a results folder has, without intervals of few units."""
    effects = folder / "effects.csv"
    units = least_units(storage.read_table(effects)) if effects.is_file() else 0
    return [
        _table(folder / f"{name}.csv", *about, cells, units)
        for name, about in TABLES.items()
        if (folder / f"{name}.csv").is_file()
    ]


def _table(
    path: Path, title: str, columns: list[str] | None, cells: dict[str, str], units: int
) -> dict[str, Any]:
    """units: of the rows of a table that does not count them."""
    table = without_few(storage.read_table(path), units)
    drawn = "unit" in table and bool((table["unit"] == "replicates").all())
    table = table[[c for c in columns if c in table]] if columns else table
    found = {c: sorted(table[c].dropna().astype(str).unique()) for c in FILTERS if c in table}
    return {
        "name": path.stem,
        "title": title,
        "cell": cells.get(path.stem, ""),
        "csv": _data(path.read_bytes(), "text/csv"),
        "columns": [(str(c), _head(str(c), drawn)) for c in table.columns],
        "numeric": [pd.api.types.is_numeric_dtype(t) for t in table.dtypes],
        "filters": {c: v for c, v in found.items() if 1 < len(v) <= MOST_VALUES},
        "rows": [
            {"item": _plain(row), "cells": [_number(v) for v in row.values()]}
            for row in table.to_dict("records")
        ],
    }


def _head(column: str, drawn: bool) -> str:
    """A column in words; what it calls seeds are replicates where the study has drawn them."""
    return "replicates" if drawn and column == "seeds" else column.replace("_", " ")


def _images(paths: StudyPaths) -> list[dict[str, Any]]:
    """Photographs and edits that the figures show, as small pictures with what is known of each."""
    index = paths.pictures / "index.json"
    out = []
    for row in storage.read_json(index)["grid"] if index.is_file() else []:
        about = {"class": row["name"], "dataset": row.get("dataset", "")}
        cells = row["cells"]
        for key, cell in sorted(cells.items(), key=lambda c: c[0] != "source"):
            name, phrase = (cell, "") if key == "source" else cell
            attribute, _, arm = key.rpartition(" ")
            rejected = phrase.endswith(" (rejected)")
            out.append(
                about
                | {
                    "attribute": attribute or "photograph",
                    "arm": arm if attribute else "",
                    "phrase": phrase.removesuffix(" (rejected)"),
                    "verifier": "rejected" if rejected else "accepted" if attribute else "",
                    "picture": _thumbnail(paths.pictures / name),
                }
            )
    return out


def _thumbnail(path: Path) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return _data(buffer.getvalue(), "image/png")


def _is_of_a_run(paths: StudyPaths, book: Path) -> bool:
    """Whether an executed notebook is of a run that counts: not of an attribute or data set that
    was taken out of the parameter file. 08_figures, which lists the runs, counts too."""
    file = paths.results / "runs.csv"
    if not file.is_file() or not re.match(r"0[1-7]_", book.stem):
        return True
    runs = storage.read_table(file).fillna("").to_dict("records")
    return book.stem in {
        storage.slug("-".join([r["stage"], *str(r["what"] or "").split(" ")]).rstrip("-"))
        for r in runs
    }


def _jobs(paths: StudyPaths) -> int:
    """How many runs the study has; those of its figures count."""
    file = paths.results / "runs.csv"
    return len(storage.read_table(file)) if file.is_file() else 0


def _runs(paths: StudyPaths, books: list[Path]) -> list[dict[str, Any]]:
    """Every executed notebook with the time and memory of its run, where they are known."""
    file = paths.results / "runs.csv"
    runs = storage.read_table(file) if file.is_file() else pd.DataFrame(columns=["stage", "what"])
    if "replicate" in runs:  # the notebooks of the first one are listed
        runs = runs[runs["replicate"].fillna(0) == 0]
    known = {
        "-".join([r["stage"], *str(r["what"] or "").split()]): r
        for r in runs.astype(object).fillna("").to_dict("records")
    }
    out = []
    for book in books:
        one = known.get(book.stem, {})
        seconds, memory = one.get("seconds"), one.get("peak_memory_mb")
        out.append(
            {
                "name": book.stem,
                "link": f"notebooks/{book.stem}.html",
                "seconds": _number(seconds),
                "memory": _number(memory),
                "item": _plain({"notebook": book.stem, "seconds": seconds, "memory": memory}),
            }
        )
    return out
