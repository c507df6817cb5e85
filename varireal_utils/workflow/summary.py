"""What a study made, as text: its figures, its tables, and its claims."""

from __future__ import annotations

import csv
from pathlib import Path

FIGURES, TABLES = {".png", ".pdf"}, {".csv", ".tex"}
CLAIM = ("claim", "verdict", "ours", "low", "high", "seeds", "settle", "says")


def summary(folder: Path) -> str:
    """The figures and tables of a study, and its claim table if it has one."""
    lines = []
    for title, kinds in (("figures", FIGURES), ("tables", TABLES)):
        found = sorted(
            p
            for sub in ("figures", "results")
            for p in (folder / sub).glob("*")
            if p.suffix in kinds
        )
        lines += [f"{title}:", *(f"  {p}" for p in found)] if found else []
    claims = folder / "results" / "claims.csv"
    if claims.exists():
        with open(claims, newline="") as file:
            rows = list(csv.DictReader(file))
        lines += [
            "",
            "claims (percentage points):",
            *columns([list(CLAIM)] + [[_short(row.get(key, "")) for key in CLAIM] for row in rows]),
        ]
    return "\n".join(lines)


def _short(text: str) -> str:
    """A number of a table with two decimals; anything else as it is."""
    try:
        return f"{float(text):.2f}" if "." in text else text
    except ValueError:
        return text


def columns(rows: list[list[str]], widest: int = 60) -> list[str]:
    """Rows of text as aligned lines; cells longer than `widest` are cut."""
    cut = [[c if len(c) <= widest else f"{c[: widest - 3]}..." for c in row] for row in rows]
    width = [max(len(c) for c in column) for column in zip(*cut, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip()
        for row in cut
    ]
