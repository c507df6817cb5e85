"""Collects votes of people on phrases: writes the page, reads votes, measures agreement.

    ballot     the phrases to vote on, in a drawn order and without their arms
    page       one HTML file that works offline and lets a voter download votes as JSON or CSV
    read       votes from a folder of such files
    tally      the majority of each phrase, beside the arm that it stands in
    agreement  pairwise agreement and Fleiss' kappa (Fleiss 1971)

The paper's phrases went through a user study (docs/protocol.md, A7). Invariant: the page holds no
arm, runs no script but its own (its content security policy names that script's digest), and every
word of a bank is escaped in it; votes for another ballot, or by one voter twice, are refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import fleiss_kappa

from ..core import storage
from ..core.arms import side
from ..core.seeds import seed_for
from .phrase_bank import ARMS, ORDER, Bank

CHOICES = (*ARMS, "unsure")
FORMAT = "varireal-votes-1"
MOST = 2_000_000  # bytes of a file with votes
VOTER = re.compile(r"[\w][\w .-]{0,39}")


class VoteError(ValueError):
    """A file with votes that cannot be used; names the file, what is wrong, and the remedy."""


def ballot(bank: Bank, attributes: list[str], seed: int, limit: int = 120) -> pd.DataFrame:
    """The phrases to vote on: item, attribute, class, phrase, arm, in a drawn order.

    item: a digest of data set, attribute, class and phrase. Of more than `limit` phrases that many
    are drawn, as many of each attribute and arm as there are, evenly.
    """
    rows = [
        {
            "item": storage.sha256_json([bank["dataset"], attribute, name, phrase])[:12],
            "attribute": attribute,
            "class": name,
            "phrase": phrase,
            "arm": side(arm),
        }
        for attribute in attributes
        for name, arms in bank["phrases"][attribute].items()
        for arm in (a for a in ORDER if a in arms)
        for phrase in arms[arm]
    ]
    table = pd.DataFrame(rows)
    table["lot"] = [seed_for(seed, "ballot", item) for item in table["item"]]
    table = table.sort_values("lot", ignore_index=True)
    turn = table.groupby(["attribute", "arm"]).cumcount()  # first of each list, second of each, ..
    drawn = table.loc[turn.sort_values(kind="stable").index[:limit]]
    return drawn.sort_values("lot", ignore_index=True).drop(columns="lot")


def ballot_id(table: pd.DataFrame) -> str:
    """Digest of the ballot's items, whatever their order; votes name it."""
    return storage.sha256_json(sorted(table["item"]))[:16]


