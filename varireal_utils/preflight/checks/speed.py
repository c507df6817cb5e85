"""Images a second, as the checks before this one measured them, against the plan's hours."""

from __future__ import annotations

from collections.abc import Iterator

from ...workflow import cost
from ..check import Check, Finding
from ..workspace import Workspace

SLOW = 2.0  # times the plan's hours


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each stage whose rate was measured."""
    jobs = cost.jobs(bench.config)
    for stage in ("04_edit", "05_datadream", "06_classify"):
        rates = {what: rate for (name, what), rate in bench.rates.items() if name == stage}
        if not rates:
            continue
        images = _images(bench, jobs, stage)
        mean = len(rates) / sum(1 / r for r in rates.values())
        here = images / mean / 3600 if images else None
        found = [j.hours for j in jobs if j.stage == stage and j.hours]
        planned = sum(h[1] for h in found) if found else None
        slow = bool(here and planned and here > SLOW * planned)
        yield Finding(
            "speed",
            stage,
            "warn" if slow else "pass",
            f"{mean:.2f} images a second" + (f", {here:,.2g} hours of the study" if here else ""),
            f"the plan: {planned:,.2g} hours" if planned else "the plan has no hours",
            f"more than {SLOW:g} times the plan: is another process on this device? else lower "
            "steps, edit.images_per_real or recipes"
            if slow
            else "",
        )


def _images(bench: Workspace, jobs: list[cost.Job], stage: str) -> int:
    """Images that a stage makes, or trains on, in the whole study."""
    if stage != "06_classify":
        return sum(j.images or 0 for j in jobs if j.stage == stage)
    own = bench.config.classify
    trained = sum(r.replace(" ", "") != "zero_shot" for r in own.recipes)
    return trained * len(own.seeds) * own.steps * own.batch_size * len(bench.config.datasets)


CHECK = Check("speed", "Is the machine as fast as the plan says?", run, "see `plan`")
