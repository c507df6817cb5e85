"""Digests of the code that a stage runs: its notebook's and its slice's modules, transitively.

    CodeDigests(cache).of(notebook, module)   module -> digest, of all modules of the packages that
                                              the notebook and the slice's module import

symbols   digest    sha256 of a module's syntax tree without docstrings, 16 hexadecimal digits: a
                    comment, a docstring and the formatter change nothing
          shown     rooms that analyse, show or run what earlier stages made (LATER)

Imports are read from the sources, those inside functions too, not those for types alone. A module
that imports by a name made up at run time (a registry) counts every module of that package. Rooms
of LATER count for a stage only where its slice lies in that room or a later one: earlier rooms
cannot import them, so what a stage computes does not depend on them.

Invariant (tests/unit/test_code.py): whatever a slice's module loads is among its digests; a changed
module changes the keys of exactly the stages that import it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import storage

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("varireal_utils", "microworld")
LATER = ("analysis", "reporting", "workflow")
RECORDS = ("varireal_utils.workflow.overview",)  # what 08_figures draws of the records
_ANSWERS: dict[tuple[str, str, str], tuple[dict[str, tuple[int, int, int]], dict[str, str]]] = {}
SETTLED = 2.0  # seconds after which a file's time tells a later change from an earlier one


class CodeDigests:
    """Digests and imports of modules, kept in a cache by path, size and time.

    file: the cache; root: folder of the packages.
    """

    def __init__(self, file: Path, root: Path | None = None):
        self.file, self.root, self._new = Path(file), Path(root or ROOT), False
        self._known: dict[str, list] = self._read()
        self._found: dict[str, tuple[str, list[str]]] = {}

    def _read(self) -> dict[str, list]:
        try:
            found = storage.read_json(self.file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def of(self, notebook: Path, module: str) -> dict[str, str]:
        """Module -> digest. module: dotted name of the slice's module."""
        asked = (str(self.root), str(notebook), module)
        kept = _ANSWERS.get(asked)
        if kept is None or any(_stamp(path) != stamp for path, stamp in kept[0].items()):
            found = self._of(notebook, module)
            files = [path for name in found if (path := self._path(name))]
            places = {str(p) for p in (notebook, *files, *(f.parent for f in files))}
            kept = _ANSWERS[asked] = ({place: _stamp(place) for place in places}, found)
        return dict(kept[1])

    def _of(self, notebook: Path, module: str) -> dict[str, str]:
        own = _room(module)
        hidden = LATER[LATER.index(own) + 1 :] if own in LATER else LATER
        todo = [module, *_of_notebook(notebook, self.root)]
        done: dict[str, str] = {}
        while todo:
            name = todo.pop()
            if name in done or _room(name) in hidden or self._path(name) is None:
                continue
            done[name], imports = self.one(name)
            todo += imports
        done |= self._beside(done)
        if own == "reporting":
            done |= {name: self.one(name)[0] for name in RECORDS if self._path(name)}
        self._keep()
        return dict(sorted(done.items()))

    def _beside(self, names: Iterable[str]) -> dict[str, str]:
        """File -> digest, of what is no Python beside modules: styles, pages."""
        folders = {path.parent for name in names if (path := self._path(name))}
        return {
            path.relative_to(self.root).as_posix(): storage.sha256_file(path)[:16]
            for folder in folders
            for path in folder.iterdir()
            if path.is_file() and path.suffix not in (".py", ".pyc", "")
        }

    def now(self, names: list[str]) -> dict[str, str]:
        """Module -> digest, of those of these names that are there."""
        found = {name: self.one(name)[0] for name in names if self._path(name)}
        here = [name for name in names if "/" in name and (self.root / name).is_file()]
        return found | {name: storage.sha256_file(self.root / name)[:16] for name in here}

    def one(self, name: str) -> tuple[str, list[str]]:
        """(digest, imported modules) of a module."""
        if name not in self._found:
            path = self._path(name)
            if path is None:
                raise FileNotFoundError(f"{name}: no such module under {self.root}")
            self._found[name] = self._of_file(name, path)
        return self._found[name]

    def _of_file(self, name: str, path: Path) -> tuple[str, list[str]]:
        stat = path.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:-2] == state:
            return str(known[-2]), list(known[-1])
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        imports = sorted(set(_imports(name, tree, self.root)))
        found = (digest(tree), imports)
        if time.time() - stat.st_mtime > SETTLED:
            self._known[str(path)], self._new = [*state, *found], True
        return found

    def _path(self, name: str) -> Path | None:
        return _file(self.root, name)

    def _keep(self) -> None:
        if self._new:
            with contextlib.suppress(OSError):  # a disk that cannot be written costs time alone
                storage.write_json(self.file, self._read() | self._known)
            self._new = False


def _stamp(path: str) -> tuple[int, int, int]:
    """Size, time and inode of a file or folder; zeros where it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _file(root: Path, name: str) -> Path | None:
    """The source of a module of the packages; None for any other name."""
    if name.split(".")[0] not in PACKAGES:
        return None
    base = root / name.replace(".", "/")
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGES[0] and len(parts) > 1 else ""


def _of_notebook(notebook: Path, root: Path) -> Iterator[str]:
    """The modules that a notebook's code cells import; lines of magic are left out."""
    if not notebook.is_file():
        return
    for cell in storage.notebook_cells(notebook):
        if cell["cell_type"] == "code":
            lines = cell["source"].splitlines()
            text = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
            with contextlib.suppress(SyntaxError):  # a cell that does not run has no imports
                yield from _imports("", ast.parse(text), root)


def _imports(name: str, tree: ast.AST, root: Path) -> Iterator[str]:
    """The modules that a module imports, with the packages around them."""
    is_package = bool(name) and (root / name.replace(".", "/") / "__init__.py").is_file()
    above = name.split(".") if is_package else name.split(".")[:-1]
    for node in _run_time(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = above[: len(above) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            found = [full, *(f"{full}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found = list(_made_up(node, above, root))
        for one in found:
            yield from (m for m in _with_packages(one) if _file(root, m))


def _made_up(call: ast.Call, above: list[str], root: Path) -> Iterator[str]:
    """Every module that a name made up at run time may mean: those of its package."""
    first = call.args[0] if call.args else None
    if not isinstance(first, ast.JoinedStr):
        return
    parts = [p.value for p in first.values if isinstance(p, ast.Constant)]
    inner = [part for part in "".join(map(str, parts[:1])).split(".") if part]
    folder = [*inner] if inner[:1] == [PACKAGES[0]] else [*above, *inner]
    for path in sorted((root / "/".join(folder)).glob("*.py")):
        yield ".".join([*folder, path.stem]) if path.stem != "__init__" else ".".join(folder)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _run_time(node)


def digest(tree: ast.AST) -> str:
    """Digest of a syntax tree without docstrings, the same under every version of Python."""
    return hashlib.sha256(_shape(tree).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _shape(node: object) -> str:
    if isinstance(node, ast.AST):
        fields = [
            (name, value)
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("ctx", "type_comment", "kind")
        ]
        if _documented(node):
            body = getattr(node, "body")[1:]  # noqa: B009 - of several kinds of nodes
            fields = [(name, body if name == "body" else value) for name, value in fields]
        inner = ",".join(f"{name}={_shape(value)}" for name, value in fields)
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    return repr(node)


def _documented(node: ast.AST) -> bool:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None
