"""Chooses the pictures that the figures show, by a stated rule, from what a study stored.

The rule: for each data set the photographs in the order of a hash of their ids, of different
classes; what the verifier rejected is shown, and said to be rejected.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..core import storage
from ..core.seeds import seed_for
from ..workflow import overview
from . import result_blocks


def edits(study: Path) -> pd.DataFrame:
    """All edits of a study with their data set."""
    frames = [
        storage.read_table(p).assign(dataset=storage.unslug(p.parts[-4]))
        for p in sorted(study.glob("edits/*/*/*/edits.parquet"))
    ]
    if not frames:
        raise FileNotFoundError(f"no edits under {study}: run 04_edit first")
    return pd.concat(frames, ignore_index=True)


def grid_rows(study: Path, per_dataset: int = 4) -> list[dict]:
    """Rows for sheets.qualitative_grid."""
    table, rows = edits(study), []
    for dataset, here in table[table["k"] == 0].groupby("dataset"):
        source = storage.read_table(study / f"data/{storage.slug(dataset)}/images.parquet")
        source = source.set_index("image_id")
        complete = here.groupby("image_id").size().loc[lambda n: n == n.max()].index
        lot = source.loc[sorted(complete, key=lambda i: seed_for("gallery", i)), "class_name"]
        for image_id in lot.drop_duplicates().index[:per_dataset]:
            row: dict = {
                "name": here[here["image_id"] == image_id]["class_name"].iloc[0],
                "source": storage.read_image(study / source.loc[image_id, "path"]),
            }
            for e in here[here["image_id"] == image_id].itertuples():
                row.setdefault(e.attribute, {})[e.feasibility] = (
                    storage.read_image(study / e.path),
                    e.phrase if e.accepted else f"{e.phrase} (rejected)",
                )
            rows.append(row)
    return rows


def strips(study: Path) -> list[dict]:
    """Strips for sheets.pipeline_strip, both arms of every attribute: the steps that 04_edit kept
    of an arm's first edit. Attributes take turns with the data sets, each the next one's."""
    kept: dict[str, dict[str, list[Path]]] = {}  # attribute, data set: one strip an arm
    for about in sorted(study.glob("edits/*/*/*/strip/about.json")):
        dataset, attribute = about.parts[-5:-3]
        kept.setdefault(attribute, {}).setdefault(dataset, []).append(about)
    out = []
    for turn, attribute in enumerate(sorted(kept)):
        lots = list(kept[attribute].values())
        for about in lots[turn % len(lots)]:
            facts = storage.read_json(about)
            files = sorted(about.parent.glob("*.png"), key=lambda p: int(p.name.split("_")[0]))
            steps = {p.stem.split("_", 1)[1]: storage.read_image(p) for p in files}
            steps |= {n: steps[n][..., 0] for n in ("mask", "canny") if n in steps}
            out.append(
                {
                    "title": f"{facts['attribute']}, {facts['feasibility']}",
                    "phrase": facts["phrase"],
                    "steps": steps,
                }
            )
    return out


def gather(study: Path) -> Path:
    """Put what the figures need beside the tables: results/pictures and results/runs.csv.

    From then on results/ alone redraws every figure, without edits, models or data.
    """
    folder = study / "results"
    about: dict[str, list] = {"grid": [], "strips": []}
    for i, row in enumerate(grid_rows(study)):
        cells = {"source": _keep(folder, f"grid{i}_source", row["source"])}
        for attribute, arms in row.items():
            if attribute in ("name", "source"):
                continue
            for arm, (picture, phrase) in arms.items():
                name = _keep(folder, f"grid{i}_{attribute}_{arm}", picture)
                cells[f"{attribute} {arm}"] = [name, phrase]
        about["grid"].append({"name": row["name"], "cells": cells})
    for i, strip in enumerate(strips(study)):
        steps = {n: _keep(folder, f"strip{i}_{n}", p) for n, p in strip["steps"].items()}
        about["strips"].append(
            {"title": strip["title"], "phrase": strip["phrase"], "steps": list(steps.items())}
        )
    storage.write_json(folder / "pictures/index.json", about)
    storage.write_table(folder / "runs.csv", overview.runs(study))
    return folder


def _keep(folder: Path, name: str, picture: np.ndarray) -> str:
    storage.write_image(folder / "pictures" / f"{name}.png", picture)
    return f"{name}.png"


def gathered(folder: Path) -> tuple[list[dict], list[dict]]:
    """Rows for sheets.qualitative_grid and strips for sheets.pipeline_strip, from results/."""
    about = storage.read_json(folder / "pictures/index.json")

    def read(name: str) -> np.ndarray:
        picture = storage.read_image(folder / "pictures" / name)
        return picture[..., 0] if name.endswith(("_mask.png", "_canny.png")) else picture

    rows = []
    for entry in about["grid"]:
        row: dict = {"name": entry["name"], "source": read(entry["cells"].pop("source"))}
        for key, (name, phrase) in entry["cells"].items():
            attribute, arm = key.rsplit(" ", 1)
            row.setdefault(attribute, {})[arm] = (read(name), phrase)
        rows.append(row)
    return rows, [{**s, "steps": {n: read(p) for n, p in s["steps"]}} for s in about["strips"]]


def executed(study: Path) -> list[Path]:
    """The executed notebooks that are published, with their sums: 07_claims, and, of the study
    that the README shows, of every other stage one that worked on the first data set, of edits the
    infeasible arms."""
    first = min((p.name for p in study.glob("data/*")), default="")
    found, stages = [], set()
    for path in sorted((study / "notebooks").glob("[0-9]*.ipynb")):
        stage, _, rest = path.stem.partition("-")
        own = stage == "07_claims" or (
            study.name == result_blocks.SHOWN and (rest == first or rest.startswith(f"{first}-"))
        )
        if (
            path.name.endswith(".failed.ipynb")
            or not own
            or rest.endswith("-feasible")
            or (stage in stages and stage != "04_edit")
        ):
            continue
        stages.add(stage)
        found += [p for p in (path, path.with_suffix(".sha256")) if p.is_file()]
    return found


def publish(study: Path, folder: Path, figures: list[Path]) -> list[Path]:
    """Copy tables, pictures and some executed notebooks to results/<study>/, where nothing of an
    earlier publication stays; and the figures of the study that the README shows to figures/."""
    out = [(p, Path("figures") / p.name) for p in figures if study.name == result_blocks.SHOWN]
    if folder == study / "results":
        home = Path("results") / study.name
        out += [
            (p, home / p.relative_to(folder))
            for p in sorted(folder.rglob("*"))
            if p.suffix in (".csv", ".md", ".tex", ".json", ".png", ".parquet")
        ]
        out += [(p, home / "notebooks" / p.name) for p in executed(study)]
        kept = {target for _, target in out}
        for old in home.rglob("*"):
            if old.is_file() and old not in kept:
                old.unlink()
    for source, target in out:
        storage.write_bytes(target, source.read_bytes())
    return [target for _, target in out]
