"""Fills the generated blocks of README.md and docs/*.md, so that no number in a page is typed.

    <!-- begin NAME --> ... <!-- end NAME -->     what BLOCKS[NAME] returns stands between

`python -m varireal_utils.reporting.readme` rewrites every block from results/ and draws the first
page's picture. Invariant (tests/unit/test_readme.py): the committed pages are what it writes.
A block is a function of (root of the repository, prefix of links: "" in README.md, "../" in docs/).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..core import storage
from . import (
    answer,
    benchmark_blocks,
    claim_blocks,
    design_blocks,
    figure_blocks,
    first_page,
    result_blocks,
)

__all__ = ["BLOCKS", "PICTURE", "fill", "pages", "rewrite"]
MARKED = re.compile(r"<!-- begin (\w+) -->(.*?)<!-- end (\w+) -->", re.DOTALL)
PICTURE = first_page.PICTURE
BLOCKS: dict[str, Callable[[Path, str], str]] = {
    "answer": answer.answer,
    "claims": first_page.claims,
    "commands": first_page.commands,
    "study": first_page.study,
    "scope": first_page.scope,
    "claim_sections": claim_blocks.claim_sections,
    "both_studies": claim_blocks.both_studies,
    "places": result_blocks.places,
    "drawn": result_blocks.drawn,
    "validity": result_blocks.validity,
    "baselines": result_blocks.baselines,
    "adapters": design_blocks.adapters,
    "accuracies": result_blocks.accuracies,
    "effects": result_blocks.effects,
    "files": result_blocks.files,
    "replicate_cost": result_blocks.replicate_cost,
    "figure_list": figure_blocks.listed,
    "models": result_blocks.models,
    "operating": design_blocks.operating_table,
    "sizing": design_blocks.sizing_table,
    "first_run": benchmark_blocks.first_run,
    "speed": benchmark_blocks.speed,
    "gpu": benchmark_blocks.gpu,
    "operations": benchmark_blocks.operations,
    "chain": benchmark_blocks.chain,
    "feeding": benchmark_blocks.feeding,
    "growth": benchmark_blocks.growth,
}


def pages(root: Path) -> list[Path]:
    """README.md and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill(text: str, root: Path, up: str, where: str = "text") -> str:
    """The text with every block written anew; up: prefix of links. Raises ValueError for a marker
    without its partner or without a block."""
    begun = len(re.findall(r"<!-- (?:begin|end) \w+ -->", text))
    found = MARKED.findall(text)
    if begun != 2 * len(found) or any(first != last for first, _, last in found):
        raise ValueError(f"{where}: a marker <!-- begin NAME --> or <!-- end NAME --> stands alone")
    unknown = sorted({name for name, _, _ in found} - set(BLOCKS))
    if unknown:
        raise ValueError(f"{where}: no block {unknown[0]!r}; known are {', '.join(BLOCKS)}")

    def written(match: re.Match) -> str:
        edge = "\n" if match[2].startswith("\n") else ""  # a block of lines, or part of a line
        body = BLOCKS[match[1]](root, up).strip()
        return f"<!-- begin {match[1]} -->{edge}{body}{edge}<!-- end {match[1]} -->"

    return MARKED.sub(written, text)


def rewrite(root: Path = Path(".")) -> list[Path]:
    """Write every block and the first page's picture; returns the pages that changed."""
    changed = []
    for path in pages(root):
        text = path.read_text(encoding="utf-8")
        new = fill(text, root, "" if path.parent == root else "../", path.name)
        if new != text:
            storage.write_text(path, new)
            changed.append(path)
    first_page.draw(root)
    return changed


if __name__ == "__main__":
    print("\n".join(f"{path}: written anew" for path in rewrite()) or "every page is as it was")
