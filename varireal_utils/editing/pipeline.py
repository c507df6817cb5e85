"""VariReal's minimal edit of a photograph: prior, inpainting, refinement, composition.

symbols   image, prior, inpainted, refined, result  (H, W, 3) uint8 RGB
          editable   (H, W) uint8 0 | 255, what may change: all but the object for a background,
                     the paintable surface (else the whole object) for colour and texture
          k          which of a photograph's `images_per_real` edits
          attempt    0, 1, ...; a rejected edit is made again from other noise

Invariants (tests/unit/test_edit.py): outside `editable` the result equals the source byte for byte;
the feasible and the infeasible edit of a photograph share their noise: arms are paired
(docs/differences.md). roles.py holds the pipelines, passes.py calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..core import arms, oom_retry, storage
from ..core.config_editing import AttributeEdit
from ..core.seeds import seed_for
from ..prompts import phrase_bank
from ..prompts.phrase_bank import Bank
from . import canvas, compositing, editors, priors
from .passes import Priors, blend, inpaint, refine
from .roles import Pipes, generators
from .slices import EditStage
from .sources import Source, placed


def plan(images: pd.DataFrame, bank: Bank, settings: EditStage) -> pd.DataFrame:
    """One row per edit to make: edit_id, image_id, k, phrase, prompt, seed, label, class_name."""
    attribute, feasibility = settings.attribute, settings.feasibility
    rows, kind = [], editors.prompt_kind(settings.edit.editor)
    facts, arm = editors.facts(settings.edit.editor, images), arms.value(feasibility)
    for image in images.itertuples():
        name, image_id = str(image.class_name), str(image.image_id)
        own = phrase_bank.own_phrase(bank, attribute, name, getattr(image, attribute, None))
        count, seed = settings.edit.images_per_real, settings.seed
        drawn = phrase_bank.draw(bank, attribute, arm, name, image_id, count, seed, own)
        for k, phrase in enumerate(drawn):
            rows.append(
                {
                    "edit_id": f"{image_id}-{attribute}-{feasibility}-{k}",
                    "image_id": image_id,
                    "k": k,
                    "label": image.label,
                    "class_name": name,
                    "attribute": attribute,
                    "feasibility": feasibility,
                    "phrase": phrase,
                    "prompt": phrase_bank.edit_prompt(bank, attribute, phrase, name, kind),
                    "seed": seed_for(seed, image_id, attribute, k),
                    **({"facts": _facts(image, facts)} if facts else {}),
                }
            )
    return pd.DataFrame(rows)


def _facts(image: Any, names: tuple[str, ...]) -> str:
    """Columns of a photograph's row, as text."""
    return storage.to_json({name: getattr(image, name) for name in names})


def paint(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    attempt: int,
) -> dict[str, list[np.ndarray]]:
    """Every stage of a batch of edits of one attribute and arm, in the sources' own sizes:
    "prior", "inpainted", perhaps "refined", and "result", composed onto the sources. Raises
    ValueError for sizes that make no batch."""
    stages = first_stage(pipes, sources, rows, prior_of, bank, settings, attempt)
    if pipes.refined:
        painted = stages["inpainted"]
        stages["refined"] = second_stage(pipes, sources, rows, painted, settings, attempt)
    boxes = [box for _, box in _placed(sources, settings)]
    last = list(stages.values())[-1]
    own = {
        name: [p if box is None else canvas.take_back(p, box) for p, box in zip(pictures, boxes)]
        for name, pictures in stages.items()
    }
    return own | {"result": [_composed(s, p, settings) for s, p in zip(sources, last)]}


def first_stage(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    attempt: int,
) -> dict[str, list[np.ndarray]]:
    """Prior and inpainting of a batch, or another editor's edits, on the canvas: "prior" and
    "inpainted", or "edited". Raises ValueError for sizes that make no batch."""
    own, inside = settings.own, [s for s, _ in _placed(sources, settings)]
    sizes = sorted({s.image.shape[:2] for s in inside})
    if len(sizes) > 1 and not settings.edit.canvas:
        raise ValueError(
            f"photographs of different sizes {sizes} in one batch: set edit.canvas to "
            "the pixels of a square to edit on"
        )
    editor = settings.edit.editor

    def edited(at: list[int]) -> list[np.ndarray]:
        noise = generators([rows[i]["seed"] for i in at], "other", attempt)
        pictures, asked = [inside[i].image for i in at], [rows[i] for i in at]
        other = editors.EDITORS[editor]
        if not other.role:
            return other.made(None, pictures, asked, noise, own)
        with pipes.autocast(pipes.other):
            return other.made(pipes.other, pictures, asked, noise, own)

    if editor in editors.EDITORS:
        return {"edited": _by_size(inside, edited)}
    starts = [blend(s, r, prior_of, bank, settings, attempt) for s, r in zip(inside, rows)]
    masks = [priors.rounded_mask(s.editable, own.mask_blur) for s in inside]
    texts, seeds = _texts(rows, own), [r["seed"] for r in rows]

    def painted(at: list[int]) -> list[np.ndarray]:
        parts = ([of[i] for i in at] for of in (starts, masks, texts, seeds))
        return inpaint(pipes, *parts, own, attempt)

    return {"prior": starts, "inpainted": _by_size(inside, painted)}


