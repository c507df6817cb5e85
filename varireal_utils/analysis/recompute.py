"""Every table of 07_claims again, from the answers that it kept, held against what lies there.

    runs/<study>/results/      with the study around it: all tables
    results/<study>/           published, without the study: what follows from answers and edits

symbols   answers    results/answers.parquet, a row for each test image of each training
          edits      results/edits.parquet, a row for each edit: phrase, seed, verifier's answers
          record     run.json beside it: parameters, and digests of all that 07_claims wrote

A published folder is one whose record names its files as in the study's own folder "results",
while it lies elsewhere. It cannot be checked against photographs and trainings, which it lacks.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import storage
from ..quality import edit_metrics
from ..workflow import provenance
from . import claims, published, robustness, sample_size, tables

CLOSE = 1e-4  # relative: another processor's last bits, and where an optimiser stops
STAGE = "07_claims"


def printed(found: dict[str, pd.DataFrame]) -> dict[str, tuple[pd.DataFrame, str]]:
    """name -> (table as it is printed, caption): of each table that is Markdown and LaTeX too."""
    return {
        "known": (
            found["known"].drop(columns=["low", "high"]),
            "Published accuracies in percent, with their marks, and ours",
        ),
        "main_table": (
            tables.wide(found["main_table"]),
            "Top-1 accuracy in percent with 95 \\% intervals",
        ),
        "effects": (
            found["effects"][
                [
                    "dataset",
                    "attribute",
                    "training",
                    "difference",
                    "low",
                    "high",
                    "p_holm",
                    "verdict",
                ]
            ],
            "Feasible minus infeasible, in points",
        ),
        "claims": (
            found["claims"][
                [
                    "claim",
                    "says",
                    "quantity",
                    "reported",
                    "ours",
                    "low",
                    "high",
                    "seeds",
                    "verdict",
                    "settle",
                ]
            ],
            "The claims",
        ),
    }


def statistics(folder: Path) -> dict[str, pd.DataFrame]:
    """name -> table, of those that follow from a results folder's answers, trainings and record.

    Raises FileNotFoundError where one of them is missing.
    """
    record = provenance.read(folder / "run.json")
    params = record["parameters"]
    asked, answers = params["claims"], storage.read_table(folder / "answers.parquet")
    options = {"confidence": asked["confidence"], "resamples": asked["bootstrap"]}
    main = tables.main_table(answers, **options)
    effects = tables.effects(answers, asked["margin"], **options)
    model = tables.mixed_model(answers)
    listed, others = claims.load(), tables.beside(answers, _others(record))
    return {
        "main_table": main,
        "known": published.beside(main),
        "effects": effects,
        "protocols": tables.by_protocol(
            others, asked["margin"], tables.protocol(params), **options
        ),
        "claims": claims.evaluate(
            others, asked["margin"], listed, storage.read_table(folder / "trainings.csv"), **options
        ),
        "mcnemar": tables.mcnemar(answers),
        "mixed_model": model,
        "cross_checks": robustness.compare(answers, effects, model),
        "power": tables.power_table(answers, asked["margin"]),
        "needed": sample_size.table(
            tables.pooled_effects(answers), asked["margin"], ["dataset", "attribute", "training"]
        ),
        "seeds": tables.by_seed(answers),
        "acceptance": tables.acceptance(storage.read_table(folder / "edits.parquet")),
    }


def _others(record: dict[str, Any]) -> dict[str, Path]:
    """name -> answers of the other studies that a record's claims compared with: by their digest,
    wherever they lie now. Raises FileNotFoundError where they changed or are gone."""
    wanted, out = record["inputs"], {}
    for name, folders in record["parameters"]["claims"].get("against", {}).items():
        files = storage.answers_files(folders)
        same = [p for p in files if storage.sha256_file(p) in wanted.values()]
        used = [
            n
            for n in wanted
            if any(
                n.startswith(f"{f}/") for f in ([folders] if isinstance(folders, str) else folders)
            )
        ]
        if used and not same:
            raise FileNotFoundError(f"{used[0]} is not there as it was, nor is it among {folders}")
        if used:
            out[name] = same[0]
    return out


def of_study(study: Path, params: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """name -> table, of those that need the trainings, edits and photographs of the study."""
    asked, answers = params["claims"], tables.collect(study, params)
    options = {"confidence": asked["confidence"], "resamples": asked["bootstrap"]}
    return {
        "curves": tables.curves(study, params),
        "trainings": tables.trainings(study, params),
        "by_class": tables.by_class(answers, study),
        "by_shots": tables.by_shots(answers, study, **options),
        **edit_metrics.collected(study, params),
    }


def compare(folder: Path) -> tuple[list[str], list[str]]:
    """(what does not agree, names of the tables that were recomputed) of a results folder."""
    folder = Path(folder)
    record = provenance.read(folder / "run.json")
    found = statistics(folder)
    texts = {
        f"{n}.{kind}": of(table)
        for n, (table, caption) in printed(found).items()
        for kind, of in (
            ("md", tables.to_markdown),
            ("tex", lambda t, c=caption, n=n: tables.to_latex(t, c, f"tab:{n}")),
        )
    }
    wrong = []
    if not is_published(folder, record):
        study = folder.resolve().parent
        found |= of_study(study, record["parameters"])
        kept, now = (
            storage.read_table(folder / "answers.parquet"),
            tables.collect(study, record["parameters"]),
        )
        if not kept.equals(now):
            wrong.append(f"{folder}/answers.parquet is not what the trainings' predictions say")
        now = tables.slim(tables.edits(study, record["parameters"]))
        if not storage.read_table(folder / "edits.parquet").equals(now):
            wrong.append(f"{folder}/edits.parquet is not what 04_edit wrote")
    for name, table in found.items():
        wrong += [f"{folder}/{name}.csv: {line}" for line in _differences(folder, name, table)]
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path}: recomputed, it reads otherwise")
    return wrong, [*(f"{n}.csv" for n in found), *texts]


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


def is_published(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a results folder lies outside its study."""
    home = {Path(n).parent.as_posix() for n in record.get("outputs", {})}
    study = record["parameters"].get("study", "")
    return home == {"results"} and folder.resolve().parent.name != storage.slug(study)


