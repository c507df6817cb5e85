"""Refuses a CLIP or timm model that is not built as its weights were trained, before either loads.

Compares activation, input size, normalisation and tokenizer of what the loaders would build with
the tables that open_clip and timm bring along (no weights, no network), and of a local folder with
its own configuration, tokenizer and the shapes in the header of its weights.

What cannot be known is not refused: weights in a file or folder of an unknown name, and a model of
the hub (`hf-hub:`), whose configuration lies beside its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config_errors import nearest
from ..core.config_sections import ModelRoles, ModelSpec
from .trained_clip import clip_faults


def faults(models: ModelRoles) -> list[str]:
    """One line for each model that would not be what its weights were trained as: key, value, what
    is wanted. Empty where nothing is wrong."""
    return [fault for role, spec in models.present().items() for fault in role_faults(role, spec)]


def role_faults(role: str, spec: ModelSpec) -> list[str]:
    """The lines of `faults` for one role; none for roles that are neither CLIP nor timm."""
    if role not in ("clip", "verifier", "classifier") or not spec.name:
        return []
    if spec.kind == "timm":
        return [f"models.{role}.{fault}" for fault in _timm_faults(spec)]
    return [f"models.{role}.{fault}" for fault in clip_faults(spec)] if spec.kind == "clip" else []


def check(role: str, spec: ModelSpec) -> None:
    """Raise ValueError with the lines of `role_faults`, where there are any."""
    if found := role_faults(role, spec):
        raise ValueError("; ".join(found))


def _timm_faults(spec: ModelSpec) -> list[str]:
    """Faults of a timm model: unknown name or tag, another activation, or a folder's own
    configuration (config.json beside the weights) that says otherwise."""
    import timm
    from timm.models import get_pretrained_cfg, list_pretrained

    name, _, tag = spec.name.partition(".")
    if not timm.models.is_model(name):
        return [f"name: got {spec.name!r}, no model of timm{nearest(name, timm.list_models())}"]
    try:
        row = get_pretrained_cfg(spec.name)
    except RuntimeError:
        tags = [m.partition(".")[2] for m in list_pretrained(f"{name}.*")]
        return [f"name: got {spec.name!r}; timm has no weights {tag!r} for it{nearest(tag, tags)}"]
    if spec.weights == "pretrained":
        if row is None or not row.has_weights:
            return [f"weights: got 'pretrained', and timm has no weights for {spec.name!r}"]
        if any("quickgelu" in n for n in row.notes or ()) and "_quickgelu_" not in name:
            right = spec.name.replace("_clip_", "_clip_quickgelu_", 1)
            return [
                f"name: got {spec.name!r} with its weights: activation GELU, trained with "
                f"QuickGELU; wanted the model {right!r}"
            ]
    return _beside(spec, Path(spec.weights), row) if spec.weights else []


def _beside(spec: ModelSpec, weights: Path, row: Any) -> list[str]:
    """Faults against the config.json that timm's repositories hold beside their weights."""
    file = weights.parent / "config.json"
    if not (weights.is_file() and file.is_file() and row is not None):
        return []
    config = storage.read_json(file)
    trained, name = config.get("pretrained_cfg") or {}, spec.name.partition(".")[0]
    right = config.get("architecture", name)
    differing = [f"architecture {name}, trained with {right}"] if right != name else []
    for key in ("input_size", "mean", "std", "interpolation"):
        got, wanted = getattr(row, key), trained.get(key)
        got, wanted = (list(v) if isinstance(v, tuple) else v for v in (got, wanted))
        if wanted is not None and got != wanted:
            differing.append(f"{key} {got}, trained with {wanted}")
    if not differing:
        return []
    tagged = f"{right}.{tag}" if (tag := trained.get("tag")) else right
    return [
        f"name: got {spec.name!r} with weights {spec.weights!r}: {'; '.join(differing)}; wanted "
        f"the model {tagged!r} ({file})"
    ]
