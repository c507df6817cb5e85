"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..core.config import StudyConfig

if TYPE_CHECKING:
    from .workspace import Workspace

Status = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """One line of the table. check: name of the check; what: that was looked at; value: seen;
    wanted: expected; remedy: what to do, "" where nothing is to be done."""

    check: str
    what: str
    status: Status
    value: str
    wanted: str
    remedy: str = ""


def no_roles(config: StudyConfig) -> Iterable[str]:
    """Of a check that loads no model."""
    return ()


@dataclass(frozen=True)
class Check:
    """One check.

    name: as in the table; asks: the question, one line; run: workspace -> findings; remedy: what to
    do where it ends with an error; roles: configuration -> models that it loads, which are not
    loaded where their weights are not whole.
    """

    name: str
    asks: str
    run: Callable[[Workspace], Iterator[Finding]]
    remedy: str
    roles: Callable[[StudyConfig], Iterable[str]] = no_roles


def judged(check: str, what: str, good: bool, value: str, wanted: str, remedy: str) -> Finding:
    """A finding that passes or fails; the remedy belongs to a failure."""
    return Finding(check, what, "pass" if good else "fail", value, wanted, "" if good else remedy)
