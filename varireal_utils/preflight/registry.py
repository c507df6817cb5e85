"""Registry of the checks: one file in checks/ and one line here for each, in the order of running.

The cheap ones come first; the later ones load models.
"""

from __future__ import annotations

from importlib import import_module

from .check import Check

MODULES = (
    "weights",
    "architecture",
    "licence",
    "disk",
    "device",
    "memory",
    "zero_shot",
    "masks",
    "phrases",
    "denoising",
    "edits",
    "verifier",
    "datadream",
    "training",
    "speed",
)
CHECKS: tuple[Check, ...] = tuple(import_module(f".checks.{m}", __package__).CHECK for m in MODULES)
