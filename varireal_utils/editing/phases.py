"""Edits an arm in phases, so that what paints and what verifies are never in memory together.

    pool of batches:  first stage of all -> second stage of all -> verification of all
                      -> the same for what was rejected, until edit.max_attempts

A pool has `edit.pool` batches. Each attempt at a pool loads each of its models once. A batch is
painted as itself, whatever its pool: pools change no image.

Invariants (tests/unit/test_edit.py, tests/unit/test_residence.py): the finished batches do not
depend on the pool; no two of the first stage's, the second stage's and the verifier's models are
alive together, unless one is made from another's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..prompts.phrase_bank import Bank
from . import pipeline
from .pipeline import Pipes, Priors
from .slices import EditStage
from .sources import Source

Verify = Callable[[list[np.ndarray], list[dict], list[Source]], pd.DataFrame]
Finished = tuple[int, list[np.ndarray], pd.DataFrame]


def run(
    pipes: Pipes,
    rows: pd.DataFrame,
    source_of: Callable[[str], Source],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    verify: Verify,
    skip: Callable[[int], bool],
) -> Iterator[Finished]:
    """Edit all rows in fixed batches; yields (batch number, images, finished rows), in the order
    in which batches are finished.

    verify(images, rows, sources) -> DataFrame with `accepted`, `worst_margin` and other answers. A
    rejected edit is made again until `max_attempts`; then its best attempt is kept, marked as not
    accepted. skip(batch number) is True for batches that an earlier, interrupted run has finished.
    """
    size = settings.edit.batch_size
    numbers = [n for n in range(-(-len(rows) // size)) if not skip(n)]
    for start in range(0, len(numbers), settings.edit.pool):
        pool = []
        for number in numbers[start : start + settings.edit.pool]:
            part = rows.iloc[number * size : (number + 1) * size].to_dict("records")
            pool.append(_Batch(number, part, [source_of(r["image_id"]) for r in part]))
        for attempt in range(settings.edit.max_attempts):
            asked = [batch.open() for batch in pool]
            painted = pipeline.edit_batches(pipes, asked, prior_of, bank, settings, attempt)
            for batch, (sources, part), pictures in zip(pool, asked, painted):
                answers = verify(pictures, part, sources).to_dict("records")
                batch.keep_best(pictures, answers, attempt)
            last = attempt + 1 == settings.edit.max_attempts
            yield from (batch.finished() for batch in pool if last or not batch.pending)
            pool = [batch for batch in pool if batch.pending]
            if not pool:
                break


@dataclass(frozen=True)
class _Attempt:
    """The best attempt at an edit so far."""

    rank: float = -np.inf
    image: Any = None
    answer: dict[str, Any] = field(default_factory=dict)


class _Batch:
    """A batch in the making. pending: places of the edits that are not accepted yet."""

    def __init__(self, number: int, rows: list[dict], sources: list[Source]):
        self.number, self.rows, self.sources = number, rows, sources
        self.best = [_Attempt()] * len(rows)
        self.pending = list(range(len(rows)))

    def open(self) -> tuple[list[Source], list[dict]]:
        """Sources and rows of the edits that are not accepted yet."""
        return [self.sources[i] for i in self.pending], [self.rows[i] for i in self.pending]

    def keep_best(self, pictures: list[np.ndarray], answers: list[dict], attempt: int) -> None:
        """Keep an attempt at the pending edits where it is better than the ones before."""
        for i, image, answer in zip(self.pending, pictures, answers):
            rank = answer["worst_margin"] + (1e6 if answer["accepted"] else 0)
            if rank > self.best[i].rank:
                self.best[i] = _Attempt(rank, image, {**answer, "attempt": attempt})
        self.pending = [i for i in self.pending if not self.best[i].answer["accepted"]]

    def finished(self) -> Finished:
        """Number, images and rows with their answers."""
        done = pd.DataFrame([{**r, **b.answer} for r, b in zip(self.rows, self.best)])
        return self.number, [b.image for b in self.best], done
