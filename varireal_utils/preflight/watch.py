"""What passes through diffusion networks and autoencoders while they run.

The pipelines of diffusers turn numbers that are not finite into black pictures; here they are seen
before that happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.modules import module as torch_module

DECODERS = ("Decoder", "DecoderTiny")  # of diffusers' autoencoders, whose `decode` has no hook


@dataclass
class Seen:
    """Of one kind of network. calls; lost: calls with numbers that are not finite; types: pairs
    (of the weights, of what comes out); largest: of what goes into a decoder, absolute."""

    calls: int = 0
    lost: int = 0
    types: set[tuple[str, str]] = field(default_factory=set)
    largest: float = 0.0


@contextlib.contextmanager
def watch() -> Iterator[dict[str, Seen]]:
    """Yields name of a network's class -> what was seen, filled while the block runs; latents have
    the name "latents"."""
    from diffusers import ModelMixin

    seen: dict[str, Seen] = {}

    def look(network: torch.nn.Module, given: tuple, made: Any) -> None:
        name = type(network).__name__
        if isinstance(network, ModelMixin):
            _add(seen, name, _first(made), network)
        elif name in DECODERS:
            _add(seen, "latents", given[0] if given else None, None)
            _add(seen, "autoencoder", _first(made), None)

    handle = torch_module.register_module_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _add(seen: dict[str, Seen], name: str, value: torch.Tensor | None, network: Any) -> None:
    if value is None or not value.is_floating_point():
        return
    entry = seen.setdefault(name, Seen())
    entry.calls += 1
    finite = bool(torch.isfinite(value).all())
    entry.lost += not finite
    if finite and value.numel():
        entry.largest = max(entry.largest, float(value.detach().abs().max()))
    if network is not None:
        entry.types.add((_short(network.dtype), _short(value.dtype)))


def _first(made: Any) -> torch.Tensor | None:
    """The first tensor of what a network returns."""
    if isinstance(made, torch.Tensor):
        return made
    found = made.values() if isinstance(made, dict) else made
    if isinstance(found, list | tuple) or isinstance(made, dict):
        return next((v for v in map(_first, found) if v is not None), None)
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def blurred(seen: dict[str, Seen]) -> list[str]:
    """Networks whose half-precision weights answer in another half type: autocast over them, whose
    rounding guidance multiplies."""
    return [
        f"{name}: {weights} weights answer in {out}"
        for name, entry in seen.items()
        for weights, out in sorted(entry.types)
        if weights in ("float16", "bfloat16") and out != weights and out != "float32"
    ]


def lost(seen: dict[str, Seen]) -> list[str]:
    """Where numbers were not finite."""
    return [f"{name}: {e.lost} of {e.calls} calls" for name, e in seen.items() if e.lost]
