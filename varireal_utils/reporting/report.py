"""One HTML page for a finished study: question, claims, figures, tables, limits, cost, notebooks.

The page holds its pictures and numbers itself and asks no server for anything; beside it lie the
executed notebooks as HTML. Every text that comes from data (phrases, class names, errors) is
escaped by the template, and what notebooks print is sanitised: a phrase is never markup. A policy
in every page forbids scripts all the same.
"""

from __future__ import annotations

import base64
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from ..core import storage
from ..data import registry
from . import result_blocks

# name -> heading; figures that a study lacks are left out, others follow behind
FIGURES = {
    "qualitative_grid": "The question, as pictures",
    "pipeline_strip": "How an edit is made",
    "accuracy_by_arm": "Accuracy by arm",
    "effect_forest": "The effect of feasibility",
    "effect_by_protocol": "The effect under other protocols",
    "infeasible_share": "A part of the edits infeasible",
    "accuracy_by_shots": "With fewer photographs",
    "effect_by_class": "The effect by class",
    "quality_balance": "Is one arm edited less well?",
    "acceptance": "What the verifier accepts",
    "embedding_map": "Where the images lie",
    "cost": "What it cost",
}
TABLES = {
    "main_table": (
        "Accuracy of every training",
        ["dataset", "attribute", "training", "arm", "mean", "low", "high", "seeds", "n"],
    ),
    "effects": (
        "Feasible minus infeasible, points",
        [
            "dataset",
            "attribute",
            "training",
            "difference",
            "low",
            "high",
            "p_holm",
            "verdict",
            "seeds_needed",
            "images_needed",
        ],
    ),
    "quality_sets": ("Sets of images", None),
    "mixed_model": ("Cross-check: a mixed model", None),
    "power": ("What more seeds would give", None),
}
ORDER = [
    "01_data",
    "02_attributes",
    "03_guidance",
    "04_edit",
    "05_datadream",
    "06_classify",
    "07_quality",
    "07_claims",
    "08_figures",
]
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "img-src data:; style-src 'unsafe-inline'; font-src data:\">"
)
TAGS = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "caption",
    "code",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "em",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "li",
    "ol",
    "p",
    "pre",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
]
SHOWN = ("text/html", "text/plain", "text/markdown", "image/png", "image/jpeg")  # of outputs
ATTRIBUTES = ["alt", "class", "colspan", "href", "id", "rowspan", "scope", "src", "title"]
DIFFERS = [
    "Both arms have the same settings and equally many phrases; the reference's differ in "
    "strength, guidance, blend and number of phrases (protocol faithful has them as they are).",
    "The feasible and the infeasible edit of one photograph share their noise, and both "
    "classifiers their seeds and test images: arms are paired.",
    "The verifier is never told which answer is wanted, and a constant answer cannot pass.",
    "The step to test is chosen on validation photographs; the test set is looked at once.",
    "Every mean has an interval; no difference is claimed unless the 90 % interval lies within the "
    "margin (two one-sided tests).",
]


def build(study: Path) -> Path:
    """Write <study>/report/index.html and report/notebooks/*.html; returns the page.

    Raises FileNotFoundError that names the command where the study has no results or figures.
    """
    results, figures = study / "results", study / "figures"
    for needed in (results / "claims.csv", results / "run.json", figures / "run.json"):
        if not needed.is_file():
            raise FileNotFoundError(
                f"{needed}: not there; run the study first (make study, with "
                "PARAMS for another one than params/micro.yaml)"
            )
    out = study / "report"
    books = [export(path, out / "notebooks") for path in executed(study)]
    page = render(results, figures, books)
    storage.write_text(out / "index.html", page)
    return out / "index.html"


def render(results: Path, figures: Path, books: list[Path]) -> str:
    """The page's HTML, from a folder of tables, one of figures, and the notebooks' pages."""
    import jinja2

    record = storage.read_json(results / "run.json")
    params = record["parameters"]
    claims = storage.read_table(results / "claims.csv")
    source = (resources.files(__package__) / "report_page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    return template.render(
        study=params["study"],
        protocol=params["protocol"],
        record=record,
        rendered=any(registry.draws(d) for d in params["datasets"].values()),
        datasets=list(params["datasets"]),
        command=_command(record["parameter_file"]),
        warnings=_warnings(results),
        claims=[_claim(row) for row in claims.to_dict("records")],
        figures=[_figure(figures / f"{n}.png", t) for n, t in _listed(figures)],
        tables=[
            _table(results / f"{n}.csv", *about)
            for n, about in TABLES.items()
            if (results / f"{n}.csv").is_file()
        ],
        differs=DIFFERS,
        runs=_runs(results, books),
    )


def _command(file: str) -> str:
    return "make study" if file == "params/micro.yaml" else f"make study PARAMS={file}"


