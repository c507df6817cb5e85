"""How many replicates a further study needs, from the spread over replicates of published ones.

    python -m varireal_utils.analysis.sizing      writes results/sizing.csv

Reads spreads alone: no mean, no verdict. Of the claims of parts.FAMILIES, first asked or asked
again, on the arms that the first published study has; of the placebo over all published studies.
`came` is what a claim that asks again measured in its own study, for comparison.

symbols   spread   standard deviation of a claim's number over replicates, points
          half     half width of its 90 % interval with R replicates, points
          needed   the least R whose half width is at most WANTED, by that spread
          passes   share of null studies of R replicates that show the placebo to be null
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ..core import shown, storage
from . import claim_file, parts
from .claim_file import Claim

REPLICATES = (27, 36, 48)
WANTED = 0.2  # points
PATH = Path("results/sizing.csv")
PLACEBO = ("placebo",)
GRID = 2000  # quantiles of the variance that `passing` averages over


def half_width(spread: float, replicates: int) -> float:
    """Half width of a 90 % interval of a mean of `replicates` numbers (at least two), points."""
    return float(stats.t.ppf(0.95, replicates - 1) * spread / replicates**0.5)


def needed(spread: float, wanted: float = WANTED) -> int:
    """The least number of replicates whose 90 % interval is at most `wanted` to each side."""
    count = 2
    while half_width(spread, count) > wanted:
        count += 1
    return count


def passing(spread: float, replicates: int, margin: float) -> float:
    """Share of studies of `replicates` numbers (at least two) of mean 0 whose 90 % interval lies
    within +-margin: two one-sided t tests. spread, margin: points."""
    quantiles = (np.arange(GRID) + 0.5) / GRID
    seen = spread * np.sqrt(stats.chi2.ppf(quantiles, replicates - 1) / (replicates - 1))
    room = margin - stats.t.ppf(0.95, replicates - 1) * seen / replicates**0.5
    inside = 2 * stats.norm.cdf(room / (spread / replicates**0.5)) - 1
    return float(np.where(room > 0, inside, 0.0).mean())


def spreads(
    answers: pd.DataFrame, listed: list[Claim], families: tuple[str, ...] = parts.FAMILIES
) -> tuple[pd.Series, int]:
    """Claim -> spread (points), and the number of replicates; a claim of which an attribute has no
    arm is left out. answers: of a published study, load.predictions."""
    each = parts.by_attribute(answers, listed, families=families).dropna(subset=["replicate"])
    values = each.pivot_table("difference", ["claim", "replicate"], "attribute").dropna()
    by_claim = values.mean(axis=1).groupby(level="claim")
    return by_claim.std(), int(by_claim.size().max()) if len(values) else 0


def pooled(found: list[tuple[float, int]]) -> float:
    """One spread of several studies' (spread, replicates), each by its degrees of freedom."""
    squares = sum(spread**2 * (count - 1) for spread, count in found)
    return float((squares / sum(count - 1 for _, count in found)) ** 0.5)


def table(studies: list[pd.DataFrame], listed: list[Claim]) -> pd.DataFrame:
    """claim, again, spread (points), half_27, half_36, half_48 (points), needed (replicates),
    came (points; NaN where no later study asked), passes_27, passes_36, passes_48 (0..1, of the
    placebo).

    studies: answers of published studies, load.predictions; the first has the claims' arms.
    listed: of claim_file.load.
    """
    own, _ = spreads(studies[0], listed)
    guards = [claim for claim in listed if claim.family in PLACEBO]
    each = [spreads(study, guards, PLACEBO) for study in studies]
    for claim in guards:
        own[claim.id] = pooled([(one[claim.id], count) for one, count in each if claim.id in one])
    later = [spreads(study, listed)[0] for study in studies[1:]]
    came = {claim: spread for one in later for claim, spread in one.items()}
    rows = []
    for claim in (c for c in listed if c.id in own):
        found = float(own[claim.id])
        row = {"claim": claim.id, "again": claim.again, "spread": found}
        row |= {f"half_{count}": half_width(found, count) for count in REPLICATES}
        row["needed"] = needed(found)
        row["came"] = came.get(claim.id, float("nan")) if claim.again else float("nan")
        if claim.family in PLACEBO:
            shares = {f"passes_{n}": passing(found, n, claim.margin) for n in REPLICATES}
            row |= shares
        rows.append(row)
    return pd.DataFrame(rows)


def kept(root: Path = Path(".")) -> pd.DataFrame:
    """The table that was written to PATH. Raises FileNotFoundError where it was not."""
    return pd.read_csv(root / PATH, keep_default_na=False, na_values=[])


if __name__ == "__main__":
    here = Path(".")
    published = [
        storage.read_table(shown.folder(here, name) / "answers.parquet")
        for name in shown.names(here)
    ]
    storage.write_table(PATH, table(published, claim_file.load()))
    print(f"{PATH}: written")
