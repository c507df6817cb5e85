"""Batch sizes that fitted into a device's memory, kept for the other jobs of a study.

A batch that does not fit is halved after all of its work (core/oom_retry.py). Arms, shards and
resumed runs of the same attribute on the same kind of device begin with the size that fitted. A
size changes pictures by rounding alone; remove `.fits` of the study to have full batches tried.

Invariant (tests/unit/test_fits.py): what one job has found, the next one begins with, on this kind
of device and with these settings alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from ..core import storage
from ..core.config_base import content
from ..core.oom_retry import Fit
from ..core.stage import Run
from .slices import EditStage


def file_of(run: Run[EditStage]) -> Path:
    """Where the sizes of a run's work are kept: of both arms, for one kind of device."""
    own = run.settings
    return run.paths.fits(
        storage.sha256_json(
            {
                "attribute": own.attribute,
                "edit": content(own.edit),
                "models": content(own.models),
                "precision": str(run.dtype),
                "device": _kind(run.device),
            }
        )
    )


def _kind(device: torch.device) -> str:
    """A device by name and memory; its type where it has neither."""
    if device.type != "cuda":
        return device.type
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory} bytes"


def read(file: Path) -> dict[str, Fit]:
    """Stage of the work -> the size that fitted; nothing where no job has run out of memory."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        return {str(name): Fit(int(size)) for name, size in storage.read_json(file).items()}
    return {}


def write(file: Path, fits: dict[str, Fit]) -> None:
    """Keep the sizes of work that has run out of memory, where they are new; the smaller one where
    another job has found one meanwhile."""
    found, known = {name: fit.size for name, fit in fits.items() if fit.size}, read(file)
    least = {n: min(found.get(n, fit.size), fit.size) for n, fit in known.items()}
    sizes = found | least
    if sizes != {name: fit.size for name, fit in known.items()}:
        storage.write_json(file, sizes)
