"""docs/extending.md, done as it says in a copy of the repository: every example runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## An? (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
BLOCK = re.compile(r"^(?P<what>[^\n]*):\n\n```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S)
COPIED = ("varireal_utils", "microworld", "notebooks", "params", "tests", "docs", "figures")
LINKED = ("models", "results")


def copy(folder: Path) -> Path:
    """The repository without its history; models and results by links."""
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "claims.yaml", "known.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def register(file: Path, diff: str) -> None:
    """Insert the added lines behind the line above them, or at the end where there is none."""
    lines = diff.splitlines()
    added = [line[1:] for line in lines if line.startswith("+")]
    above = [line[1:] for line in lines if not line.startswith("+")][:1]
    text = file.read_text(encoding="utf-8").splitlines()
    if above:
        assert text.count(above[0]) == 1, f"{file}: {above[0]!r} stands there not once"
        place = text.index(above[0]) + 1
    else:
        place = len(text)
    file.write_text("\n".join([*text[:place], *added, *text[place:]]) + "\n", encoding="utf-8")


def command(line: str, folder: Path) -> None:
    """Run a line of a page in the copy. Fails with what it printed."""
    words = line.replace("python", sys.executable, 1)
    done = subprocess.run(
        words,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def follow(part: str, folder: Path) -> int:
    """Do what a section says; returns how many commands and scripts ran."""
    ran = 0
    for block in BLOCK.finditer(PARTS[part]):
        what, kind, text = block["what"], block["kind"], block["text"]
        names = re.findall(r"`([^`]+)`", what)
        if what.startswith("File "):
            (folder / names[0]).parent.mkdir(parents=True, exist_ok=True)
            (folder / names[0]).write_text(text, encoding="utf-8")
        elif kind == "diff":
            register(folder / names[-1], text)
        elif kind == "sh":
            for line in text.splitlines():
                command(line, folder)
                ran += 1
        elif kind == "python":
            (folder / "example.py").write_text(text)
            command("python example.py", folder)
            ran += 1
    return ran


def test_the_page_has_the_five_sections() -> None:
    assert list(PARTS) == ["attribute", "data set", "editor", "classifier", "claim"]


@pytest.mark.slow
def test_a_fourth_attribute(tmp_path: Path) -> None:
    assert follow("attribute", copy(tmp_path)) == 1
    edits = pd.read_parquet(
        tmp_path / "runs/finish/edits/micro_pets/finish/infeasible/edits.parquet"
    )
    assert set(edits["attribute"]) == {"finish"} and set(edits["phrase"]) == {"pink"}
    assert len(edits) == 8


def test_a_data_set(tmp_path: Path) -> None:
    assert follow("data set", copy(tmp_path)) == 1


@pytest.mark.slow
def test_an_editor(tmp_path: Path) -> None:
    assert follow("editor", copy(tmp_path)) == 1
    home = tmp_path / "runs/half_strength/edits/micro_pets/color/feasible"
    assert len(list((home / "images").glob("*.png"))) == 8


def test_a_classifier(tmp_path: Path) -> None:
    assert follow("classifier", copy(tmp_path)) == 1
    found = tmp_path / "runs/mean_color/classify/micro_pets/real/seed0/predictions.parquet"
    assert len(pd.read_parquet(found)) == 16


def test_a_claim(tmp_path: Path) -> None:
    assert follow("claim", copy(tmp_path)) == 1
    claims = pd.read_csv(tmp_path / "runs/micro/recomputed/claims.csv").set_index("claim")
    row = claims.loc["E5"]
    assert row["low"] <= row["ours"] <= row["high"]


@pytest.mark.parametrize("diff", ["+x\n", " a\n+x\n"])
def test_a_line_goes_where_the_page_says(tmp_path: Path, diff: str) -> None:
    file = tmp_path / "f"
    file.write_text("a\nb\n")
    register(file, diff)
    assert file.read_text() == ("a\nb\nx\n" if diff == "+x\n" else "a\nx\nb\n")
