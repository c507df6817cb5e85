"""What a finished study says, on one screen: accuracies, the answer, what to open and to run next.

    few     fewer than few.LEAST starts or replicates: accuracies alone, no interval, no verdict,
            and the published study's answer beside them
    else    the claims and their verdicts

Every number is read from the tables of 07_claims.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ..analysis.few import LEAST
from ..core import shown

CLAIM = ("claim", "verdict", "ours", "low", "high", "says")
OPEN = {
    "figures/pipeline_strip.png": "how an edit comes about, step by step",
    "figures/qualitative_grid.png": "photographs beside their feasible and infeasible edits",
    "figures/decomposition.png": "what the effect is made of, one dot a replicate",
    "figures/accuracy_by_arm.png": "the accuracy of every classifier",
    "results/claims.md": "the claims, in full",
}
NEXT = (
    ("make report", "all of it as one page, with every image"),
    ("make lab", "the notebooks, to look inside and to change"),
    ("make study PARAMS=params/micro_full.yaml", "three data sets, five starts: over an hour"),
)


def summary(folder: Path, published: Path | None = None) -> str:
    """The screen of a study's folder; without results, its figures and tables alone.

    published: folder of the study that is quoted where this one is too small; None for the one
    that README shows.
    """
    results = folder / "results"
    rows = _rows(results / "main_table.csv")
    lines: list[str] = []
    if rows:
        lines += ["", f"{folder.name}:", *_accuracies(rows), ""]
        if repetitions(rows) >= LEAST:
            lines += _claims(results)
        else:
            if published is None and shown.FILE.is_file():
                published = shown.folder()
            lines += _small(rows, published)
    else:
        lines += _claims(results)
    there = {name: why for name, why in OPEN.items() if (folder / name).is_file()}
    if there:
        width = max(len(str(folder / name)) for name in there)
        lines += ["", "open:", *(f"  {str(folder / n):<{width}}  {w}" for n, w in there.items())]
        width = max(len(command) for command, _ in NEXT)
        lines += ["next:", *(f"  {command:<{width}}  {what}" for command, what in NEXT)]
    return "\n".join(lines)


def repetitions(rows: list[dict[str, str]]) -> int:
    """The least number of replicates, or else of starts, of any trained classifier."""
    found = [int(float(r["seeds"])) for r in rows if r["arm"] != "zero-shot" and r.get("seeds")]
    return min(found, default=0)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _accuracies(rows: list[dict[str, str]]) -> list[str]:
    """A line a data set: its least and largest accuracy of each kind of training set."""
    kinds = {
        "zero-shot": lambda r: r["arm"] == "zero-shot",
        "photographs": lambda r: r["arm"] == "real",
        "edits": lambda r: r["attribute"] and r["training"] == "edited only",
        "both": lambda r: r["attribute"] and r["training"] == "real + edited",
        "DataDream": lambda r: r["arm"].startswith("datadream") and r["training"] == "edited only",
    }
    table = [["top-1 in percent", *kinds]]
    for dataset in dict.fromkeys(r["dataset"] for r in rows):
        own = [r for r in rows if r["dataset"] == dataset]
        table.append([dataset, *(_span([r for r in own if kind(r)]) for kind in kinds.values())])
    return columns(table)


def _span(rows: list[dict[str, str]]) -> str:
    means = sorted(float(r["mean"]) for r in rows)
    if not means:
        return "-"
    low, high = f"{means[0]:.1f}", f"{means[-1]:.1f}"
    return low if low == high else f"{low} to {high}"


def _small(rows: list[dict[str, str]], published: Path | None) -> list[str]:
    """What stands in the place of an answer that this study cannot give."""
    count = repetitions(rows)
    many = f"{'one' if count == 1 else count} {{}}{'s' * (count != 1)}"
    if any(r.get("unit") == "replicates" for r in rows):
        of = f"{many.format('replicate')} of photographs, edits and classifiers"
    else:
        of = f"{many.format('start')} of each classifier on one draw of photographs"
    lines = [f"A demonstration, too small to decide: {of}."]
    found = _rows(published / "claims.csv") if published else []
    claim = next((r for r in found if r.get("ours")), None)
    if claim:
        level = f"{100 * float(claim.get('confidence') or 0.95):.3g} %"
        lines += [
            f"The published study ({published}), {claim['claim']}: {claim['verdict']};",
            f"{claim['estimand']}: {float(claim['ours']):+.2f} "
            f"[{float(claim['low']):+.2f}, {float(claim['high']):+.2f}] points ({level}).",
        ]
    return lines


def _claims(results: Path) -> list[str]:
    rows = _rows(results / "claims.csv")
    if not rows:
        return []
    for row in rows:
        if float(row.get("units") or LEAST) < LEAST:
            row |= {"low": "", "high": ""}
    cells = [[_short(row.get(key) or "") for key in CLAIM] for row in rows]
    return ["claims (percentage points):", *columns([list(CLAIM), *cells])]


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