def _warnings(results: Path) -> list[str]:
    """What must be known before a verdict is believed, as the README says it."""
    main, sets = results / "main_table.csv", results / "quality_sets.csv"
    found = result_blocks.head_room(storage.read_table(main)) if main.is_file() else []
    found += result_blocks.drawings(storage.read_table(sets)) if sets.is_file() else []
    return [text.replace("**", "") for text in found if text]


def _listed(folder: Path) -> list[tuple[str, str]]:
    there = sorted(p.stem for p in folder.glob("*.json") if p.with_suffix(".png").is_file())
    return [(n, t) for n, t in FIGURES.items() if n in there] + [
        (n, n.replace("_", " ").capitalize()) for n in there if n not in FIGURES
    ]


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _figure(path: Path, title: str) -> dict[str, Any]:
    about = storage.read_json(path.with_suffix(".json"))
    return {
        "id": path.stem,
        "title": title,
        "caption": about["caption"],
        "runs": about["runs"],
        "picture": _data(path, "image/png"),
        "csv": _data(path.with_suffix(".csv"), "text/csv"),
    }


def _number(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    known = row.get("ours") == row.get("ours") and row.get("ours") is not None
    shown = {k: _number(v) for k, v in row.items()}
    shown |= {k: f"{row[k]:.0f}" for k in ("seeds", "datasets", "cells") if known}
    shown["interval"] = (
        (f"{row['ours']:+.2f} points, 95 % interval {row['low']:+.2f} to {row['high']:+.2f}")
        if known
        else ""
    )
    shown["kind"] = str(row["verdict"]).replace(" ", "-")
    return shown


def _table(path: Path, title: str, columns: list[str] | None) -> dict[str, Any]:
    table = storage.read_table(path)
    table = table[[c for c in columns if c in table]] if columns else table
    return {
        "id": f"table_{path.stem}",
        "title": title,
        "csv": _data(path, "text/csv"),
        "columns": [str(c).replace("_", " ") for c in table.columns],
        "numeric": [pd.api.types.is_numeric_dtype(t) for t in table.dtypes],
        "rows": [[_number(v) for v in row] for row in table.itertuples(index=False)],
    }


def _runs(results: Path, books: list[Path]) -> list[dict[str, Any]]:
    """Every executed notebook with the time and memory of its run, where they are known."""
    runs = (
        storage.read_table(results / "runs.csv")
        if (results / "runs.csv").is_file()
        else pd.DataFrame(columns=["stage", "what", "seconds", "peak_memory_mb"])
    )
    known = {
        "-".join([r["stage"], *str(r["what"] or "").split()]): r
        for r in runs.fillna("").to_dict("records")
    }
    out = []
    for path in books:
        one = known.get(path.stem, {})
        out.append(
            {
                "name": path.stem,
                "link": f"notebooks/{path.name}",
                "seconds": _number(one.get("seconds")),
                "memory": _number(one.get("peak_memory_mb")),
            }
        )
    return out


def executed(study: Path) -> list[Path]:
    """The executed notebooks of a study's stages, in the order of the stages."""

    def place(path: Path) -> tuple:
        stage = next((i for i, s in enumerate(ORDER) if path.stem.startswith(s)), len(ORDER))
        return stage, path.stem

    return sorted(
        (
            p
            for p in (study / "notebooks").glob("*.ipynb")
            if not p.name.endswith(".failed.ipynb") and not p.name.startswith(".")
        ),
        key=place,
    )


def export(notebook: Path, folder: Path) -> Path:
    """An executed notebook as an HTML page that needs no server; unchanged ones are kept."""
    out = folder / f"{notebook.stem}.html"
    if out.is_file() and out.stat().st_mtime >= notebook.stat().st_mtime:
        return out
    import bleach
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    for printed in (o for c in book.cells for o in c.get("outputs", []) if "data" in o):
        printed.data = {k: v for k, v in printed.data.items() if k in SHOWN}
        if "text/markdown" in printed.data:
            text = "".join(printed.data["text/markdown"])
            printed.data["text/markdown"] = text.replace("<", "&lt;")
        if "text/html" in printed.data:
            text = re.sub(
                r"<(style|script)\b.*?</\1>",
                "",
                "".join(printed.data["text/html"]),
                flags=re.DOTALL | re.IGNORECASE,
            )
            printed.data["text/html"] = bleach.clean(text, TAGS, ATTRIBUTES, strip=True)
    exporter = HTMLExporter(
        template_name="lab",
        embed_images=True,
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        mermaid_js_url="",
    )
    body, _ = exporter.from_notebook_node(book, {"metadata": {"name": notebook.stem}})
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)  # the template's own
    storage.write_text(out, body.replace("<head>", f"<head>{POLICY}", 1))
    return out