def verify(folder: Path) -> provenance.Check:
    """provenance.verify of a study, or of a published folder; and all of its tables again."""
    folder = Path(folder)
    own = [f for f in (folder, folder / "results") if (f / "run.json").is_file()]
    record, where = None, folder
    for where in own:
        try:
            record = provenance.read(where / "run.json")
        except ValueError:
            continue
        if record.get("stage") == STAGE:
            break
        record = None
    alone = record is not None and is_published(where, record)
    check = _published(where, record) if alone else provenance.verify(folder)
    if record is None or not (where / "answers.parquet").is_file():
        return check
    try:
        wrong, check.recomputed = compare(where)
    except (KeyError, OSError, TypeError, ValueError) as error:
        wrong = [f"{where}: its tables cannot be recomputed ({type(error).__name__}: {error})"]
    check.wrong += wrong
    return check


def _published(folder: Path, record: dict[str, Any]) -> provenance.Check:
    """Digests of a published folder: what its record names and git keeps."""
    check, done, named = provenance.Check(records=1), {}, set()
    for sums in sorted(folder.rglob(f"*{provenance.SUMS}")):
        provenance.against_sum(sums, check, named, done)
    check.files = len(done)
    for name, wanted in record["outputs"].items():
        path = folder / Path(name).name
        check.files += path.is_file()
        if not path.is_file() or storage.sha256_file(path) != wanted:
            check.wrong.append(f"{path}: " + ("not as recorded" if path.is_file() else "missing"))
    for name, wanted in record["inputs"].items():
        if name.startswith("classify/"):
            check.absent.append(name)
            continue
        if name.endswith("answers.parquet"):
            continue  # of another study: `_others` looks for it by its digest
        path = Path(name)
        check.files += path.is_file()
        if not path.is_file() or storage.sha256_file(path) != wanted:
            check.wrong.append(
                f"{path}: "
                + ("not as recorded" if path.is_file() else "missing")
                + f" (input of {folder}/run.json)"
            )
    return check
