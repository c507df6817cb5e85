"""Blocks of docs/results.md: accuracies, effects, checks of validity; what pages read of claims.

Every function returns Markdown made from the tables of the studies that pages show (core/shown.py):
claims and their conditions of all of them, the rest of the first. `up` is the prefix of links from
the page to the repository's root; `study` names one of the studies, "" the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import printing, study_tables, verdict
from ..analysis.few import without_few
from ..analysis.gates import EQUAL, HEAD_ROOM, NAMED, Gates
from ..core import shown, storage
from . import marks

NOT_RUN, UNDECIDED = "not run", "inconclusive"  # verdicts
PLACEBO = "placebo"  # the family of the claim that guards all others
PAUSE = 60.0  # seconds between two jobs: starting a kernel takes less, a stopped study more
NOTEBOOK = "notebooks/07_claims.ipynb"
NEEDED = {"claim", "says", "estimand", "population", "family", "reported", "source", "ours"}
NEEDED |= {"low", "high", "low90", "high90", "confidence", "margin", "unit", "units", "datasets"}
NEEDED |= {"cells", "share", "p", "p_holm", "verdict", "because", "detail", "again"}
NAMES = {"background": "background", "color": "colour", "texture": "texture", "pooled": "pooled"}


def load(root: Path, name: str, study: str = "") -> pd.DataFrame:
    """A table of a published study as it is shown, without intervals of few units (few.py).
    Raises ValueError where claims.csv lacks a column."""
    path = shown.folder(root, study) / f"{name}.csv"
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    missing = sorted(NEEDED - set(table)) if name == "claims" else []
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]}: it is of an older version; run the study again "
            "and publish its results"
        )
    return without_few(table)


def claims(root: Path) -> list[dict[str, Any]]:
    """A row for each claim, in the order of the first study's claims.csv, with `study`, the name
    of the first of the shown studies that ran it: no claim has two verdicts. `later`: the claim
    that asked the same again and was run, "" for none."""
    out: dict[str, dict[str, Any]] = {}
    for study in shown.names(root):
        for row in load(root, "claims", study).to_dict("records"):
            known_row = out.get(row["claim"])
            if known_row is None or (known_row["verdict"] == NOT_RUN != row["verdict"]):
                out[row["claim"]] = {**row, "study": study, "later": ""}
    for row in list(out.values()):
        if known_text(row["again"]) and row["verdict"] != NOT_RUN and row["again"] in out:
            out[row["again"]]["later"] = row["claim"]
    return list(out.values())


def pooled(root: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Study -> training ("pooled" for all) -> the effect of feasibility over all data sets and
    attributes, a row of effects.csv; of the shown studies."""
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for study in shown.names(root):
        if (shown.folder(root, study) / "effects.csv").is_file():
            rows = load(root, "effects", study)
            rows = rows[(rows["dataset"] == "pooled") & (rows["attribute"] == "pooled")]
            out[study] = {str(row["training"]): row for row in rows.to_dict("records")}
    return out


def placebos(root: Path) -> dict[str, dict[str, Any]]:
    """Study -> its placebo's row of claims.csv, of the shown studies that ran one."""
    out = {}
    for study in shown.names(root):
        if not (shown.folder(root, study) / "claims.csv").is_file():
            continue
        rows = load(root, "claims", study)
        for row in rows[rows["family"] == PLACEBO].to_dict("records"):
            if row["verdict"] != NOT_RUN:
                out[study] = row
    return out


def known_text(value: Any) -> bool:
    """Whether a cell of a table that was read holds words."""
    return isinstance(value, str) and bool(value)


def answered(root: Path, study: str) -> list[str]:
    """The claims that a shown study answers on the pages."""
    return [r["claim"] for r in claims(root) if r["study"] == study and r["verdict"] != NOT_RUN]


