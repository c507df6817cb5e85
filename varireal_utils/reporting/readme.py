"""Writes the README's results from results/, so that no number in it is typed by hand.

Between the markers `<!-- results -->` and `<!-- /results -->` stands what `block` returns;
tests/unit/test_readme.py fails when the two differ.
`python -m varireal_utils.reporting.readme` rewrites it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from ..core import storage

BEGIN, END = "<!-- results -->", "<!-- /results -->"
HEADROOM = 10.0  # points that real fine-tuning must gain over zero-shot, fixed before the runs
SHOWN = "micro_full"  # the study whose results the README shows


def block(root: Path) -> str:
    """The claim table, the model figures and the one figure, as Markdown."""
    folder = root / "results" / SHOWN
    claims = pd.read_csv(folder / "claims.csv")
    main = pd.read_csv(folder / "main_table.csv")
    record = storage.read_json(folder / "run.json")
    runs = pd.read_csv(folder / "runs.csv")
    missing = sorted({"reported", "settle", "source"} - set(claims))
    if missing:
        raise ValueError(
            f"{folder}/claims.csv has no column {missing[0]}: it is of an older "
            "version; run the study again and publish its results"
        )
    book = f"results/{SHOWN}/notebooks/07_claims.ipynb"
    book = book if (root / book).exists() else "notebooks/07_claims.ipynb"
    made_by = f"[07]({book}), `{_command(record)}`, {_minutes(runs)}"
    sets = folder / "quality_sets.csv"
    lines = [
        "| claim | paper | our quantity: points [95 %], seeds | verdict | from |",
        "|---|---|---|---|---|",
        *[_claim(row, made_by) for row in claims.to_dict("records")],
        "",
        _base(main),
        "",
        *head_room(main),
        *(drawings(pd.read_csv(sets)) if sets.exists() else []),
        f"{main['seeds'].max()} seeds, {main['n'].max()} test images a data set, run on "
        f"{record['started'][:10]} ({record['machine']}) in "
        f"{_minutes(runs)}, all stages added. "
        f"[All cells](results/{SHOWN}/main_table.md) | "
        f"[effects](results/{SHOWN}/effects.csv) | [seeds](results/{SHOWN}/seeds.csv) | "
        f"[parameters, machine, versions](results/{SHOWN}/run.json) | [executed notebooks, "
        f"with images](results/{SHOWN}/notebooks) | [every answer and edit, as "
        f"parquet](results/{SHOWN})",
        "",
        "![Photographs and their feasible and infeasible edits](figures/qualitative_grid.png)",
        "",
        _models(root),
        *_speed(root),
        *_gpu(root),
        *_growth(root),
    ]
    return "\n".join(lines)


def _claim(row: dict, made_by: str) -> str:
    """One claim as a table row."""
    known = isinstance(row["ours"], float) and row["ours"] == row["ours"]
    ours = (
        (f": {row['ours']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}], {row['seeds']:.0f} seeds")
        if known
        else ""
    )
    settle = f" ({row['settle']})" if isinstance(row["settle"], str) and row["settle"] else ""
    mark = re.search(r"\[V2?\]", str(row["source"]))  # how sure the reported value is
    reported = f"{row['reported']} {mark[0]}" if mark else row["reported"]
    return (
        f"| {row['claim']}: {row['says']} | {reported} | {row['quantity']}{ours} | "
        f"**{row['verdict']}**{settle} | {made_by if known else ''} |"
    )


def _command(record: dict) -> str:
    """The command that runs the study of a record."""
    file = record["parameter_file"]
    return "make study" if file == "params/micro.yaml" else f"make study PARAMS={file}"


def _minutes(runs: pd.DataFrame) -> str:
    return f"{runs['seconds'].sum() / 60:.0f} min"


def _base(main: pd.DataFrame) -> str:
    """One sentence with the two baselines of each data set."""
    parts = []
    for dataset, rows in main.groupby("dataset"):
        arms = rows.set_index("arm")["mean"]
        parts.append(
            f"{dataset}: zero-shot {arms['zero-shot']:.1f} %, fine-tuned on the real "
            f"training photographs {arms['real']:.1f} %"
        )
    return "Baselines, top-1: " + "; ".join(parts) + "."


def head_room(main: pd.DataFrame) -> list[str]:
    """A warning where a study, or a data set of it, cannot tell its arms apart: no head-room over
    zero-shot."""
    gains = {}
    for dataset, rows in main.groupby("dataset"):
        arms = rows.set_index("arm")["mean"]
        gains[dataset] = arms["real"] - arms["zero-shot"]
    poor = [f"{d} {g:+.1f}" for d, g in gains.items() if g < HEADROOM]
    if poor and len(poor) < len(gains):
        return [
            f"**Little room on {', '.join(poor)} points.** So much fine-tuning on real "
            f"photographs gains over zero-shot there; {HEADROOM:g} points were asked for "
            "before the runs, so that arms have room to differ. Pooled quantities hold these "
            "data sets too; the table of effects has each by itself.",
            "",
        ]
    return (
        []
        if not poor
        else [
            f"**Not valid yet.** Fine-tuning on real photographs must gain at least {HEADROOM:g} "
            f"points over zero-shot before arms can be compared; it gains {', '.join(poor)}. The "
            "micro models are undertrained (table below), so the verdicts above say nothing about "
            "feasibility. They show that the machinery runs.",
            "",
        ]
    )


def drawings(sets: pd.DataFrame) -> list[str]:
    """A warning where generated images do not show their classes: DataDream's arms say nothing."""
    out = []
    for dataset, rows in sets.groupby("dataset"):
        share = rows.set_index("set")["recognised"]
        for name in share.index[share.index.str.startswith("datadream")]:
            if share[name] < 0.5 * share["real"]:
                out.append(
                    f"{dataset}, {name}: {100 * share[name]:.0f} % against "
                    f"{100 * share['real']:.0f} % of photographs"
                )
    return (
        []
        if not out
        else [
            "**S4 is not valid yet.** Zero-shot CLIP names the class of too few generated images ("
            + "; ".join(out)
            + "), so its verdict is about the micro text-to-image model, not about "
            "DataDream.",
            "",
        ]
    )


