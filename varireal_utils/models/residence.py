"""Holds the models of one phase at a time: loads them when they are asked for, releases the others.

A study's roles do not fit into a small card together: SDXL, Stable Diffusion 2.1 and a
vision-language model of seven billion parameters need 40 GB. A phase of a stage asks for its own
roles alone, so that the peak is that of the largest phase (`plan` states it).

symbols   group   roles that are held together, because one is made from another's weights

Invariant (tests/unit/test_residence.py): when a role is loaded, no role of another group is alive.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch


class Residence:
    """The models of a process by role, those of one group in memory. seconds: spent on loading."""

    def __init__(self) -> None:
        if not gc.get_freeze_count():
            gc.freeze()  # modules, which every release would look through again
        self._load: dict[str, Callable[[], Any]] = {}
        self._group: dict[str, str] = {}
        self._held: dict[str, Any] = {}
        self.seconds = 0.0

    def add(self, role: str, load: Callable[[], Any], group: str = "") -> None:
        """Say how a role is loaded. group: what it is held with; "" for itself alone."""
        self._load[role], self._group[role] = load, group or role

    def get(self, role: str) -> Any:
        """The model of a role. Loads it, after those of other groups are released."""
        if role not in self._held:
            if any(self._group[other] != self._group[role] for other in self._held):
                self.release()
            started = time.perf_counter()
            self._held[role] = self._load[role]()
            self.seconds += time.perf_counter() - started
        return self._held[role]

    @property
    def held(self) -> tuple[str, ...]:
        """The roles in memory now."""
        return tuple(self._held)

    def release(self) -> None:
        """Release every model, and the accelerator's memory with it."""
        self._held.clear()
        gc.collect()  # offloading hooks refer to what they move, in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
