"""A shipped parameter file at the smallest size at which it still is itself.

    small(file, home)   writes the file again with fewer steps, pixels and pictures; its path

Numbers shrink; recipes, attributes, protocols, roles, ids, dtypes, schedulers and everything else
stay. CLIP is the one model that is exchanged (open_clip builds OpenAI's at full size alone).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from tests.shipped import data_layouts, hub
from varireal_utils.core.config import merged

CANVAS = 64
CLASSIFY = {"steps": 2, "eval_every": 1, "checkpoint_every": 1, "batch_size": 4}
MOST: dict[str, Any] = {  # key -> the most that is kept
    "edit.images_per_real": 1,
    "edit.batch_size": 4,
    "edit.max_attempts": 2,
    "edit.prior_variants": 1,
    "edit.shards": 2,
    "edit.processes": 1,
    "edit.canvas": CANVAS,
    "guidance.compare": 2,
    "datadream.shots": 2,
    "datadream.images_per_class": 2,
    "datadream.epochs": 1,
    "datadream.batch_size": 2,
    "datadream.warmup_steps": 1,
    "datadream.steps": 2,
    "verify.controls": 1,
    "verify.calibration": 3,
    "verify.max_size": 64,
    "classify.eval_batch_size": 8,
    "classify.processes": 1,
    "claims.bootstrap": 20,
    **{f"classify.{key}": value for key, value in CLASSIFY.items()},
}


def small(file: Path, home: Path, **more: Any) -> Path:
    """Write the small file below `home`, with its data; more: top-level keys over it."""
    values = merged(file)
    for key, most in MOST.items():
        section, name = key.split(".")
        if (own := values.get(section) or {}).get(name) is not None:
            own[name] = min(own[name], most)
    for section in values["edit"].values():
        if isinstance(section, dict):
            shrink_step(section)
            for arm in section.get("arms", {}).values():
                shrink_step(arm, section)
    values["classify"]["seeds"] = values["classify"]["seeds"][:1]
    values["datasets"] = {
        name: data_layouts.lay_out(settings, home / "data" / name)
        for name, settings in values["datasets"].items()
    }
    exchange_clip(values["models"], home)
    if (values["models"].get("verifier") or {}).get("kind") == "vlm":
        values["verify"]["keep"] = "all"  # a random model accepts nothing
    for spec in values["models"].values():
        if spec and "dtype" in spec:
            spec["dtype"] = "float32"  # what a CPU computes in
    values |= {
        "job_threads": 1,
        "runs_dir": str(home / "runs"),
        "device": "cpu",
        "precision": "float32",
    } | more
    path = home / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def shrink_step(own: dict[str, Any], above: dict[str, Any] | None = None) -> None:
    """Steps to the fewest of which strength leaves two; pixels to those of the canvas."""
    both = (above or {}) | own
    for steps, strength in (
        ("prior_steps", ""),
        ("steps", "strength"),
        ("refine_steps", "refine_strength"),
    ):
        if own.get(steps):
            own[steps] = min(own[steps], max(2, math.ceil(2 / (both.get(strength) or 1.0))))
    for key, most in (("prior_size", CANVAS), ("prior_crop", CANVAS // 2)):
        if own.get(key):
            own[key] = min(own[key], most)
    if own.get("dilate"):
        own["dilate"] = max(1, own["dilate"] * CANVAS // 1024)


def exchange_clip(models: dict[str, Any], home: Path) -> None:
    """A random CLIP of 32 pixels where a role names one of open_clip's own."""
    for role, spec in models.items():
        name = (spec or {}).get("name", "")
        if name and not name.startswith("local-dir:") and spec.get("kind", "clip") == "clip":
            folder = hub.clip(home / role, quick="quickgelu" in name)
            models[role] = {k: v for k, v in spec.items() if k not in ("name", "weights")}
            models[role]["name"] = f"local-dir:{folder}"
