"""The answer of README.md in three sentences, from the registered verdicts.

    the paper's first claim      the size of the effect, and what may be said of it
    what the effect is made of   of a study that has the parts (F1 to F3, which asked again, before
                                 E1 to E3); else the paper's claims
    the other claims             how many have each verdict, and which

Each verdict has its words; no number is judged here. Invariant (tests/unit/test_answer.py): three
sentences, whatever the verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import result_blocks

Row = dict[str, Any]
PLAIN = {
    "reproduced": "holds here",
    "different": "does not hold here",
    "inconclusive": "undecided",
    "not valid": "not valid",
    "withheld": "withheld",
    "no verdict": "no verdict",
    "not run": "not run",
}
GROUPED = {
    "reproduced": "holds",
    "different": "does not hold",
    "inconclusive": "stays undecided",
    "not valid": "is not valid",
    "withheld": "is withheld",
    "no verdict": "has no verdict",
    "not run": "was not run",
}
PLURAL = {
    "reproduced": "hold",
    "different": "do not hold",
    "inconclusive": "stay undecided",
    "not valid": "are not valid",
    "withheld": "are withheld",
    "no verdict": "have no verdict",
    "not run": "were not run",
}
ALL = {
    "reproduced": "all hold",
    "different": "none holds",
    "inconclusive": "all stay undecided",
    "not valid": "none is valid",
    "withheld": "all are withheld",
    "no verdict": "none has a verdict",
    "not run": "none was run",
}
COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NAMES = ("feasibility itself", "familiarity with a value", "the diffusion editor")
AGAIN, FIRST = ("F1", "F2", "F3"), ("E1", "E2", "E3")  # parts of the effect; they add up to it
PARTS = dict(zip(AGAIN + FIRST, NAMES * 2, strict=True))


def answer(root: Path, up: str) -> str:
    """The answer in three sentences."""
    return " ".join(sentences(result_blocks.claims(root), pooled=result_blocks.pooled(root)))


def sentences(
    rows: Sequence[Row], rendered: bool = True, pooled: dict[str, dict[str, Row]] | None = None
) -> list[str]:
    """Three sentences of rows of claims.csv, the first of them the paper's first claim.

    rendered: whether the photographs are of the micro world; pooled: of result_blocks. None of
    claims of one's own, which are not the paper's. A claim that was asked again is counted once,
    as it was asked last.
    """
    parts = parts_of(rows)
    paper = [r for r in rows if r["claim"].startswith("A")]
    own = [r for r in rows if not r["claim"].startswith("A") and not r.get("later")]
    if not paper:
        return []
    if parts and not result_blocks.known(paper[0]):
        others = [r for r in own if r["claim"] not in PARTS]
        return [
            made_of(parts, "Training on feasible instead of infeasible edits changes accuracy by"),
            f"Of the paper's {count(len(paper))} claims, {grouped(paper)}.",
            f"Of the {count(len(others))} further claims, {grouped(others)}.",
        ]
    own_effects = (pooled or {}).get(str(paper[0].get("study")), {})
    if not parts:
        return [
            effect(paper[0], rendered, own_effects),
            f"Of the paper's {count(len(paper))} claims, {grouped(paper)}.",
            *(
                [f"Of the {count(len(own))} further claims tested here, {grouped(own)}."]
                if own
                else []
            ),
        ]
    others = [r for r in own if r["claim"] not in PARTS]
    said = [f"of the paper's {count(len(paper) - 1)} other claims, {grouped(paper[1:])}"]
    if others:
        said.append(f"of the {count(len(others))} further ones{_last(rows)}, {grouped(others)}")
    last = "; ".join(said)
    lead = "It is the sum of"
    if parts[0]["claim"] in AGAIN:
        again = (pooled or {}).get(str(parts[0].get("study")), {}).get("pooled")
        size = ""
        if again:
            size = f" has {again['difference']:+.2f} pp ({result_blocks.interval(again)}) and"
        lead = f"A further study, of {result_blocks.units(parts[0])},{size} takes it apart:"
    return [
        effect(paper[0], rendered, own_effects),
        made_of(parts, lead),
        f"{last[:1].upper()}{last[1:]}.",
    ]


def parts_of(rows: Sequence[Row]) -> list[Row]:
    """The parts of the effect: those that were asked again, else the first ones, else none."""
    known = {r["claim"]: r for r in rows if result_blocks.known(r)}
    for names in (AGAIN, FIRST):
        if all(name in known for name in names):
            return [known[name] for name in names]
    return []


def _last(rows: Sequence[Row]) -> str:
    """Which claims are counted as they were asked last, as an aside."""
    names = [r["claim"] for r in rows if r.get("later")]
    return f" ({result_blocks.in_words(names)} as asked again)" * bool(names)


def effect(row: Row, rendered: bool = True, pooled: dict[str, Row] | None = None) -> str:
    """The first claim in words: the size of the effect and what may be said of it.

    pooled: of its study, by training (result_blocks.pooled).
    """
    if not result_blocks.known(row):
        return "The effect of feasibility has not been measured."
    between = result_blocks.interval(row)
    level = f"95 % interval {between}" * bool(between)
    over = ", ".join(filter(None, [level, result_blocks.units(row)]))
    held = "; ".join([over, *_by_training(pooled or {})])
    where = "In the rendered micro world" if rendered else "Here"
    size = (
        f"{where}, training on feasible instead of infeasible edits changes "
        f"top-1 accuracy by {row['ours']:+.2f} percentage points (pp; {held})"
    )
    margin = f"{row['margin']:g} pp"
    because = row["because"] if isinstance(row["because"], str) and row["because"] else ""
    said = {
        "reproduced": f"mostly within the paper's {margin}",
        "different": f"mostly beyond the paper's {margin}",
        "inconclusive": f"too uncertain to tell whether it stays within the paper's {margin}",
        "not valid": f"not valid, because {because or 'a condition of the study does not hold'}",
        "withheld": f"withheld, because {because or 'the placebo is not shown to be null'}",
        "no verdict": f"no verdict on the paper's {margin}, because {_lacking(row)}",
    }[row["verdict"]]
    return f"{size}: {said}."


def _by_training(pooled: dict[str, Row]) -> list[str]:
    """The effect of each training, in words."""
    names = {"edited only": "on edits alone", "real + edited": "beside real photographs"}
    if not set(names) <= set(pooled):
        return []
    return [", ".join(f"{pooled[k]['difference']:+.2f} {words}" for k, words in names.items())]


def made_of(rows: Sequence[Row], lead: str) -> str:
    """What the first claim's effect is made of, part by part with its verdict, after `lead`."""
    words = [_part(row) for row in rows]
    alike = len(set(words)) == 1
    parts = []
    for row, word in zip(rows, words, strict=True):
        held = ": ".join(filter(None, [result_blocks.interval(row), "" if alike else word]))
        between = f" ({held})" if held else ""
        parts.append(f"{row['ours']:+.2f} pp of {PARTS[row['claim']]}{between}")
    end = f", each {words[0]}" if alike else ""
    return f"{lead} {', '.join(parts[:-1])} and {parts[-1]}{end}."


