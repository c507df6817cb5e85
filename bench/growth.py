"""How seconds and memory grow with the number of photographs: stages 01 to 07, one after another.

    python -m bench.growth [--images 1000 4000 16000] [--out results/growth.csv]

The micro world and its models. Diffusion is left out: an edit is a copy of its photograph (a cell
is added to a copy of 04_edit that says so), for its time per image is known and constant; planning,
reading, verifying, writing and recording are the real ones. Prints a table of seconds and of the
peak of resident memory by stage, and how each grows from the smallest to the largest study: the
exponent of a power law, 1 for linear time, 0 for flat memory.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"train": 0.5, "val": 0.1, "test": 0.4}
CLASSES = 8
COPY = """from varireal_utils.editing import passes, pipeline
import numpy as np

def copied(pipes, batches, *_):  # no UNet
    return [[source.image for source in sources] for sources, _ in batches]

pipeline.edit_batches = copied
passes.make_priors = lambda pipes, texts, *_: [np.zeros((128, 128, 3), np.uint8)] * len(texts)"""
STAGES = [
    ("01_data", {}),
    ("02_attributes", {}),
    ("03_guidance", {}),
    ("04_edit", {"attribute": "color", "feasibility": "feasible"}),
    ("04_edit", {"attribute": "color", "feasibility": "infeasible"}),
    ("06_classify", {"seed": "0"}),
    ("07_claims", None),
]


def parameters(images: int, folder: Path) -> Path:
    """A parameter file for a study of about `images` photographs, its runs below `folder`."""
    each = {
        f"{split}_per_class": max(2, round(images * share / CLASSES))
        for split, share in SHARES.items()
    }
    path = folder / f"growth_{images}.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "include": str(ROOT / "params/micro.yaml"),
                "study": f"growth_{images}",
                "runs_dir": str(folder / "runs"),
                "job_threads": 2,
                "attributes": ["color"],
                "datasets": {"micro_cars": {"source": "world", "family": "cars", **each}},
                "edit": {"max_attempts": 1},
                "classify": {
                    "seeds": [0],
                    "steps": 20,
                    "eval_every": 20,
                    "recipes": ["real", "edit(color,feasible)", "edit(color,infeasible)"],
                },
            }
        )
    )
    return path


def stubbed(folder: Path) -> Path:
    """The notebooks, with copies in the place of diffusion."""
    out = folder / "notebooks"
    shutil.copytree(ROOT / "notebooks", out)
    path = out / "04_edit.ipynb"
    book = json.loads(path.read_text(encoding="utf-8"))
    first = next(
        i
        for i, c in enumerate(book["cells"])
        if "parameters" in c.get("metadata", {}).get("tags", [])
    )
    book["cells"].insert(
        first + 1,
        {
            "cell_type": "code",
            "id": "stub",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": COPY,
        },
    )
    path.write_text(json.dumps(book))
    return out


def measure(images: int, folder: Path) -> list[dict]:
    """One row a stage: images, stage, seconds, memory_mb."""
    file, books, rows = parameters(images, folder), stubbed(folder), []
    for stage, own in STAGES:
        words = [
            sys.executable,
            "-m",
            "varireal_utils",
            "run",
            stage,
            "--params",
            str(file),
            "--notebooks",
            str(books),
        ]
        for key, value in ({} if own is None else {"dataset": "micro_cars", **own}).items():
            words += ["--set", f"{key}={value}"]
        before = {p: p.stat().st_mtime_ns for p in folder.rglob("run.json")}
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        new = [p for p in folder.rglob("run.json") if before.get(p) != p.stat().st_mtime_ns]
        record = json.loads(new[0].read_text(encoding="utf-8"))
        rows.append(
            {
                "images": images,
                "stage": " ".join([stage, *(own or {}).values()]),
                "seconds": record["seconds"],
                "memory_mb": record["peak_memory_mb"],
            }
        )
        print(rows[-1], flush=True)
    shutil.rmtree(folder)
    return rows


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """By stage, from the smallest to the largest number of images: exponents of a power law."""
    low, high = table["images"].min(), table["images"].max()
    pick = {n: table[table["images"] == n].set_index("stage") for n in (low, high)}
    ratio = pick[high][["seconds", "memory_mb"]] / pick[low][["seconds", "memory_mb"]]
    return (ratio.map(math.log) / math.log(high / low)).round(2)


def main() -> None:
    """Measure every size and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for images in args.images:
        rows += measure(images, Path(tempfile.mkdtemp(prefix="growth-")))
    table = pd.DataFrame(rows)
    print(table.pivot(index="stage", columns="images", values=["seconds", "memory_mb"]))
    if len(args.images) > 1:
        print("\nexponents (seconds 1: linear; memory 0: flat)\n", growth(table), sep="")
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
