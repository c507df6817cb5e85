"""The published study that README, docs/ and figures/ show, and that small studies quote.

    results/shown.txt     its name, the one place that says so; results/<name>/ holds the study

Data, not code: to show another study changes no digest of a stage's code, so nothing runs again.
"""

from __future__ import annotations

from pathlib import Path

from . import storage

FILE = Path("results/shown.txt")


def name(root: Path = Path(".")) -> str:
    """Name of the study. Raises ValueError where FILE is missing or holds no name."""
    path = root / FILE
    found = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if not found or storage.slug(found) != found:
        raise ValueError(
            f"{path}: got {found!r}, wanted the name of a folder under results/, as micro_full"
        )
    return found


def folder(root: Path = Path(".")) -> Path:
    """Its published folder, root/results/<name>."""
    return root / "results" / name(root)
