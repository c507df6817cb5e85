"""Device and compute type that `auto` stands for on this machine, as names and as torch's objects.

Nothing is imported from torch where the parameters name a device and a type themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_name(wanted: str = "auto") -> str:
    """cpu, cuda or mps; `auto` takes cuda, then mps, then cpu."""
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def precision_name(wanted: str = "auto") -> str:
    """float32, bfloat16 or float16; `auto` is bfloat16 where the hardware multiplies it natively,
    float16 on an older CUDA device, else float32."""
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"


def device_of(wanted: str = "auto") -> torch.device:
    """The device of that name."""
    import torch

    return torch.device(device_name(wanted))


def dtype_of(wanted: str = "auto") -> torch.dtype:
    """The compute type of that name."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        precision_name(wanted)
    ]
