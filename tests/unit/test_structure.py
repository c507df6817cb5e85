"""The layout of the packages, read from their sources: imports, sizes, and spelled paths.

    imports   point down only: a room imports the rooms that BELOW names, and there is no circle,
              neither between modules nor hidden in a function
    sizes     no function over 60 lines or 8 parameters
    paths     core/study_paths.py alone spells the folders of a study

LEFT lists what does not hold yet; an entry that holds by now fails too, so the list only shrinks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.conftest import ROOT

LINES, PARAMETERS = 60, 8
ROOMS = {
    "core": set(),
    "data": {"core", "microworld"},
    "models": {"core"},
    "prompts": {"core", "data", "models"},
    "training": {"core", "data", "models"},
    "verification": {"core", "data", "models", "prompts", "training"},
    "editing": {"core", "data", "models", "prompts", "verification"},
    "datadream": {"core", "data", "models", "training"},
    "quality": {"core", "data", "models", "prompts", "verification", "editing", "datadream"},
    "analysis": {"core", "data", "training"},
    "reporting": {"core", "data", "training", "analysis", "editing"},
}
BELOW = {
    **ROOMS,
    "workflow": set(ROOMS),
    "preflight": {*ROOMS, "workflow"},
    "__main__": {*ROOMS, "workflow", "preflight"},
    "microworld": set(),
    "microworld.pretrain": {*ROOMS, "microworld", "workflow"},
}
FOLDERS = ("data", "attributes", "guidance", "edits", "datadream", "classify", "quality")
SPELLED = re.compile(rf"(^|/)({'|'.join(FOLDERS)})/([{{*]|[\w*]+/[{{*])")
LEFT: set[str] = set()


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> source tree, of both packages."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for package in ("varireal_utils", "microworld")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/") / "__init__.py").is_file()


def imported(name: str, tree: ast.AST) -> Iterator[str]:
    """The modules of both packages that a module imports, in functions too; not for types alone."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package(name)]
            base = ".".join([*(above if node.level else []), *([node.module] * bool(node.module))])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in modules() or base in modules():
                    yield full if full in modules() else base


def room(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "microworld":
        return "microworld.pretrain" if parts[1:2] == ["pretrain"] else "microworld"
    return parts[1] if len(parts) > 1 else ""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", node


def agrees(found: set[str], about: str) -> None:
    """Nothing is found but what LEFT names, and LEFT names nothing else of this kind."""
    known = {line.split(" ", 1)[1] for line in LEFT if line.split(" ", 1)[0] == about}
    assert found == known, (
        f"new: {sorted(found - known)}; mended, take out: {sorted(known - found)}"
    )


def test_imports_point_down() -> None:
    up = {
        f"{room(name)} -> {room(other)}"
        for name, tree in modules().items()
        for other in imported(name, tree)
        if room(other) not in (room(name), "") and room(other) not in BELOW[room(name)]
    }
    agrees(up, "import")


def test_no_module_imports_itself_around_a_circle() -> None:
    graph = {name: set(imported(name, tree)) - {name} for name, tree in modules().items()}
    for name, others in graph.items():  # a package's __init__ runs first, but imports its modules
        graph[name] = {o for o in others if not (is_package(o) and name.startswith(f"{o}."))}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_functions_are_short_and_have_few_parameters() -> None:
    found = set()
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        own = [a.arg for a in arguments if a.arg not in ("self", "cls")]
        lines = (node.end_lineno or 0) - node.lineno + 1
        found |= {f"{name}: lines"} if lines > LINES else set()
        found |= {f"{name}: parameters"} if len(own) > PARAMETERS else set()
    agrees(found, "function")


def test_study_paths_alone_spells_the_folders_of_a_study() -> None:
    found = set()
    for name, tree in modules().items():
        strings = {ast.unparse(n).strip("f'\"") for n in ast.walk(tree) if spelling(n)}
        if any(SPELLED.search(text) for text in strings):
            found.add(name)
    agrees(found - {"varireal_utils.core.study_paths"}, "paths")


def spelling(node: ast.AST) -> bool:
    """Whether a node is a text that could be a path: no docstring has such a node of one line."""
    text = ast.unparse(node) if isinstance(node, ast.JoinedStr | ast.Constant) else ""
    return (
        "/" in text
        and "://" not in text
        and len(text) < 100
        and "\\n" not in text
        and " " not in text
    )


def test_the_rendered_world_knows_nothing_of_the_study() -> None:
    for name, tree in modules().items():
        if room(name) == "microworld":
            assert not [o for o in imported(name, tree) if o.startswith("varireal_utils")], name


def test_a_hidden_import_or_a_circle_would_be_found() -> None:
    tree = ast.parse("def f():\n    from ..workflow import study\nimport microworld.render")
    found = set(imported("varireal_utils.editing.stage", tree))
    assert found == {"microworld.render", "varireal_utils.workflow.study"}
    assert SPELLED.search("edits/{name}/*/edits.parquet") and SPELLED.search(
        "data/*/images.parquet"
    )
    assert not SPELLED.search("results/micro_full") and not SPELLED.search("params/prompts")
