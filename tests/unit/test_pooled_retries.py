"""Rejected edits of a pool in full batches: the pictures of each batch by itself, fewer passes,
and the bytes of an undisturbed run after a kill, at any point."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.unit import test_edit
from varireal_utils.core.config_editing import CanvasSettings
from varireal_utils.core.seeds import numpy_rng
from varireal_utils.editing import batches, canvas, phases, pipeline, sources
from varireal_utils.editing.sources import Source

setting, pipes = test_edit.setting, test_edit.pipes  # fixtures of the micro models
GPU = SimpleNamespace(device=torch.device("cuda"))
SIZE, COUNT = 4, 40


@pytest.fixture
def made_of_composition(monkeypatch):
    """(settings, rows, verify, painted): an editor whose pictures and a verifier whose margins
    depend on everything else in their batch, as rounding does; painted: (attempt, edits)."""
    painted: list[tuple[int, list[str]]] = []

    def mark(names, attempt):
        return int(numpy_rng(attempt, *names).integers(256))

    def edit_batches(pipes, asked, prior_of, bank, settings, attempt):
        out = []
        for _, rows in asked:
            names = [r["edit_id"] for r in rows]
            painted.append((attempt, names))
            level = mark(names, attempt)
            out.append([np.full((8, 8, 3), (level + i) % 256, np.uint8) for i in range(len(rows))])
        return out

    def verify(pictures, rows, photographs):
        assert [int(s.image[0, 0]) for s in photographs] == [int(r["image_id"]) for r in rows]
        noise = 1e-6 * sum(int(p[0, 0, 0]) for p in pictures)
        needs = [int(numpy_rng(r["edit_id"]).integers(10)) for r in rows]  # 3 in 10 twice or more
        tried = painted_attempt()
        good = [tried >= max(0, need - 6) for need in needs]
        return pd.DataFrame({"worst_margin": [noise - tried + g for g in good], "accepted": good})

    def painted_attempt():
        return painted[-1][0]

    monkeypatch.setattr(pipeline, "edit_batches", edit_batches)
    rows = pd.DataFrame(
        [{"edit_id": f"e{i}", "image_id": str(i), "attribute": "color"} for i in range(COUNT)]
    )
    edit = SimpleNamespace(batch_size=SIZE, pool=5, max_attempts=3, canvas=0)
    return SimpleNamespace(edit=edit), rows, verify, painted


def source_of(image_id: str) -> Source:
    """A photograph that is known by its grey."""
    return Source(*(np.full((8, 8), int(image_id), np.uint8),) * 4)


def run(asked, spent, settings=None, source=source_of):
    """The batches that a run finishes, as they come."""
    own, rows, verify, _ = asked
    return phases.run(GPU, rows, source, {}, {}, settings or own, verify, spent)


def spent_on(done: pd.DataFrame, most: int) -> list[int]:
    return [n + 1 if good else most for good, n in zip(done["accepted"], done["attempt"])]


def test_rejected_edits_of_a_pool_fill_batches(made_of_composition):
    *_, painted = made_of_composition
    done = {n: rows for n, _, rows in run(made_of_composition, dict.fromkeys(range(10)))}
    assert sorted(done) == list(range(10))
    for n, rows in done.items():
        assert list(rows["edit_id"]) == [f"e{i}" for i in range(SIZE * n, SIZE * n + SIZE)]
    for attempt in (1, 2):
        sizes = [len(names) for tried, names in painted if tried == attempt]
        rejected = sum(
            (rows["attempt"] >= attempt).sum() + (~rows["accepted"]).sum()
            for n, rows in done.items()
        )
        assert sum(sizes) == rejected and sizes.count(SIZE) >= len(sizes) - 2  # one a pool is less
    by_itself = sum(
        any(n > attempt for n in spent_on(rows, 3)) for rows in done.values() for attempt in (1, 2)
    )
    assert sum(tried > 0 for tried, _ in painted) < 0.6 * by_itself


def test_a_kill_at_any_batch_costs_no_byte(made_of_composition):
    """Whatever was finished before: pictures, answers and attempts are those of a whole run, though
    each depends on all of its group."""
    whole = {n: (p, rows) for n, p, rows in run(made_of_composition, dict.fromkeys(range(10)))}
    order = [n for n, *_ in run(made_of_composition, dict.fromkeys(range(10)))]
    assert order != sorted(order)  # some batches need more attempts than later ones
    for stop in range(len(order)):
        spent = {n: spent_on(whole[n][1], 3) if n in order[:stop] else None for n in range(10)}
        left = {n: (p, rows) for n, p, rows in run(made_of_composition, spent)}
        assert sorted(left) == sorted(order[stop:])
        for n, (pictures, rows) in left.items():
            np.testing.assert_array_equal(pictures, whole[n][0])
            pd.testing.assert_frame_equal(rows, whole[n][1])


def test_finished_pools_read_and_paint_nothing(made_of_composition):
    *_, painted = made_of_composition
    whole = {n: rows for n, _, rows in run(made_of_composition, dict.fromkeys(range(10)))}
    painted.clear()
    seen = []

    def source(image_id):
        seen.append(int(image_id))
        return source_of(image_id)

    spent = {n: spent_on(rows, 3) for n, rows in whole.items()} | {7: None}
    assert [n for n, *_ in run(made_of_composition, spent, source=source)] == [7]
    assert min(seen) >= 20 and all(
        set(names) & {"e28", "e29", "e30", "e31"} for _, names in painted
    )


def test_a_photograph_is_held_while_its_edit_is_pending(made_of_composition):
    """Two attempts at a pool hold the photographs of what was rejected alone."""
    settings, rows, verify, painted = made_of_composition
    alive: list = []

    def source(image_id):
        import weakref

        found = source_of(image_id)
        alive.append(weakref.ref(found.image))
        return found

    held = []

    def watching(pictures, part, photographs):
        if painted[-1][0] == 1:
            held.append(sum(ref() is not None for ref in alive))
        return verify(pictures, part, photographs)

    settings.edit.pool = 10
    own = (settings, rows, watching, painted)
    assert len(list(run(own, dict.fromkeys(range(10)), source=source))) == 10
    again = sum(len(names) for tried, names in painted if tried == 1)
    assert 0 < again < COUNT / 2 and held[0] == again


def test_groups_have_one_size(made_of_composition):
    """Photographs of two shapes are painted in full batches of each, from the first attempt on."""
    *_, painted = made_of_composition

    def source(image_id):
        size = (8, 8) if int(image_id) % 2 else (8, 16)
        return Source(*(np.full(size, int(image_id), np.uint8),) * 4)

    done = list(run(made_of_composition, dict.fromkeys(range(10)), source=source))
    assert len(done) == 10
    first = [names for tried, names in painted if tried == 0]
    assert [len(names) for names in first].count(SIZE) == 8 and len(
        first
    ) == 12  # 10 of each a pool
    for names in first:
        assert len({int(name[1:]) % 2 for name in names}) == 1


@pytest.mark.parametrize("shape", ["square", "photograph"])
@pytest.mark.parametrize("size", [(30, 41), (41, 30), (64, 64), (7, 64), (129, 3)])
def test_the_canvas_shape_is_that_of_the_placed_photograph(shape, size):
    settings = CanvasSettings(canvas=64, canvas_shape=shape)
    blank = Source(*(np.zeros(size, np.uint8),) * 4)
    placed, _ = canvas.place(blank.image, settings)
    assert sources.canvas_shape(blank, settings) == placed.shape
    assert sources.canvas_shape(blank, CanvasSettings()) == size


def test_a_finished_batch_says_what_was_spent(tmp_path):
    from varireal_utils.core import storage

    own = batches.Batches(tmp_path, tmp_path / "parts/stamp", 2, [0, 1])
    table = pd.DataFrame({"accepted": [True, False], "attempt": [1, 0]})
    storage.write_table(own.file(1), table)
    assert own.spent(3) == {0: None, 1: [2, 3]}


def test_pooled_retries_paint_the_pictures_of_each_batch_by_itself(monkeypatch, setting, pipes):  # noqa: F811
    """On the micro models: the picture of an edit is that of its batch alone, up to rounding, in
    every attempt, with the same answer about each."""
    settings, bank = setting
    settings = test_edit.changed(settings, batch_size=2, max_attempts=2, pool=3)
    names = itertools.cycle(("red", "purple", "teal"))
    rows = pd.DataFrame(
        [
            test_edit.row(bank, i, phrase) | {"image_id": str(i), "edit_id": str(i)}
            for i, phrase in zip(range(6), names)
        ]
    )

    def made(grouped):
        asked: list[list[str]] = []

        def verify(pictures, part, photographs):
            asked.append([r["edit_id"] for r in part])
            good = [int(r["edit_id"]) % 2 == 1 or len(asked) > 3 for r in part]
            return pd.DataFrame({"worst_margin": 0.0, "accepted": good})

        monkeypatch.setattr(phases, "pooled", lambda pipes: grouped)
        read = lambda i: test_edit.source(int(i))  # noqa: E731
        spent = dict.fromkeys(range(3))
        found = phases.run(pipes, rows, read, {}, bank, settings, verify, spent)
        return {n: (p, r) for n, p, r in found}, asked

    (each, apart), (pool, together) = made(False), made(True)
    assert apart[3:] == [["0"], ["2"], ["4"]] and together[3:] == [["0", "2"], ["4"]]
    for n in range(3):
        assert list(each[n][1]["attempt"]) == list(pool[n][1]["attempt"]) == [1, 0]
        for a, b in zip(each[n][0], pool[n][0], strict=True):
            assert np.abs(a.astype(int) - b).max() <= 2


def test_only_an_accelerator_groups():
    for kind, grouped in (("cpu", False), ("cuda", True), ("mps", True)):
        assert phases.pooled(SimpleNamespace(device=torch.device(kind))) is grouped