def in_words(names: Sequence[str]) -> str:
    """Claims in words: "A2 and A5", "E3, F1 and F4"; neighbours, "F1 to F4"."""
    digits = [name[1:] for name in names if name[:1] == names[0][:1] and name[1:].isdigit()]
    if len(digits) == len(names) > 2:
        first, last = int(digits[0]), int(digits[-1])
        if [int(d) for d in digits] == list(range(first, last + 1)):
            return f"{names[0]} to {names[-1]}"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def widest(row: dict[str, Any]) -> bool:
    """Whether a claim's number is the widest pair's, with an interval for all pairs at once."""
    return "the widest of" in str(row.get("detail"))


def least(row: dict[str, Any]) -> bool:
    """Whether a claim's number is the least of several gains, with that one's interval."""
    return str(row.get("estimand")).startswith("the least ")


def alone(row: dict[str, Any]) -> bool:
    """Whether a claim would be decided by itself, and is not with the others of its family."""
    return bool(row["verdict"] == UNDECIDED and row["p"] <= verdict.ALPHA < row["p_holm"])


def leans(row: dict[str, Any]) -> bool:
    """Whether a claim's number speaks for it: the least gain is above 0, the widest pair beyond the
    margin, most true effects within it, or the mean within it, by the claim's rule."""
    if least(row):
        return bool(row["ours"] > 0)
    if widest(row):
        return bool(abs(row["ours"]) > row["margin"])
    if not pd.isna(row["share"]):
        return bool(row["share"] > 0.5)
    return bool(abs(row["ours"]) < row["margin"])


def record(root: Path, study: str = "") -> dict[str, Any]:
    """The run record of published tables."""
    return storage.read_json(shown.folder(root, study) / "run.json")


def known(row: dict[str, Any]) -> bool:
    """Whether a claim has a number of this study."""
    return not pd.isna(row["ours"])


def interval(row: dict[str, Any], low: str = "low", high: str = "high") -> str:
    """An interval in percentage points; "" without one."""
    return "" if pd.isna(row[low]) else f"{row[low]:+.2f} to {row[high]:+.2f}"


def units(row: dict[str, Any]) -> str:
    """What an interval is over: "20 replicates", "1 seed of one draw"."""
    head, *rest = str(row["unit"]).split(" ")
    return " ".join([f"{row['units']:.0f}", head.removesuffix("s" * (row["units"] == 1)), *rest])


def replicates(root: Path, study: str = "") -> int:
    """Replicates of a published study; 0 for one draw."""
    main = load(root, "main_table", study)
    return int(main["seeds"].max()) if (main["unit"] == "replicates").all() else 0


def seeds(root: Path, study: str = "") -> int:
    """Replicates of a published study, or starts of one draw."""
    return int(load(root, "main_table", study)["seeds"].max())


def drawn(root: Path, up: str) -> str:
    """What the unit of the published study is, and so what its numbers decide."""
    of = replicates(root)
    if not of:
        return (
            "The study published here is **one draw**: its seeds are further starts on the same "
            "photographs, phrases and edits. Its numbers stand, with intervals over seeds and test "
            "images of this draw, and decide nothing about another one."
        )
    further = [
        f" {in_words(answered(root, name)) or 'No claim'} "
        f"{'are' if len(answered(root, name)) > 1 else 'is'} from another one, "
        f"[{name}]({up}results/{name}), of {replicates(root, name)}."
        for name in shown.names(root)[1:]
    ]
    return (
        f"The study published here has **{of} replicates**. An interval is of the mean over them, "
        f"by a t distribution with {of - 1} degrees of freedom, and so is every verdict."
        + "".join(further)
    )


def command(root: Path, study: str = "") -> str:
    """The command that runs a published study again. A registered one runs in the state that was
    registered alone, so later code runs it under another name."""
    about = record(root, study)
    file = about["parameter_file"]
    words = "make study" if file == "params/micro.yaml" else f"make study PARAMS={file}"
    registered = (root / "registrations" / f"{study or shown.name(root)}.json").is_file()
    again = f".venv/bin/python -m varireal_utils study --params {file} --set study=again"
    return again if registered else words


