"""No interval from fewer than LEAST units: the one rule of every figure, table and page.

symbols   unit    a replicate; in a study of one draw a seed
          bounds  low, high (95 %), low90, high90 of an interval, in points

A CSV keeps the bounds that were computed; what people read (figures, Markdown, LaTeX, notebooks,
report, README and docs, the screen of `make study`) shows an estimate of few units without them.
"""

from __future__ import annotations

import pandas as pd

LEAST = 4  # units without which no interval is shown and no verdict given
BOUNDS = ("low", "high", "low90", "high90")
COUNTS = ("units", "seeds")  # columns that count units, the first that a table has
LACKING = r"(no answers of .*)"  # what a claim's detail says of recipes that were not run


def without_few(table: pd.DataFrame, units: int | None = None) -> pd.DataFrame:
    """The table with missing bounds in rows of fewer than LEAST units.

    units: of every row, for a table that does not count them; a table without bounds, or without
    a count, stays as it is. What a claim's rule says in `detail` holds bounds too and goes with
    them; that answers are lacking stays. Zero-shot has no seeds: it keeps its bounds where what was
    trained keeps them.
    """
    count = next((c for c in COUNTS if c in table), None)
    bounds = [c for c in BOUNDS if c in table]
    if not bounds or (count is None and units is None):
        return table
    if count is None:
        few = pd.Series(bool(units is not None and units < LEAST), index=table.index)
    else:
        few = pd.to_numeric(table[count], errors="coerce").lt(LEAST).fillna(False).astype(bool)
    if "arm" in table:
        untrained = table["arm"] == "zero-shot"
        few = few.mask(untrained, bool(few[~untrained].all()))
    out = table.assign(**{c: table[c].astype(float).mask(few) for c in bounds})
    if "detail" in table and few.any():
        words = table["detail"].fillna("").astype(str)
        out["detail"] = words.mask(few, words.str.extract(LACKING, expand=False).fillna(""))
    return out


def least_units(table: pd.DataFrame) -> int:
    """The fewest units of a table's rows; 0 for an empty table."""
    return int(table[next(c for c in COUNTS if c in table)].min()) if len(table) else 0