def second_stage(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    painted: list[np.ndarray],
    settings: EditStage,
    attempt: int,
) -> list[np.ndarray]:
    """Refinement of what the first stage painted, on the canvas."""
    inside = [s for s, _ in _placed(sources, settings)]
    texts, seeds = _texts(rows, settings.own), [r["seed"] for r in rows]

    def refined(at: list[int]) -> list[np.ndarray]:
        parts = ([of[i] for i in at] for of in (painted, inside, texts, seeds))
        return refine(pipes, *parts, settings.own, attempt)

    return _by_size(inside, refined)


def _by_size(
    inside: list[Source], made: Callable[[list[int]], list[np.ndarray]]
) -> list[np.ndarray]:
    """Pictures of a batch, made for canvases of one size at a time, in the batch's order."""
    shapes = [s.image.shape[:2] for s in inside]
    found: dict[int, np.ndarray] = {}
    for shape in dict.fromkeys(shapes):
        at = [i for i, other in enumerate(shapes) if other == shape]
        found |= dict(zip(at, made(at)))
    return [found[i] for i in range(len(inside))]


def _texts(rows: list[dict], own: AttributeEdit) -> list:
    return [phrase_bank.weighted(r["prompt"], r["phrase"], own.prompt_weight) for r in rows]


def _placed(sources: list[Source], settings: EditStage) -> list[tuple[Source, canvas.Box | None]]:
    return [placed(s, settings.edit, settings.attribute) for s in sources]


def trace_edit(
    pipes: Pipes, source: Source, row: dict, prior_of: Priors, bank: Bank, settings: EditStage
) -> dict[str, np.ndarray]:
    """Every step of one edit, for the pipeline figure: name -> (H, W, 3) or (H, W) uint8."""
    stages = paint(pipes, [source], [row], prior_of, bank, settings, 0)
    _, box = placed(source, settings.edit, settings.attribute)
    lines = source.lines if box is None else canvas.lines_back(source.lines, box)
    steps = {"source": source.image, "mask": source.mask, "canny": lines}
    return steps | {name: pictures[0] for name, pictures in stages.items()}


def _composed(source: Source, painted: np.ndarray, settings: EditStage) -> np.ndarray:
    """A canvas that was painted, in the photograph's size, laid into the photograph where it may
    change; all of it under `edit.compose: false`."""
    inside, box = placed(source, settings.edit, settings.attribute)
    if box is None:
        whole, compose_here = painted, settings.edit.compose
    elif settings.edit.compose and settings.edit.compose_on == "canvas":
        laid = compositing.compose(inside.image, painted, inside.editable)
        whole, compose_here = canvas.take_back(laid, box), False
    else:
        whole, compose_here = canvas.take_back(painted, box), settings.edit.compose
    if not compose_here:
        return whole
    return compositing.compose(source.image, whole, source.editable)


def edit_batches(
    pipes: Pipes,
    batches: Sequence[tuple[list[Source], list[dict]]],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    attempt: int,
) -> list[list[np.ndarray]]:
    """Edit batches of one attribute and arm once, composed onto the sources: the first stage of
    all of them, then the second, so that each pipeline is loaded once."""

    def first(sources: list[Source], rows: list[dict]) -> list[np.ndarray]:
        stages = first_stage(pipes, sources, rows, prior_of, bank, settings, attempt)
        return list(stages.values())[-1]

    painted = [
        oom_retry.retry_in_halves(first, sources, rows, fit=pipes.fit("first"))
        for sources, rows in batches
    ]
    if pipes.refined:
        second = partial(second_stage, pipes, settings=settings, attempt=attempt)
        painted = [
            oom_retry.retry_in_halves(second, sources, rows, pictures, fit=pipes.fit("second"))
            for (sources, rows), pictures in zip(batches, painted)
        ]
    return [
        [_composed(s, p, settings) for s, p in zip(sources, pictures)]
        for (sources, _), pictures in zip(batches, painted)
    ]


def edit_batch(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    prior_of: Priors,
    bank: Bank,
    settings: EditStage,
    attempt: int,
) -> list[np.ndarray]:
    """Edit a batch of one attribute and arm once, composed onto the sources."""
    return edit_batches(pipes, [(sources, rows)], prior_of, bank, settings, attempt)[0]
