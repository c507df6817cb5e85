"""All stages of a data set in one kernel: `chain: true` of a parameter file.

Starting a notebook, and loading torch and the models' libraries, takes about 8 s of a core. A study
of replicates starts hundreds of them, each with seconds of work. A chain runs the notebooks that a
data set's classifiers wait for, and theirs last, one after another in one kernel. Keys, records,
executed notebooks and results are those of separate runs.

    links(last)      the jobs of a chain, upstream first
    unmade(last)     those without a record, and the last: what a chain that was killed goes on with

Invariant (tests/notebooks/test_replicated_study.py): a chain writes the bytes of separate runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.config import ParameterError, StudyConfig
from . import invocation, stages
from .stages import Job

LAST = "06_classify"


def links(last: Job) -> list[Job]:
    """A job with all that it waits for, upstream first."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.name not in found:
            for above in job.upstream():
                add(above)
            found[job.name] = job

    add(last)
    return list(found.values())


def unmade(last: Job) -> list[Job]:
    """The links that have no record, and the last one: `study` sets aside the records that are not
    true any more (status.settle)."""
    return [job for job in links(last) if job is last or not job.record.is_file()]


def chains(config: StudyConfig) -> dict[str, list[Job]]:
    """Name of a chain's last job -> its links; none unless the parameters ask for them."""
    if not config.chain:
        return {}
    return {job.name: links(job) for job in stages.jobs(config) if job.stage.name == LAST}


def prepared(
    last: invocation.Job, params: str, notebooks: Path, frozen: Path | None
) -> list[invocation.Job]:
    """The runs of a chain that are to be made, of its last one (invocation.prepare). Raises
    ParameterError for a notebook of no stage."""
    own = {k: v for k, v in last.arguments.items() if k not in ("params", "overrides")}
    job = stages.find(last.stage, last.config, own) if last.config else None
    if job is None or last.config is None:
        raise ParameterError(f"--upstream: {last.stage} is no stage, so nothing is upstream of it")
    overrides = last.arguments["overrides"]
    found = []
    for link in unmade(job)[:-1]:
        settings = [f"{k}={v}" for k, v in link.given().items()]
        one = invocation.prepare(link.stage.name, params, settings, notebooks, frozen)
        arguments = one.arguments | {"overrides": overrides}
        executed = link.config.paths.notebooks / one.executed.name
        found.append(replace(one, arguments=arguments, executed=executed, config=link.config))
    return [*found, last]
