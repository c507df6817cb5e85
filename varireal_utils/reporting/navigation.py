"""The first cell of every notebook: links to its neighbours, and a Colab badge where one is set.

    ORDER           the notebooks in reading order; both neighbours and "Next:" follow from it
    badge           from `[tool.varireal] repository` of pyproject.toml ("owner/name" on GitHub;
                    empty: no badges, since Colab opens no other address)

`python -m varireal_utils.reporting.navigation` writes the cells. A second call changes nothing.
Invariant (tests/unit/test_navigation.py): the committed notebooks are what this module writes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

from ..core import storage

ORDER = (
    "00_overview",
    "01_data",
    "02_attributes",
    "03_guidance",
    "04_edit",
    "05_datadream",
    "06_classify",
    "07_quality",
    "07_claims",
    "08_figures",
    "explore",
)
ASIDE = ("micro_pretrain", "colab")  # belong to no chain: they link to the overview alone
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"


def repository(root: Path) -> str:
    """owner/name of the setting, "" where it is empty. Raises ValueError for anything else."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)["tool"].get("varireal", {})
    name = settings.get("repository", "")
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"pyproject.toml: tool.varireal.repository is {name!r}, wanted owner/name "
            "of a repository on GitHub, or nothing"
        )
    return name


def neighbours(notebook: str) -> tuple[str, str]:
    """The notebooks before and after one, "" where there is none."""
    if notebook not in ORDER:
        return "", ""
    place = ORDER.index(notebook)
    after = ORDER[place + 1] if place + 1 < len(ORDER) else ""
    return (ORDER[place - 1] if place else ""), after


def links(notebook: str) -> str:
    """previous | overview | next, as Markdown links, without a link to the notebook itself."""
    before, after = neighbours(notebook)
    parts = [f"[← {before}]({before}.ipynb)" if before else ""]
    parts += ["[overview](00_overview.ipynb)" if notebook != "00_overview" else ""]
    parts += [f"[{after} →]({after}.ipynb)" if after else ""]
    return " | ".join(p for p in parts if p)


def badge(name: str, notebook: str) -> str:
    """The Markdown of a notebook's Colab badge."""
    address = (
        f"https://colab.research.google.com/github/{name}/blob/main/notebooks/{notebook}.ipynb"
    )
    return f"[![Open in Colab]({IMAGE})]({address})"


def first_cell(notebook: str, name: str) -> str:
    """The Markdown of a notebook's first cell; name: the repository, "" for no badge."""
    return links(notebook) + (f"\n\n{badge(name, notebook)}" if name else "")


def write(root: Path) -> list[Path]:
    """Write the first cell of every notebook; returns the files that changed.

    Raises ValueError for a notebook that is in no list, or that does not open with Markdown.
    """
    name, changed = repository(root), []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.stem not in (*ORDER, *ASIDE):
            raise ValueError(f"{path}: add it to ORDER or ASIDE in reporting/navigation.py")
        text = path.read_text(encoding="utf-8")
        book = json.loads(text)
        if book["cells"][0]["cell_type"] != "markdown":
            raise ValueError(f"{path}: its first cell must be Markdown, for the links")
        book["cells"][0]["source"] = first_cell(path.stem, name).splitlines(keepends=True)
        made = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        if made != text:
            storage.write_text(path, made)
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in write(Path(__file__).resolve().parents[2]):
        print(path)
    sys.exit(0)
