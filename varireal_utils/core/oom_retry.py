"""A batch that does not fit into the accelerator's memory is done in halves.

Every image has its own noise, so the halves make what the whole would have made, up to the
rounding of another batch size (tests/unit/test_memory.py). A training step is not halved: its
dropout is drawn by part, so the result would be another one; the error names the key instead.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Fit:
    """The batch size that one kind of work fits into memory with; 0 before it has run out."""

    size: int = 0


def retry_in_halves(
    work: Callable[..., Sequence], *lists: Sequence, fit: Fit | None = None
) -> list:
    """list(work(*lists)), or that of parts of half the size, and half of that, while memory runs
    out.

    lists: of equal length, sliced alike. fit: remembers the size, so that the next batch starts
    with it. Raises torch.OutOfMemoryError where one item alone is too much.
    """
    fit, count = fit or Fit(), len(lists[0])
    out: list = []
    while len(out) < count:
        size = min(fit.size or count, count - len(out))
        made = _tried(work, [x[len(out) : len(out) + size] for x in lists])
        if made is not None:
            out += made
            continue
        fit.size = (size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"a batch of {size} did not fit into memory and is done in halves; so are all that "
            "follow: lower batch_size to save the attempt",
            stacklevel=2,
        )
    return out


def _tried(work: Callable[..., Sequence], lists: list[Sequence]) -> list | None:
    """What the work makes; None where memory runs out. Its own function, as the traceback of a
    handler would keep the failed batch's tensors alive."""
    try:
        made = list(work(*lists))
    except torch.OutOfMemoryError:
        if len(lists[0]) < 2:
            raise
        return None
    if len(made) != len(lists[0]):
        raise ValueError(f"{len(lists[0])} items went into a batch and {len(made)} came out")
    return made


@contextlib.contextmanager
def named(remedy: str) -> Iterator[None]:
    """Add to an out-of-memory error what the user can do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(f"{_first(error)}; {remedy}") from error


def _first(error: Any) -> str:
    return (str(error).strip() or "out of memory").splitlines()[0]