def wall_minutes(runs: pd.DataFrame) -> float:
    """Minutes from the first job to the last, without pauses of more than PAUSE seconds."""
    began = [pd.Timestamp(text).timestamp() for text in runs["started"]]
    total, until = 0.0, float("-inf")
    for start, seconds in sorted(zip(began, runs["seconds"])):
        waited = start - until
        total += max(0.0, start + seconds - (until if waited < PAUSE else start))
        until = max(until, start + seconds)
    return total / 60


def jobs_of_replicates(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of replicates with their data set. runs: of runs.csv; 01_data names the data sets, and
    every other run's column `what` holds one of them as a word."""
    own = runs[runs["replicate"].notna()]
    names = set(own.loc[own["stage"] == "01_data", "what"])
    return own.assign(dataset=own["what"].map(lambda w: next(iter(names & set(w.split())))))


def core_hours(runs: pd.DataFrame) -> float:
    """Hours of one core of a study of replicates: the median over data sets of replicates, each of
    which one core works on, times their number. What ran beside other work weighs as one of many.
    """
    each = jobs_of_replicates(runs).groupby(["replicate", "dataset"])["seconds"].sum()
    return float(each.median() * len(each) / 3600)


def replicate_cost(root: Path, up: str) -> str:
    """Seconds of each stage in a replicate of a data set, of the shown studies that have them."""
    studies = [name for name in shown.names(root) if replicates(root, name)]
    if not studies:
        return "Stands here once a study of replicates is published."
    heads, columns, said = [], [], []
    for name in studies:
        jobs = jobs_of_replicates(load(root, "runs", name))
        columns.append(_stage_costs(jobs))
        heads += [f"{name}: runs", "seconds of one core"]
        whole = jobs.groupby(["replicate", "dataset"])["seconds"].sum()
        table = f"[runs.csv]({up}results/{name}/runs.csv)"
        said.append(
            f"{table} of {name}: {len(whole)} data sets of replicates, so {core_hours(jobs):.1f} "
            f"core-hours in all; the quickest took {whole.min():.0f} s, the slowest, beside other "
            f"work, {whole.max():.0f} s."
        )
    lines = [f"| stage | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    stages = sorted({stage for column in columns for stage in column} - {"all"})
    for stage in [*stages, "all"]:
        cells = (" | ".join(column.get(stage, ("", ""))) for column in columns)
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Medians. {' '.join(said)}"])


def _stage_costs(jobs: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Stage, or "all" -> runs and seconds in a replicate of a data set, medians as words."""
    each = jobs.groupby(["stage", "replicate", "dataset"])["seconds"].agg(["size", "sum"])
    out = {
        str(stage): (f"{rows['size'].median():.0f}", f"{rows['sum'].median():.0f}")
        for stage, rows in each.groupby(level="stage")
    }
    unit = jobs.groupby(["replicate", "dataset"])["seconds"].agg(["size", "sum"])
    return out | {"all": (f"{unit['size'].median():.0f}", f"**{unit['sum'].median():.0f}**")}


def cell_of(root: Path, *words: str, study: str = "") -> str:
    """Link text of the executed cell whose printed table holds all words: "cell [7] of 07_claims";
    the notebook's name alone where it holds none."""
    path = shown.folder(root, study) / NOTEBOOK
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(
            "".join(out.get("data", {}).get("text/html", "")) for out in cell.get("outputs", [])
        )
        if cell["cell_type"] == "code" and all(word in text for word in words):
            return f"cell [{cell['execution_count']}] of 07_claims"
    return "07_claims"


def notebook(root: Path, up: str, *words: str, study: str = "") -> str:
    """A link to the executed notebook, naming the cell whose table holds all words."""
    link = f"{up}results/{study or shown.name(root)}/{NOTEBOOK}"
    return f"[{cell_of(root, *words, study=study)}]({link})"


def places(root: Path, up: str) -> str:
    """Where the published study's tables lie, and the other studies."""
    name = shown.name(root)
    home = f"{up}results/{name}"
    others = sorted(
        p.parent.name for p in (root / "results").glob("*/run.json") if p.parent.name != name
    )
    rows = {
        "claims, effects, accuracies, seeds as CSV": f"[results/{name}]({home})",
        "prediction for each test image, row for each edit": f"[answers.parquet]({home}/"
        f"answers.parquet), [edits.parquet]({home}/edits.parquet)",
        "parameters, machine, versions, digests": f"[run.json]({home}/run.json)",
        "seconds and memory of every job": f"[runs.csv]({home}/runs.csv)",
        "other studies": ", ".join(f"[{other}]({up}results/{other})" for other in others),
    }
    lines = ["| what | where |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items() if v)]
    check = f"`python -m varireal_utils verify results/{name}` recomputes the tables from the"
    return "\n".join([*lines, "", f"{check} predictions."])


def named(root: Path, dataset: str, study: str) -> str:
    """A data set of a study, with the study where several are shown."""
    return f"{dataset} ({study})" if len(shown.names(root)) > 1 else dataset


def gates(folder: Path) -> Gates:
    """The conditions of a study's verdicts, as its tables measure them; without tables none."""
    main = folder / "main_table.csv"
    if not main.is_file():
        return Gates()
    return Gates.of(storage.read_table(main), study_tables.given_of(folder))


def warnings(found: Gates) -> list[str]:
    """A sentence for each condition that fails on a data set."""
    out = [
        f"{dataset}: fine-tuning on real photographs gains {gain:+.1f} points over zero-shot; "
        f"{HEAD_ROOM:g} were asked for before the runs, so that arms have room to differ."
        for dataset, gain in sorted(found.gains.items())
        if gain < HEAD_ROOM
    ]
    return out + [
        f"{dataset}: zero-shot CLIP names the class of {100 * own:.0f} % of DataDream's "
        f"({pictures}) images and of {100 * real:.0f} % of photographs, so DataDream's arms say "
        "nothing about DataDream."
        for (dataset, _, pictures), (own, real) in sorted(found.named.items())
        if own < NAMED * real
    ]


def validity(root: Path, up: str) -> str:
    """What must hold before arms may be compared, and whether it does, by data set."""
    lines = ["| condition | data set | measured | needed | |", "|---|---|---|---|---|"]
    for study in shown.names(root):
        lines += _conditions(root, study)
    return "\n".join(lines)


def _conditions(root: Path, study: str) -> list[str]:
    """The rows of `validity` of one study."""
    found, lines = gates(shown.folder(root, study)), []
    for dataset, gain in sorted(found.gains.items()):
        lines.append(
            f"| real gains over zero-shot | {named(root, dataset, study)} | {gain:+.1f} pp | "
            f"{HEAD_ROOM:g} pp | {_holds(gain >= HEAD_ROOM)} |"
        )
    for (dataset, _, pictures), (own, real) in sorted(found.named.items()):
        lines.append(
            f"| CLIP names the class of DataDream's images ({pictures}) | "
            f"{named(root, dataset, study)} | {100 * own:.0f} % | "
            f"{100 * NAMED * real:.0f} %, half of the photographs' | "
            f"{_holds(own >= NAMED * real)} |"
        )
    if gaps := found.cell_gaps().values():
        mean = sum(gaps) / len(gaps)
        lines.append(
            f"| CLIP distances of matched pairs differ, of their mean | {len(gaps)} cells | "
            f"{100 * mean:.0f} % | at most {100 * EQUAL:.0f} % | {_holds(mean <= EQUAL)} |"
        )
    if row := placebos(root).get(study):
        where = study if len(shown.names(root)) > 1 else "all"
        between = f", 90 % {interval(row, 'low90', 'high90')} pp" * (not pd.isna(row["low90"]))
        lines.append(
            f"| {row['claim']}: {row['says']} | {where} | {row['ours']:+.2f} pp{between}, "
            f"{units(row)} | within ±{row['margin']:g} pp | "
            f"{_holds(row['verdict'] == 'reproduced')} |"
        )
    return lines


def _holds(held: bool) -> str:
    return "holds" if held else "**fails**"


def baselines(root: Path, up: str) -> str:
    """Zero-shot, real photographs alone and DataDream, top-1 by data set."""
    kinds = {
        "zero-shot": lambda main: main["arm"] == "zero-shot",
        "real": lambda main: main["arm"] == "real",
        "DataDream (dset)": lambda main: main["recipe"] == "datadream(dset)",
        "real + DataDream (dset)": lambda main: main["recipe"] == "real+datadream(dset)",
    }
    tables = {study: load(root, "main_table", study) for study in shown.names(root)}
    picked = [name for name, of in kinds.items() if any(of(t).any() for t in tables.values())]
    lines = [f"| data set | {' | '.join(picked)} |", "|---|" + "---|" * len(picked)]
    for study, main in tables.items():
        for dataset in sorted(main["dataset"].unique()):
            own = main[main["dataset"] == dataset]
            cells = (_top1(own[kinds[name](own)]) for name in picked)
            lines.append(f"| {named(root, dataset, study)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _top1(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    return printing.cell(rows.iloc[0].to_dict())


def accuracies(root: Path, up: str) -> str:
    """Top-1 of the edited arms, a row for each data set, attribute and training."""
    main = marks.paper_arms(load(root, "main_table"))
    arms = ["feasible", "infeasible", "mixed"]
    rows = main[main["arm"].isin(arms)]
    lines = [
        f"| data set | attribute | trained on | {' | '.join(arms)} |",
        "|---|---|---|" + "---|" * len(arms),
    ]
    for (dataset, attribute, training), group in rows.groupby(["dataset", "attribute", "training"]):
        cells = (_top1(group[group["arm"] == arm]) for arm in arms)
        name = NAMES.get(attribute, attribute)
        lines.append(f"| {dataset} | {name} | {training} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"From {notebook(root, up, 'zero-shot', 'infeasible')}."])


def effects(root: Path, up: str) -> str:
    """Feasible minus infeasible by attribute, pooled over data sets."""
    rows = load(root, "effects")
    rows = rows[rows["dataset"] == "pooled"]
    lines = ["| attribute | trained on | feasible minus infeasible, pp | 95 % interval | cells |"]
    lines.append("|---|---|---|---|---|")
    for row in rows.to_dict("records"):
        name = NAMES.get(row["attribute"], row["attribute"])
        lines.append(
            f"| {name} | {row['training']} | {row['difference']:+.2f} | {interval(row)} | "
            f"{row['cells']:.0f} |"
        )
    link = notebook(root, up, "<th>difference</th>", "pooled")
    table = f"[effects.csv]({up}results/{shown.name(root)}/effects.csv)"
    return "\n".join([*lines, "", f"From {link}; each data set in {table}."])


def files(root: Path, up: str) -> str:
    """The published notebooks, one of each stage and data set that was kept."""
    folder = shown.folder(root) / "notebooks"
    lines = ["| stage | executed notebook |", "|---|---|"]
    for path in sorted(folder.glob("*.ipynb")):
        link = f"{up}results/{shown.name(root)}/notebooks/{path.name}"
        lines.append(f"| {path.stem.split('-')[0]} | [{path.stem}]({link}) |")
    return "\n".join(lines)


def models(root: Path, up: str) -> str:
    """What the micro models reach, target by target."""
    facts = storage.read_json(root / "models/micro/acceptance.json")
    lines = ["| measure | value | target | |", "|---|---|---|---|"]
    for key, target in facts["targets"].items():
        value = facts["figures"][key]
        mark = "reached" if value >= target else "**not reached**"
        lines.append(f"| {key.replace('_', ' ')} | {value:.3g} | {target:g} | {mark} |")
    return "\n".join(lines)
