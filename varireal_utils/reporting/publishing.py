"""Selects the pictures that the figures show, by a stated rule, and publishes a study's results.

The rule: for each data set the photographs in the order of a hash of their ids, of different
classes; edits that the verifier rejected are shown and marked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis import effects, inference
from ..core import arms, shown, storage, walk
from ..core.seeds import seed_for
from ..core.study_paths import StudyPaths
from . import marks
from .stage import FiguresStage

GENERATED = ("photographs", "before", "after")  # of a row of the grid of generated pictures
FACTS = ("dataset", "name", "source")  # of a row of the grid; its other keys are attributes


def edits(paths: StudyPaths) -> pd.DataFrame:
    """All edits of a study with their data set. Raises FileNotFoundError where there are none."""
    frames = [
        storage.read_table(p).assign(dataset=paths.dataset_of(p)) for p in paths.edits_tables()
    ]
    if not frames:
        raise FileNotFoundError(f"no edits under {paths.root}: run 04_edit first")
    return pd.concat(frames, ignore_index=True)


def shown_paths(paths: StudyPaths) -> StudyPaths:
    """Where the pictures that figures show lie: the study's folder, or its first replicate's."""
    first = paths.replicate(0)
    return first if first.root.is_dir() else paths


def grid_rows(paths: StudyPaths, settings: FiguresStage, per_dataset: int = 4) -> list[dict]:
    """Rows for image_grids.qualitative_grid, each with its data set."""
    if not settings.attributes:
        return []
    paths = shown_paths(paths)
    table, rows = marks.paper_arms(edits(paths), "feasibility"), []
    named = table["dataset"].isin(settings.datasets) & table["attribute"].isin(settings.attributes)
    table = table[named]
    for dataset, here in table[table["k"] == 0].groupby("dataset"):
        source = storage.read_table(paths.images_table(str(dataset))).set_index("image_id")
        complete = here.groupby("image_id").size().loc[lambda n: n == n.max()].index
        order = sorted(complete, key=lambda i: seed_for("gallery", i))
        for image_id in source.loc[order, "class_name"].drop_duplicates().index[:per_dataset]:
            own = here[here["image_id"] == image_id]
            row: dict = {
                "dataset": dataset,
                "name": own["class_name"].iloc[0],
                "source": storage.read_image(paths.root / source.loc[image_id, "path"]),
            }
            for e in own.itertuples():
                row.setdefault(e.attribute, {})[e.feasibility] = (
                    storage.read_image(paths.root / e.path),
                    e.phrase if e.accepted else f"{e.phrase} (rejected)",
                )
            rows.append(row)
    return rows


def generated_rows(
    paths: StudyPaths, settings: FiguresStage, classes: int = 3, each: int = 2
) -> list[dict]:
    """Rows for image_grids.generated_grid: of some classes of each data set, in the order of a hash
    of their names, shots beside what DataDream's model draws before and after adaptation."""
    paths, rows = shown_paths(paths), []
    for table in paths.samples_tables():
        dataset, folder = paths.dataset_of(table), table.parent
        if dataset not in settings.datasets or not (folder / "unadapted").is_dir():
            continue
        drawn, shots = storage.read_table(table), storage.read_table(folder / "few_shot.csv")
        places = storage.read_table(paths.images_table(dataset)).set_index("image_id")["path"]
        names = sorted(drawn["class_name"].unique(), key=lambda n: seed_for("gallery", n))
        for name in names[:classes]:
            own = drawn[(drawn["class_name"] == name) & (drawn["k"] < each)]
            seen = places[shots.loc[shots["class_name"] == name, "image_id"].head(each)]
            before = [folder / "unadapted" / Path(p).name for p in own["path"]]
            files = dict(
                zip(
                    GENERATED,
                    ([paths.root / p for p in seen], before, [paths.root / p for p in own["path"]]),
                    strict=True,
                )
            )
            read = {kind: [storage.read_image(p) for p in found] for kind, found in files.items()}
            rows.append({"dataset": dataset, "name": str(name), **read})
    return rows


