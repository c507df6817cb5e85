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


def precision_name(wanted: str = "auto", device: str = "auto") -> str:
    """float32, bfloat16 or float16. `auto`: on CUDA bfloat16 where the hardware multiplies it and
    does not emulate it (T4, V100), else float16; on a CPU the faster of bfloat16 and float32, as
    measured (cpu_precision.py); float32 on mps."""
    if wanted != "auto":
        return wanted
    kind = device_name(device)
    if kind == "cuda":
        import torch

        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float16"
    if kind == "cpu":
        from .cpu_precision import choice

        return choice().precision
    return "float32"


def precision_reason(wanted: str = "auto", device: str = "auto") -> str:
    """Why the compute type is what it is, in words, for records."""
    if wanted != "auto":
        return f"{wanted}: set in the parameters"
    if device_name(device) == "cpu":
        from .cpu_precision import choice

        return choice().words()
    return f"{precision_name(wanted, device)}: what this {device_name(device)} device multiplies"


def device_of(wanted: str = "auto") -> torch.device:
    """The device of that name."""
    import torch

    return torch.device(device_name(wanted))


def dtype_of(wanted: str = "auto", device: str = "auto") -> torch.dtype:
    """The compute type of that name, on a device."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        precision_name(wanted, device)
    ]
