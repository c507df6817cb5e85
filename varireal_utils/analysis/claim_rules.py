"""The rules by which claims are decided. Adding one is one function and one line of RULES.

    test            holds if ...                            is denied if ...
    mostly_within   more than `threshold` of the true       they do not: the posterior
                    effects lie within +-margin: posterior  probability is at most 5 %
                    probability at least 95 %
    within          the mean over all cells lies within     it lies beyond (two-sided t test
                    +-margin (two one-sided tests)          against the margin)
    varies          the groups' means are not all equal     every pair of them differs by less
                    (Hotelling's T squared)                 than the margin (two one-sided
                                                            tests of each pair)
    all_gain        every group's mean is above 0           some group's mean is below 0
                    (the largest p value: its minimum)      (Holm's smallest p value)

Every p value comes from the replicates' t distribution (inference.py) or from the posterior of
true_effects.py. A claim's two directions exclude each other, so at most one can err; `all_gain`
alone has a border that both touch, gains of just 0, and doubles its p values. Which p value is
small enough is verdict.decide's to say.

symbols   cells    (R, k)   estimates of the k cells in R replicates, points
          groups   (g, k)   weights: means over the cells that share the values of `between`
          shown    (k,)     weights of the quantity whose interval the claim's row shows

Cells of one data set are averaged before data sets, which have equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import inference, true_effects
from .inference import Estimate


@dataclass(frozen=True)
class Prior:
    """Of the spread of true effects: half-normal with this scale, in points; their mean's is
    flat. threshold: the share of true effects that is "mostly", 0..1."""

    scale: float
    threshold: float


@dataclass(frozen=True)
class Evidence:
    """What a rule decides by. keys: of each cell, (data set, values of `over`); between: places in
    a key that a group's cells share; margin in points; trainings: of each cell, whose noise may
    differ; prior: of mostly_within."""

    cells: np.ndarray
    keys: list[tuple[str, ...]]
    between: tuple[int, ...]
    margin: float
    confidence: float
    trainings: list[str]
    prior: Prior | None = None

    def groups(self) -> tuple[list[str], np.ndarray]:
        """(names, weights (g, k)) of the groups; one group "all" where `between` is empty."""
        names = [" ".join(key[i] or "edited" for i in self.between) or "all" for key in self.keys]
        order = list(dict.fromkeys(names))
        weights = np.zeros((len(order), len(names)))
        for row, name in enumerate(order):
            own = [j for j, n in enumerate(names) if n == name]
            datasets = [self.keys[j][0] for j in own]
            for j in own:
                weights[row, j] = 1 / len(set(datasets)) / datasets.count(self.keys[j][0])
        return order, weights


@dataclass(frozen=True)
class Outcome:
    """What a rule found: both p values, the estimate that the row shows, of which cells, in words,
    and the replicates that the rule needs; share: of mostly_within."""

    p_holds: float
    p_denied: float
    estimate: Estimate
    shown: np.ndarray
    detail: str
    least: int = inference.LEAST
    share: tuple[float, float, float] = (math.nan, math.nan, math.nan)


POSTERIOR_LEAST = 8  # with fewer replicates S, which the posterior takes as known, is too rough


Rule = Callable[[Evidence], Outcome]


def within(evidence: Evidence) -> Outcome:
    """The pooled mean against the margin."""
    shown = evidence.groups()[1].mean(0)
    got = inference.estimate(evidence.cells @ shown, evidence.margin, evidence.confidence)
    detail = f"90 % interval [{got.low90:.2f}, {got.high90:.2f}]"
    return Outcome(float(got.p_within), float(got.p_beyond), got, shown, detail)


def mostly_within(evidence: Evidence) -> Outcome:
    """The share of true effects within the margin, behind the noise of their estimates."""
    if evidence.prior is None:
        raise ValueError("mostly_within needs a prior and a threshold")
    pooled = within(evidence)
    if len(evidence.cells) < 2:
        return pooled
    s = true_effects.noise(evidence.cells, [k[0] for k in evidence.keys], evidence.trainings)
    found = true_effects.posterior(
        evidence.cells.mean(0),
        s,
        evidence.margin,
        evidence.prior.scale,
        evidence.prior.threshold,
    )
    detail = (
        f"{100 * found.share:.0f} % of {len(evidence.keys)} true effects within "
        f"±{evidence.margin:g} points (95 %: {100 * found.share_low:.0f} to "
        f"{100 * found.share_high:.0f}); probability that it is more than "
        f"{100 * evidence.prior.threshold:.0f} %: {found.probability:.2f}; their spread "
        f"{found.tau:.2f} points"
    )
    share = (found.share, found.share_low, found.share_high)
    p = found.probability
    return Outcome(1 - p, p, pooled.estimate, pooled.shown, detail, POSTERIOR_LEAST, share)


def varies(evidence: Evidence) -> Outcome:
    """Equality of the groups' means; the row shows the widest pair, with Scheffe's interval."""
    names, weights = evidence.groups()
    means = evidence.cells @ weights.T
    p_holds, above, free = inference.hotelling(means)
    listed = inference.pairs(len(names))
    steps = inference.spreads(means)
    each = inference.estimate(steps, evidence.margin, evidence.confidence)
    top = int(np.argmax(np.abs(each.mean)))
    best = inference.estimate(steps[top], evidence.margin, evidence.confidence)
    wide = inference.scheffe(means, evidence.confidence)
    half = float(wide * best.se) if best.se > 0 else 0.0
    simultaneous = Estimate(**{**best.__dict__, "low": best.mean - half, "high": best.mean + half})
    i, j = listed[top]
    detail = f"{names[i]} minus {names[j]}, the widest of {len(listed)} pairs"
    if free >= 1:
        detail += f"; all equal: F({above}, {free}), p = {float(p_holds):.3f}"
    return Outcome(
        float(p_holds),
        float(np.max(each.p_within)),
        simultaneous,
        weights[i] - weights[j],
        detail,
        least=max(inference.LEAST, len(names) + 2),
    )


def all_gain(evidence: Evidence) -> Outcome:
    """The least of the groups' gains against 0; the row shows that group."""
    names, weights = evidence.groups()
    gains = np.swapaxes(evidence.cells @ weights.T, -1, -2)
    each = inference.estimate(gains, evidence.margin, evidence.confidence)
    p_above = inference.above(each.mean, each.se, each.df)
    p_below = inference.above(-each.mean, each.se, each.df)
    least = int(np.argmin(each.mean))
    single = inference.estimate(gains[least], evidence.margin, evidence.confidence)
    detail = (
        f"{names[least]}, the least of {len(names)}; {int((each.mean > 0).sum())} of "
        f"{len(names)} gain; mean {float(each.mean.mean()):+.2f}"
    )
    return Outcome(
        min(1.0, 2 * float(p_above.max())),
        min(1.0, 2 * len(names) * float(p_below.min())),
        single,
        weights[least],
        detail,
    )


RULES: dict[str, Rule] = {
    "mostly_within": mostly_within,
    "within": within,
    "varies": varies,
    "all_gain": all_gain,
}
