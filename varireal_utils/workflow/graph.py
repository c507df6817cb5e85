"""The graph of a study as the Snakefile needs it: rules, inputs and commands by a job's folder.

Every input is "ancient": what must run has no record (status.settle), so times of files decide
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.config import StudyConfig
from . import stages, time_limits
from .runner import configured, split_settings, thawed
from .stages import Job

JOB_THREADS = 8  # of an editing or training job on a cluster; a profile's set-threads changes it


class Graph:
    """The jobs of a study by their folder below the study's."""

    def __init__(self, settings: Mapping[str, Any]):
        """settings: Snakemake's `config`: params, settings, notebooks, frozen, the configuration
        as the driver read it, and threads of a job where jobs run on this machine."""
        self.params = settings.get("params", "params/micro.yaml")
        self.notebooks = settings.get("notebooks", "notebooks")
        self.frozen, words = settings.get("frozen", ""), settings.get("settings", [])
        if self.frozen:
            self.config = thawed(Path(self.frozen), self.params)
            self.overrides = split_settings(words, {}, StudyConfig.model_fields, self.params)[1]
        else:
            self.config, self.overrides = configured(self.params, words)
        self.root = self.config.whole.root.as_posix()
        self.jobs = {job.name: job for job in stages.jobs(self.config)}
        self.threads = self.config.job_threads or int(settings.get("threads", JOB_THREADS))

    def rules(self) -> dict[str, list[Job]]:
        """Rule -> its jobs."""
        out: dict[str, list[Job]] = {}
        for job in self.jobs.values():
            out.setdefault(job.rule, []).append(job)
        return out

    def records(self) -> list[str]:
        """The record of every job that makes no part of another one's files."""
        parts = {part.name for job in self.jobs.values() for part in job.parts()}
        return [job.record.as_posix() for name, job in self.jobs.items() if name not in parts]

    def inputs(self, name: str) -> list[str]:
        """The records that a job waits for; parts of files that are there are not asked for."""
        job = self.jobs[name]
        parts = [] if job.record.is_file() else job.parts()
        return [up.record.as_posix() for up in (*job.upstream(), *parts)]

    def minutes(self, name: str) -> int:
        """The time limit of a job on a cluster."""
        return self._minutes[name]

    @cached_property
    def _minutes(self) -> dict[str, int]:
        return time_limits.minutes(self.config)

    def command(self, name: str) -> str:
        """The shell command of a job."""
        return self.jobs[name].command(self.params, self.overrides, self.notebooks, self.frozen)
