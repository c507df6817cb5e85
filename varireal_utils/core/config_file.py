"""Parameter files: YAML read strictly, included files merged, overrides set.

A file may `include` another one, relative to itself, and change keys of it. Overrides name keys by
dots ("edit.background.strength"). What the keys mean, and their
defaults, stand in config.py. Errors name file, key, what was there and what was wanted.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .config_errors import ParameterError, nearest

LARGEST = 100_000  # nodes of a file with its aliases written out; a study has some hundreds


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats: 1e-4 is a number, not a string. A key given twice is an error.

    Aliases may not multiply a file beyond LARGEST nodes, nor refer to what holds them.
    """

    def __init__(self, stream: Any):
        super().__init__(stream)
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(
                None, None, "an alias refers to what holds it", node.start_mark
            )
        if not alias:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(n)] for n in _children(node))
        if self._sizes[id(node)] > LARGEST:
            raise yaml.composer.ComposerError(
                None,
                None,
                f"more than {LARGEST:,} values with its aliases written out",
                node.start_mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"given twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?\d*([eE][-+]?\d+)|\d[\d_]*\.\d*|\.\d+([eE][-+]?\d+)?"
        r"|\.(inf|nan))$"
    ),
    list("-+0123456789."),
)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file as plain values, the files that it includes merged in. Raises ParameterError.

    above: the files that include it, outermost first.
    """
    if path.resolve() in above:
        raise ParameterError(f"{path}: includes itself by way of {above[-1]}")
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ParameterError(f"{path}: no such parameter file; there are {near or 'none'} here")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 - safe
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, a number without end
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ParameterError(f"{path}: not valid YAML: nested too deep") from error
    if not isinstance(data, dict):
        raise ParameterError(f"{path}: must hold keys and values, got {type(data).__name__}")
    base = data.pop("include", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ParameterError(
            f"{path}: include: got {base!r} ({type(base).__name__}), wanted the "
            "name of one file, relative to this one"
        )
    return merge(read(path.parent / base, (*above, path.resolve())), data)


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` over it; mappings are merged, everything else is replaced.

    A mapping under the key "datasets" is replaced whole: a study names its own data sets.
    """
    out = copy.deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both and key != "datasets" else copy.deepcopy(value)
    return out


def has(values: dict, dotted: str) -> bool:
    """Whether a key, named by dots, is there."""
    node: Any = values
    for key in dotted.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def put(values: dict, dotted: str, value: Any, where: str) -> None:
    """Give a key that is not there. Raises ParameterError where a part of it is no mapping."""
    *above, last = dotted.split(".")
    node: Any = values
    for key in above:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ParameterError(
                f"{where}: cannot set {dotted!r}: {key} is {type(node).__name__} ({node!r}), no "
                "mapping"
            )
    node[last] = value


def override(params: dict, dotted: str, value: Any, where: str, more: Iterable[str] = ()) -> None:
    """Set one existing key, named by dots, keeping its type. Raises ParameterError.

    more: keys known beside those that are there, for the message.
    """
    node, path = params, dotted.split(".")
    for i, key in enumerate(path):
        if not isinstance(node, dict) or key not in node:
            known = {*map(str, node), *more} if isinstance(node, dict) else set()
            raise ParameterError(
                f"{where}: cannot set {dotted!r}: no key {key!r}{nearest(key, known)}"
            )
        if i == len(path) - 1:
            old = node[key]
            if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if (
                old is not None
                and type(value) is not type(old)
                and not (isinstance(old, int) and isinstance(value, float))
            ):
                raise ParameterError(
                    f"{where}: {dotted} is {type(old).__name__} ({old!r}), "
                    f"cannot become {type(value).__name__} ({value!r})"
                )
            node[key] = value
        node = node[key]