def page(table: pd.DataFrame, dataset: str, shows: str) -> str:
    """The page as HTML. shows: what the photographs show, in a few words."""
    source = (resources.files(__package__) / "vote_page.html").read_text(encoding="utf-8")
    parts = {
        name: _digest("".join(re.findall(rf"<{name}>(.*?)</{name}>", source, re.DOTALL)[:1]))
        for name in ("style", "script")
    }
    items = [
        {
            "item": r["item"],
            "attribute": r["attribute"],
            "phrase": r["phrase"],
            "object": shows if r["class"] == "*" else r["class"],
        }
        for r in table.to_dict("records")
    ]
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    return template.render(
        items=items,
        dataset=dataset,
        file=f"votes-{storage.slug(dataset)}",
        ballot=ballot_id(table),
        format=FORMAT,
        digests=parts,
        shows=shows,
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def files(folder: Path) -> list[Path]:
    """The files with votes in a folder, by name; none where there is no such folder."""
    return (
        sorted(p for p in folder.glob("*") if p.suffix in (".json", ".csv"))
        if folder.is_dir()
        else []
    )


def read(paths: list[Path], table: pd.DataFrame) -> pd.DataFrame:
    """Votes (voter, item, vote) from files that the page wrote. Raises VoteError."""
    rows: list[dict[str, Any]] = []
    where: dict[tuple[str, str], Path] = {}
    for path in paths:
        size = path.stat().st_size
        if size > MOST:
            raise VoteError(f"{path}: {size:,} bytes, more than a page of votes has; remove it")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise VoteError(f"{path}: not UTF-8 text: {error}; download the votes again") from None
        found = _from_json(path, text) if path.suffix == ".json" else _from_csv(path, text)
        for row in found:
            _check(path, row, table)
            key = (_same(row["voter"]), row["item"])
            if key in where:
                raise VoteError(
                    f"{path}: {row['voter']!r} voted on {row['item']} already, in "
                    f"{where[key]}; keep one of the two, or give one voter another "
                    "name"
                )
            where[key] = path
            rows.append(row)
    return pd.DataFrame(rows, columns=["voter", "item", "vote"])


def _same(voter: str) -> str:
    """A voter's name as "Ann", "ann " and other Unicode forms of it have it in common."""
    return " ".join(unicodedata.normalize("NFKC", voter).casefold().split())


def _from_json(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
        if data["format"] != FORMAT or not isinstance(data["votes"], dict):
            raise ValueError(f"format {data['format']!r}")
        return [
            {"ballot": data["ballot"], "voter": data["voter"], "item": item, "vote": vote}
            for item, vote in data["votes"].items()
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VoteError(
            f"{path}: not votes as the page writes them ({format(error)[:80]}); download them again"
        ) from None


def _from_csv(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except ValueError as error:
        raise VoteError(f"{path}: not a CSV file of votes: {error}") from None
    missing = {"ballot", "voter", "item", "vote"} - set(table.columns)
    if missing:
        raise VoteError(f"{path}: has no columns {sorted(missing)}; download the votes again")
    return table[["ballot", "voter", "item", "vote"]].to_dict("records")


def _check(path: Path, row: dict[str, Any], table: pd.DataFrame) -> None:
    if row["ballot"] != ballot_id(table):
        raise VoteError(
            f"{path}: votes for ballot {ascii(row['ballot'])[:40]}, this one is "
            f"{ballot_id(table)}: the phrases have changed since; move the file away "
            "and hand out the new page"
        )
    if not isinstance(row["voter"], str) or not VOTER.fullmatch(row["voter"]):
        raise VoteError(
            f"{path}: voter {ascii(row['voter'])[:60]}: wanted 1 to 40 letters, digits,"
            " spaces, dots or hyphens"
        )
    if row["item"] not in set(table["item"]):
        raise VoteError(f"{path}: item {ascii(row['item'])[:40]} is not on the ballot")
    if row["vote"] not in CHOICES:
        raise VoteError(
            f"{path}: item {row['item']}: vote {ascii(row['vote'])[:40]}, wanted one "
            f"of {list(CHOICES)}"
        )


def tally(table: pd.DataFrame, votes: pd.DataFrame) -> pd.DataFrame:
    """The ballot with the number of each vote, the majority, and whether it is the phrase's arm.

    majority: the choice with most votes, unsure ones left out; "tie" where both have as many, ""
    without votes. agrees: True or False, None where there is no majority.
    """
    counts = (
        pd.crosstab(votes["item"], votes["vote"])
        .reindex(index=table["item"], columns=list(CHOICES), fill_value=0)
        .fillna(0)
        .astype(int)
    )
    out = table.join(counts, on="item")
    yes, no = (out[arm] for arm in ARMS)
    out["majority"] = np.select(
        [(yes + no) == 0, yes == no, yes > no], ["", "tie", ARMS[0]], ARMS[1]
    )
    out["agrees"] = [
        None if m in ("", "tie") else m == a for m, a in zip(out["majority"], out["arm"])
    ]
    return out


def agreement(table: pd.DataFrame, votes: pd.DataFrame) -> dict[str, Any]:
    """How far voters agree, with each other and with the bank.

    percent: share of pairs of votes on a phrase that are equal, mean over phrases with two votes
    or more, 0..100. kappa: Fleiss' kappa over the phrases that all voters voted on, <= 1; None
    for fewer than two voters or phrases, or where all votes are one choice (0 / 0). bank_percent:
    share of phrases with a majority whose majority is their arm, 0..100.
    """
    counted = tally(table, votes)
    counts = counted[list(CHOICES)].to_numpy()
    total = counts.sum(axis=1)
    some = counts[total >= 2]
    pairs = (some * (some - 1)).sum(axis=1) / (some.sum(axis=1) * (some.sum(axis=1) - 1))
    voters = int(votes["voter"].nunique())
    full = counts[total == voters]
    kappa = None
    if voters >= 2 and len(full) >= 2 and (full.sum(axis=0) > 0).sum() >= 2:
        kappa = float(fleiss_kappa(full, method="fleiss"))
    decided = counted["agrees"].dropna().astype(bool)
    return {
        "voters": voters,
        "votes": len(votes),
        "ballot": len(table),
        "voted_on_by_all": int(len(full)) if voters else 0,
        "percent": 100 * float(pairs.mean()) if len(some) else None,
        "kappa": kappa,
        "bank_percent": 100 * float(decided.mean()) if len(decided) else None,
    }
