"""Blocks of docs/results.md on the claims: a section for each, and what two studies say together.

Every function returns Markdown made from claims.csv of the studies that pages show
(core/shown.py); `up` is the prefix of links from the page to the repository's root.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import together, verdict
from . import marks, result_blocks

MIXING = "A3"


def claim_sections(root: Path, up: str) -> str:
    """A section for each claim: what was asked, what came out, and the cell behind it."""
    lines: list[str] = []
    for row in result_blocks.claims(root):
        lines += [f"### {row['claim']}", "", f"*{_sentence(row['says'])}*", ""]
        facts = [*_facts(row), *_beside(root, row)]
        first, *others = (f"| {key} | {value} |" for key, value in facts)
        lines += [first, "|---|---|", *others, ""]
        if row["verdict"] == result_blocks.NOT_RUN:
            lines += [f"Not computed yet; asked in [claims.yaml]({up}claims.yaml).", ""]
            continue
        cell = result_blocks.notebook(
            root, up, f"<td>{row['claim']}</td>", "verdict", study=row["study"]
        )
        lines += [
            f"Computed in {cell}, under *The claims*; row `{row['claim']}` of "
            f"[claims.csv]({up}results/{row['study']}/claims.csv); asked in "
            f"[claims.yaml]({up}claims.yaml).",
            "",
        ]
    return "\n".join(lines)


def _beside(root: Path, row: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands beside a claim: the placebo of every other study, and both arms beside their
    mean."""
    if row["family"] == result_blocks.PLACEBO:
        others = {k: v for k, v in result_blocks.placebos(root).items() if k != row["study"]}
        return [
            (
                f"in the study {name}, for that study alone",
                f"{verdict.interval_text(own)} pp, {result_blocks.units(own)}: "
                f"**{own['verdict']}**",
            )
            for name, own in others.items()
        ]
    if row["claim"] == MIXING and (found := mixing(root, row["study"])):
        said = ", ".join(f"minus {arm} {found[arm]:+.2f}" for arm in found)
        return [("beside it, without a verdict", f"mixed {said} pp, means of the same cells")]
    return []


def mixing(root: Path, study: str = "") -> dict[str, float]:
    """Arm -> mixed minus that arm, points, the mean over cells that have all three; empty where
    the study has none."""
    main = marks.paper_arms(result_blocks.load(root, "main_table", study))
    arms = ["feasible", "infeasible", "mixed"]
    rows = main[main["arm"].isin(arms)]
    wide = rows.pivot_table("mean", ["dataset", "attribute", "training"], "arm")
    if not set(arms) <= set(wide):
        return {}
    wide = wide.dropna()
    return {arm: float((wide["mixed"] - wide[arm]).mean()) for arm in arms[:2]}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def both_studies(root: Path, up: str) -> str:
    """What two studies of one quantity say together, a row for each claim that asks again."""
    rows = {row["claim"]: row for row in result_blocks.claims(root)}
    lines = [
        "| claims | together, pp | 95 % interval | 90 % interval | from |",
        "|---|---|---|---|---|",
    ]
    for row in rows.values():
        again = rows.get(row["later"])
        if again is None or not together.comparable(row, again):
            continue
        got = vars(together.both(row, again))
        between = (result_blocks.interval(got, *b) for b in (("low", "high"), ("low90", "high90")))
        lines.append(
            f"| {_link(row['claim'])} and {_link(again['claim'])} | {got['mean']:+z.2f} | "
            f"{' | '.join(between)} | {result_blocks.units(row | got)} |"
        )
    return "\n".join(lines) if len(lines) > 2 else "No claim was asked twice of one quantity."


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What a claim's section lists."""
    source = f" ({row['source']})" if isinstance(row["source"], str) else ""
    facts = [("estimand", row["estimand"]), ("the paper", f"{row['reported']}{source}")]
    if result_blocks.known(row):
        level = f", {100 * row['confidence']:.3g} % interval "
        picked = "of all pairs at once (Scheffé)" * result_blocks.widest(row)
        picked += "of the least gain alone, picked as the least; the verdict corrects for that" * (
            result_blocks.least(row)
        )
        between = {k: result_blocks.interval(row, f"low{k}", f"high{k}") for k in ("", "90")}
        facts += [
            ("this study", f"{row['ours']:+.2f} pp" + (level + between[""]) * bool(between[""])),
            *([("90 % interval", f"{between['90']} pp")] if between["90"] and not picked else []),
            *([("that interval is", picked)] if picked else []),
            *([] if result_blocks.least(row) else [("margin", f"±{row['margin']:g} pp")]),
            (
                "from",
                f"{result_blocks.units(row)}, {row['datasets']:.0f} data sets, "
                f"{row['cells']:.0f} cells",
            ),
        ]
    if not pd.isna(row["p_holm"]):
        facts.append((f"p, after Holm in the family {row['family']}", _p(row["p_holm"])))
    if result_blocks.alone(row):
        facts.append(("p of this claim alone", f"{_p(row['p'])}, which decides nothing"))
    facts.append(("verdict", f"**{row['verdict']}**"))
    if row.get("later"):
        facts.append(("asked again", _link(row["later"])))
    if result_blocks.known_text(row.get("again")):
        facts.append(("asks again", _link(row["again"])))
    if row["verdict"] != result_blocks.NOT_RUN:
        words = {"because": "why", "detail": "detail"}
        facts += [(n, row[key]) for key, n in words.items() if result_blocks.known_text(row[key])]
    return facts


def _link(claim: str) -> str:
    return f"[{claim}](#{claim.lower()})"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
