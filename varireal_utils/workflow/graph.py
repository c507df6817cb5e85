"""The graph of a study as the Snakefile needs it: rules, inputs and commands by a job's folder.

Every input is "ancient": what must run has no record (status.settle), so times of files decide
nothing.

Snakemake works in the repository. Where that cannot be written, or the study's path has braces,
which Snakemake takes for wildcards, it works in the study's folder (`apart`): files are then named
as seen from there, and commands begin in the repository. What reads files here does so at once,
while the Snakefile is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.config import StudyConfig
from ..core.cores import SIDE_BY_SIDE
from . import chain, stages, time_limits
from .gpus import MOST, Gpus
from .invocation import configured, split_settings, thawed
from .stages import Job

BEGIN = """sh -c 'cd "$0" && exec "$@"'"""  # a command in another folder
JOB_THREADS = 8  # of an editing or training job on a cluster; a profile's set-threads changes it


def apart(root: Path) -> bool:
    """Whether Snakemake must work in the study's folder."""
    return not os.access(".", os.W_OK) or any(c in str(root) for c in "{}")


def record(job: Job, home: bool) -> str:
    """The record of a job as Snakemake names it. home: whether it works in the study's folder."""
    return f"{job.name}/run.json" if home else job.record.as_posix()


def word(key: str, *texts: str) -> str:
    """A word of Snakemake's --config, as a list: of a text it would take off the quotation marks,
    and take what is left for YAML."""
    return f"{key}={json.dumps(texts, ensure_ascii=False)}"


def _text(settings: Mapping[str, Any], key: str, default: str) -> str:
    value = settings.get(key, default)
    return value[0] if isinstance(value, list) else value


class Graph:
    """The jobs of a study by their folder below the study's."""

    def __init__(self, settings: Mapping[str, Any]):
        """settings: Snakemake's `config`: params, settings, notebooks, frozen, the configuration
        as the driver read it, threads of a job and GPUs where jobs run on this machine, and home,
        the repository, where Snakemake does not work in it."""
        self.home = _text(settings, "home", "")
        with contextlib.chdir(self.home or "."):
            self._read(settings)

    def _read(self, settings: Mapping[str, Any]) -> None:
        self.params = _text(settings, "params", "params/micro.yaml")
        self.notebooks = _text(settings, "notebooks", "notebooks")
        self.frozen, words = _text(settings, "frozen", ""), settings.get("settings", [])
        if self.frozen:
            self.config = thawed(Path(self.frozen), self.params)
            self.overrides = split_settings(words, {}, StudyConfig.model_fields, self.params)[1]
        else:
            self.config, self.overrides = configured(self.params, words)
        self.root = "" if self.home else f"{self.config.whole.root.as_posix()}/"
        self.jobs = {job.name: job for job in stages.jobs(self.config)}
        self.chains = chain.chains(self.config)
        self.last_of = {  # job -> the last one of the chain that makes it
            job.name: last for last, links in self.chains.items() for job in links
        }
        self.cores = int(settings.get("threads", 0))  # of this machine; 0 where jobs run elsewhere
        self.threads = self.config.job_threads or self.cores or JOB_THREADS
        self.gpus = Gpus.of(settings)
        self._inputs = {name: self._waits_for(job) for name, job in self.jobs.items()}
        self._minutes = time_limits.minutes(self.config)

    def rules(self) -> dict[str, list[Job]]:
        """Rule -> its jobs; of a chain the last one, which makes the others."""
        out: dict[str, list[Job]] = {}
        for name, job in self.jobs.items():
            if self.last_of.get(name, name) == name:
                out.setdefault(job.rule, []).append(job)
        return out

    def records(self) -> list[str]:
        """The record of every job that makes no part of another one's files, nor of a chain."""
        parts = {part.name for job in self.jobs.values() for part in job.parts()}
        parts |= {name for name, last in self.last_of.items() if name != last}
        return [self._record(job) for name, job in self.jobs.items() if name not in parts]

    def _record(self, job: Job) -> str:
        return record(job, bool(self.home))

    def inputs(self, name: str) -> list[str]:
        """The records that a job waits for; parts of files that are there are not asked for."""
        return self._inputs[name]

    def _waits_for(self, job: Job) -> list[str]:
        if job.name in self.chains:
            return []
        parts = [] if job.record.is_file() else job.parts()
        above = (self.last_of.get(up.name, up.name) for up in (*job.upstream(), *parts))
        return [self._record(self.jobs[up]) for up in dict.fromkeys(above)]

    def job_threads(self, job: Job) -> int:
        """CPU threads of a job: those of jobs on GPUs share the cores out."""
        if not job.stage.parallel:
            return 1
        if self.config.job_threads:
            return self.threads
        return max(1, self.threads // self.gpus.side_by_side(job))

    def side_by_side(self, name: str) -> int:
        """Computations that a job runs at once on a CPU, each with the threads of a job: where all
        jobs of its kind together would leave cores idle."""
        job = self.jobs[name]
        alike = sum(other.rule == job.rule for other in self.jobs.values())
        if not self.config.job_threads or name in self.last_of or self.gpus.names:
            return 1
        idle = self.cores // (self.config.job_threads * alike)
        return max(1, min(MOST, idle, job.stage.pieces(job.config, job.target)))

    def gpu_units(self, name: str) -> int:
        """What a job takes of the GPUs of this machine; 0 where there are none."""
        return self.gpus.units(self.jobs[name])

    def minutes(self, name: str) -> int:
        """The time limit of a job on a cluster."""
        return sum(self._minutes[job.name] for job in self.chains.get(name, [self.jobs[name]]))

    def command(self, name: str) -> str:
        """The shell command of a job."""
        words = self.jobs[name].command(self.params, self.overrides, self.notebooks, self.frozen)
        words += " --upstream" * (name in self.chains)
        words = " ".join([*map(shlex.quote, self.gpus.words(self.jobs[name])), words])
        if (count := self.side_by_side(name)) > 1:
            words = f"env {SIDE_BY_SIDE}={count} {words}"
        return f"{BEGIN} {shlex.quote(self.home)} {words}" if self.home else words
