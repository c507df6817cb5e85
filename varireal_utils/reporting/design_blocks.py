"""Blocks of docs/ on the design: how often the rules err, how wide intervals would be, and what
DataDream's adapters change.

Every function returns Markdown made from tables below results/; `up` is the prefix of links from
the page to the repository's root.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import inference, operating, sizing, study_tables
from ..analysis.gates import ADAPTED, SHOTS, UNADAPTED
from ..core import shown, storage
from . import result_blocks


def operating_table(root: Path, up: str) -> str:
    """How often each rule gives which verdict, a row for each claim and truth."""
    kept = operating.kept(root)
    counts = sorted(kept["replicates"].unique())
    lines = [
        f"| claim | truth, pp | {' | '.join(f'R = {n}' for n in counts)} | most false |",
        "|---|---|" + "---|" * (len(counts) + 1),
    ]
    for (claim, truth), rows in kept.groupby(["claim", "truth"]):
        cells = [_shares(row) for row in rows.sort_values("replicates").to_dict("records")]
        most = f"{100 * rows['false'].max():.0f} %"
        lines.append(f"| {claim} | {truth:g} | {' | '.join(cells)} | {most} |")
    named = "reproduced / different, in percent of the studies; the rest is undecided"
    return "\n".join([*lines, "", f"Cells: {named}. From [operating.csv]({up}{operating.PATH})."])


def _shares(row: dict[str, Any]) -> str:
    if row["no verdict"] == 1:
        return "no verdict"
    return f"{100 * row['reproduced']:.0f} / {100 * row['different']:.0f}"


def sizing_table(root: Path, up: str) -> str:
    """Half widths of intervals of a further study, a row for each claim that asks again."""
    lines = [
        "| claim | asks again | spread over replicates, pp | "
        + " | ".join(f"90 % at R = {count}" for count in sizing.REPLICATES)
        + f" | R for ±{sizing.WANTED:g} | spread as it came, pp | shown to be null at R = "
        + ", ".join(map(str, sizing.REPLICATES))
        + " |",
        "|---|---|---|" + "---|" * (len(sizing.REPLICATES) + 3),
    ]
    for row in sizing.kept(root).to_dict("records"):
        widths = " | ".join(f"±{row[f'half_{count}']:.2f}" for count in sizing.REPLICATES)
        lines.append(
            f"| {row['claim']} | {row['again']} | {row['spread']:.2f} | {widths} | "
            f"{row['needed']} | {_came(row)} | {_passes(row)} |"
        )
    return "\n".join([*lines, "", f"From [sizing.csv]({up}{sizing.PATH})."])


def _came(row: dict[str, Any]) -> str:
    """The spread in the study that asked again, once there is one."""
    return "" if row["came"] == "" else f"{float(row['came']):.2f}"


def _passes(row: dict[str, Any]) -> str:
    """Percent of null studies, of the placebo alone."""
    shares = [row[f"passes_{count}"] for count in sizing.REPLICATES]
    return "" if "" in shares else ", ".join(f"{100 * float(s):.0f} %" for s in shares)


def adapters(root: Path, up: str) -> str:
    """What DataDream's adapters change, of the shown studies that drew its pictures: the share
    whose class zero-shot CLIP names, and the kernel distance of features to the shots'."""
    lines = [
        "| data set | photographs named | untuned | adapted | adapted minus untuned, pp | "
        "distance to the shots, untuned | adapted | adapted minus untuned |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in shown.names(root):
        path = shown.folder(root, study) / f"{study_tables.LEARNED}.csv"
        table = storage.read_table(path) if path.is_file() else pd.DataFrame()
        for dataset, own in table.groupby("dataset") if len(table) else ():
            lines.append(f"| {result_blocks.named(root, str(dataset), study)} | {_changes(own)} |")
    if len(lines) == 2:
        return "Stands here once a study that draws DataDream's pictures is shown."
    said = (
        "Means over replicates, with 95 % intervals of the difference. Named: percent of the first "
        "pictures of each class. Distance: unbiased squared kernel distance (KID) of CLIP "
        "features, times 1000; of few pictures, so it compares these columns alone."
    )
    return "\n".join([*lines, "", said])


def _changes(rows: pd.DataFrame) -> str:
    """The cells of `adapters` of one data set."""
    wide = rows.groupby(["replicate", "model"])[["class_named", "kernel_distance_x1000"]].mean()
    named, distance = (wide[c].unstack("model") for c in wide)
    cells = [f"{100 * named[SHOTS].mean():.0f} %"]
    for table, scale, unit in ((named, 100, " %"), (distance, 1, "")):
        got = inference.estimate((scale * (table[ADAPTED] - table[UNADAPTED])).to_numpy(), 1.0)
        bounds = f" [{got.low:+.0f}, {got.high:+.0f}]" * (len(table) >= inference.LEAST)
        cells += [f"{scale * table[model].mean():.0f}{unit}" for model in (UNADAPTED, ADAPTED)]
        cells.append(f"{got.mean:+.0f}{bounds}")
    return " | ".join(cells)
