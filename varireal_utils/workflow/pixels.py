"""Where a study's decoded pictures would be held, said before it runs (training/pixel_maps.py)."""

from __future__ import annotations

from ..core.config import StudyConfig
from ..data import registry
from ..training.pixel_maps import place
from .cost import Job, sizes
from .summary import columns

SIDE, SHAPE = 448, 1.35  # shorter side of a decoded picture; the longer one beside it, about
WORDS = {
    "memory": "memory of each training",
    "disk": "{folder}, shared by all trainings",
    "files": "NOWHERE: no room, so each is decoded at every use, which a GPU waits for",
}
MADE = ("04_edit", "05_datadream")


def lines(config: StudyConfig, todo: list[Job]) -> list[str]:
    """A row for each data set: pictures that trainings read, GB once decoded, where they go."""
    folder = config.paths.pixel_maps
    rows = [["data set", "pictures", "GB decoded", "held in"]]
    for dataset in config.datasets:
        known = sizes(config, dataset)[0]
        made = [j.images for j in todo if j.stage in MADE and dataset in j.what.split()]
        if known is None or None in made:
            rows.append([dataset, "?", "?", "?"])
            continue
        count = known["train"] + sum(n or 0 for n in made)
        of_one = min(registry.of_study(config, dataset).pixels(), SHAPE * SIDE**2)
        need = 3.0 * of_one * count
        where = WORDS[place(need, folder)].format(folder=folder)
        rows.append([dataset, f"{count:,}", f"{need / 1e9:,.1f}", where])
    return ["decoded pictures (once each; shorter side at most 448):", *columns(rows, 64), ""]
