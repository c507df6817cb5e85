"""Where a study stands: the records of its runs as one table (notebooks/00_overview)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..core.study_paths import StudyPaths
from . import provenance

COLUMNS = ["stage", "what", "started", "seconds", "peak_memory_mb", "outputs", "commit"]
NEEDED = ("stage", "own", "started", "seconds", "peak_memory_mb", "outputs", "commit")


def runs(study: Path) -> pd.DataFrame:
    """One row for every finished run of a study, in the order in which they started; of a study of
    replicates also replicate, <NA> for the runs of the whole.

    Raises ValueError that names a record which is damaged or lacks a key.
    """
    rows = []
    for path in StudyPaths(study).records():
        if path.parent.name in ("overview", "explore"):
            continue
        record = provenance.read(path)
        missing = [k for k in NEEDED if k not in record]
        if missing:
            raise ValueError(f"{path}: a record without {missing}; run its stage again")
        rows.append(
            {
                "stage": record["stage"],
                "what": " ".join(str(v) for v in record["own"].values() if v not in ("", -1)),
                **{k: record[k] for k in ("started", "seconds", "peak_memory_mb")},
                "outputs": len(record["outputs"]),
                "commit": (record["commit"] or "unknown")[:10]
                + ("+" if record.get("dirty") else ""),
                "replicate": record.get("parameters", {}).get("replicate"),
            }
        )
    table = pd.DataFrame(rows, columns=[*COLUMNS, "replicate"]).astype({"replicate": "Int64"})
    if table["replicate"].isna().all():
        table = table[COLUMNS]
    return table.sort_values(["started", "stage"], ignore_index=True)
