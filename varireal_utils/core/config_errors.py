"""Errors of parameter files in words: file, key, value, what was wanted, the nearest known key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

SECRET = "api_key"  # values of keys with this word in them are never shown


class ParameterError(ValueError):
    """A parameter file, key or value that cannot be used; the message says which and what to do."""


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


def dotted(loc: Iterable[Any], above: str = "") -> str:
    """`a.b[0].c` of the parts of a place in a tree."""
    out = above
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) and out else f".{part}" if out else str(part)
    return out
