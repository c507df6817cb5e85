"""Out of memory: halves, in order, with the results of the whole; one item alone still fails."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from varireal_utils.core import oom_retry


def small(limit: int, seen: list[int]):
    def work(*lists: list) -> list:
        seen.append(len(lists[0]))
        if len(lists[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return [sum(items) for items in zip(*lists, strict=True)]

    return work


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_halves_give_what_the_whole_gives(count: int, limit: int) -> None:
    a, b, seen = list(range(count)), list(range(100, 100 + count)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert oom_retry.retry_in_halves(small(limit, seen), a, b) == [
            x + y for x, y in zip(a, b, strict=True)
        ]
    assert sum(n for n in seen if n <= limit) == count  # nothing is made twice


def test_one_item_that_is_too_much_fails() -> None:
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="in halves"):
        oom_retry.retry_in_halves(small(0, []), [1, 2, 3])


def test_the_size_that_fitted_is_remembered() -> None:
    """From batch to batch, so that no finished denoising is thrown away twice."""
    fit, seen = oom_retry.Fit(), []
    work = small(2, seen)
    with pytest.warns(UserWarning, match="batch of 8 did not fit.*all that follow"):
        oom_retry.retry_in_halves(work, list(range(8)), fit=fit)
    assert seen == [8, 4, 2, 2, 2, 2] and fit.size == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert oom_retry.retry_in_halves(work, list(range(5)), fit=fit) == list(range(5))
    assert seen[6:] == [2, 2, 1]


def test_work_that_loses_an_item_is_no_batch() -> None:
    with pytest.raises(ValueError, match="3 items went into a batch and 2 came out"):
        oom_retry.retry_in_halves(lambda x: x[:2], [1, 2, 3])


def test_tensors_are_sliced_like_lists() -> None:
    with pytest.warns(UserWarning, match="batch of 5"):
        got = oom_retry.retry_in_halves(
            lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError()) if len(x) > 2 else x * 2,
            torch.arange(5),
        )
    assert np.array_equal(torch.stack(got), [0, 2, 4, 6, 8])


def test_a_training_step_names_the_key() -> None:
    with (
        pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory.*; raise accumulate"),
        oom_retry.named("raise accumulate"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nlong list of segments")
