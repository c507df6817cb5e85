"""The committed notebooks: valid, each cell with a name of its own, no outputs, a common kernel."""

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
