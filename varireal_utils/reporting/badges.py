"""Colab badges in the notebooks, from one setting: `[tool.varireal] repository` of pyproject.toml.

`python -m varireal_utils.reporting.badges` writes a badge under the first line of every
notebook, or takes the badges out where the setting is empty. A second call changes nothing.
The repository must be a public one on GitHub ("owner/name"), since Colab opens no other address.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

from ..core import storage

BADGE = re.compile(r"\n*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"


def repository(root: Path) -> str:
    """owner/name of the setting, "" where it is empty. Raises ValueError for anything else."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"].get("varireal", {})
    name = settings.get("repository", "")
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"pyproject.toml: tool.varireal.repository is {name!r}, wanted owner/name "
            "of a repository on GitHub, or nothing"
        )
    return name


def badge(name: str, notebook: str) -> str:
    """The Markdown of a notebook's badge."""
    address = f"https://colab.research.google.com/github/{name}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab]({IMAGE})]({address})"


def write(root: Path) -> list[Path]:
    """Badges into, or out of, every notebook; returns the files that changed."""
    name, changed = repository(root), []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        book = json.loads(text)
        first = book["cells"][0]
        if first["cell_type"] != "markdown":
            continue
        plain = BADGE.sub("", "".join(first["source"]))
        new = f"{plain}\n\n{badge(name, path.name)}" if name else plain
        first["source"] = new.splitlines(keepends=True)
        made = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        if made != text:
            storage.write_text(path, made)
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in write(Path(__file__).resolve().parents[2]):
        print(path)
    sys.exit(0)
