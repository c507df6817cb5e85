"""A shipped parameter file at the smallest size at which it still is itself.

    small(file, home)   writes the file again with fewer steps, pixels and pictures; its path
    reduced(file)       its values; files that agree in them are one study here

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

CANVAS = 32  # for random models, which halve it once: attention over its pixels is what costs
CLASSIFY = {"steps": 2, "eval_every": 1, "checkpoint_every": 1, "batch_size": 4}
MOST: dict[str, Any] = {  # key -> the most that is kept
    "replicates": 2,
    "edit.images_per_real": 1,
    "edit.batch_size": 4,
    "edit.max_attempts": 2,
    "edit.prior_variants": 1,
    "edit.shards": 1,
    "edit.processes": 1,
    "edit.canvas": 64,
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
    values = reduced(file)
    values["datasets"] = {
        name: data_layouts.lay_out(settings, home / "data" / name)
        for name, settings in values["datasets"].items()
    }
    exchange_clip(values["models"], home)
    none = str(home / "registration.json")  # the real study's registration does not hold this one
    values |= {"runs_dir": str(home / "runs"), "registration": none} | more
    path = home / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def reduced(file: Path) -> dict[str, Any]:
    """The values of a file with smaller numbers, on a CPU; data and CLIP are still its own."""
    values = merged(file)
    for key, most in MOST.items():
        section, _, name = key.rpartition(".")
        own = (values.get(section) or {}) if section else values
        if own.get(name) is not None:
            own[name] = min(own[name], most)
    if (values["models"].get("inpaint") or {}).get("path", "").count("/") == 1:  # of the hub
        values["edit"]["canvas"] = CANVAS
    for section in values["edit"].values():
        if isinstance(section, dict):
            shrink_step(section)
            for arm in section.get("arms", {}).values():
                shrink_step(arm, section)
    values["classify"]["seeds"] = values["classify"]["seeds"][:1]
    if verified_by_chance(values["models"]):
        values["verify"]["keep"] = "all"  # a random model accepts next to nothing
    elif values["verify"]["keep"] != "all":  # as few steps, few pictures leave whole arms empty
        values["verify"] |= {"false_accept": 0.9, "false_identity": 0.99}
    for spec in filter(None, values["models"].values()):
        if "dtype" in spec:
            spec["dtype"] = "float32"  # what a CPU computes in
        if "offload" in spec:
            spec["offload"] = "none"  # takes turns with an accelerator, of which there is none
    return values | {"job_threads": 1, "device": "cpu", "precision": "float32"}


def same_study(one: Path, other: Path) -> bool:
    """Whether two files are one study at this size, but for its name and its card."""
    left, right = (reduced(f) | {"study": "", "plan": None} for f in (one, other))
    return left == right


def shrink_step(own: dict[str, Any], above: dict[str, Any] | None = None) -> None:
    """Steps to the fewest of which strength leaves two; pixels to those of the canvas."""
    both = (above or {}) | own
    refined = "" if both.get("refine_from") == "noise" else "refine_strength"
    for steps, strength in (
        ("prior_steps", ""),
        ("steps", "strength"),
        ("refine_steps", refined),
    ):
        if own.get(steps):
            own[steps] = min(own[steps], max(2, math.ceil(2 / (both.get(strength) or 1.0))))
    for key, most in (("prior_size", CANVAS), ("prior_crop", CANVAS // 2)):
        if own.get(key):
            own[key] = min(own[key], most)
    if own.get("dilate"):
        own["dilate"] = max(1, own["dilate"] * CANVAS // 1024)


def verified_by_chance(models: dict[str, Any]) -> bool:
    """Whether the verifier is a random model; without a role of its own it is CLIP."""
    verifier = models.get("verifier") or models["clip"]
    return verifier.get("kind", "clip") == "vlm" or foreign(verifier)


def foreign(clip: dict[str, Any]) -> bool:
    """Whether a role names one of open_clip's own models."""
    return not clip.get("name", "local-dir:").startswith("local-dir:")


def exchange_clip(models: dict[str, Any], home: Path) -> None:
    """A random CLIP of 32 pixels where a role names one of open_clip's own."""
    for role, spec in models.items():
        if spec and spec.get("kind", "clip") == "clip" and foreign(spec):
            folder = hub.clip(home / role, quick="quickgelu" in spec["name"])
            models[role] = {k: v for k, v in spec.items() if k not in ("name", "weights")}
            models[role]["name"] = f"local-dir:{folder}"
