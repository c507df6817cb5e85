"""Blocks of docs/benchmarks.md: a first run, speed on CPU and GPU, growth with the data.

Every function returns Markdown made from a file that a program of bench/ wrote under results/, or
a sentence that names the program where it has not run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..core import storage


def _missing(command: str) -> str:
    return f"Not measured yet: `{command}`."


def first_run(root: Path, up: str) -> str:
    """What bench.first_run measured."""
    path = root / "results/first_run.json"
    if not path.exists():
        return _missing("python -m bench.first_run")
    facts = storage.read_json(path)
    rows = [
        ("set-up, wall time", "setup_seconds", "{:.0f} s"),
        ("packages to download", "download_gb", "{:.2f} GB"),
        ("environment on disk", "environment_gb", "{:.2f} GB"),
        ("first study, wall time", "study_seconds", "{:.0f} s"),
        ("the same call again", "again_seconds", "{:.0f} s"),
        ("the study on disk", "study_gb", "{:.2f} GB"),
    ]
    cells = [f"| {name} | {form.format(facts[k])} |" for name, k, form in rows if k in facts]
    where = f"{facts['machine']}, {facts['started'][:10]}"
    return "\n".join([f"| {where} | |", "|---|---|", *cells])


def speed(root: Path, up: str) -> str:
    """What `make bench` measured: the reference's way beside ours."""
    path = root / "results/bench.json"
    if not path.exists():
        return _missing("make bench")
    facts = storage.read_json(path)
    cells: list[str] = []
    table = pd.DataFrame(facts["rows"])
    for (what, classes), own in table.groupby(["what", "classes"], sort=False, dropna=False):
        name = what if classes != classes else f"{what}, {classes:.0f} classes"
        cells += _speed_rows(name, own.set_index("way"))
    missed = f" Missed: {'; '.join(facts['missed'])}." if facts["missed"] else ""
    if "tflops" in facts:
        fast = " and ".join(f"{1e3 * v:.0f} GFLOP/s in {k}" for k, v in facts["tflops"].items())
        missed += (
            f" This processor multiplies at {fast}; what the products alone would take at "
            "that speed bounds every ratio."
        )
    return "\n".join(
        [
            f"Medians of {facts['repeats']} alternating repeats, {facts['model']}, batch "
            f"{facts['batch']} ({facts['machine']}, {facts['started'][:10]}).{missed}",
            "",
            "| | as the reference does it | ours | ours, bfloat16 |",
            "|---|---|---|---|",
            *cells,
        ]
    )


def _speed_rows(name: str, found: pd.DataFrame) -> list[str]:
    """Rows of one measurement: plain, ours, ours in bfloat16; another with noise by prefix."""
    text = {}
    for way, row in found.iterrows():
        faster = way != "plain" and row["ratio"] == row["ratio"]
        ratio = f" (**{row['ratio']:.1f}x**)" if faster else ""
        text[way] = f"{row['seconds']:.3g} s{ratio}"
    out = []
    for how in ("", " by prefix"):
        ours = text.get(f"float32{how}") or text.get(f"ours{how}", "")
        half = text.get(f"bfloat16{how}", "")
        if ours or half:
            noise = f", noise{how}" if how else ""
            out.append(f"| {name}{noise} | {text.get('plain', '')} | {ours} | {half} |")
    return out


def gpu(root: Path, up: str) -> str:
    """What `bench.gpu` measured: images a second, share of the peak."""
    path = root / "results/bench_gpu.json"
    if not path.exists():
        return _missing("python -m bench.gpu")
    facts = storage.read_json(path)
    return "\n".join(
        [
            f"{facts['card']}, random weights, {facts['started'][:10]}. Shares are of the data "
            f"sheet's {facts['peak_tflops']:.0f} TFLOP/s of bf16, of which a large matrix product "
            f"reached {100 * facts['matrix_tflops'] / facts['peak_tflops']:.0f} %.",
            "",
            "| | way | images at once | images a second | share of the peak |",
            "|---|---|---|---|---|",
            *map(_gpu_row, facts["rows"]),
        ]
    )


def _gpu_row(row: dict[str, Any]) -> str:
    classes = f", {row['classes']} classes" if row["classes"] else ""
    share = "" if row["share_of_peak"] is None else f"{100 * row['share_of_peak']:.0f} %"
    return (
        f"| {row['what']}{classes} | {row['way']} | {row['batch']} | "
        f"{row['images_per_second']:,.0f} | {share} |"
    )


