"""Memory of the device against the peak of each stage, as `plan` computes it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ...core.config import StudyConfig
from ...core.config_sections import ModelSpec
from ...workflow import memory
from ...workflow.memory import Peak
from ..check import Check, Finding, judged
from ..workspace import Workspace
from . import weights

FREE = 0.05  # share of the memory that a peak leaves free
REMEDY = (
    "choose a parameter file for this card, set offload: model or quantization for the largest "
    "role, or lower edit.batch_size or datadream.batch_size, or raise classify.accumulate"
)


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each stage that uses a network."""
    total = capacity(bench.device)
    for stage, peaks in planned_peaks(bench.config).items():
        sizes = [p.gb if p.gb is not None else at_least(bench.config, p) for p in peaks]
        need, worst = max(zip(sizes, peaks), key=lambda pair: pair[0])
        unknown = [p for p in peaks if p.gb is None]
        found = judged(
            "memory",
            stage,
            need <= (1 - FREE) * total,
            f"{total:,.1f} GB on this {bench.device.type}, of which {FREE:.0%} stay free",
            f"{'at least ' if unknown else ''}{need:,.1f} GB ({worst.phase}: {worst.roles})",
            REMEDY,
        )
        yield _softened(found, unknown) if unknown and found.status == "pass" else found


def _softened(found: Finding, unknown: list[Peak]) -> Finding:
    """A warning in place of a pass that nobody can know."""
    roles = ", ".join(dict.fromkeys(p.roles for p in unknown))
    return replace(
        found,
        status="warn",
        remedy=f"what {roles} work with is not known (workflow/architectures.yaml); watch the "
        "device's memory in the checks below",
    )


def capacity(device: torch.device) -> float:
    """Memory of a device, in 1e9 bytes; of a CPU, the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def planned_peaks(config: StudyConfig) -> dict[str, list[Peak]]:
    """Stage -> the peaks of its phases that `plan` prints."""
    out: dict[str, list[Peak]] = {}
    for peak in memory.peaks(config):
        stage, _, part = peak.stage.partition(" ")
        phase = f"{part}, {peak.phase}" if part else peak.phase
        out.setdefault(stage, []).append(replace(peak, phase=phase))
    return out


def at_least(config: StudyConfig, peak: Peak) -> float:
    """1e9 bytes that a phase of unknown peak cannot do without: the weights of its largest model,
    of the files on this machine where they are here."""
    roles = [r for r in peak.roles.split(", ") if config.models.get(r)]
    return max((_weights(r, config.models.present()[r]) for r in roles), default=0.0)


def _weights(role: str, spec: ModelSpec) -> float:
    """1e9 bytes of a role's weights in its type; 0 where nobody knows."""
    size, parts = spec.size_gb or 0.0, [p for _, p in weights.places(role, spec)]
    there = [p for p in parts if p is not None and p.exists()]
    if there and len(there) == len(parts):
        files = [f for place in there for f in weights.weight_files(place, spec)]
        size = sum(_bytes(f, memory.BYTES.get(spec.dtype, 4)) for f in files) / 1e9
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
    "Does the peak of each stage fit into the device's memory?",
    run,
    "see `plan`, which prints what each phase needs",
)
