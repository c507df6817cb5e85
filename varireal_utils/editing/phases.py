"""Edits an arm in phases, so that what paints and what verifies are never in memory together.

    pool of batches:  first stage of all -> second stage of all -> verification of all
                      -> the same for what was rejected, until edit.max_attempts

A pool has `edit.pool` batches. Each attempt at a pool loads each of its models once. Batches are
finished, and kept, as they were planned; how they are painted depends on the device:

    CPU           a batch is painted as itself, what was rejected of it too, so that pools, shards
                  and processes change no byte
    accelerator   what is still to be painted in a pool is grouped by its size on the canvas and
                  painted in full batches; another grouping changes pictures by rounding alone

A group is made of whole pools, whatever of them an earlier run has finished: edits of its batches
are painted again where they stood in a group with others that are not finished, and dropped. So a
run that was killed ends with the bytes of one that was not.

symbols   slot    one edit in the making
          spent   attempts that an earlier run spent on each edit of a finished batch

Invariants (tests/unit/test_edit.py, tests/unit/test_pooled_retries.py,
tests/unit/test_residence.py): the finished batches do not depend on the pool, up to rounding; a run
that goes on makes the bytes of one that was not stopped; no two of the first stage's, the second
stage's and the verifier's models are alive together, unless one is made from another's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..prompts.phrase_bank import Bank
from . import pipeline
from .passes import Priors
from .roles import Pipes
from .slices import EditStage
from .sources import Source, canvas_shape

Verify = Callable[[list[np.ndarray], list[dict], list[Source]], pd.DataFrame]
Finished = tuple[int, list[np.ndarray], pd.DataFrame]
Spent = Mapping[int, Sequence[int] | None]  # batch number -> see above; None: to be made


def pooled(pipes: Pipes) -> bool:
    """Whether edits of a pool are grouped anew for each attempt, or each batch is painted as
    itself."""
    return pipes.device.type != "cpu"


def run(
    pipes: Pipes,
    rows: pd.DataFrame,
    source_of: Callable[[str], Source],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    verify: Verify,
    spent: Spent,
) -> Iterator[Finished]:
    """Edit all rows in fixed batches; yields (batch number, images, finished rows), in the order
    in which batches are finished.

    verify(images, rows, sources) -> DataFrame with `accepted`, `worst_margin` and other answers. A
    rejected edit is made again until `max_attempts`; then its best attempt is kept, marked as not
    accepted. spent: of every batch of this process, in order; those that an earlier, interrupted
    run has finished are not yielded.
    """
    size, grouped = settings.edit.batch_size, pooled(pipes)
    numbers = [n for n, tries in spent.items() if grouped or tries is None]
    for start in range(0, len(numbers), settings.edit.pool):
        pool = []
        for n in numbers[start : start + settings.edit.pool]:
            part = rows.iloc[n * size : (n + 1) * size].to_dict("records")
            pool.append(_Batch(n, part, source_of, spent[n]))
        if any(batch.made_here for batch in pool):
            yield from _edited(pipes, pool, prior_of, bank, settings, verify, grouped)


def _edited(
    pipes: Pipes,
    pool: list[_Batch],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    verify: Verify,
    grouped: bool,
) -> Iterator[Finished]:
    """Attempts at a pool; yields its batches as they are finished."""
    for attempt in range(settings.edit.max_attempts):
        groups = _groups(pool, settings, grouped, attempt)
        asked = [([s.source() for s in g], [s.row for s in g]) for g in groups]
        painted = pipeline.edit_batches(pipes, asked, prior_of, bank, settings, attempt)
        for group, (sources, part), pictures in zip(groups, asked, painted):
            answers = verify(pictures, part, sources).to_dict("records")
            for slot, picture, answer in zip(group, pictures, answers, strict=True):
                slot.keep_best(picture, answer, attempt)
        last = attempt + 1 == settings.edit.max_attempts
        done = [b for b in pool if b.made_here and (last or not b.pending(attempt + 1))]
        yield from (batch.finished() for batch in done)
        pool = [batch for batch in pool if batch.pending(attempt + 1)]
        if not any(batch.made_here for batch in pool):
            break


def _groups(
    pool: list[_Batch], settings: EditStage, grouped: bool, attempt: int
) -> list[list[_Slot]]:
    """The slots that are painted together, of those that are pending; groups that make nothing
    new are left out."""
    if not grouped:
        return [batch.pending(attempt) for batch in pool]
    of_shape: dict[tuple[int, int], list[_Slot]] = {}
    for batch in pool:
        for slot in batch.pending(attempt):
            of_shape.setdefault(canvas_shape(slot.source(), settings.edit), []).append(slot)
    size = settings.edit.batch_size
    groups = [own[i : i + size] for own in of_shape.values() for i in range(0, len(own), size)]
    return [group for group in groups if any(slot.spent is None for slot in group)]


@dataclass(frozen=True)
class _Attempt:
    """The best attempt at an edit so far."""

    rank: float = -np.inf
    image: Any = None
    answer: dict[str, Any] = field(default_factory=dict)


class _Slot:
    """One edit in the making. spent: attempts of an earlier run; None where it is to be made."""

    def __init__(self, row: dict, source_of: Callable[[str], Source], spent: int | None):
        self.row, self.spent, self.best = row, spent, _Attempt()
        self._source_of = source_of
        self._source: Source | None = None

    def source(self) -> Source:
        """The photograph, in memory as long as the edit is pending."""
        if self._source is None:
            self._source = self._source_of(self.row["image_id"])
        return self._source

    def pending(self, attempt: int) -> bool:
        """Whether an attempt is to be made."""
        if self.spent is not None:
            return attempt < self.spent
        return not self.best.answer.get("accepted", False)

    def keep_best(self, image: np.ndarray, answer: dict, attempt: int) -> None:
        """Keep an attempt where it is better than the ones before."""
        rank = answer["worst_margin"] + (1e6 if answer["accepted"] else 0)
        if self.spent is None and rank > self.best.rank:
            self.best = _Attempt(rank, image, {**answer, "attempt": attempt})
        if not self.pending(attempt + 1):
            self._source = None


class _Batch:
    """A batch in the making, or one that an earlier run has finished."""

    def __init__(
        self,
        number: int,
        rows: list[dict],
        source_of: Callable[[str], Source],
        spent: Sequence[int] | None,
    ):
        self.number, self.made_here = number, spent is None
        tries = [None] * len(rows) if spent is None else spent
        self.slots = [_Slot(r, source_of, n) for r, n in zip(rows, tries, strict=True)]

    def pending(self, attempt: int) -> list[_Slot]:
        """The edits of which an attempt is to be made."""
        return [slot for slot in self.slots if slot.pending(attempt)]

    def finished(self) -> Finished:
        """Number, images and rows with their answers."""
        done = pd.DataFrame([{**slot.row, **slot.best.answer} for slot in self.slots])
        return self.number, [slot.best.image for slot in self.slots], done
