"""The parameter file as a plain dictionary, for modules that do not take typed settings yet.

The checks are those of config.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ParameterError, checked, merged
from .config_file import Loader
from .config_prompts import LOOPBACK
from .config_sections import ModelRoles
from .device import device_of, dtype_of
from .storage import sha256_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "LOOPBACK",
    "Loader",
    "ParameterError",
    "editing",
    "compute",
    "load_params",
    "loaded_parts",
    "phrase_file",
    "roles",
]
_FACTS = ("licence", "vae_licence", "size_gb", "tflop", "tflop_text")  # no model is loaded by these


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read, merge, override and check a parameter file. Raises ParameterError."""
    params = merged(path, overrides)
    checked(params, str(path))
    return params | {"_file": str(path), "_digest": sha256_json(params)}


def roles(params: dict) -> ModelRoles:
    """The models of a parameter file, typed."""
    return ModelRoles.model_validate(params.get("models", {}))


def compute(params: dict) -> tuple[torch.device, torch.dtype]:
    """Device and compute type of a parameter file, `auto` resolved."""
    return device_of(params.get("device", "auto")), dtype_of(params.get("precision", "auto"))


def phrase_file(params: dict) -> str:
    """The phrase file that a study starts from: `prompts` itself, or its `base`."""
    prompts = params["prompts"]
    return prompts if isinstance(prompts, str) else prompts["base"]


def loaded_parts(models: dict[str, dict]) -> dict[str, dict]:
    """The models of a parameter file without what is only said of them: what a result rests on."""
    return {
        role: {k: v for k, v in spec.items() if k not in _FACTS} for role, spec in models.items()
    }


def editing(models: dict[str, dict]) -> dict[str, dict]:
    """The models that an edit can rest on: neither DataDream's nor another classifier."""
    return {role: spec for role, spec in models.items() if role not in ("datadream", "classifier")}
