"""Names come back, files are whole or absent, equal content gives equal bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varireal_utils.core import storage

NAMES = [
    "F-16A/B",
    "F/A-18",
    "Ram C/V Cargo Van Minivan 2012",
    ".",
    "..",
    "",
    "%",
    "^",
    "~",
    "A",
    "a",
    "^a",
    "%41",
    "a b",
    "a~b",
    "a.",
    ".a",
    "CON",
    "con",
    "con.txt",
    "aux.",
    "lpt1.png",
    "é",
    "É",
    "日本語",
    "a\nb",
    "a\x00b",
    "\ud800",
    "back\\slash",
    "edit(all,feasible)",
]


@pytest.mark.parametrize("name", NAMES)
def test_slug_comes_back_and_is_a_safe_file_name(name: str, tmp_path: Path) -> None:
    text = storage.slug(name)
    assert storage.unslug(text) == name
    assert text == text.lower() and text.isascii() and len(text) <= 200
    (tmp_path / text).write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [text]
    assert text.split(".")[0] not in {"con", "aux", "lpt1"}


def test_different_names_have_different_slugs() -> None:
    assert len({storage.slug(name) for name in NAMES}) == len(NAMES)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=14), st.text(max_size=14))
def test_slug_is_one_to_one(a: str, b: str) -> None:
    assert storage.unslug(storage.slug(a)) == a
    assert (storage.slug(a) == storage.slug(b)) == (a == b)


def test_overlong_names_stay_apart_and_say_that_they_are_short() -> None:
    a, b = storage.slug("日" * 300), storage.slug("日" * 300 + "!")
    assert a != b and len(a) <= 200 and len(b) <= 200
    with pytest.raises(ValueError, match="overlong name"):
        storage.unslug(a)


def test_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    storage.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), storage.atomic_path(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert storage.read_json(path) == {"old": 1}
    with pytest.raises(ValueError):  # NaN is refused before anything is written
        storage.write_json(path, {"new": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert storage.read_json(path) == {"old": 1}


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """Killed at some instant among hundreds of writes: one of the two contents, never a mixture."""
    path = tmp_path / "a.txt"
    storage.write_text(path, "a" * 500_000)
    loop = (
        "import sys; from varireal_utils.core import storage\n"
        "while True:\n  for c in 'ab': storage.write_text(sys.argv[1], c * 500_000)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    writer = subprocess.Popen([sys.executable, "-c", loop, str(path)], env=env)
    try:
        seen, deadline = set(), time.monotonic() + 120
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(path.read_text())
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert seen == {"a" * 500_000, "b" * 500_000}
    assert path.read_text() in seen


def test_json_is_sorted_plain_and_named_when_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    storage.write_json(path, {"b": np.float32(0.5), "a": np.arange(2), "c": Path("x/y")})
    assert storage.read_json(path) == {"a": [0, 1], "b": 0.5, "c": "x/y"}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match="a.json: not valid JSON"):
        storage.read_json(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_equal_tables_give_equal_bytes_and_come_back(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "label": [0, 1], "x": [0.1, 1e-9]})
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    storage.write_table(one, table)
    storage.write_table(two, table.copy())
    assert one.read_bytes() == two.read_bytes()
    pd.testing.assert_frame_equal(storage.read_table(one), table)


def test_table_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a.xls: a table ends in .parquet or .csv"):
        storage.write_table(tmp_path / "a.xls", pd.DataFrame())
    with pytest.raises(FileNotFoundError, match="run the stage that writes it"):
        storage.read_table(tmp_path / "b.parquet")
    assert list(tmp_path.iterdir()) == []


def test_picture_and_mask_come_back_to_the_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)  # (H, W, 3)
    digest = storage.write_image(tmp_path / "a.png", picture)
    assert (
        digest
        == storage.sha256_file(tmp_path / "a.png")
        == storage.sha256_bytes(storage.png_bytes(picture))
    )
    assert (storage.read_image(tmp_path / "a.png") == picture).all()
    storage.write_image(tmp_path / "m.png", np.array([[0, 127], [128, 255]], np.uint8))
    assert storage.read_mask(tmp_path / "m.png").tolist() == [[0, 0], [255, 255]]


def test_digest_of_json_does_not_depend_on_order() -> None:
    assert storage.sha256_json({"a": 1, "b": [2]}) == storage.sha256_json({"b": [2], "a": 1})
    assert storage.sha256_json({"a": 1}) != storage.sha256_json({"a": "1"})
