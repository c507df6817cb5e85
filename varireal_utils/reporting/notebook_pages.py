"""Executed notebooks as HTML pages without scripts, and where in them each result stands.

Printed HTML and Markdown are sanitised, and a policy in each page forbids scripts and requests.
Invariant (tests/unit/test_report.py): nothing that a notebook printed runs in its page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.study_paths import StudyPaths
from . import navigation

ORDER = tuple(n for n in navigation.ORDER if n[0].isdigit() and n != "00_overview")  # stages
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "img-src data:; style-src 'unsafe-inline'; font-src data:\">"
)
TAGS = (
    "a abbr b blockquote br caption code dd details div dl dt em figure h1 h2 h3 h4 h5 h6 hr i img "
    "li ol p pre span strong sub summary sup table tbody td tfoot th thead tr ul"
).split()
ATTRIBUTES = ["alt", "class", "colspan", "href", "id", "rowspan", "scope", "src", "title"]
SHOWN = ("text/html", "text/plain", "text/markdown", "image/png", "image/jpeg")  # of outputs


def executed(paths: StudyPaths) -> list[Path]:
    """The executed notebooks of a study's stages, in the order of the stages."""

    def place(path: Path) -> tuple[int, str]:
        stage = next((i for i, s in enumerate(ORDER) if path.stem.startswith(s)), len(ORDER))
        return stage, path.stem

    found = [
        p
        for p in paths.notebooks.glob("*.ipynb")
        if not p.name.endswith(".failed.ipynb") and not p.name.startswith(".")
    ]
    return sorted(found, key=place)


def export(notebook: Path, folder: Path) -> Path:
    """An executed notebook as an HTML page that needs no server; unchanged ones are kept."""
    out = folder / f"{notebook.stem}.html"
    if out.is_file() and out.stat().st_mtime >= notebook.stat().st_mtime:
        return out
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    for output in (o for c in book.cells for o in c.get("outputs", []) if "data" in o):
        output.data = _sanitised(output.data)
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


def _sanitised(data: dict[str, Any]) -> dict[str, Any]:
    """The kinds of an output that are shown, without scripts, styles or unknown tags."""
    import bleach

    data = {k: v for k, v in data.items() if k in SHOWN}
    if "text/markdown" in data:
        data["text/markdown"] = "".join(data["text/markdown"]).replace("<", "&lt;")
    if "text/html" in data:
        text = re.sub(
            r"<(style|script)\b.*?</\1>",
            "",
            "".join(data["text/html"]),
            flags=re.DOTALL | re.IGNORECASE,
        )
        data["text/html"] = bleach.clean(text, TAGS, ATTRIBUTES, strip=True)
    return data


def cells_of(notebook: Path) -> dict[str, str]:
    """Name of a figure or table -> anchor of its cell in the page that `export` writes.

    A figure's output carries its name (style.FigureFolder.add). A table's cell calls a function of
    its name, or holds the name in quotes. The first such cell counts.
    """
    out: dict[str, str] = {}
    for cell in storage.read_json(notebook).get("cells", []):
        if cell.get("cell_type") != "code" or not cell.get("id"):
            continue
        anchor = f"#cell-id={cell['id']}"
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("image/png", {})
            if isinstance(about, dict) and "figure" in about:
                out.setdefault(str(about["figure"]), anchor)
        source = "".join(cell.get("source", ""))
        for quoted, called in re.findall(r"[\"']([\w-]+)(?:\.csv)?[\"']|\.(\w+)\(", source):
            out.setdefault(quoted or called, anchor)
    return out
