"""Time limits of jobs on a cluster, from the hours that `plan` states (cost.py).

    minutes(config)   a job's folder below the study's -> minutes

A limit is twice the most hours of the plan, for an estimate leaves out decoding, loading and idle
time; at least LEAST. A job whose hours nobody knows gets UNKNOWN. A job that is ended at its limit
goes on from its last finished batch when the study is run again.

Invariant (tests/unit/test_time_limits.py): no job of a shipped file has less than twice its hours.
"""

from __future__ import annotations

from ..core.config import StudyConfig
from . import cost, stages

LEAST, UNKNOWN = 60, 1440  # minutes


def minutes(config: StudyConfig) -> dict[str, int]:
    """Time limit of every job of a study."""
    lines = {(line.stage, line.what): line for line in cost.jobs(config)}
    found = {}
    for job in stages.jobs(config):
        hours = _hours(job, lines)
        found[job.name] = UNKNOWN if hours is None else max(LEAST, round(120 * hours + 0.5))
    return found


def _hours(job: stages.Job, lines: dict[tuple[str, str], cost.Job]) -> float | None:
    """The most hours that a job takes by the plan; None where it does not say."""
    line = lines.get((job.stage.name, _what(job)))
    if line is None or line.hours is None:
        return None
    parts = job.config.edit.shards if job.stage.name == "04_edit" else 1
    return line.hours[1] / line.count / parts


def _what(job: stages.Job) -> str:
    """The line of the plan that a job is of."""
    target, own = job.target, job.config.classify
    if job.stage.name == "04_edit":
        return f"{target['attribute']} {target['dataset']} {target['feasibility']}"
    if job.stage.name == "06_classify" and target.get("recipe"):
        seeds = own.seeds[:1] if target["recipe"] == "zero_shot" else own.seeds
        return f"{target['dataset']} {target['recipe']} seeds {' '.join(map(str, seeds))}"
    return job.what
