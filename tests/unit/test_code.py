"""Digests of code: what a stage imports, whatever does not change it, and who notices a change."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from varireal_utils.core import code
from varireal_utils.core.code import CodeDigests
from varireal_utils.workflow import stages


def module_of(stage: str) -> str:
    return "varireal_utils." + stages.STAGES[stage].settings.split(":")[0]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CodeDigests:
    """Digests of the repository, read once."""
    return CodeDigests(tmp_path_factory.mktemp("code") / "cache.json")


def counted(digests: CodeDigests, stage: str) -> dict[str, str]:
    """Module -> digest, of a stage of the repository's notebooks."""
    return digests.of(ROOT / f"notebooks/{stage}.ipynb", module_of(stage))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Both packages, to be changed."""
    for package in code.PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


@pytest.mark.parametrize(
    "names",
    [
        ("01_data", "02_attributes", "08_figures"),
        pytest.param(tuple(stages.STAGES), marks=pytest.mark.slow),  # torch and what needs it
    ],
)
def test_whatever_a_slice_loads_is_counted(base: CodeDigests, names: tuple[str, ...]) -> None:
    text = "import sys, json, importlib\n" + "".join(
        f"importlib.import_module({module_of(n)!r})\n" for n in names
    )
    done = subprocess.run(
        [sys.executable, "-c", text + "print(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {m for m in json.loads(done.stdout) if m.split(".")[0] in code.PACKAGES}
    found = {m for name in names for m in counted(base, name)}
    assert len(loaded) > 30 and loaded <= found, loaded - found


@pytest.mark.parametrize(
    ("module", "noticed"),
    [
        ("editing/compositing", "03_guidance 04_edit"),
        ("training/train_step", "06_classify"),
        ("analysis/bootstrap", "07_claims 08_figures"),
        ("reporting/style", "08_figures"),
        ("reporting/study.mplstyle", "08_figures"),
        ("datadream/adapters", "05_datadream 07_quality"),
        ("data/sets/food101", "01_data 02_attributes 06_classify 07_claims 08_figures"),
        ("core/seeds", " ".join(stages.STAGES)),
        ("workflow/runner", ""),
        ("workflow/overview", "08_figures"),
    ],
)
def test_a_changed_module_is_noticed_by_the_stages_that_import_it(
    base: CodeDigests, copy: Path, module: str, noticed: str
) -> None:
    before = {stage: counted(base, stage) for stage in stages.STAGES}
    file = copy / "varireal_utils" / (module if "." in module else f"{module}.py")
    file.write_text(file.read_text() + "\nmore: 1\n")
    changed, name = CodeDigests(copy / "none.json", copy), module.replace("/", ".")
    changed._found = {m: v for m, v in base._found.items() if m != f"varireal_utils.{name}"}
    after = {stage: counted(changed, stage) for stage in stages.STAGES}
    assert {s for s in stages.STAGES if before[s] != after[s]} == set(noticed.split())


def test_comments_docstrings_and_the_formatter_change_nothing() -> None:
    one = ast.parse('"""Doc."""\ndef f(a, b=1):\n    """Doc."""\n    return (a +\n b)  # sum\n')
    two = ast.parse('\n\ndef f(a, b = 1):\n    """Other."""\n    return a + b\n')
    assert code.digest(one) == code.digest(two)
    for text in ("def f(a, b=2):\n return a + b", "def f(a, b=1):\n return a - b"):
        assert code.digest(ast.parse(text)) != code.digest(two)
    kept = ast.parse('X = "text"\n"""Doc of X."""\n')
    assert code.digest(kept) == code.digest(kept)
    assert code.digest(ast.parse("x = 1")) != code.digest(ast.parse("x = 1.0"))


def test_types_alone_are_no_imports_and_functions_hold_some() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from varireal_utils.core import seeds\n"
        "def f():\n    from ..core import device\n"
        "    import microworld.render\n"
        "    import_module(f'.sets.{name}', __package__)\n"
    )
    found = set(code._imports("varireal_utils.data.registry", tree, ROOT))
    assert "varireal_utils.core.seeds" not in found
    assert {"varireal_utils.core.device", "microworld.render"} <= found
    assert {"varireal_utils.data.sets.dtd", "varireal_utils.data.sets.food101"} <= found


def test_the_cache_is_asked_by_size_and_time(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "varireal_utils/core/seeds.py"
    for file in copy.rglob("*.py"):
        os.utime(file, (1e9, 1e9))
    cache, notebook = copy / "code.json", ROOT / "notebooks/06_classify.ipynb"
    first = CodeDigests(cache, copy).of(notebook, module_of("06_classify"))
    monkeypatch.setattr(code.ast, "parse", lambda *a: pytest.fail("read again"))
    known = CodeDigests(cache, copy)
    assert known.now(list(first)) == first
    monkeypatch.undo()
    path.write_text(path.read_text() + "\nMORE = 1\n")
    changed = CodeDigests(cache, copy).of(notebook, module_of("06_classify"))
    assert {m for m in changed if changed[m] != first[m]} == {"varireal_utils.core.seeds"}
    cache.write_text("[")  # a damaged cache costs time alone
    assert CodeDigests(cache, copy).of(notebook, module_of("06_classify")) == changed
