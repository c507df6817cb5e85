"""Waterbirds: 2 classes of birds cut out of CUB and set before land or water, `place` as a column.

root[/waterbird_complete95_forest2water2]/metadata.csv, <folder>/<file>
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .. import splits
from ..data_set import DataSet
from ..image_record import SPLITS, DatasetError, Entry, Skipped, read_lines
from ..official import Archive, Layout, demand
from .official_spec import OfficialSpec

FOLDER = "waterbird_complete95_forest2water2"
CODES = {"y": ("landbird", "waterbird"), "split": SPLITS, "place": ("land", "water")}


def _lists(name: str, spec: OfficialSpec, folder: Path, skipped: Skipped) -> Iterator[Entry]:
    """y: 0 landbird, 1 waterbird; split: 0 train, 1 val, 2 test; place: 0 land, 1 water."""
    path = folder / "metadata.csv"
    demand(name, spec.root, [path])
    table = read_lines(path, skipped)
    missing = [c for c in ("img_filename", *CODES) if c not in table]
    if missing:
        raise DatasetError(f"{path}: lacks the columns {missing}; it has {list(table)}")
    for row in table.to_dict("records"):
        bad = [c for c, names in CODES.items() if row[c] not in [str(i) for i in range(len(names))]]
        if bad:
            most = len(CODES[bad[0]]) - 1
            reason = f"{path.name}: {bad[0]} is {row[bad[0]]!r}, wanted 0 to {most}"
            skipped.append({"file": row["img_filename"], "reason": reason})
            continue
        bird, split, where = (names[int(row[c])] for c, names in CODES.items())
        file = row["img_filename"]
        yield Entry(file, folder / file, bird, split, extra=(("place", where),))


def _mirrored(entry: Entry, row: dict[str, str]) -> Entry:
    return replace(entry, extra=(("place", row["place"]),)) if row.get("place") else entry


LAYOUT = Layout(
    name="waterbirds",
    folder=FOLDER,
    lists=_lists,
    needed=lambda home, spec: [home / "metadata.csv"],
    key=splits.folder_and_stem,
    archives=(
        Archive(f"https://nlp.stanford.edu/data/dro/{FOLDER}.tar.gz", "", 0, FOLDER, inner=False),
    ),
    mirrors=("hf://grodino/waterbirds",),
    mirrored=_mirrored,
)
DATA_SET = DataSet(
    name="waterbirds",
    about="2 classes of birds before land or water, with `place` as a column",
    spec=OfficialSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    layout=LAYOUT,
    owner="Waterbirds, of CUB-200-2011 and Places",
    terms="research only, not commercial",
    classes=2,
    images=(4795, 1199, 5794),
    noun="bird",
)
