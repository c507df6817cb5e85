"""The chain of editing and verifying makes a quarter of the passes of the reference's way."""

from pathlib import Path

import pandas as pd
import pytest

from bench import chain
from tests.conftest import ROOT
from varireal_utils.core import storage
from varireal_utils.reporting import benchmark_blocks

FEW = {
    "edit__batch_size": 4,
    "edit__max_attempts": 1,
    "edit__prior_variants": 1,
    "edit__background__steps": 2,
    "edit__background__prior_steps": 1,
    "edit__color__steps": 2,
    "edit__color__refine_steps": 4,
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def of(rows: list[dict], way: str, what: str) -> pd.DataFrame:
    """Passes or rows of a way, by attribute and network."""
    return pd.DataFrame({r["attribute"]: r[what] for r in rows if r["way"] == way}).T


@pytest.mark.slow
def test_both_ways_paint_the_same_and_batches_spare_passes(tmp_path: Path) -> None:
    rows = chain.measure(1, tmp_path, **FEW)
    assert {(r["edits"], r["attempts"]) for r in rows} == {(4, 4)}
    painted = ["UNet", "autoencoder"]  # the same pictures go through both
    before, now = of(rows, "one by one", "rows"), of(rows, "ours", "rows")
    assert (before[painted] == now[painted]).all(axis=None)
    assert before.loc["color", "ControlNet"] == now.loc["color", "ControlNet"] > 0
    before, now = of(rows, "one by one", "passes"), of(rows, "ours", "passes")
    assert (before["UNet"] == 4 * now["UNet"]).all()
    assert before.loc["color", "ControlNet"] == 4 * now.loc["color", "ControlNet"]
    assert (before["verifier"] == 40).all()  # ten questions on each edit
    assert (now["verifier"] <= 14).all()  # of which ten look whether questions may branch
    assert (before["text encoder"] == 16).all() and (now["text encoder"] < 11).all()


def test_too_many_passes_are_named() -> None:
    def rows(ours: int) -> list[dict]:
        passes = dict.fromkeys(chain.HEAVY, 40) | {"text encoder": 8}
        return [
            {"way": "one by one", "passes": passes},
            {"way": "ours", "passes": dict.fromkeys(chain.HEAVY, ours) | {"text encoder": 1}},
        ]

    assert chain.missed(rows(10)) == []
    assert chain.missed(rows(11)) == [
        *(f"{name}: 11 passes, one by one 40; wanted 4 times fewer" for name in chain.HEAVY),
        "all networks: 34 passes, one by one 128; wanted 4 times fewer",
    ]


@pytest.mark.slow
def test_at_least_four_times_fewer_passes(tmp_path: Path) -> None:
    assert chain.missed(chain.measure(6, tmp_path)) == []


def test_what_was_counted_is_four_times_fewer() -> None:
    facts = storage.read_json(ROOT / "results/chain.json")
    assert chain.missed(facts["rows"]) == facts["missed"] == []


def test_the_page_has_sums_of_both_attributes(tmp_path: Path) -> None:
    assert "bench.chain" in benchmark_blocks.chain(tmp_path, "")
    made = {"edits": 4, "attempts": 5, "seconds": 3600.0}
    ways = {"one by one": 8, "ours": 2}
    facts = {
        "rows": [
            made | {"attribute": a, "way": w, "passes": passes, "rows": {"UNet": 16, "verifier": n}}
            for w, n in ways.items()
            for a, passes in (("a", {"UNet": n, "verifier": n}), ("b", {"UNet": n}))
        ],
        "machine": "m",
        "load": 1.6,
        "started": "2026-01-01T00:00:00Z",
    }
    storage.write_json(tmp_path / "results/chain.json", facts)
    text = benchmark_blocks.chain(tmp_path, "").splitlines()
    assert text[0].startswith("8 edits and 10 attempts") and "load of 2): 4 edits" in text[0]
    assert text[-3:] == [
        "| UNet | 16 | 4 (**4.0x**) | 32 and 32 rows |",
        "| verifier | 8 | 2 (**4.0x**) | 16 and 4 tokens |",
        "| all networks | 24 | 6 (**4.0x**) |  |",
    ]
