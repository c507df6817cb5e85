"""The device is there, and computes in the study's precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...core.device import device_name, precision_name
from ..check import Check, Finding, judged
from ..workspace import Workspace

SIDE, LARGEST = 256, {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.03}
SMALL = 0.1  # 1e12 operations of one forward pass that a CPU can be asked for


def run(bench: Workspace) -> Iterator[Finding]:
    """Device, precision of a matrix product, and large models on a CPU."""
    config = bench.config
    name, precision = device_name(config.device), precision_name(config.precision, config.device)
    there = name != "cuda" or torch.cuda.is_available()
    remedy = "set device: auto, or install torch for this machine's GPU and driver"
    yield judged("device", "device", there, _shown(name), f"device {config.device}", remedy)
    if not there:
        return
    error = product_error(bench.device, bench.dtype)
    yield judged(
        "device",
        f"matrix product in {precision}",
        error <= LARGEST[precision],
        f"relative error {error:.2g}",
        f"at most {LARGEST[precision]:g}",
        "set precision: float32, or mend the driver",
    )
    if name == "cuda" and precision == "bfloat16" and not native_bfloat16():
        yield Finding(
            "device",
            "bfloat16",
            "fail",
            "emulated by this GPU",
            "native",
            "set precision: float16",
        )
    large = [r for r, s in config.models.present().items() if (s.tflop or 0) > SMALL]
    if name == "cpu" and large:
        yield Finding(
            "device",
            "models of paper size",
            "warn",
            f"{', '.join(large)} on a CPU",
            "a GPU",
            "run on a machine with a GPU; params/micro.yaml is made for a CPU",
        )


def _shown(name: str) -> str:
    return torch.cuda.get_device_name() if name == "cuda" and torch.cuda.is_available() else name


def native_bfloat16() -> bool:
    """Whether the GPU multiplies bfloat16 itself."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def product_error(device: torch.device, dtype: torch.dtype) -> float:
    """Relative error of a product of SIDE x SIDE matrices against float64."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(SIDE, SIDE, generator=rng) for _ in range(2))
    exact = a.double() @ b.double()
    got = (a.to(device, dtype) @ b.to(device, dtype)).double().cpu()
    return float((got - exact).norm() / exact.norm())


CHECK = Check(
    "device",
    "Does the device compute in this precision?",
    run,
    "set device: cpu or precision: float32",
)
