"""Blocks of README.md: the answer in three sentences, the table of claims, the commands' cost, the
picture of the question.

Everything is read from results/: the claims and their verdicts from results/<SHOWN>/, wall time,
download and disk of a first run from results/first_run.json and results/bench.json.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from ..analysis import verdict
from ..core import storage
from . import image_grids, publishing, result_blocks, style

PICTURE = "docs/images/question.png"
PLAIN = {
    "reproduced": "holds here",
    "different": "does not hold here",
    "inconclusive": "undecided",
    "not valid": "not valid",
    "withheld": "withheld",
    "no verdict": "no verdict",
    "not run": "not run",
}
COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
GROUPED = {
    "reproduced": "holds",
    "different": "does not hold",
    "inconclusive": "stays undecided",
    "not valid": "is not valid",
    "withheld": "is withheld",
    "no verdict": "has no verdict",
    "not run": "was not run",
}
PLURAL = {
    "reproduced": "hold",
    "different": "do not hold",
    "inconclusive": "stay undecided",
    "not valid": "are not valid",
    "withheld": "are withheld",
    "no verdict": "have no verdict",
    "not run": "were not run",
}


def answer(root: Path, up: str) -> str:
    """The answer in three sentences: the paper's first claim, its five claims, the study's own."""
    rows = result_blocks.load(root, "claims").to_dict("records")
    paper = [r for r in rows if r["claim"].startswith("A")]
    own = [r for r in rows if not r["claim"].startswith("A")]
    return (
        f"{_effect(paper[0])} Of the paper's {_count(len(paper))} claims, "
        f"{_grouped(paper)}. Of the {_count(len(own))} further claims tested here, "
        f"{_grouped(own)}."
    )


def _effect(row: dict[str, Any]) -> str:
    """The first claim in words: the size of the effect and what may be said of it."""
    if not result_blocks.known(row):
        return "The effect of feasibility has not been measured."
    size = (
        f"In the rendered micro world, training on feasible instead of infeasible edits changes "
        f"top-1 accuracy by {row['ours']:+.2f} percentage points (pp; 95 % interval "
        f"{result_blocks.interval(row)}, {result_blocks.units(row)})"
    )
    margin = f"{row['margin']:g} pp"
    said = {
        "reproduced": f"mostly within the paper's {margin}",
        "different": f"mostly beyond the paper's {margin}",
        "inconclusive": f"too uncertain to tell whether it stays within the paper's {margin}",
        "not valid": "not valid, because a condition of the study does not hold",
        "withheld": "withheld, because the placebo is not shown to be null",
        "no verdict": f"no verdict on the paper's {margin}, because this is {_why(row)}",
    }[row["verdict"]]
    return f"{size}: {said}."


def _why(row: dict[str, Any]) -> str:
    """The head of a row's reason: "one draw"."""
    return str(row["because"]).partition(":")[0]


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _grouped(rows: list[dict[str, Any]]) -> str:
    """How many claims have each verdict, and which."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["verdict"], []).append(row["claim"])
    parts = [
        f"{_count(len(names))} {(GROUPED if len(names) == 1 else PLURAL)[found]} "
        f"({', '.join(names)})"
        for found in PLAIN
        if (names := groups.get(found))
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def claims(root: Path, up: str) -> str:
    """Claim, effect with interval, verdict in plain words; each row leads to its section. Claims
    that were not run share a line."""
    lines = ["| claim | effect,&nbsp;pp&nbsp;[95&nbsp;%] | verdict |", "|---|---|---|"]
    rows = result_blocks.load(root, "claims").to_dict("records")
    for row in rows:
        if row["verdict"] == "not run":
            continue
        size = verdict.interval_text(row).replace(" ", "&nbsp;")
        said = PLAIN[row["verdict"]] + (f": {_why(row)}" * (row["verdict"] == "no verdict"))
        lines.append(
            f"| {_link(row, up)} {row['says']} | {size} | **{said.replace(' ', '&nbsp;')}** |"
        )
    idle = [_link(r, up) for r in rows if r["verdict"] == "not run"]
    lines += ["", *(f"{NOTES[note]}" for note in NOTES if note in {r["verdict"] for r in rows})]
    if idle:
        lines.append(f"Not run yet: {', '.join(idle)}.")
    return "\n".join(lines)


NOTES = {
    "inconclusive": "*Undecided*: the study is too small to tell, which is not the same as no "
    "effect.",
    "no verdict": "*One draw*: photographs, phrases and edits were drawn once, so the intervals "
    "(over seeds and test images) say nothing of another draw, and no claim is decided.",
}


def _link(row: dict[str, Any], up: str) -> str:
    return f"[{row['claim']}]({up}docs/results.md#{row['claim'].lower()})"


def study(root: Path, up: str) -> str:
    """Size, date, machine and wall time of the published study."""
    main, about = result_blocks.load(root, "main_table"), result_blocks.record(root)
    minutes = result_blocks.wall_minutes(result_blocks.load(root, "runs"))
    return (
        f"{main['dataset'].nunique()} rendered data sets, {main['seeds'].max()} seeds, "
        f"{main['n'].max()} test images a data set; `{result_blocks.command(about)}`, "
        f"{minutes:.0f} minutes of wall time ({about['machine']}, {about['started'][:10]})"
    )


def commands(root: Path, up: str) -> str:
    """The first commands, what each gives, and what it costs where that was measured."""
    about, first = result_blocks.record(root), _facts(root / "results/first_run.json")
    minutes = result_blocks.wall_minutes(result_blocks.load(root, "runs"))
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
        (result_blocks.command(about), "the study above", f"{minutes:.0f} min"),
    ]
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
    folder = root / "results" / result_blocks.SHOWN
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
