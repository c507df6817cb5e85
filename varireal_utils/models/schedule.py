"""Learning rate by step: linear warm-up, then half a cosine.

transformers' `get_cosine_schedule_with_warmup` starts at 0, so that its first step changes nothing;
this one starts at 1 / warmup. After the warm-up they agree (tests/unit/test_schedule.py).
"""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, steps: int, lr: float, warmup: int, least: float = 0.0) -> float:
    """The rate of a step, 0-based: up to `lr` over `warmup` steps, then down towards `least`."""
    if step < warmup:
        return lr * (step + 1) / warmup
    turn = math.cos(math.pi * (step - warmup) / max(1, steps - warmup))
    return least + (lr - least) * (1 + turn) / 2
