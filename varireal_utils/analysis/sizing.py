"""How many replicates a further study needs, from the spread over replicates of a published one.

    python -m varireal_utils.analysis.sizing      writes results/sizing.csv

Reads spreads alone: no mean, no verdict. Of the claims of parts.FAMILIES, first asked or asked
again, on the arms that the published study has.

symbols   spread   standard deviation of a claim's number over replicates, points
          half     half width of its 90 % interval with R replicates, points
          needed   the least R whose half width is at most WANTED, by that spread
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from scipy import stats

from ..core import storage
from . import claim_file, parts
from .claim_file import Claim

REPLICATES = (27, 36, 48)
WANTED = 0.2  # points
PATH = Path("results/sizing.csv")


def half_width(spread: float, replicates: int) -> float:
    """Half width of a 90 % interval of a mean of `replicates` numbers (at least two), points."""
    return float(stats.t.ppf(0.95, replicates - 1) * spread / replicates**0.5)


def needed(spread: float, wanted: float = WANTED) -> int:
    """The least number of replicates whose 90 % interval is at most `wanted` to each side."""
    count = 2
    while half_width(spread, count) > wanted:
        count += 1
    return count


def table(answers: pd.DataFrame, listed: list[Claim]) -> pd.DataFrame:
    """claim, again, spread (points), half_27, half_36, half_48 (points), needed (replicates).

    answers: of a published study, load.predictions; listed: of claim_file.load; a claim of
    which an attribute has no arm is left out.
    """
    each = parts.by_attribute(answers, listed).dropna(subset=["replicate"])
    values = each.pivot_table("difference", ["claim", "replicate"], "attribute").dropna()
    spreads = values.mean(axis=1).groupby(level="claim").std()
    rows = []
    for claim in listed:
        if claim.id not in spreads:
            continue
        found = float(spreads[claim.id])
        half = {f"half_{count}": half_width(found, count) for count in REPLICATES}
        row = {"claim": claim.id, "again": claim.again, "spread": found}
        rows.append({**row, **half, "needed": needed(found)})
    return pd.DataFrame(rows)


def kept(root: Path = Path(".")) -> pd.DataFrame:
    """The table that was written to PATH. Raises FileNotFoundError where it was not."""
    return pd.read_csv(root / PATH, keep_default_na=False, na_values=[])


if __name__ == "__main__":
    published = storage.read_table(Path("results/registered/answers.parquet"))
    storage.write_table(PATH, table(published, claim_file.load()))
    print(f"{PATH}: written")
