"""The README's numbers are those of results/, or it holds none."""

import re
from pathlib import Path

import pandas as pd
import pytest

from varireal_utils.core import storage
from varireal_utils.reporting import readme

ROOT = Path(__file__).resolve().parents[2]


def test_readme_shows_what_results_hold():
    if not (ROOT / "results" / readme.SHOWN / "claims.csv").exists():
        pytest.skip("no results are committed yet")
    text = (ROOT / "README.md").read_text()
    shown = text.split(readme.BEGIN)[1].split(readme.END)[0].strip()
    assert shown == readme.block(ROOT).strip(), "run: python -m varireal_utils.reporting.readme"


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        there = (ROOT / page).parent / target
        assert target.startswith("http") or there.exists(), target


def test_a_row_shows_mark_and_what_would_settle_it():
    row = {
        "claim": "A1",
        "says": "s",
        "quantity": "q",
        "reported": "below 0.3",
        "source": "abstract [V]",
        "ours": 0.5,
        "low": -0.1,
        "high": 1.1,
        "seeds": 5.0,
        "verdict": "inconclusive",
        "settle": "3 more seeds would settle it",
    }
    text = readme._claim(row, "command, time")
    assert "| below 0.3 [V] |" in text and "q: +0.50 [-0.10, +1.10], 5 seeds" in text
    assert "**inconclusive** (3 more seeds would settle it) | command, time |" in text
    empty = readme._claim(
        row | {"ours": float("nan"), "settle": float("nan"), "source": "", "verdict": "not run"},
        "command, time",
    )
    assert empty == "| A1: s | below 0.3 | q | **not run** |  |"


def test_tables_of_an_older_version_are_refused(tmp_path):
    folder = tmp_path / "results" / readme.SHOWN
    folder.mkdir(parents=True)
    for name in ("claims.csv", "main_table.csv", "runs.csv"):
        (folder / name).write_text("claim,verdict\nA1,supported\n")
    (folder / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="claims.csv has no column .* older version"):
        readme.block(tmp_path)


def test_head_room_is_asked_for_on_every_data_set():
    def table(gains):
        return pd.DataFrame(
            [
                {"dataset": d, "arm": a, "mean": 50 + (g if a == "real" else 0)}
                for d, g in gains.items()
                for a in ("zero-shot", "real")
            ]
        )

    assert readme.head_room(table({"a": 12, "b": 10})) == []
    some = readme.head_room(table({"a": 12, "b": 4.5}))[0]
    assert some.startswith("**Little room on b +4.5 points.**") and "a +12" not in some
    assert readme.head_room(table({"a": 3, "b": 4.5}))[0].startswith("**Not valid yet.**")


def test_speed_and_growth_stand_there_once_they_were_measured(tmp_path):
    assert readme._speed(tmp_path) == readme._growth(tmp_path) == readme._gpu(tmp_path) == []
    rows = [
        {"what": "training step", "classes": 37, "way": w, "seconds": s, "ratio": 12 / s}
        for w, s in (
            ("plain", 12.0),
            ("float32", 6.0),
            ("float32 by prefix", 8.0),
            ("bfloat16", 2.0),
        )
    ]
    rows.append(
        {"what": "make study", "classes": None, "way": "ours", "seconds": 500.0, "ratio": None}
    )
    storage.write_json(
        tmp_path / "results/bench.json",
        {
            "rows": rows,
            "repeats": 3,
            "model": "ViT-B-16",
            "batch": 16,
            "machine": "m",
            "started": "2026-01-01T00:00:00Z",
            "missed": ["too slow", "a bottleneck"],
        },
    )
    text = readme._speed(tmp_path)
    assert text[-3] == "| training step, 37 classes | 12 s | 6 s (**2.0x**) | 2 s (**6.0x**) |"
    assert text[-2] == "| training step, 37 classes, noise by prefix | 12 s | 8 s (**1.5x**) |  |"
    assert (
        text[-1] == "| make study |  | 500 s |  |" and "Missed: too slow; a bottleneck." in text[1]
    )
    storage.write_json(
        tmp_path / "results/bench_gpu.json",
        {
            "card": "a card",
            "peak_tflops": 1000.0,
            "matrix_tflops": 750.0,
            "started": "2026-01-01T00:00:00Z",
            "rows": [
                {
                    "what": "training step",
                    "classes": 37,
                    "way": "bfloat16",
                    "batch": 64,
                    "images_per_second": 1252.3,
                    "share_of_peak": 0.086,
                },
                {
                    "what": "colour edits",
                    "classes": None,
                    "way": "plain",
                    "batch": 1,
                    "images_per_second": 9.0,
                    "share_of_peak": None,
                },
            ],
        },
    )
    text = readme._gpu(tmp_path)
    assert "a card" in text[1] and "75 %" in text[1]
    assert text[-2:] == [
        "| training step, 37 classes | bfloat16 | 64 | 1,252 | 9 % |",
        "| colour edits | plain | 1 | 9 |  |",
    ]
    storage.write_table(
        tmp_path / "results/growth.csv",
        pd.DataFrame(
            {
                "images": [1000, 2000],
                "stage": "01_data",
                "seconds": [1.2, 2.3],
                "memory_mb": [700.4, 701.0],
            }
        ),
    )
    assert readme._growth(tmp_path)[-1] == "| 01_data | 1 s, 700 MB | 2 s, 701 MB |"
