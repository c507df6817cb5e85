"""A batch that does not fit into the accelerator's memory is done in halves.

Every image has its own noise, so the halves make what the whole would have made, up to the
rounding of another batch size (tests/unit/test_memory.py). A training step is not halved: its
dropout is drawn by part, so the result would be another one; the error names the key instead.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


def in_parts(work: Callable[..., Sequence], *lists: Sequence) -> list:
    """list(work(*lists)), or that of its halves, and theirs, as long as memory runs out.

    lists: of equal length, sliced alike. Raises torch.OutOfMemoryError where one item alone is
    too much.
    """
    count = len(lists[0])
    try:
        return list(work(*lists))
    except torch.OutOfMemoryError:
        if count < 2:
            raise
    # outside the handler, whose traceback would keep the failed batch's tensors alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (count + 1) // 2
    warnings.warn(
        f"a batch of {count} did not fit into memory and is done in halves; lower "
        "batch_size to save the attempt",
        stacklevel=2,
    )
    return in_parts(work, *(x[:half] for x in lists)) + in_parts(work, *(x[half:] for x in lists))


@contextlib.contextmanager
def named(remedy: str) -> Iterator[None]:
    """Add to an out-of-memory error what the user can do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(f"{_first(error)}; {remedy}") from error


def _first(error: Any) -> str:
    return (str(error).strip() or "out of memory").splitlines()[0]
