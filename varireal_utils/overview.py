"""Where a study stands: the records of its runs as one table (notebooks/00_overview)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import store

COLUMNS = ["stage", "what", "started", "seconds", "peak_memory_mb", "outputs", "commit"]


def runs(study: Path) -> pd.DataFrame:
    """One row for every finished run of a study, in the order in which they started."""
    rows = []
    for path in sorted(study.rglob("run.json")):
        if path.parent.name in ("overview", "explore"):
            continue
        record = store.read_json(path)
        rows.append({"stage": record["stage"], "what": " ".join(
            str(v) for v in record["own"].values() if v not in ("", -1)),
            "started": record["started"], "seconds": record["seconds"],
            "peak_memory_mb": record["peak_memory_mb"], "outputs": len(record["outputs"]),
            "commit": record["commit"][:10] + ("+" if record["dirty"] else "")})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["started", "stage"], ignore_index=True)
