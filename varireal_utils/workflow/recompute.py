"""Recomputes every table of 07_claims from the predictions that it kept, and compares.

    runs/<study>/results/      with the study around it: all tables
    results/<study>/           published, without the study: what follows from answers and edits

    python -m varireal_utils.workflow.recompute results/micro
                               writes a published folder's tables again, from what it keeps

symbols   answers    results/answers.parquet, a row for each test image of each training
          edits      results/edits.parquet, a row for each edit: phrase, seed, verifier's answers
          record     run.json beside it: parameters, and digests of all that 07_claims wrote

A published folder is a results folder without its study around it. It cannot be checked against
photographs and trainings, which it lacks.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..analysis import effects, printing, study_tables
from ..analysis.stage import ClaimsStage
from ..core import storage
from ..core.study_paths import StudyPaths, answers_files
from ..quality import edit_metrics
from . import provenance, publication, run_record, seal
from . import verify as verification

CLOSE = 1e-4  # relative: another processor's last bits, and where an optimiser stops
STAGE = "07_claims"


def statistics(folder: Path, record: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """name -> table, of those that follow from what a results folder keeps.

    Raises FileNotFoundError where one of its files is missing.
    """
    asked = ClaimsStage.of_parameters(record["parameters"])
    kept = study_tables.Kept.of_folder(folder, _others(record))
    by_class = effects.counted(kept.given["by_class"], kept.predictions)
    return study_tables.statistics(kept, asked) | {"by_class": by_class}


def _others(record: dict[str, Any]) -> dict[str, Path]:
    """name -> answers of the other studies that a record's claims compared with: by their digest,
    wherever they lie now. Raises FileNotFoundError where they changed or are gone."""
    wanted, out = record["inputs"], {}
    for name, folders in record["parameters"]["claims"].get("against", {}).items():
        listed = [folders] if isinstance(folders, str) else folders
        used = [n for n in wanted if any(n.startswith(f"{f}/") for f in listed)]
        digests = {wanted[n] for n in used}
        same = [p for p in answers_files(listed) if storage.sha256_file(p) in digests]
        if used and not same:
            raise FileNotFoundError(f"{used[0]} is not there as it was, nor is it among {listed}")
        if used:
            out[name] = same[0]
    return out


def compare(folder: Path) -> tuple[list[str], list[str]]:
    """(what does not agree, names of the tables that were recomputed) of a results folder."""
    folder = Path(folder)
    record = provenance.read(folder / "run.json")
    found = statistics(folder, record)
    wrong: list[str] = []
    texts = printing.files(found)
    if not is_published(folder):
        more, wrong = _with_study(folder, record)
        found |= more
    for name, table in found.items():
        wrong += [f"{folder}/{name}.csv: {line}" for line in _differences(folder, name, table)]
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path}: recomputed, it reads otherwise")
    return wrong, [*(f"{n}.csv" for n in found), *texts]


def _with_study(folder: Path, record: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """(tables that need the study around a results folder, what it keeps and the study does not
    say)."""
    paths = StudyPaths(folder.resolve().parent)
    asked = ClaimsStage.of_parameters(record["parameters"], paths.root.as_posix())
    quality = edit_metrics.collected(paths, record["parameters"]["datasets"])
    now, kept = study_tables.Kept.of_study(paths, asked, quality), storage.read_table
    wrong: list[str] = []
    if not kept(folder / "answers.parquet").equals(now.predictions):
        wrong.append(f"{folder}/answers.parquet is not what the trainings' predictions say")
    if not kept(folder / "edits.parquet").equals(now.edits):
        wrong.append(f"{folder}/edits.parquet is not what 04_edit wrote")
    return now.given, wrong


def rewrite(folder: Path, state: dict[str, Any] | None = None) -> list[str]:
    """Write the tables of a published folder again, from what it keeps, and their digests into its
    record, with the commit and time of this; returns the names of the files that changed.

    Needed when a table gets another column or word: neither models nor trainings are needed.
    state: run_record.git_state() before this call and others like it wrote anything.
    Raises ValueError where the answers are not those that the record names.
    """
    folder, state = Path(folder), state or run_record.git_state()
    record = provenance.read(folder / "run.json")
    if not is_published(folder):
        raise ValueError(f"{folder}: no published folder; run 07_claims of the study instead")
    for name in ("answers.parquet", "edits.parquet", "trainings.csv"):
        if storage.sha256_file(folder / name) != record["outputs"].get(f"results/{name}"):
            raise ValueError(f"{folder / name}: not as recorded, so its tables say nothing of it")
    found, changed = statistics(folder, record), []
    texts = printing.files(found) | {
        f"{n}.csv": t.to_csv(index=False, lineterminator="\n")
        for n, t in found.items()
        if _differences(folder, n, t)
    }
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            storage.write_text(path, text)
            changed.append(name)
        record["outputs"][f"results/{name}"] = storage.sha256_file(path)
    changed += _retire(folder, record, {*texts, *(f"{n}.csv" for n in found)})
    asked = {n: storage.sha256_file(n) for n in ("claims.yaml", "known.yaml")}
    changed += [n for n, digest in asked.items() if record["inputs"].get(n) != digest]
    record["inputs"] |= asked
    if changed:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = sorted({*record.get("recomputed", {}).get("files", []), *changed})
        record["recomputed"] = {**state, "started": started, "files": names}
        storage.write_json(folder / "run.json", record)
        provenance.seal(folder / "run.json")
    if not publication.is_sealed(folder):
        seal.publish(folder)
        changed.append(seal.SEAL)
    return changed


def _retire(folder: Path, record: dict[str, Any], made: set[str]) -> list[str]:
    """Remove tables that are not made any more, and their names from the record; returns them.
    What a published folder cannot compute (GIVEN, QUALITY) stays."""
    kept = {f"{n}.csv" for n in (*study_tables.GIVEN, *study_tables.IF_THERE)}
    kept |= {"answers.parquet", "edits.parquet"}
    old = {Path(n).name for n in record["outputs"]} - made - kept
    for name in old:
        (folder / name).unlink(missing_ok=True)
        del record["outputs"][f"results/{name}"]
    return sorted(old)


def _differences(folder: Path, name: str, table: pd.DataFrame) -> list[str]:
    """What is in a CSV and not in the table that it should hold; the first of each column."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        return ["missing"]
    try:
        kept = pd.read_csv(path)
    except ValueError as error:
        return [f"not a table: {error}"]
    now = pd.read_csv(io.StringIO(table.to_csv(index=False, lineterminator="\n")))
    if list(kept) != list(now) or len(kept) != len(now):
        return [f"{len(kept)} rows of {list(kept)}, recomputed {len(now)} of {list(now)}"]
    out = []
    for column in now:
        a, b = kept[column], now[column]
        if all(
            pd.api.types.is_numeric_dtype(s) and not pd.api.types.is_bool_dtype(s) for s in (a, b)
        ):
            other = ~np.isclose(
                a.astype(float), b.astype(float), rtol=CLOSE, atol=CLOSE / 100, equal_nan=True
            )
        else:
            other = (a.fillna("").astype(str) != b.fillna("").astype(str)).to_numpy()
        if other.any():
            row = int(np.flatnonzero(other)[0])
            out.append(f"row {row + 1}, {column}: {a[row]!r}, recomputed {b[row]!r}")
    return out


def is_published(folder: Path) -> bool:
    """Whether a results folder lies outside its study: no trainings lie around it."""
    return verification.root_of(folder) == folder


def verify(folder: Path) -> provenance.Check:
    """verify.verify of a study, or of a published folder; and all of its tables again.

    A folder is judged by what lies in it and around it, whatever it is called.
    """
    folder = verification.root_of(Path(folder))
    where = folder if (folder / "run.json").is_file() else StudyPaths(folder).results
    record = None
    with contextlib.suppress(ValueError):
        record = provenance.read(where / "run.json") if (where / "run.json").is_file() else None
    if record is not None and record.get("stage") != STAGE:
        record = None
    if record is not None and where == folder:
        check = publication.verify(folder, record)
    else:
        check = verification.verify(folder)
    if record is None or not (where / "answers.parquet").is_file():
        return check
    try:
        wrong, check.recomputed = compare(where)
    except (KeyError, OSError, TypeError, ValueError) as error:
        wrong = [f"{where}: its tables cannot be recomputed ({type(error).__name__}: {error})"]
    check.wrong += wrong
    return check


if __name__ == "__main__":
    before = run_record.git_state()
    for place in sys.argv[1:]:
        print(place, *rewrite(Path(place), before) or ["is as it should be"])
