"""Decides every verdict: on an estimate by its intervals, on a claim by its rule, both by gates.

    equivalent      the 90 % interval lies within +-margin (two one-sided tests at 5 %)
    different       the interval excludes 0; of a claim: its opposite holds
    reproduced      the claim holds by its rule (claim_rules.py)
    inconclusive    the study is too small to say
    not valid       a condition of the comparison fails (`Gates`), whatever the numbers say
    not run         recipes, or another study, that the claim needs are missing

README, CSV, report and figures print the column `verdict` that `verdict` decides, nothing else.

    gate           condition, fixed before the runs
    head-room      fine-tuning on real photographs gains HEAD_ROOM points over zero-shot on at
                   least one data set of the comparison, so that arms have room to differ
    class named    of DataDream's images, zero-shot CLIP names the class of at least NAMED times
                   the share that it names of photographs, on every data set
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..training import recipes

HEAD_ROOM = 10.0  # points of top-1
NAMED = 0.5
VERDICTS = ("reproduced", "equivalent", "different", "inconclusive", "not valid", "not run")


def verdict(row: Mapping[str, Any]) -> str:
    """The verdict on one claim or estimate, one of VERDICTS.

    row: found, what its rule or its intervals say; not_valid_because, the gates that fail, or "".
    """
    if row["found"] == "not run":
        return "not run"
    return "not valid" if row["not_valid_because"] else str(row["found"])


def of_interval(low: float, high: float, low90: float, high90: float, margin: float) -> str:
    """equivalent, different or inconclusive; bounds and margin in points.

    Equivalent is asked first, so a certain but tiny difference is equivalent.
    """
    if -margin < low90 and high90 < margin:
        return "equivalent"
    return "different" if low > 0 or high < 0 else "inconclusive"


@dataclass(frozen=True)
class Gates:
    """What the gates measured. gains: data set -> points that `real` gains over zero-shot; named:
    (data set, DataDream's variant) -> shares 0..1 whose class is named, of its images and of
    photographs. A gate that was not measured holds."""

    gains: dict[str, float] = field(default_factory=dict)
    named: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, main: pd.DataFrame, quality_sets: pd.DataFrame | None = None) -> Gates:
        """Gates from tables.main_table and the sets that 07_quality measured, if it ran."""
        gains: dict[str, float] = {}
        for dataset, rows in main.groupby("dataset"):
            arms = rows.set_index("arm")["mean"]
            if {"real", "zero-shot"} <= set(arms.index):
                gains[str(dataset)] = float(arms["real"] - arms["zero-shot"])
        named: dict[tuple[str, str], tuple[float, float]] = {}
        if quality_sets is not None and len(quality_sets):
            for dataset, rows in quality_sets.groupby("dataset"):
                share = rows.set_index("set")["recognised"]
                for name in share.index[share.index.str.startswith("datadream ")]:
                    variant = name.removeprefix("datadream ")
                    named[str(dataset), variant] = float(share[name]), float(share["real"])
        return cls(gains, named)

    def not_valid_because(self, datasets: Iterable[str], names: Iterable[str] = ()) -> str:
        """Which gates fail for a comparison of these data sets and recipes; "" where none does."""
        wanted = set(datasets)
        found = []
        gains = {d: self.gains[d] for d in sorted(wanted & set(self.gains))}
        if gains and set(gains) == wanted and all(g < HEAD_ROOM for g in gains.values()):
            each = ", ".join(f"{d} {g:+.1f}" for d, g in gains.items())
            found.append(
                f"real gains less than {HEAD_ROOM:g} points over zero-shot on every data set "
                f"({each})"
            )
        variants = {recipes.parse(n.rpartition(":")[2]).variant for n in names}
        poor = [
            f"{d} {100 * own:.0f} % of {v} images, {100 * real:.0f} % of photographs"
            for (d, v), (own, real) in sorted(self.named.items())
            if d in wanted and v in variants and own < NAMED * real
        ]
        if poor:
            found.append(f"CLIP names the class of too few generated images ({'; '.join(poor)})")
        return "; ".join(found)


def interval_text(row: Mapping[str, Any]) -> str:
    """An estimate with its interval and level, as "-0.77 [-2.23, +0.94]" at the usual 95 %, else
    "-0.77 [-2.23, +0.94] (98.3 %)"; "" where there is none.

    row: ours, low, high (points), confidence (0..1).
    """
    if pd.isna(row["ours"]):
        return ""
    level = row.get("confidence", 0.95)
    usual = pd.isna(level) or abs(level - 0.95) < 1e-9
    end = "" if usual else f" ({100 * level:.1f} %)"
    return f"{row['ours']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]{end}"
