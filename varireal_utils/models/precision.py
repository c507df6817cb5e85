"""In which type a network computes: in that of its weights, or, for float32 weights, by autocast.

symbols   precision   the study's compute type (core/device.py), for weights in float32
          guided      u + s (c - u): predictions without and with the prompt, s the guidance scale

Weights that are stored in a half type run as they are. Under bfloat16 autocast float16 weights
would make bfloat16 latents, and guidance multiplies the error of their 8 bits by s
(tests/unit/test_precision.py measures both).
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast to the compute type; does nothing for float32."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, precision)


def weights_dtype(pipe: Any) -> torch.dtype:
    """The type of the weights of a pipeline's UNet, or of its transformer."""
    unet = getattr(pipe, "unet", None)
    return (pipe.transformer if unet is None else unet).dtype


def pipeline_autocast(
    pipe: Any, device: torch.device, precision: torch.dtype
) -> contextlib.AbstractContextManager:
    """What a diffusers pipeline runs under: autocast to the compute type where its weights are
    float32, else nothing."""
    own = weights_dtype(pipe) != torch.float32
    return contextlib.nullcontext() if own else autocast(device, precision)
