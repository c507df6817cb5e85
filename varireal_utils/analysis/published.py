"""Other papers' numbers beside ours: known.yaml, joined to the main table.

Holds only numbers whose source was read, each with its mark. A number measured under other
conditions (shots, template, selection on the test set) is an anchor, not a target; the column
`conditions` states them in every row. VariReal's own cells are "not found".
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from ..core.config_errors import ParameterError
from ..core.json_schema import jsonschema
from ..data.registry import DATA_SETS
from .contrasts import canonical

TEXT = {"type": "string", "minLength": 1}
SCHEMA = {
    "type": "object",
    "required": ["known"],
    "additionalProperties": False,
    "properties": {
        "known": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["dataset", "recipe", "top1", "mark", "source", "conditions"],
                "properties": {
                    "dataset": TEXT,
                    "recipe": TEXT,
                    "source": TEXT,
                    "conditions": TEXT,
                    "top1": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                    "mark": {"enum": ["[V]", "[V2]"]},
                },
            },
        }
    },
}
PAPER = {name for name, data_set in DATA_SETS.items() if data_set.paper}  # VariReal's
COLUMNS = [
    "dataset",
    "recipe",
    "published",
    "mark",
    "source",
    "conditions",
    "ours",
    "low",
    "high",
    "seeds",
]


def load(path: str | Path = "known.yaml") -> pd.DataFrame:
    """dataset, recipe, top1 (percent), mark, source, conditions. Raises ParameterError that names
    file, row, key and what was wanted."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        jsonschema.validate(content, SCHEMA)
    except FileNotFoundError as error:
        raise ParameterError(f"{path}: not there; it stands in the repository's root") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    except jsonschema.ValidationError as error:
        raise ParameterError(f"{path}: at {error.json_path}: {error.message}") from error
    frame = pd.DataFrame(content["known"])
    try:
        return frame.assign(recipe=frame["recipe"].map(canonical))
    except ValueError as error:
        raise ParameterError(f"{path}: {error}") from error


def with_ours(main: pd.DataFrame, listed: pd.DataFrame | None = None) -> pd.DataFrame:
    """COLUMNS: every known number, with ours where the study has that data set and recipe, then
    every row of ours for which none is known. published, ours, low, high: top-1 in percent as
    numbers; `mark` is "not found" (of VariReal, looked for) or "not published" (nobody but this
    study has that data set or recipe).

    main: of tables.main_table; listed: of `load`.
    """
    listed = load() if listed is None else listed
    own = main.rename(columns={"mean": "ours"})[
        ["dataset", "recipe", "ours", "low", "high", "seeds"]
    ]
    out = listed.rename(columns={"top1": "published"}).merge(
        own, on=["dataset", "recipe"], how="outer", indicator=True
    )
    alone = out["_merge"] == "right_only"
    edited = out["recipe"].str.contains(r"(?:edit|mix)\(")
    lost = alone & out["dataset"].isin(PAPER) & (edited | (out["recipe"] == "real"))
    out.loc[alone, "mark"] = "not published"
    out.loc[lost, "mark"] = "not found"
    out.loc[alone, ["source", "conditions"]] = ""
    out = out.assign(_late=alone).sort_values(
        ["_late", "dataset", "recipe"], kind="stable", ignore_index=True
    )
    return out[COLUMNS].astype({"seeds": "Int64"})
