"""Linear maps whose weights do not learn, on a CPU: packed once for oneDNN instead of at each call.

A LoRA training multiplies by the same frozen matrices thousands of times, forwards by W and
backwards by its transpose. torch hands a float32 product to a general routine that lays W out anew
every time, and one that is slow on AMD's processors; oneDNN keeps a layout that fits the processor.
The numbers differ by rounding alone, and nothing is packed where torch lacks the operators, on
another device, or while W itself learns.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

SMALL = 2**17  # entries: below them a product in bfloat16 gains less than its call costs


class Packed:
    """The packed layouts of one weight (n, k) with its bias (n,); made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[torch.dtype, tuple] = {}

    def linear(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """`F.linear(x, weight, bias)` of x (..., k), under autocast in its precision."""
        if x.device.type != "cpu" or weight.requires_grad or not supported():
            return F.linear(x, weight, bias)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        small = weight.numel() < SMALL and x.dtype != torch.float32
        if small or x.dtype == torch.float16:  # oneDNN's needs hardware that few have
            return F.linear(x, weight, bias)
        of = [(t.data_ptr(), t._version) for t in (weight, bias) if t is not None]
        if self._made.get(x.dtype, (None,))[0] != of:
            with torch.inference_mode(False), torch.no_grad():
                w, b = weight.detach().to(x.dtype), None if bias is None else bias.detach()
                b = None if b is None else b.to(x.dtype)
                self._made[x.dtype] = (of, _pack(w), _pack(w.t()), b)
        return _Linear.apply(x, *self._made[x.dtype][1:])

    def __deepcopy__(self, memo: dict) -> Packed:
        return Packed()  # another weight's layouts are of no use


class Linear(nn.Linear):
    """A linear layer of a frozen model, in whose place it is put; shares its parameters."""

    def __init__(self, of: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = of.in_features, of.out_features
        self.weight, self.bias, self.packed = of.weight, of.bias, Packed()
        self.train(of.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.packed.linear(x, self.weight, self.bias)


def pack(module: nn.Module) -> None:
    """Put a `Linear` in the place of every plain linear layer inside."""
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear:
                setattr(parent, name, Linear(layer))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        ahead: torch.Tensor,
        back: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.back = back
        return _product(x, ahead, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        return _product(gradient, ctx.back, None), None, None, None


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1024)


def _product(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, bias, "none", [], "")


@lru_cache(maxsize=1)
def supported() -> bool:
    """Whether this torch has the operators (its own compiler's) and they multiply rightly."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        with torch.inference_mode():
            x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
            return torch.equal(_product(x, _pack(weight), torch.ones(4)), x @ weight.t() + 1)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
