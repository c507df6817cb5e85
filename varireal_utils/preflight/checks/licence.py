"""A licence is stated for every model."""

from __future__ import annotations

from collections.abc import Iterator

from ...workflow import model_table
from ..check import Check, Finding, judged
from ..workspace import Workspace


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each model of the plan's table."""
    for role, name, _, _, licence in model_table.rows(bench.config.models)[1:]:
        if licence == "-" or role == "fallback":
            continue
        key = f"models.{role}_licence" if "." in role else f"models.{role}.licence"
        remedy = (
            f"read the terms of {name} and state them at {key} (or `license:` in its README.md)"
        )
        stated = licence != model_table.UNSTATED
        yield judged("licence", role, stated, licence, "a stated licence", remedy)


CHECK = Check(
    "licence", "Is the licence of every model stated?", run, "state models.<role>.licence"
)
