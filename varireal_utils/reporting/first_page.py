"""Blocks of README.md: the table of claims, the commands' cost, the picture of the question. The
answer is answer.py's.

Everything is read from results/: the claims and their verdicts from the study that shown.py names,
wall time, download and disk of a first run from results/first_run.json and results/bench.json.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from ..analysis import verdict
from ..core import shown, storage
from . import claim_blocks, image_grids, publishing, result_blocks, style
from .answer import PLAIN, why

PICTURE = "docs/images/question.png"


def claims(root: Path, up: str) -> str:
    """Claim, effect with interval, verdict in plain words; each row leads to its section. Claims
    that were not run share a line."""
    lines = ["| claim | effect,&nbsp;pp&nbsp;[95&nbsp;%] | verdict |", "|---|---|---|"]
    rows = result_blocks.claims(root)
    others = {
        _asks(root, study): own
        for study, own in result_blocks.placebos(root).items()
        if study != shown.name(root)
    }
    for row in rows:
        if row["verdict"] == result_blocks.NOT_RUN:
            continue
        size = verdict.interval_text(row)
        reason = f": {why(row)}" * (row["verdict"] == "no verdict")
        later = f", asked again: {row['later']}" * bool(row["later"])
        said = f"**{PLAIN[row['verdict']]}{reason}{later}**"
        for name, own in others.items() if row["family"] == result_blocks.PLACEBO else ():
            size += f"<br>{name}: {verdict.interval_text(own)}"
            said += f"<br>{name}: **{PLAIN[own['verdict']]}**"
        cells = " | ".join(text.replace(" ", "&nbsp;") for text in (size, said))
        lines.append(f"| {_link(row, up)} {row['says']} | {cells} |")
    idle = [_link(r, up) for r in rows if r["verdict"] == result_blocks.NOT_RUN]
    notes = [*_notes(rows, _placebo(root, rows), up), *_mixing(root, rows, up)]
    notes += [f"Not run yet: {', '.join(idle)}."] if idle else []
    return "\n".join([*lines, "", *(f"* {note}" for note in notes)])


NOTES = {
    "inconclusive": "*Undecided*: the study is too small to tell, which is not the same as no "
    "effect.",
    "not valid": "*Not valid*: a [condition]({up}docs/results.md#validity) of the claim does not "
    "hold, so its number says nothing about it.",
    "withheld": "*Withheld*: the placebo is not shown to be null{placebo}, so no difference is "
    "trusted.",
    "one draw": "*One draw*: photographs, phrases and edits were drawn once, so the intervals "
    "(over seeds and test images) say nothing of another draw, and no claim is decided.",
}

AGAIN = (
    "*Asked again*: where a study left a claim undecided, another one drew other replicates. Both "
    "verdicts are shown; who reads the second alone has up to 10 % false verdicts a family, not "
    "5 %. What both say [together]({up}docs/results.md#both-studies-together) has no verdict."
)
FAMILY = (
    "*Families*: intervals are each claim's own, verdicts correct for all claims of a family "
    "(Holm). Without that correction {claims}."
)
LEAST = (
    "*The least of several*: {claims} hold if every gain is above 0. The number is the least gain, "
    "its interval that gain's alone; the verdict corrects for picking it."
)
WIDEST = (
    "*Do several differ?* {claims} ask whether several effects are equal, by one F test of all. "
    "The number is the widest pair's, its interval Scheffé's, for all contrasts at once; it may "
    "hold 0."
)


def _notes(rows: list[dict[str, Any]], placebo: str, up: str) -> list[str]:
    """A line for each verdict that needs one. placebo: of _placebo."""
    found = {r["verdict"] for r in rows} | {why(r) for r in rows if r["verdict"] == "no verdict"}
    notes = [text.format(up=up, placebo=placebo) for word, text in NOTES.items() if word in found]
    if any(row.get("later") for row in rows):
        notes.append(AGAIN.format(up=up))
    if close := _without_family(rows, up):
        notes.append(FAMILY.format(claims=close))
    known = [r for r in rows if result_blocks.known(r)]
    if wide := [_link(r, up) for r in known if result_blocks.widest(r)]:
        notes.append(WIDEST.format(claims=result_blocks.in_words(wide)))
    if low := [_link(r, up) for r in known if result_blocks.least(r)]:
        notes.append(LEAST.format(claims=result_blocks.in_words(low)))
    return notes


def _without_family(rows: list[dict[str, Any]], up: str) -> str:
    """What claims that their family alone keeps undecided would be; "" without any."""
    said = []
    close = [r for r in rows if result_blocks.alone(r)]
    for words, side in (("would hold", True), ("would not hold", False)):
        if own := [_link(r, up) for r in close if result_blocks.leans(r) == side]:
            said.append(f"{result_blocks.in_words(own)} {words}")
    return " and ".join(said)


def _mixing(root: Path, rows: list[dict[str, Any]], up: str) -> list[str]:
    """A line on what the claim of mixed edits compares."""
    own = next((r for r in rows if r["claim"] == claim_blocks.MIXING), None)
    if own is None or not result_blocks.known(own):
        return []
    found = claim_blocks.mixing(root, own["study"])
    if not found:
        return []
    return [
        f"*Mixing*: {_link(own, up)} compares mixed edits with the mean of feasible and infeasible "
        f"ones; they differ from feasible ones by {found['feasible']:+.2f} pp and from infeasible "
        f"ones by {found['infeasible']:+.2f} pp."
    ]


def _placebo(root: Path, rows: list[dict[str, Any]]) -> str:
    """What the placebo of each study with a withheld verdict measured, after a space."""
    studies = sorted({r["study"] for r in rows if r["verdict"] == "withheld"})
    measured = result_blocks.placebos(root)
    return "".join(
        f"{f' in the study of {_asks(root, study)}' * (study != shown.name(root))} "
        f"({verdict.interval_text(row)} pp, {result_blocks.units(row)}, margin ±{row['margin']:g})"
        for study in studies
        if (row := measured.get(study))
    )


def _link(row: dict[str, Any], up: str) -> str:
    return f"[{row['claim']}]({up}docs/results.md#{row['claim'].lower()})"


def study(root: Path, up: str) -> str:
    """Size, command, cost, machine and date of the published study; of each further one its
    claims, replicates, parameter file, cost and date."""
    first, *others = shown.names(root)
    return ". ".join([_described(root, first), *(_further(root, name) for name in others)])


def _further(root: Path, name: str) -> str:
    about = result_blocks.record(root, name)
    file = f"`{about['parameter_file']}`"
    cost = f"{_cost(root, name)} ({about['started'][:10]})"
    return f"{_asks(root, name)}: {_size(root, name)}, {file}, {cost}"


def _asks(root: Path, name: str) -> str:
    """The claims that a further study answers, in words."""
    return result_blocks.in_words(result_blocks.answered(root, name)) or f"No claim ({name})"


def _described(root: Path, name: str) -> str:
    main, about = (
        result_blocks.load(root, "main_table", name),
        result_blocks.record(root, name),
    )
    of = result_blocks.replicates(root, name)
    tested = f"{main['n'].max()} test images a data set{' and replicate' * bool(of)}"
    cost = f"{_cost(root, name)}{'' if of else ' of wall time'}"
    return (
        f"{main['dataset'].nunique()} rendered data sets, {_size(root, name)}, {tested}; "
        f"`{result_blocks.command(root, name)}`, {cost} "
        f"({about['machine']}, {about['started'][:10]})"
    )


def _size(root: Path, name: str) -> str:
    """Replicates of a published study; of one draw, seeds."""
    of = result_blocks.replicates(root, name)
    return f"{of} replicates" if of else f"{result_blocks.seeds(root, name)} seeds"


def _cost(root: Path, name: str = "") -> str:
    """Wall time of a published study; of one of replicates, hours of a core."""
    runs = result_blocks.load(root, "runs", name)
    if result_blocks.replicates(root, name):
        return f"{result_blocks.core_hours(runs):.1f} core-hours"
    minutes = result_blocks.wall_minutes(runs)
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def scope(root: Path, up: str) -> str:
    """What the published study's numbers speak of, as items of a list."""
    of = result_blocks.replicates(root)
    sizes = result_blocks.in_words(
        [
            str(found)
            for name in shown.names(root)
            if (found := result_blocks.replicates(root, name))
        ]
    )
    design = f"[registered design]({up}docs/registration.md)"
    if not of:
        return (
            "* The published study is one draw: a seed redraws a training's start, order and "
            "dropout, not photographs, phrases, edits or test images. So it decides no claim; the "
            f"{design} draws everything anew in every replicate.\n"
            "* Infeasible also means unfamiliar here: no test photograph shows an infeasible "
            "value. The study cannot separate the two; neither does the paper." + _datadream(root)
        )
    return (
        "* A published study draws photographs, phrases, edits, starts and test images anew in "
        f"each of its replicates ({sizes}; {design}). Its verdicts speak of such replicates, of "
        "these rendered data sets and sizes.\n"
        "* Infeasible also means unfamiliar in the paper: its data sets show no infeasible value. "
        "E1, E2, F1 and F2 separate the two, by perfect edits, which a rendered world alone has."
        + _datadream(root)
    )


