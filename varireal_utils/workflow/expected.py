"""Which jobs a study has, and with which settings, by the parameters that its records hold.

config_of(parameters, folder)    the configuration of a record, None where it cannot be read
of_records(folder, records)      the jobs that the newest record's parameters ask for
folders(config)                  the folders of a study that its configuration names
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.config import ParameterError, StudyConfig, checked
from ..data.image_record import DatasetError
from . import stages


def config_of(parameters: Any, where: str) -> StudyConfig | None:
    """The configuration that a record was made under; None for one of another version."""
    if not isinstance(parameters, dict):
        return None
    try:
        return checked(parameters, where)
    except (ParameterError, TypeError, ValueError):
        return None


def newest(folder: Path, records: dict[str, dict[str, Any]]) -> StudyConfig | None:
    """The configuration of the record that was begun last; of all replicates where it is of one."""
    dated = [r for r in records.values() if isinstance(r.get("key"), dict)]
    if not dated:
        return None
    last = max(dated, key=lambda r: str(r.get("started", "")))
    config = config_of(last.get("parameters"), f"{folder}")
    return config and config.model_copy(update={"replicate": None})


def of_records(
    folder: Path, records: dict[str, dict[str, Any]], parts: bool = False
) -> dict[str, stages.Job] | None:
    """Job -> job, of those that the newest record's parameters ask for, without parts of others
    unless `parts`; None where they cannot be read."""
    config = newest(folder, records)
    if config is None:
        return None
    try:
        jobs = {job.name: job for job in stages.jobs(config)}
        inner = {part.name for job in jobs.values() for part in job.parts()}
    except (ParameterError, DatasetError):
        return None
    return {name: job for name, job in jobs.items() if parts or name not in inner}


def folders(config: StudyConfig) -> set[str]:
    """Folders below the study's that its configuration names: those of jobs and single trainings;
    what an attribute taken out of the file left behind is none of them."""
    of_jobs = {job.name for job in stages.jobs(config)}
    trained = {
        config.paths.classify(dataset, recipe, seed)
        for dataset in config.datasets
        for recipe in config.classify.recipes
        for seed in config.classify.seeds
    }
    return of_jobs | {p.relative_to(config.paths.root).as_posix() for p in trained}
