"""Checkpoints of a training as safetensors: tensors by number, everything else as JSON.

A checkpoint lies in the study's folder, which may have come from elsewhere, so reading one must
not be able to run anything: nothing is unpickled.

Invariant (tests/unit/test_checkpoints.py): what was saved comes back equal and of equal types, if
it is made of tensors, mappings with text or integer keys, lists, tuples (as lists), text, numbers,
truth values and None; equal values give equal bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from . import storage


def write(path: str | Path, value: Any) -> None:
    """Write a nested value atomically. Raises TypeError for what a checkpoint cannot hold."""
    tensors: dict[str, torch.Tensor] = {}
    shape = json.dumps(_pack(value, tensors), sort_keys=True)
    storage.write_bytes(path, save(tensors, {"shape": shape}))


def read(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """The value that `write` wrote, its tensors on `device`.

    Raises ValueError that names a file that is damaged or was not written by `write`.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return _unpack(json.loads((file.metadata() or {})["shape"]), file)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: no checkpoint of this project, or a damaged one "
            f"({type(error).__name__}: {error}); delete it and run the stage again"
        ) from error


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        if not all(type(k) in (str, int) for k in value):
            raise TypeError(f"a checkpoint's keys are text or integers, got {list(value)[:3]}")
        return {"items": [[k, _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(v, tensors) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _unpack(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(v, file) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return file.get_tensor(value["tensor"])
    return {k: _unpack(v, file) for k, v in value["items"]}