def _datadream(root: Path) -> str:
    """What keeps the pages from saying anything about DataDream, as an item of a list; "" where
    they do."""
    words = {r["verdict"] for r in result_blocks.claims(root) if r["family"] == "datadream"}
    if not words or words - {result_blocks.NOT_RUN, "not valid"}:
        return ""
    if words == {result_blocks.NOT_RUN}:
        return "\n* Nothing is said about DataDream yet: D1 and D2 have a study of their own."
    return (
        "\n* The micro text-to-image model rarely draws a recognisable class, so nothing is said "
        "about DataDream."
    )


def commands(root: Path, up: str) -> str:
    """The first commands, what each gives, and what it costs where that was measured."""
    first = _facts(root / "results/first_run.json")
    rows = [
        (
            "make setup",
            "the environment, once (needs Python 3.11 or newer, git, make)",
            _setup(first),
        ),
        ("make study", "a first study, offline, on two CPU cores", _first_study(root, first)),
        ("make report", "one HTML page: claims, figures, tables, executed notebooks", ""),
        ("make lab", "JupyterLab; begin with `notebooks/00_overview.ipynb`", ""),
        ("make figures", "every published figure again, without a model", ""),
        ("make test", "the tests", ""),
    ]
    first_study, *others = shown.names(root)
    cost = _cost(root, first_study).replace("minutes", "min")
    files = [f"`{result_blocks.record(root, name)['parameter_file']}`" for name in others]
    likewise = f"; likewise, at the cost above, {result_blocks.in_words(files)}" * bool(files)
    rows.append((result_blocks.command(root, first_study), f"the study above{likewise}", cost))
    cells = [f"| `{name}` | {text} | {cost} |" for name, text, cost in rows]
    return "\n".join(
        [
            f"| command | gives | [measured]({up}docs/benchmarks.md#a-first-run) |",
            "|---|---|---|",
            *cells,
        ]
    )


