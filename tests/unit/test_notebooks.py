"""The committed notebooks: valid, each cell with a name of its own, no outputs, a common kernel."""

import re
import warnings
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", BOOKS, ids=[p.stem for p in BOOKS])
def test_sources_are_valid_and_hold_no_outputs(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nbformat only warns of a doubled id
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
    ids = [cell["id"] for cell in book.cells]
    assert len(set(ids)) == len(ids), sorted(i for i in ids if ids.count(i) > 1)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)
    assert book.metadata.kernelspec.name == "python3"


def source(cell) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", BOOKS, ids=[p.stem for p in BOOKS])
def test_every_notebook_opens_with_what_a_reader_needs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    title = source(book.cells[1])
    assert title.startswith("# ") and "](../docs/protocol.md)" in title or "Papers:" in title
    if path.stem != "00_overview":
        for part in (
            "**In the papers**",
            "| **Reads** |",
            "| **Writes** |",
            "| **Time and memory**",
        ):
            assert part in title, part
        assert "**What differs from the" in title


@pytest.mark.parametrize("path", BOOKS, ids=[p.stem for p in BOOKS])
def test_every_parameter_has_a_type_and_a_comment(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    tagged = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = [line for line in source(tagged[0]).splitlines() if not line.startswith("#")]
    assert 0 < len(lines) <= 10
    for line in lines:
        assert re.fullmatch(r"\w+: (str|int|float|bool|dict|list) = .+  # .+", line), line


PRIVATE = (
    "in go ",
    "in goes ",
    "out come",
    "drawn by lot",
    "in points",
    "doors",
    "onlooker",
)


@pytest.mark.parametrize("path", BOOKS, ids=[p.stem for p in BOOKS])
def test_prose_has_no_private_words(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    prose = "\n".join(source(c) for c in book.cells if c.cell_type == "markdown").lower()
    assert [w for w in PRIVATE if w in prose] == []
