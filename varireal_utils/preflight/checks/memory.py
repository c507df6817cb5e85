"""Memory of the device against what the models of each stage need together."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from ...core.config import StudyConfig
from ...core.config_sections import ModelSpec
from ..check import Check, Finding, judged
from ..workspace import Workspace
from . import datadream, edits, training, weights

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
STAGES = {"04_edit": edits.roles, "05_datadream": datadream.roles, "06_classify": training.roles}


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each stage."""
    total = capacity(bench.device)
    for stage, need in planned_peaks(bench.config).items():
        yield judged(
            "memory",
            stage,
            need <= total,
            f"{total:,.1f} GB on this {bench.device.type}",
            f"{need:,.1f} GB",
            "choose a parameter file for this card, set offload: model or quantization for the "
            "largest role, or lower edit.batch_size",
        )


def capacity(device: torch.device) -> float:
    """Memory of a device, in 1e9 bytes; of a CPU, the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def planned_peaks(config: StudyConfig) -> dict[str, float]:
    """Stage -> 1e9 bytes that it cannot do without: the weights of its largest model, as roles are
    loaded in turn; what they compute comes on top."""
    models, out = config.models.present(), {}
    for stage, roles in STAGES.items():
        needs = [_weights(r, models[r]) for r in roles(config) if r in models]
        if needs:
            out[stage] = max(needs)
    return out


def _weights(role: str, spec: ModelSpec) -> float:
    """1e9 bytes of a role's weights in its type; 0 where nobody knows."""
    size, parts = spec.size_gb or 0.0, [p for _, p in weights.places(role, spec)]
    there = [p for p in parts if p is not None and p.exists()]
    if there and len(there) == len(parts):
        files = [f for place in there for f in weights.weight_files(place, spec)]
        size = sum(_bytes(f, BYTES.get(spec.dtype, 4)) for f in files) / 1e9
    return size * {"none": 1.0, "8bit": 0.5, "4bit": 0.25}[spec.quantization]


def _bytes(path: Path, each: int) -> int:
    """Bytes of a file's numbers when each has so many; its own size where it has no header."""
    try:
        found, _ = weights.header(path)
    except (ValueError, OSError):
        return path.stat().st_size
    shapes = [v["shape"] for k, v in found.items() if k != "__metadata__"]
    return each * sum(math.prod(s) for s in shapes)


CHECK = Check(
    "memory",
    "Do the models fit into the device's memory?",
    run,
    "see `plan`, which prints what each stage needs",
)