def _setup(first: dict[str, Any]) -> str:
    """Cost of set-up, "" where it was not measured."""
    if "setup_seconds" not in first:
        return ""
    return (
        f"{first['setup_seconds'] / 60:.0f} min, {first['download_gb']:.1f} GB to download, "
        f"{first['environment_gb']:.1f} GB of disk"
    )


def _first_study(root: Path, first: dict[str, Any]) -> str:
    """Cost of the first study: by bench.first_run, else by `make bench`."""
    seconds = first.get("study_seconds")
    for row in _facts(root / "results/bench.json").get("rows", []):
        if row["what"] == "make study" and seconds is None:
            seconds = row["seconds"]
    disk = f", {first['study_gb']:.1f} GB of disk" if "study_gb" in first else ""
    return f"{seconds / 60:.0f} min{disk}" if seconds is not None else ""


def _facts(path: Path) -> dict[str, Any]:
    return storage.read_json(path) if path.exists() else {}


def chosen(root: Path) -> tuple[list[dict], str]:
    """The first published row of each data set, and a digest of its pictures and words."""
    folder = shown.folder(root)
    rows, _ = publishing.gathered(folder)
    count = result_blocks.load(root, "main_table")["dataset"].nunique()
    rows = rows[:: max(1, len(rows) // count)]
    found = hashlib.sha256()
    for row in rows:
        for key in sorted(row.keys() - {"name", "source"}):
            for arm, (picture, phrase) in sorted(row[key].items()):
                found.update(f"{row['name']} {key} {arm} {phrase}".encode() + picture.tobytes())
        found.update(row["source"].tobytes())
    return rows, found.hexdigest()


def draw(root: Path) -> Path:
    """The question as one picture, a photograph of each data set; its PNG names the digest."""
    rows, digest = chosen(root)
    figure, _ = image_grids.qualitative_grid(rows)
    buffer = io.BytesIO()
    with style.look():
        figure.savefig(buffer, format="png", metadata={"Software": None, "Source": digest})
    plt.close(figure)
    path = root / PICTURE
    storage.write_bytes(path, buffer.getvalue())
    return path
