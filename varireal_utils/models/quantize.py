"""Loads networks in 8 or 4 bits by bitsandbytes, as transformers and diffusers take it.

4 bits: NormalFloat with doubly quantised constants (Dettmers et al. 2023), products in the role's
own type. 8 bits: LLM.int8 (Dettmers et al. 2022). Both need bitsandbytes and a CUDA device.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from ..core.config_sections import ModelSpec

PARTS = ["unet", "transformer", "text_encoder_2"]  # of a pipeline: the large ones


def check(role: str, spec: ModelSpec, device: torch.device) -> None:
    """Raise ValueError where a role's quantization cannot be had here."""
    key, bits = f"models.{role}.quantization", spec.quantization
    if bits == "none":
        return
    remedy = f"set models.{role}.quantization: none and dtype: bfloat16"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"{key}: {bits} needs bitsandbytes, which is not installed and not in "
            f"requirements.lock; install it, or {remedy}"
        )
    if device.type != "cuda":
        raise ValueError(f"{key}: {bits} needs a CUDA device, this is {device}; {remedy}")


def options(spec: ModelSpec, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of BitsAndBytesConfig, of either library."""
    if spec.quantization == "8bit":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }


def of_transformers(role: str, spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> dict:
    """Arguments of from_pretrained for a model of transformers; none where it is not quantised."""
    check(role, spec, device)
    if spec.quantization == "none":
        return {}
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**options(spec, dtype))
    return {"quantization_config": config, "device_map": {"": device}}


def of_network(role: str, spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> dict:
    """The same for a single network of diffusers."""
    check(role, spec, device)
    if spec.quantization == "none":
        return {}
    from diffusers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(**options(spec, dtype))}


def of_pipeline(role: str, spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> dict:
    """The same for a pipeline of diffusers, whose large parts (PARTS) are quantised."""
    check(role, spec, device)
    if spec.quantization == "none":
        return {}
    from diffusers import PipelineQuantizationConfig

    config = PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{spec.quantization}",
        quant_kwargs=options(spec, dtype),
        components_to_quantize=PARTS,
    )
    return {"quantization_config": config}
