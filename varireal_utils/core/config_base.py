"""Base of every typed setting: strict values, marks, content and digest, errors that name the key.

    content(settings)   nested mapping of what a result can depend on: every field, defaults
                        written out, without the fields marked EXECUTION
    digest(settings)    sha256 of the content

Invariant (tests/unit/test_config.py): the digest of a file does not depend on whether a default is
written out, on comments, on the order of keys, or on a field marked EXECUTION.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

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


class Mark:
    """Metadata of a field: `Annotated[int, EXECUTION]`."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


EXECUTION = Mark("EXECUTION")  # how a study runs: never changes a result
INLINE = Mark("INLINE")  # a mapping whose keys stand beside the other fields in the file
SOURCE_FILE = Mark("SOURCE_FILE")  # names a file whose bytes a result depends on
SECRET = "api_key"  # values of keys with this word in them are never shown


class ParameterError(ValueError):
    """A parameter file, key or value that cannot be used; the message says which and what to do."""


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
                raise unknown(key, _shown(known))
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


TOP = 2**31
Count = Annotated[int, Field(ge=1, lt=TOP), wanted("an int of at least 1")]
Whole = Annotated[int, Field(ge=0, lt=TOP), wanted("an int of at least 0")]
Number = Annotated[float, Field(allow_inf_nan=False), wanted("int or float")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), wanted("a number above 0")]
Share = Annotated[float, Field(ge=0, le=1), wanted("a number from 0 to 1")]
Once = AfterValidator(once)
Filled = Field(min_length=1)


def content(settings: BaseModel) -> dict[str, Any]:
    """What a result can depend on, as a nested mapping of plain values, defaults written out."""
    out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        if EXECUTION in field.metadata:
            continue
        value = _plain(getattr(settings, name))
        out |= value if INLINE in field.metadata else {name: value}
    return out


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


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return content(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of an error message: the most similar known key, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {names}"


def explained(error: ValidationError, where: str, above: str = "") -> ParameterError:
    """The first fault of a validation, in words: file, key, value, what was wanted.

    `above`: the dotted key of what was validated, "" for a whole file.
    """
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "unknown"), faults[0])
    return ParameterError(f"{where}: {_told(fault, above)}")


def _told(fault: Any, above: str) -> str:
    kind, ctx, value = fault["type"], fault.get("ctx", {}), fault["input"]
    loc = [part for part in fault["loc"] if not str(part).startswith("<")]
    if kind == "said":
        return str(ctx["text"])
    if kind == "said_of":
        return f"{dotted([*loc, ctx['key']], above)}: {ctx['text']}"
    if kind == "unknown":
        return f"unknown key {dotted([*loc, ctx['key']], above)!r}{ctx['near']}"
    if loc and loc[-1] == "[key]":
        return (
            f"{dotted(map(str, loc[:-1]), above)}: the key is {_named(value)}, wanted str: quote it"
        )
    key = dotted(loc, above)
    if kind == "missing":
        return (
            f"{key} is missing; add it, or include a file that has it (params/micro.yaml has all)"
        )
    if kind.startswith("union_tag"):
        if not isinstance(value, dict):
            return f"{key}: wanted keys and values, got {type(value).__name__}"
        key, value = f"{key}.kind", value.get("kind")
        return f"{key}: got {_short(value)}, wanted one of {_choices(ctx['expected_tags'])}"
    words = _words(kind, ctx)
    key = key or "the file"
    if SECRET in key or SECRET in repr(value):
        return f"{key}: wanted {words} (what was given is not shown)"
    typed = re.search(r"\b(int|float|str|bool)\b", words) and isinstance(
        value, bool | int | float | str | list
    )
    return f"{key}: got {_named(value) if typed else _short(value)}, wanted {words}"


def _words(kind: str, ctx: dict) -> str:
    fixed = {
        "int_type": "int",
        "float_type": "int or float",
        "string_type": "str",
        "bool_type": "bool (true or false)",
        "list_type": "a list with an item",
        "string_unicode": "text that UTF-8 can hold",
        "too_short": "a list with an item",
        "dict_type": "keys and values",
        "finite_number": "a finite number",
        "model_type": "keys and values",
    }
    if kind == "wanted":
        return str(ctx["wanted"])
    if kind == "literal_error":
        return f"one of {_choices(ctx['expected'])}"
    return fixed.get(kind) or f"something else ({kind})"


def _choices(text: str) -> list[str]:
    return sorted(c.strip("<>") for c in re.findall(r"'([^']*)'", text))


def _named(value: Any) -> str:
    return f"{_short(value)} ({type(value).__name__})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _shown(known: Iterable[str]) -> list[str]:
    return [name for name in known if not name.startswith("<")]


def dotted(loc: Iterable[Any], above: str = "") -> str:
    """`a.b[0].c` of the parts of a place in a tree."""
    out = above
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) and out else f".{part}" if out else str(part)
    return out
