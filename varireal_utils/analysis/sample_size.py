"""Power and sample size from a pilot study's variance components (bootstrap.variance).

A comparison is inconclusive for want of seeds or of test images. Which, and how many more, follows
from the tests that give the verdict: two one-sided t tests for "equivalent", the two-sided one for
"different", at Satterthwaite's degrees of freedom of the larger study.

symbols   cells    one or more tables (seeds, images) of correct_a - correct_b
          truth    points; the difference that is taken to be true. 0 for "equivalent": the edits
                   that differ in nothing; what was seen, for "different"
          power    0..1, the chance of that verdict

Invariant: a study of the size named has at least the power named, if the components are true
(tests/unit/test_simulations.py simulates 1000 of them). Components from few seeds are rough, so
the numbers are orders of magnitude then, not promises. Theory: Schuirmann 1987 (two one-sided
tests); Satterthwaite 1946.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from scipy import stats as sps

from . import bootstrap

MOST = 1_000_000  # beyond this a number of seeds or images is called none
VERDICTS = ("equivalent", "different")


def expected(
    cells: bootstrap.CELLS, seeds: int | None = None, images: int | None = None
) -> tuple[float, float]:
    """Standard error in points and degrees of freedom of the pooled mean, at another size.

    seeds, images: of each table; None leaves the number as it is. Raises ValueError where seeds
    are changed that were never varied: one seed does not say how much another would differ.
    """
    return _error(_parts(cells, seeds is not None), seeds, images)


def _parts(cells: bootstrap.CELLS, vary: bool) -> list[tuple[bootstrap.Variance, int, int]]:
    found = [(bootstrap.variance(t), *t.shape) for t in bootstrap._tables(cells)]
    if vary and any(s == 1 for _, s, _ in found):
        raise ValueError(
            "One seed says nothing of how seeds differ: run a second one, then ask "
            "how many are needed."
        )
    return found


def _error(
    parts: list[tuple[bootstrap.Variance, int, int]], seeds: int | None, images: int | None
) -> tuple[float, float]:
    total, spread = 0.0, 0.0
    for part, own_seeds, own_images in parts:
        s, n = seeds or own_seeds, images or own_images
        between, columns = n * part.seeds, part.residual + s * part.images
        if own_seeds == 1:  # its one row holds image and residual noise together
            columns = part.images
        if s == 1 and between > 0:
            return math.inf, 1.0  # the next seed may be any
        v = (between + columns) / (s * n)
        squares = columns**2 / max(n - 1, 1)
        if between > 0:
            squares += (between + part.residual) ** 2 / (s - 1)
            squares += part.residual**2 / max((s - 1) * (n - 1), 1)
        df = (between + columns) ** 2 / squares if squares > 0 else float(n)
        total, spread = total + v, spread + v**2 / max(df, 1.0)
    return 100 * math.sqrt(total) / len(parts), max(total**2 / spread, 1.0) if spread else math.inf


def chance(
    se: float,
    df: float,
    margin: float,
    verdict: str = "equivalent",
    truth: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Power 0..1 of a verdict: se, margin and truth in points, tests at level alpha."""
    if verdict not in VERDICTS:
        raise ValueError(f"verdict is {verdict!r}, wanted one of {VERDICTS}.")
    if math.isinf(se):
        return 0.0
    if verdict == "equivalent":
        if se == 0:
            return float(abs(truth) < margin)
        q = float(sps.t.ppf(1 - alpha, df))
        above, below = (truth + margin) / se, (truth - margin) / se
        return max(0.0, _below(-q, df, below) - _below(q, df, above))
    if se == 0:
        return float(truth != 0)
    q = float(sps.t.ppf(1 - alpha / 2, df))
    return 1 - _below(q, df, truth / se) + _below(-q, df, truth / se)


def _below(x: float, df: float, shift: float) -> float:
    """Noncentral t's distribution; where it is out of reach numerically, the normal's."""
    if abs(shift) < 30 and df < 1e6:
        p = float(sps.nct.cdf(x, df, shift))
        if 0 <= p <= 1:
            return p
    return float(sps.norm.cdf(x - shift))


def needed(
    cells: bootstrap.CELLS,
    margin: float,
    verdict: str = "equivalent",
    truth: float = 0.0,
    power: float = 0.8,
    alpha: float = 0.05,
) -> dict:
    """The smallest study that gives a verdict with `power`: seeds (with the test images as they
    are) and images (of each table, with the seeds as they are); None where no number would do,
    because the other source of noise alone is too large."""
    parts = _parts(cells, False)

    def enough(seeds: int | None = None, images: int | None = None) -> bool:
        return chance(*_error(parts, seeds, images), margin, verdict, truth, alpha) >= power

    single = any(s == 1 for _, s, _ in parts)
    return {
        "seeds": None if single else least(lambda k: enough(seeds=k)),
        "images": least(lambda k: enough(images=k)),
    }


def least(enough: Callable[[int], bool]) -> int | None:
    """The smallest number for which `enough` holds, given that it goes on holding."""
    high = 1
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def table(
    effects: dict[tuple, list],
    margin: float,
    keys: list[str],
    power: float = 0.8,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """One row for each comparison: `keys`, seeds, images (fewest of a table), difference, se,
    power_equivalent (of this study, were there no difference), seeds_equivalent,
    images_equivalent, seeds_different, images_different (were the difference seen the true one)
    and settles (the shorter way in words). <NA> where no number would do."""
    rows = []
    for key, cells in effects.items():
        arrays = bootstrap._tables(cells)
        se, df = _error(_parts(arrays, False), None, None)
        mean = 100 * sum(float(t.mean()) for t in arrays) / len(arrays)
        row = dict(zip(keys, key, strict=True)) | {
            "seeds": min(len(t) for t in arrays),
            "images": min(t.shape[1] for t in arrays),
            "difference": mean,
            "se": se,
            "power_equivalent": chance(se, df, margin, alpha=alpha),
        }
        for verdict, truth in (("equivalent", 0.0), ("different", mean)):
            found = needed(arrays, margin, verdict, truth, power, alpha)
            row |= {f"{what}_{verdict}": found[what] for what in ("seeds", "images")}
        rows.append(row | {"settles": settles(row)})
    whole = [f"{what}_{verdict}" for what in ("seeds", "images") for verdict in VERDICTS]
    return pd.DataFrame(rows).astype({c: "Int64" for c in whole}) if rows else pd.DataFrame()


def settles(row: dict) -> str:
    """In words what a study must add to a row of `table` for one of the two verdicts.

    Read it of an inconclusive comparison. The way to the verdict that is nearer is named; both
    ways are given where both lead there: more seeds or more test images (of each data set).
    """
    ways = []
    for what, word in (("seeds", "seeds"), ("images", "test images a data set")):
        found = [int(row[f"{what}_{v}"]) for v in VERDICTS if row[f"{what}_{v}"] is not None]
        if found:
            ways.append(f"{max(min(found) - row[what], 1):,} more {word}")
    if not ways:
        return "more seeds and more test images together; neither alone would settle it"
    if row["seeds"] > 1 and "seeds" not in ways[0]:
        return f"{ways[0]} would settle it; no number of seeds with these images"
    return f"{' or '.join(ways)} would settle it"
