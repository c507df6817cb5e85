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

import numpy as np
import pandas as pd
from scipy import stats

from ..core import storage
from . import claim_file, contrasts
from .claim_file import Claim
from .contrasts import by_dataset, by_replicate
from .parts import FAMILIES

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


def spread(claim: Claim, cells: contrasts.Cells) -> float:
    """Standard deviation over replicates of a claim's number, the mean of its cells, points; NaN
    where an arm is lacking."""
    members = {}
    for dataset in sorted({d for d, _ in cells}):
        for values, weights in claim.cells():
            table = contrasts.contrast(cells, dataset, weights)
            if table is None:
                return float("nan")
            members[dataset, *values] = table
    return float(np.std(by_replicate(by_dataset(members)), ddof=1))


def table(answers: pd.DataFrame, listed: list[Claim]) -> pd.DataFrame:
    """claim, again, spread (points), half_27, half_36, half_48 (points), needed (replicates).

    answers: of a published study, load.predictions; listed: of claim_file.load.
    """
    cells, rows = contrasts.cells_of(answers), []
    for claim in listed:
        if claim.family not in FAMILIES:
            continue
        found = spread(claim, cells)
        if np.isnan(found):
            continue
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