def _part(row: Row) -> str:
    """The verdict on a part, which claims to be small."""
    margin = f"±{row['margin']:g} pp"
    if result_blocks.alone(row):
        side = "within" if result_blocks.leans(row) else "beyond"
        return f"{side} {margin} by itself, undecided with the claims of its family"
    words = {
        "reproduced": f"within {margin}",
        "different": f"beyond {margin}",
        "inconclusive": f"undecided whether within {margin}",
        "no verdict": "without a verdict",
    }
    return words.get(row["verdict"], PLAIN[row["verdict"]])


def why(row: Row) -> str:
    """The head of a row's reason: "one draw"."""
    return str(row["because"]).partition(":")[0]


def _lacking(row: Row) -> str:
    """Why there is no verdict, as a clause."""
    head = why(row)
    return {
        "one draw": "this is one draw",
        "too few replicates": "its replicates are too few",
        "incomplete": "some of its cells were not run",
    }.get(head, f"it waits for the last replicate ({head})")


def count(number: int) -> str:
    """A number in words, up to ten."""
    return COUNTS[number] if number < len(COUNTS) else str(number)


def grouped(rows: Sequence[Row]) -> str:
    """How many claims have each verdict, and which."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        name = f"the placebo {row['claim']}" if row.get("family") == "placebo" else row["claim"]
        groups.setdefault(row["verdict"], []).append(name)
    parts = []
    for found in filter(groups.get, PLAIN):
        names = groups[found]
        words = f"{count(len(names))} {(GROUPED if len(names) == 1 else PLURAL)[found]}"
        if len(names) == len(rows) > 1:
            words = ALL[found]
        parts.append(f"{words} ({', '.join(names)})")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
