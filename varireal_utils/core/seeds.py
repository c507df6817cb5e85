"""Seeds by name: every random choice of a study has its own, from a hash of what it belongs to.

Invariant: a seed depends on its parts alone, so batch size, order, workers, shards and resuming
change nothing. Numbers and strings are kept apart: seed_for(1) != seed_for("1"). torch, seconds to
import, is loaded by what uses it alone: the driver and the plan read recipes without it.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Part = str | int | float


def seed_for(*parts: Part) -> int:
    """A seed in [0, 2**63) from strings and numbers."""
    text = json.dumps(parts, ensure_ascii=True, allow_nan=False, default=_plain)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _plain(value: object) -> object:
    """numpy scalars as their Python equals."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a seed is made of strings and numbers, not {type(value).__name__}: {value!r}")


def torch_generator(*parts: Part) -> torch.Generator:
    """A CPU generator of its own."""
    import torch

    return torch.Generator("cpu").manual_seed(seed_for(*parts))


def numpy_rng(*parts: Part) -> np.random.Generator:
    """A numpy generator of its own."""
    return np.random.default_rng(seed_for(*parts))


def seed_everything(*parts: Part) -> int:
    """Seed the global generators too, for libraries that know no other; returns the seed."""
    import torch

    seed = seed_for(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return seed
