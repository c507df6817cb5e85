"""Renderings for training, drawn once into flat files that are mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from varireal_utils.core.cores import cores

from .. import render
from ..feasibility import COLORS, FAMILIES, SCENES, SIZE, TEXTURES, values

ATTRIBUTES = {
    "family": list(FAMILIES),
    "background": list(SCENES),
    "texture": list(TEXTURES),
    "color": list(COLORS),
    "class_name": [n for f in FAMILIES for n in render.class_names(f)],
}
_CHUNK = 250


_FEASIBLE = 13  # the stream of `feasible`, apart from those of render.py and feasibility.py


def feasible(index: int, stream: int = 0) -> render.Picture:
    """The index-th picture of a distribution as the data sets have it: a class of a family, and
    each attribute one of the six values that are feasible for it, all uniform.

    Trains the text-to-image model that DataDream adapts. No study's photograph is among them.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_FEASIBLE, stream, index])))
    family = str(rng.choice(FAMILIES))
    name = str(rng.choice(render.class_names(family)))
    shown = {a: str(rng.choice(values(family, a)[0])) for a in ("color", "texture", "background")}
    return render.render(render.Spec(family, name, **shown, seed=int(rng.integers(2**62))))


DRAWERS = {"wide": render.wide, "web": render.web, "feasible": feasible}


def _draw(job: tuple[int, int, str]) -> tuple[int, np.ndarray, list[dict]]:
    start, stream, distribution = job
    pixels, specs = np.empty((_CHUNK, SIZE, SIZE, 4), np.uint8), []
    for i in range(_CHUNK):
        picture = DRAWERS[distribution](start + i, stream)
        pixels[i, ..., :3] = picture.image
        pixels[i, ..., 3] = (picture.mask > 0) * np.uint8(1) + (picture.paint > 0) * np.uint8(2)
        specs.append(asdict(picture.spec))
    return start, pixels, specs


def on_all_cores(draw: Callable, jobs: Iterable[Any], what: str, chunk: int = 1) -> Iterable[Any]:
    """draw(job) of each job in its order, by all cores; both must be picklable."""
    jobs = list(jobs)
    with ProcessPoolExecutor(cores()) as pool:
        yield from tqdm(
            pool.map(draw, jobs, chunksize=chunk), total=len(jobs), desc=what, mininterval=2
        )


def renderings(
    count: int,
    folder: Path,
    stream: int = 0,
    distribution: str = "wide",
) -> tuple[np.ndarray, list[render.Spec]]:
    """`count` pictures of a distribution; drawn on first use, then read from `folder`.

    distribution: wide, where anything meets anything, web, mostly feasible (render.py), or
    feasible, as the data sets are. Returns pixels (count, 128, 128, 4) uint8 - RGB and bits 1 =
    object, 2 = paintable - and specs.
    """
    count = -(-count // _CHUNK) * _CHUNK
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{distribution}{stream}_{count}"
    data, index = folder / f"{name}.npy", folder / f"{name}.json"
    if not index.exists():
        pixels = np.lib.format.open_memmap(data, "w+", np.uint8, (count, SIZE, SIZE, 4))
        specs: dict[int, list[dict]] = {}
        jobs = [(start, stream, distribution) for start in range(0, count, _CHUNK)]
        for start, chunk, rows in on_all_cores(_draw, jobs, "drawing"):
            pixels[start : start + _CHUNK], specs[start] = chunk, rows
        pixels.flush()
        index.write_text(json.dumps([row for start in sorted(specs) for row in specs[start]]))
    rows = json.loads(index.read_text(encoding="utf-8"))
    return np.load(data, mmap_mode="r"), [render.Spec(**row) for row in rows]


def labels(specs: list[render.Spec]) -> dict[str, np.ndarray]:
    """Attribute -> (N,) int64 index into ATTRIBUTES[attribute]."""
    return {
        key: np.array([names.index(getattr(s, key)) for s in specs])
        for key, names in ATTRIBUTES.items()
    }
