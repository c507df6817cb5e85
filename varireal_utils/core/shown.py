"""The published studies that README, docs/ and figures/ show, and that small studies quote.

    results/shown.txt     their names, a line each, the one place that says so; results/<name>/
                          holds a study

The first is the study: its tables, figures and pictures are shown. Each further one answers claims
that those before it did not run, as a study of DataDream does, and its figures lie in
figures/<name>/.

Data, not code: to show another study changes no digest of a stage's code, so nothing runs again.
"""

from __future__ import annotations

from pathlib import Path

from . import storage

FILE = Path("results/shown.txt")


def names(root: Path = Path(".")) -> list[str]:
    """Names of the studies, the study first. Raises ValueError where FILE is missing, or holds no
    name, or one twice."""
    path = root / FILE
    found = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    lines = [line.strip() for line in found if line.strip()] or [""]
    for number, line in enumerate(lines):
        if not line or storage.slug(line) != line:
            raise ValueError(
                f"{path}: got {line!r}, wanted the name of a folder under results/, as micro_full"
            )
        if line in lines[:number]:
            raise ValueError(f"{path}: {line} stands there twice")
    return lines


def name(root: Path = Path(".")) -> str:
    """Name of the study. Raises ValueError as `names` does."""
    return names(root)[0]


def folder(root: Path = Path("."), study: str = "") -> Path:
    """The published folder of a shown study, root/results/<name>; of the first where none is
    named."""
    return root / "results" / (study or name(root))
