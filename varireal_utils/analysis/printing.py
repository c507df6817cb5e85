"""Tables as people read them: a wide main table, Markdown, LaTeX.

Invariant (tests/unit/test_tables.py): every accuracy stands in the row of its own training, and
names with characters special to LaTeX are shown as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .contrasts import ARM_ORDER, ATTRIBUTES
from .few import without_few

ROW = ["dataset", "attribute", "training"]
MOST_ARMS = 8  # columns of accuracies that a page holds
CAPTIONS = {
    "known": "Published accuracies in percent, with their marks, and ours",
    "main_table": r"Top-1 accuracy in percent with 95 \% intervals",
    "effects": "Feasible minus infeasible, in points",
    "claims": "The registered claims, effects in points with 95 \\% intervals",
}
EFFECTS = [*ROW, "difference", "low", "high", "unit", "units"]
CLAIMS = [
    "claim",
    "says",
    "estimand",
    "reported",
    "ours",
    "low",
    "high",
    "unit",
    "units",
    "p_holm",
    "verdict",
    "because",
]


def printed(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """name -> table as it is printed, of the tables that are Markdown and LaTeX too (CAPTIONS)."""
    return {
        "known": found["known"].drop(columns=["low", "high"]),
        "main_table": wide(found["main_table"]),
        "effects": without_few(found["effects"])[EFFECTS],
        "claims": without_few(found["claims"])[CLAIMS],
    }


def files(found: dict[str, pd.DataFrame]) -> dict[str, str]:
    """File name -> text: `printed` tables as Markdown and LaTeX."""
    out = {}
    for name, table in printed(found).items():
        out[f"{name}.md"] = to_markdown(table)
        out[f"{name}.tex"] = to_latex(table, CAPTIONS[name], f"tab:{name}")
    return out


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The main table as one reads it, cells 'mean [low, high]': a row per dataset, attribute and
    training, a column per arm; of more than MOST_ARMS arms `tall`. Of replicates, the column seeds
    is called replicates.
    """
    table = table.assign(
        attribute=table["attribute"].fillna(""),
        cell=[cell(r) for r in without_few(table).to_dict("records")],
    )
    out = tall(table) if table["arm"].nunique() > MOST_ARMS else _by_arm(table)
    drawn = "unit" in table and bool((table["unit"] == "replicates").all())
    return out.rename(columns={"seeds": "replicates"}) if drawn else out


def tall(table: pd.DataFrame) -> pd.DataFrame:
    """A row per attribute, training and arm, a column per data set. table: with `cell`."""
    keys = ["attribute", "training", "arm"]
    shown = table.assign(
        _h=~table["arm"].isin(ARM_ORDER[:2]),
        _a=table["attribute"].map({a: i for i, a in enumerate(ATTRIBUTES)}).fillna(99),
        _r=table["arm"].map({a: i for i, a in enumerate(ARM_ORDER)}).fillna(len(ARM_ORDER)),
    )
    shown = shown.sort_values(["_h", "_a", "attribute", "training", "_r", "arm"])
    out = shown[keys].drop_duplicates()
    cells = table.pivot(index=keys, columns="dataset", values="cell").reset_index()
    counts = table.groupby(keys)[["seeds", "n"]].min().reset_index()
    out = out.merge(cells, on=keys, how="left").merge(counts, on=keys, how="left")
    return out.fillna("").reset_index(drop=True)


def _by_arm(table: pd.DataFrame) -> pd.DataFrame:
    """A row per dataset, attribute and training, a column per arm. table: with `cell`.

    Zero-shot and real stand in every row of their data set; generated images, which have no
    attribute, in every row of their data set and training.
    """
    plain = table["attribute"] == ""
    both = plain & table["arm"].isin(ARM_ORDER[:2])  # zero-shot and real: of no training
    rows, generated = table[~plain], table[plain & ~both]
    pair = ["dataset", "training"]
    edited = pd.MultiIndex.from_frame(rows[pair])
    alone = generated[~pd.MultiIndex.from_frame(generated[pair]).isin(edited)]
    shown = pd.concat([rows, alone])
    out = shown[ROW].drop_duplicates().sort_values(ROW)
    for part, keys in ((rows, ROW), (generated, pair)):
        if not part.empty:
            cells = part.pivot(index=keys, columns="arm", values="cell").reset_index()
            out = out.merge(cells, on=keys, how="left")
    counts = shown.groupby(ROW)[["seeds", "n"]].min()
    base = table[both].drop_duplicates(["dataset", "arm"])
    base = base.pivot(index="dataset", columns="arm", values="cell")
    out = out.merge(base.reset_index(), on="dataset", how="outer")
    out = out.merge(counts.reset_index(), on=ROW, how="left")
    arms = [a for a in ARM_ORDER if a in out]
    arms += sorted(set(out) - set(ARM_ORDER) - {*ROW, "seeds", "n"})
    out = out[[*ROW, *arms, "seeds", "n"]]
    return out.astype({"seeds": "Int64", "n": "Int64"}).fillna({c: "" for c in arms})


def cell(row: Mapping[str, Any]) -> str:
    """An accuracy as "82.1 [80.0, 84.2]"; without an interval the mean alone."""
    between = "" if pd.isna(row["low"]) else f" [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['mean']:.1f}{between}"


def to_markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A pipe table; floats with `digits` decimals, missing values empty."""
    sides = ["right" if pd.api.types.is_numeric_dtype(table[c]) else "left" for c in table]
    text = _texts(table, digits)
    return text.to_markdown(index=False, disable_numparse=True, colalign=sides) + "\n"


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "", digits: int = 2) -> str:
    """A booktabs table (the document needs \\usepackage{booktabs}); caption is LaTeX already."""
    numeric = [pd.api.types.is_numeric_dtype(table[c]) for c in table]
    styled = _texts(table, digits).style.hide(axis="index")
    return (
        styled.format(escape="latex")
        .format_index(escape="latex", axis=1)
        .to_latex(
            column_format="".join("r" if n else "l" for n in numeric),
            position_float="centering",
            hrules=True,
            caption=caption or None,
            label=label or None,
        )
    )


def _texts(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    def text(value: Any) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            return ""
        if isinstance(value, (float, np.floating)):
            return f"{value:.{digits}f}"
        return str(value)

    return pd.DataFrame({c: [text(v) for v in table[c]] for c in table.columns}, dtype=str)