def operations(root: Path, up: str) -> str:
    """What `bench.operations` counted: launches, casts and reads of a training step."""
    path = root / "results/operations.json"
    if not path.exists():
        return _missing("python -m bench.operations")
    facts = storage.read_json(path)
    return "\n".join(
        [
            f"{facts['model']}, {facts['classes']} classes, bfloat16, torch {facts['torch']}.",
            "",
            "| step | operations | of them casts | reads from the device |",
            "|---|---|---|---|",
            *(
                f"| {r['way']} | {r['operations']:,} | {r['casts']} | {r['reads']} |"
                for r in facts["rows"]
            ),
        ]
    )


def chain(root: Path, up: str) -> str:
    """What `bench.chain` counted: passes of editing with verification, and what goes through."""
    path = root / "results/chain.json"
    if not path.exists():
        return _missing("python -m bench.chain")
    facts = storage.read_json(path)
    ways: tuple[str, str] = ("one by one", "ours")
    table = pd.DataFrame(facts["rows"])
    sums = {}
    for what in ("passes", "rows"):
        wide = pd.DataFrame(list(table[what])).groupby(table["way"]).sum().astype(int)
        sums[what] = wide.T.loc[:, list(ways)]
    passes, rows = sums["passes"], sums["rows"]
    passes.loc["all networks"] = passes.sum()
    own = table.groupby("way")[["edits", "seconds"]].sum()
    hour = (3600 * own["edits"] / own["seconds"]).astype(int)
    cells = []
    for name, (before, now) in passes.iterrows():
        through = ""
        if name in rows.index:
            unit = "tokens" if name == "verifier" else "rows"
            through = f"{rows.loc[name, ways[0]]:,} and {rows.loc[name, ways[1]]:,} {unit}"
        cells.append(f"| {name} | {before:,} | {now:,} (**{before / now:.1f}x**) | {through} |")
    attempts = table[table["way"] == ways[1]]["attempts"].sum()
    return "\n".join(
        [
            f"{own.loc[ways[1], 'edits']} edits and {attempts} attempts, batches of 8, micro "
            f"models, a verifier with random weights ({facts['machine']}, "
            f"{facts['started'][:10]}, beside a load of {facts['load']:.0f}): {hour[ways[0]]:,} "
            f"edits an hour one by one, {hour[ways[1]]:,} ours.",
            "",
            "| network | passes, one by one | passes, ours | what goes through |",
            "|---|---|---|---|",
            *cells,
        ]
    )


def feeding(root: Path, up: str) -> str:
    """What `bench.feeding` measured: decoding once, reading from the map, memory."""
    path = root / "results/feeding.json"
    if not path.exists():
        return _missing("python -m bench.feeding")
    facts = storage.read_json(path)
    rows = facts["rows"]
    kinds: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("decoded pictures on disk", lambda r: f"{r['map_gb']:.2g} GB"),
        ("decoding, an image, once", lambda r: f"{1e3 * r['making_seconds']:.1f} ms"),
        ("from the map to a batch, an image", lambda r: f"{1e3 * r['reading_seconds']:.2f} ms"),
        ("images a second on two cores", lambda r: f"{r['images_per_second']:,.0f}"),
        ("growth of memory", lambda r: f"{r['memory_gb']:.2f} GB"),
        ("augmented by itself, an image", lambda r: f"{1e3 * r['one_by_one_seconds']:.1f} ms"),
        ("the same from its file", lambda r: f"{1e3 * r['from_files_seconds']:.1f} ms"),
    ]
    return "\n".join(
        [
            f"Processor time of one thread ({facts['machine']}, {facts['started'][:10]}), whose "
            f"float32 products run at {1e3 * facts['tflops']:.0f} GFLOP/s.",
            "",
            "| | "
            + " | ".join(
                f"{r['photographs']:,} photographs, {r['width']} x {r['height']}" for r in rows
            )
            + " |",
            "|---|" + "---|" * len(rows),
            *(f"| {name} | " + " | ".join(map(form, rows)) + " |" for name, form in kinds),
        ]
    )


def growth(root: Path, up: str) -> str:
    """What `bench.growth` measured: seconds and memory of each stage."""
    path = root / "results/growth.csv"
    if not path.exists():
        return _missing("python -m bench.growth")
    table = pd.read_csv(path)
    wide = table.pivot(index="stage", columns="images", values=["seconds", "memory_mb"])
    sizes = sorted(table["images"].unique())
    cells = [
        f"| {stage} | "
        + " | ".join(f"{row['seconds', n]:.0f} s, {row['memory_mb', n]:.0f} MB" for n in sizes)
        + " |"
        for stage, row in wide.iterrows()
    ]
    return "\n".join(
        [
            "| stage | " + " | ".join(f"{n:,} images" for n in sizes) + " |",
            "|---|" + "---|" * len(sizes),
            *cells,
        ]
    )
