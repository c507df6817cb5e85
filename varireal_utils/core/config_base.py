"""Base of every typed setting: strict values, marks, content and digest, errors that name the key.

    content(settings)   nested mapping of what a result can depend on: every field, defaults
                        written out, without the fields marked EXECUTION
    digest(settings)    sha256 of the content
    written(settings)   every field, as a parameter file would give it

Invariant (tests/unit/test_config.py): the digest of a file does not depend on whether a default is
written out, on comments, on the order of keys, or on a field marked EXECUTION.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from . import walk
from .config_errors import nearest


class Mark:
    """Metadata of a field: `Annotated[int, EXECUTION]`."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


EXECUTION = Mark("EXECUTION")  # how a study runs: never changes a result
LATER = Mark("LATER")  # came after a study was registered: no content while at its default
INLINE = Mark("INLINE")  # a mapping whose keys stand beside the other fields in the file
SOURCE_FILE = Mark("SOURCE_FILE")  # names a file whose bytes a result depends on


class Settings(BaseModel):
    """Base of a section of the configuration: unknown keys refused, values of their own type.

    An int is taken where a float is wanted; no other type is converted.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )

    @classmethod
    def arranged(cls, data: dict[str, Any]) -> dict[str, Any]:
        """The keys of the file as those of the fields; sections with INLINE fields override it."""
        return data

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        if not isinstance(data, dict):
            raise PydanticCustomError("wanted", "{wanted}", {"wanted": "keys and values"})
        arranged = cls.arranged(data)
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for key in arranged:
            if key not in known:
                raise unknown(key, (k for k in known if not k.startswith("<")))
        return arranged

    def source_files(self) -> list[Path]:
        """Files outside the study that a result depends on: those of fields marked SOURCE_FILE and
        of settings inside these, that are there. Settings that name others override it."""
        found: set[Path] = set()
        for name, field in type(self).model_fields.items():
            if EXECUTION not in field.metadata:
                value = getattr(self, name)
                if SOURCE_FILE in field.metadata and isinstance(value, str):
                    found |= {Path(value)} if value and Path(value).is_file() else set()
                found |= {file for inner in _settings_in(value) for file in inner.source_files()}
        return sorted(found)


def folder_files(folder: Path) -> set[Path]:
    """Every file of a model's folder but notes and what is hidden; none where it is no folder."""
    inner = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        path
        for name, path in inner.items()
        if not path.name.startswith("README") and not any(p.startswith(".") for p in name.parts)
    }


def _settings_in(value: Any) -> Iterator[Settings]:
    if isinstance(value, Settings):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _settings_in(inner)


def unknown(key: Any, known: Iterable[str]) -> PydanticCustomError:
    """The error of a key that a section does not have."""
    name = str(key).encode("utf-8", "backslashreplace").decode()
    return PydanticCustomError(
        "unknown", "{key}{near}", {"key": name, "near": nearest(name, known)}
    )


def wanted(words: str) -> WrapValidator:
    """The words of the error message where the type or the bounds of a value are not met."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            lost = isinstance(value, float) and not math.isfinite(value)
            raise PydanticCustomError(
                "wanted", "{wanted}", {"wanted": "a finite number" if lost else words}
            ) from None

    return WrapValidator(check)


def once(values: list) -> list:
    """Validator: refuse an item given twice."""
    seen = [re.sub(r"\s+", "", v) if isinstance(v, str) else v for v in values]
    twice = [v for i, v in enumerate(values) if seen[i] in seen[:i]]
    if twice:
        raise PydanticCustomError(
            "wanted", "{wanted}", {"wanted": f"each item once; {twice[0]!r} is given twice"}
        )
    return values


def odd(value: int) -> int:
    """Validator: refuse an even number."""
    if value % 2 == 0:
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": "an odd int"})
    return value


def odd_or_none(value: int) -> int:
    """Validator: refuse an even number but 0."""
    return odd(value) if value else value


def _weights(path: str) -> str:
    """Weights on this machine, spelled in one way; anything else is the hub's, and stays."""
    kind, colon, rest = path.rpartition("local-dir:")
    return f"{kind}{colon}{walk.spelled(rest)}" if rest and os.path.exists(rest) else path


TOP = 2**31
Count = Annotated[int, Field(ge=1, lt=TOP), wanted("an int of at least 1")]
Whole = Annotated[int, Field(ge=0, lt=TOP), wanted("an int of at least 0")]
Slots = Annotated[int, Field(ge=0, le=12), wanted("an int, 0 to 12")]  # of a GPU; 0: as fits
Number = Annotated[float, Field(allow_inf_nan=False), wanted("int or float")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), wanted("a number above 0")]
Share = Annotated[float, Field(ge=0, le=1), wanted("a number from 0 to 1")]
Once = AfterValidator(once)
PATH = AfterValidator(walk.spelled)  # keys are of content: a path's spelling changes none
WEIGHTS = AfterValidator(_weights)
Filled = Field(min_length=1)


def content(settings: BaseModel) -> dict[str, Any]:
    """What a result can depend on, as a nested mapping of plain values, defaults written out."""
    return _tree(settings, everything=False)


def written(settings: BaseModel) -> dict[str, Any]:
    """All settings as a file would give them, defaults and fields marked EXECUTION included."""
    return _tree(settings, everything=True)


def _tree(settings: BaseModel, everything: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        if everything or EXECUTION not in field.metadata:
            if not everything and LATER in field.metadata and is_default(settings, name):
                continue
            value = _plain(getattr(settings, name), everything)
            out |= value if INLINE in field.metadata else {name: value}
    return out


def is_default(settings: BaseModel, name: str) -> bool:
    """Whether a field has the value that it has in a file that does not name it."""
    return getattr(settings, name) == type(settings).model_fields[name].get_default(
        call_default_factory=True
    )


def digest(settings: BaseModel) -> str:
    """sha256 of the content, whatever the order of its keys."""
    text = json.dumps(content(settings), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def flattened(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value of a nested mapping; lists and empty mappings are values."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}.{key}" if above else str(key)
        out |= flattened(value, name) if isinstance(value, dict) and value else {name: value}
    return out


def _plain(value: Any, everything: bool) -> Any:
    if isinstance(value, BaseModel):
        return _tree(value, everything)
    if isinstance(value, dict):
        return {key: _plain(inner, everything) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, everything) for inner in value]
    return value


def reached(kind: Any, path: list[str], values: Any) -> tuple[bool, list[str]]:
    """Whether settings have a key, its parts in `path`, and what is known where they do not.

    kind: the type of the settings that the key starts from; values: those that are there, since
    a section of an INLINE field is known by being there.
    """
    kinds = list(_alternatives(kind))
    for part in path:
        known = [n for k in kinds if _is_settings(k) for n in k.model_fields]
        values = values if isinstance(values, dict) else {}
        inner = [found for k in kinds for found in _under(k, part, part in values)]
        if not inner:
            return False, known
        kinds = [k for found in inner for k in _alternatives(found)]
        values = values.get(part)
    return True, []


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation


def _under(kind: Any, key: str, there: bool) -> Iterator[Any]:
    if get_origin(kind) is dict:
        yield get_args(kind)[1]
    elif _is_settings(kind):
        fields = kind.model_fields
        if key in fields and INLINE not in fields[key].metadata:
            yield fields[key].annotation
        elif there:
            yield from (get_args(f.annotation)[1] for f in fields.values() if INLINE in f.metadata)
