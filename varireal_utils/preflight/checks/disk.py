"""Free disk against the plan: pictures that the study writes, weights that are still to come."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ...workflow import cost
from ..check import Check, Finding
from ..workspace import Workspace
from .weights import places

ROOM = 1.2  # of what the plan says


def run(bench: Workspace) -> Iterator[Finding]:
    """One finding: the study's folder and the disk below it."""
    config = bench.config
    jobs = cost.jobs(config)
    pictures, unknown = sum(j.gb or 0 for j in jobs), sum(j.images is None for j in jobs)
    made = sum(f.stat().st_size for f in config.paths.root.rglob("*") if f.is_file()) / 1e9
    weights = sum(
        spec.size_gb or 0
        for role, spec in config.models.present().items()
        if any(place is None for _, place in places(role, spec))
    )
    need = max(pictures - made, 0) + weights
    place = next(p for p in (bench.folder, *bench.folder.parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e9
    enough, tight = free >= need, free < ROOM * need or unknown > 0
    remedy = "" if enough and not tight else _remedy(Path(config.runs_dir), need, enough)
    yield Finding(
        "disk",
        f"{config.runs_dir}",
        "fail" if not enough else "warn" if tight else "pass",
        f"{free:,.1f} GB free",
        f"{need:,.1f} GB ({pictures:,.1f} of pictures, {made:,.1f} there already, {weights:,.1f} "
        f"of weights to fetch{f'; {unknown} jobs not counted' if unknown else ''})",
        remedy,
    )


def _remedy(runs: Path, need: float, enough: bool) -> str:
    if enough:
        return f"keep {ROOM * need:,.0f} GB free; run 01_data, so that the plan counts every job"
    return (
        f"set runs_dir (now {runs}) to a disk with {ROOM * need:,.0f} GB, or lower "
        "edit.images_per_real or datadream.images_per_class"
    )


CHECK = Check(
    "disk", "Is there room for what the plan writes?", run, "set runs_dir to another disk"
)
