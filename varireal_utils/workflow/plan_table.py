"""Writes the table of docs/paper_scale.md that says what `plan` states of each parameter file.

    python -m varireal_utils.workflow.plan_table

A line of the table is found by its form, | `name` | card | GB | hours |, and written anew from
params/<name>.yaml. Invariant (tests/unit/test_memory_plan.py): the page is what it writes.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..core import storage
from ..core.config import load_config
from . import cost, memory
from .plan import total_hours

PAGE = Path("docs/paper_scale.md")
LINE = re.compile(r"^\| `(\w+)` \| [^|]* GB \| [^|]* \| [^|]* \|$", re.MULTILINE)


def line(name: str) -> str:
    """The line of a parameter file: card, GB at the worst moment, GPU hours."""
    config = load_config(f"params/{name}.yaml")
    own, most = config.plan, memory.peak_gb(config)
    if own is None or own.card_gb is None or most is None:
        raise ValueError(
            f"params/{name}.yaml: a card (plan.card, plan.card_gb) or a peak is not known"
        )
    size = f"{own.card_gb:g} GB"
    card = own.card if own.card.endswith(size) else f"{own.card} {size}"
    return f"| `{name}` | {card} | {most:.1f} | {total_hours(cost.jobs(config))} |"


def written(text: str) -> str:
    """The page with every line of the table written anew."""
    return LINE.sub(lambda found: line(found[1]), text)


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = written(before)
    if after != before:
        storage.write_text(PAGE, after)
    print(f"{PAGE}: {'as it was' if after == before else 'written anew'}")