def strips(paths: StudyPaths, settings: FiguresStage) -> list[dict]:
    """Strips for image_grids.pipeline_strip, both arms of every attribute: the steps that 04_edit
    kept of an arm's first edit. The n-th attribute is shown on the n-th data set."""
    paths = shown_paths(paths)
    kept: dict[str, dict[str, list[Path]]] = {}  # attribute, data set: one strip an arm
    for about in paths.traces():
        dataset, (attribute, arm) = (
            paths.dataset_of(about),
            about.relative_to(paths.root).parts[2:4],
        )
        asked = dataset in settings.datasets and attribute in settings.attributes
        if asked and arm in (*arms.SIDES, arms.THREE[0]):
            kept.setdefault(attribute, {}).setdefault(dataset, []).append(about)
    out = []
    for turn, attribute in enumerate(sorted(kept)):
        by_dataset = list(kept[attribute].values())
        for about in by_dataset[turn % len(by_dataset)]:
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


def results_folder(paths: StudyPaths, settings: FiguresStage, runs: pd.DataFrame) -> Path:
    """The folder that figures are drawn from: `source`, or the study's results, gathered now."""
    return Path(settings.source) if settings.source else gather(paths, settings, runs)


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Name -> table of every CSV in a folder of results."""
    return {p.stem: storage.read_table(p) for p in sorted(folder.glob("*.csv"))}


def beside(
    tables: dict[str, pd.DataFrame], settings: FiguresStage
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """(effects of each seed, effects of the published study) for a study of fewer units than an
    interval needs, those of attribute "all" left out; None for a larger one, and where they have no
    cell in common."""
    effect, file = tables["effects"], Path(settings.published)
    if effect.empty or effect["units"].max() >= inference.LEAST or not file.is_file():
        return None
    units, published = effects.by_unit(tables["seeds"]), storage.read_table(file)
    units = units[units["attribute"] != "all"]
    keys = ["dataset", "attribute", "training"]
    return (units, published) if len(units.merge(published, on=keys)) else None


def run_names(runs: pd.DataFrame) -> list[str]:
    """Stage and target of every run, for the .json of a figure; runs of several replicates share
    a name, "06_classify micro_cars 0 (27 replicates)". runs: of runs.csv."""
    names = runs["stage"] + " " + runs["what"].fillna("")
    of = runs["replicate"].notna() if "replicate" in runs else pd.Series(False, index=runs.index)
    many = names[of].value_counts(sort=False)
    return [*names[~of], *(f"{name} ({count} replicates)" for name, count in many.items())]


def gather(paths: StudyPaths, settings: FiguresStage, runs: pd.DataFrame) -> Path:
    """Write what the figures need beside the tables: results/pictures and results/runs.csv.

    runs: of overview.runs. Returns the folder of the results.

    From then on results/ alone redraws every figure, without edits, models or data.
    """
    about: dict[str, list] = {"grid": [], "strips": [], "generated": []}
    for i, row in enumerate(grid_rows(paths, settings)):
        cells: dict[str, str | list[str]] = {
            "source": _keep(paths, f"grid{i}_source", row["source"])
        }
        for attribute, sides in row.items():
            if attribute in FACTS:
                continue
            for arm, (picture, phrase) in sides.items():
                name = _keep(paths, f"grid{i}_{attribute}_{arm}", picture)
                cells[f"{attribute} {arm}"] = [name, phrase]
        about["grid"].append({"dataset": row["dataset"], "name": row["name"], "cells": cells})
    for i, strip in enumerate(strips(paths, settings)):
        steps = {n: _keep(paths, f"strip{i}_{n}", p) for n, p in strip["steps"].items()}
        about["strips"].append(
            {"title": strip["title"], "phrase": strip["phrase"], "steps": list(steps.items())}
        )
    for i, row in enumerate(generated_rows(paths, settings)):
        cells = {
            kind: [_keep(paths, f"generated{i}_{kind}{n}", p) for n, p in enumerate(row[kind])]
            for kind in GENERATED
        }
        about["generated"].append({"dataset": row["dataset"], "name": row["name"], **cells})
    storage.write_json(paths.pictures / "index.json", about)
    storage.write_table(paths.results / "runs.csv", runs)
    return paths.results


def gathered_files(paths: StudyPaths, settings: FiguresStage) -> list[Path]:
    """What `gather` wrote; nothing where the figures are drawn from `source`."""
    if settings.source:
        return []
    index = paths.pictures / "index.json"
    about, names = storage.read_json(index), []
    for entry in about["grid"]:
        cells = entry["cells"].values()
        names += [cell if isinstance(cell, str) else cell[0] for cell in cells]
    names += [name for strip in about["strips"] for _, name in strip["steps"]]
    names += [n for row in about.get("generated", []) for kind in GENERATED for n in row[kind]]
    return [paths.results / "runs.csv", index, *(paths.pictures / n for n in names)]


def _keep(paths: StudyPaths, name: str, picture: np.ndarray) -> str:
    storage.write_image(paths.pictures / f"{name}.png", picture)
    return f"{name}.png"


def gathered(folder: Path) -> tuple[list[dict], list[dict]]:
    """Rows of the qualitative grid and strips of the pipeline, from a folder of `gather`."""
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


def generated(folder: Path) -> list[dict]:
    """Rows of the grid of generated pictures, from a folder of `gather`; none of an older one."""
    rows = storage.read_json(folder / "pictures/index.json").get("generated", [])
    place = folder / "pictures"
    return [
        row | {k: [storage.read_image(place / n) for n in row[k]] for k in GENERATED}
        for row in rows
    ]


def executed(paths: StudyPaths) -> list[Path]:
    """The executed notebooks that are published, with their digests: 07_claims, and, of the study
    that the README shows, of every other stage one that worked on the first data set, of edits the
    infeasible arms."""
    drawn = shown_paths(paths)
    first = min((p.parent.name for p in drawn.images_tables()), default="")
    of_pages = paths.root.name in shown.names()
    found, stages = [], set()
    books = {p for place in (paths, drawn) for p in place.notebooks.glob("[0-9]*.ipynb")}
    for path in sorted(books):
        stage, _, rest = path.stem.partition("-")
        wanted = stage == "07_claims" or (
            of_pages and (rest == first or rest.startswith(f"{first}-"))
        )
        if (
            path.name.endswith(".failed.ipynb")
            or not wanted
            or (stage == "04_edit" and not rest.endswith("-infeasible"))
            or (stage in stages and stage != "04_edit")
        ):
            continue
        stages.add(stage)
        found += [p for p in (path, path.with_suffix(".sha256")) if p.is_file()]
    return found


def _only(folder: Path, kept: set[Path]) -> None:
    """Remove the other files of a folder."""
    for old in folder.rglob("*"):
        if old.is_file() and old not in kept:
            old.unlink()


def publish(paths: StudyPaths, folder: Path, figures: list[Path]) -> list[Path]:
    """Copy tables, pictures and some executed notebooks to results/<study>/, and the figures of the
    study that the README shows to figures/, of a further one to figures/<study>/; nothing of an
    earlier publication stays in either."""
    study, further = paths.root.name, shown.names()[1:]
    home = Path("figures") / study if study in further else Path("figures")
    out = [(p, home / p.name) for p in figures if study in shown.names()]
    if out:
        beside = {p for name in further for p in (home / name).rglob("*")}
        _only(home, {place for _, place in out} | beside)
    if folder == paths.results:
        target = Path("results") / study
        out += [
            (p, target / p.relative_to(folder))
            for p in walk.files(folder)
            if p.suffix in (".csv", ".md", ".tex", ".json", ".png", ".parquet")
        ]
        out += [(p, target / "notebooks" / p.name) for p in executed(paths)]
        _only(target, {place for _, place in out})
    for source, place in out:
        storage.write_bytes(place, source.read_bytes())
    return [place for _, place in out]
