"""pyproject.toml (loose bounds), requirements.lock (exact, hashed) and environment.yml agree."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
EXTRAS = [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
# Module -> distribution, where the names differ.
DISTRIBUTION = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "skia": "skia-python",
    "open_clip": "open-clip-torch",
    "IPython": "ipykernel",
    "jupyter_client": "nbclient",
    "jupyter_core": "nbclient",
    "pydantic_core": "pydantic",  # which pins its exact version
}


def pins() -> list[tuple[str, str, str, int]]:
    """(name, version, marker, number of hashes) of each entry of the lock."""
    out = []
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        head = entry.splitlines()[0].rstrip("\\ ").strip()
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(?: ; (.+))?", head)
        assert match, f"requirements.lock: {head!r} is not an exact pin"
        out.append((canonicalize_name(match[1]), match[2], match[3] or "", entry.count("sha256:")))
    return out


def test_lock_is_exact_hashed_and_names_no_address() -> None:
    assert [name for name, *_, hashes in pins() if hashes == 0] == []
    assert not re.search(r"://|--index-url|--find-links", LOCK)


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *EXTRAS])
def test_each_dependency_is_locked_within_its_bounds(text: str) -> None:
    wanted = Requirement(text)
    locked = [(v, m) for name, v, m, _ in pins() if name == canonicalize_name(wanted.name)]
    assert locked, f"requirements.lock lacks {wanted.name}; compile it again"
    for version, _ in locked:
        assert wanted.specifier.contains(version), f"{text}: the lock has {version}"


def test_bounds_are_loose() -> None:
    """An upper bound or a pin would make Colab replace its own torch."""
    for text in PROJECT["dependencies"]:
        assert {s.operator for s in Requirement(text).specifier} == {">="}, text


def test_environment_reads_the_same_lock() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["name"] == "varireal"
    (python,) = (d for d in conda["dependencies"] if str(d).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.partition("=")[2])
    (pip,) = (d["pip"] for d in conda["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.lock"] and "pip" in conda["dependencies"]
    assert (ROOT / "requirements.lock").is_file()


def test_every_import_is_a_declared_dependency() -> None:
    import sys

    declared = {canonicalize_name(Requirement(r).name) for r in [*PROJECT["dependencies"], *EXTRAS]}
    missing = set()
    for path in (ROOT / "varireal_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for name in (n.split(".")[0] for n in names):
                distribution = canonicalize_name(DISTRIBUTION.get(name, name))
                if (
                    name not in sys.stdlib_module_names
                    and name not in ("varireal_utils", "microworld")
                    and distribution not in declared
                ):
                    missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_this_environment_is_the_locked_one() -> None:
    """Names what differs; skipped where the environment is another on purpose (Colab)."""
    differ = []
    for name, version, marker, _ in pins():
        if marker and not Marker(marker).evaluate():
            continue
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if have.split("+")[0] != version.split("+")[0]:
            differ.append(f"{name} {have} (lock: {version})")
    if differ:
        pytest.skip("not the locked environment: " + ", ".join(differ[:10]))


def test_set_up_has_compiled_the_packages() -> None:
    """Else every kernel compiles them anew where Python may not write bytecode."""
    if not list(Path(sys.prefix).glob("installed-*")):
        pytest.skip("not the environment that `make` sets up")
    for name in ("torch", "transformers"):
        files = list(Path(importlib.util.find_spec(name).origin).parent.rglob("*.py"))
        compiled = [f for f in files if Path(importlib.util.cache_from_source(str(f))).is_file()]
        assert len(compiled) > 0.98 * len(files) > 500, (  # templates do not compile
            f"{name}: {len(compiled)} of {len(files)} files compiled; an environment of an older "
            "Makefile? `make clean`, then again"
        )


def test_no_registry_address_in_the_repository() -> None:
    address = re.compile(r"(pypi\.org|pythonhosted|index-url\s*=?\s*http|conda\.anaconda\.org)")
    names = ["pyproject.toml", "requirements.lock", "environment.yml", "Makefile", ".ci/run"]
    assert [n for n in names if address.search((ROOT / n).read_text())] == []
