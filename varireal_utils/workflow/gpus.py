"""The GPUs of this machine, and how a study's jobs share them out.

    found(config)   the devices that jobs may use; none on a CPU
    Share           what each job takes of them

A job that computes on a GPU (`Stage.gpu`) gets one of its own; trainings of classifiers, which
leave most of a GPU idle (docs/benchmarks.md), share one where its memory holds several by the peak
that `plan` states. gpu_slots.py gives a job its device. On a cluster the scheduler does all this.

Invariant (tests/unit/test_gpus.py): without GPUs neither graph nor commands differ from before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.config import StudyConfig
from ..core.device import device_name
from . import memory
from .gpu_slots import UNITS, VISIBLE
from .stages import Job

MOST = 4  # trainings on one GPU, unless the parameters say more: not measured yet
FREE = 0.1  # of its memory that stays free
_MEMORY = (
    "import torch; n = range(torch.cuda.device_count())\n"
    "print(min(torch.cuda.get_device_properties(i).total_memory for i in n))"
)


@dataclass(frozen=True)
class Gpus:
    """names: as in CUDA_VISIBLE_DEVICES; trainings: side by side on each."""

    names: tuple[str, ...] = ()
    trainings: int = 1

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Gpus:
        """Those that the driver has told Snakemake of."""
        names = settings.get("gpus", [])
        return cls(tuple(map(str, names)), int(settings.get("trainings", 1)))

    def told(self) -> list[str]:
        """Words of Snakemake's --config, of which `of` makes these again."""
        names = f"gpus={json.dumps(self.names)}"
        return [names, f"trainings={self.trainings}"] if self.names else []

    def limit(self) -> list[str]:
        """Words that tell Snakemake how much there is to be had."""
        units = len(self.names) * UNITS
        return ["--resources", f"gpu_units={units}"] if units else []

    def needs(self, job: Job) -> tuple[int, int]:
        """(devices, units of each) that a job takes; (0, 0) for one that needs none."""
        if not self.names or not job.stage.gpu(job.config):
            return 0, 0
        count = 1
        if job.stage.name == "04_edit":
            count = job.config.edit.processes
        elif job.stage.name == "06_classify":
            count = job.config.classify.processes
        if count > 1 or job.stage.name != "06_classify":
            return min(count, len(self.names)), UNITS
        return 1, -(-UNITS // self.trainings)

    def units(self, job: Job) -> int:
        """Units of all devices that a job takes."""
        count, units = self.needs(job)
        return count * units

    def side_by_side(self, job: Job) -> int:
        """How many jobs of this kind run at once; 1 for one that needs no device."""
        units = self.units(job)
        return len(self.names) * UNITS // units if units else 1

    def words(self, job: Job) -> list[str]:
        """What stands before the command of a job."""
        count, units = self.needs(job)
        if not units:
            return []
        words = [sys.executable, "-m", "varireal_utils.workflow.gpu_slots"]
        words += ["--devices", ",".join(self.names), "--count", str(count), "--units", str(units)]
        return [*words, "--"]


def found(config: StudyConfig) -> Gpus:
    """The GPUs of this machine, at most `gpus` of them where the parameters give that."""
    if device_name(config.device) != "cuda":
        return Gpus()
    import torch

    names = visible(os.environ.get(VISIBLE), torch.cuda.device_count())
    names = names[: config.gpus or len(names)]
    return Gpus(names, trainings(config, names))


def visible(given: str | None, count: int) -> tuple[str, ...]:
    """The devices by name. given: CUDA_VISIBLE_DEVICES, None without it; count: devices that a
    process sees, of several MIG instances always one."""
    if given is None:
        return tuple(map(str, range(count)))
    names: list[str] = []
    for name in map(str.strip, given.split(",")):
        if name in ("", "-1"):  # CUDA reads no further
            break
        names.append(name)
    mig = any(name.startswith("MIG") for name in names)
    return tuple(names if mig else names[:count])


def trainings(config: StudyConfig, names: tuple[str, ...]) -> int:
    """Trainings of classifiers that one of the devices holds side by side."""
    if config.chain:  # one kernel makes everything of a data set
        return 1
    if config.trainings_per_gpu:
        return config.trainings_per_gpu
    peaks = [p.gb for p in memory.peaks(config) if p.stage == "06_classify"]
    if not names or not peaks or any(gb is None for gb in peaks):
        return 1
    room = (1 - FREE) * min(map(memory_gb, names))
    return max(1, min(MOST, int(room // max(gb for gb in peaks if gb is not None))))


def memory_gb(name: str) -> float:
    """GB (1e9 bytes) of a device; 0 where that cannot be read. Asked in a process of its own, since
    who asks would hold a part of it until it ends."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY],
            env={**os.environ, VISIBLE: name},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return int(done.stdout.split()[-1]) / 1e9
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0.0