def _models(root: Path) -> str:
    """What the micro models reach, target by target."""
    facts = json.loads((root / "models/micro/acceptance.json").read_text())
    cells = []
    for key, target in facts["targets"].items():
        value = facts["figures"][key]
        mark = "reached" if value >= target else "**not reached**"
        cells.append(f"| {key.replace('_', ' ')} | {value:.3g} | {target:g} | {mark} |")
    return "\n".join(
        [
            "The micro models, measured on held-out renderings ([cards](models/micro)):",
            "",
            "| measure | value | target | |",
            "|---|---|---|---|",
            *cells,
        ]
    )


def _speed(root: Path) -> list[str]:
    """What `make bench` measured, if its numbers are kept: the reference's way beside ours."""
    path = root / "results/bench.json"
    if not path.exists():
        return []
    facts, cells = storage.read_json(path), []
    rows = pd.DataFrame(facts["rows"])
    for (what, classes), own in rows.groupby(["what", "classes"], sort=False, dropna=False):
        found = own.set_index("way")
        text = {
            way: f"{row['seconds']:.3g} s"
            + (
                f" (**{row['ratio']:.1f}x**)"
                if way != "plain" and row["ratio"] == row["ratio"]
                else ""
            )
            for way, row in found.iterrows()
        }
        name = what if classes != classes else f"{what}, {classes:.0f} classes"
        for how in ("", " by prefix"):
            fast = [
                text.get(f"float32{how}") or text.get(f"ours{how}", ""),
                text.get(f"bfloat16{how}", ""),
            ]
            if any(fast):
                noise = f", noise{how}" if how else ""
                cells.append(f"| {name}{noise} | {text.get('plain', '')} | {' | '.join(fast)} |")
    missed = f" Missed: {'; '.join(facts['missed'])}." if facts["missed"] else ""
    if "tflops" in facts:
        fast = " and ".join(f"{1e3 * v:.0f} GFLOP/s in {k}" for k, v in facts["tflops"].items())
        missed += (
            f" This processor multiplies at {fast}; what the products alone would take at "
            "that speed bounds every ratio."
        )
    return [
        "",
        f"Speed, medians of {facts['repeats']} turns of the plain way and ours, "
        f"{facts['model']}, batch {facts['batch']} ({facts['machine']}, "
        f"{facts['started'][:10]}, `make bench`).{missed}",
        "",
        "| | as the reference does it | ours | ours, bfloat16 |",
        "|---|---|---|---|",
        *cells,
    ]


def _gpu(root: Path) -> list[str]:
    """What `bench.gpu` measured, if its numbers are kept: images a second, share of the peak."""
    path = root / "results/bench_gpu.json"
    if not path.exists():
        return []
    facts, cells = storage.read_json(path), []
    for row in facts["rows"]:
        classes = f", {row['classes']} classes" if row["classes"] else ""
        share = "" if row["share_of_peak"] is None else f"{100 * row['share_of_peak']:.0f} %"
        cells.append(
            f"| {row['what']}{classes} | {row['way']} | {row['batch']} | "
            f"{row['images_per_second']:,.0f} | {share} |"
        )
    return [
        "",
        f"On a GPU ({facts['card']}, random weights, {facts['started'][:10]}, "
        f"`python -m bench.gpu`); shares are of the data sheet's {facts['peak_tflops']:.0f} "
        "TFLOP/s of bf16, of which a large matrix product reached "
        f"{100 * facts['matrix_tflops'] / facts['peak_tflops']:.0f} %:",
        "",
        "| | way | images at once | images a second | share of the peak |",
        "|---|---|---|---|---|",
        *cells,
    ]


def _growth(root: Path) -> list[str]:
    """What `bench.growth` measured, if its numbers are kept: seconds and memory of each stage."""
    path = root / "results/growth.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path)
    wide = table.pivot(index="stage", columns="images", values=["seconds", "memory_mb"])
    sizes = sorted(table["images"].unique())
    cells = [
        f"| {stage} | "
        + " | ".join(f"{row['seconds', n]:.0f} s, {row['memory_mb', n]:.0f} MB" for n in sizes)
        + " |"
        for stage, row in wide.iterrows()
    ]
    return [
        "",
        "Growth with the number of photographs, edits being copies here "
        "(`python -m bench.growth`):",
        "",
        "| stage | " + " | ".join(f"{n:,} images" for n in sizes) + " |",
        "|---|" + "---|" * len(sizes),
        *cells,
    ]


def rewrite(root: Path = Path(".")) -> str:
    """Put the block between the README's markers; returns the new text."""
    path = root / "README.md"
    text = path.read_text()
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    text = f"{head}{BEGIN}\n{block(root)}\n{END}{tail}"
    storage.write_text(path, text)
    return text


if __name__ == "__main__":
    rewrite()
