"""VariReal's minimal edit of a photograph: prior, inpainting, refinement, composition, check.

symbols   image, prior, inpainted, refined, result  (H, W, 3) uint8 RGB
          editable   (H, W) uint8 0 | 255, what may change: all but the object for a background,
                     the paintable surface (else the whole object) for colour and texture
          k          which of a photograph's `images_per_real` edits
          attempt    0, 1, ...; a rejected edit is made again from other noise

Invariants (tests/unit/test_edit.py): outside `editable` the result equals the source byte for byte;
the noise of an edit depends on (study seed, image id, attribute, k, attempt) alone, so batch size,
order and resuming change no image, and the feasible and the infeasible edit of a photograph share
their noise: arms are paired (docs/differences.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..core import arms, oom_retry, storage
from ..core.attributes import ATTRIBUTES
from ..core.config_editing import AttributeEdit
from ..core.seeds import numpy_rng, seed_for
from ..models import loaders, precision
from ..models.pictures import checked_pictures
from ..models.residence import Residence
from ..prompts import phrase_bank
from ..prompts.phrase_bank import Bank
from . import canvas, compositing, conditioning, editors, priors
from .slices import EditStage
from .sources import Source, placed

Priors = dict[tuple[str, int], np.ndarray]  # (phrase, variant) -> (H, W, 3) uint8
GREY = 100  # behind the object that an IP-Adapter sees


@dataclass(frozen=True)
class Pipes:
    """The pipelines of an attribute's edits, loaded when they are asked for, and what they compute
    with.

    roles: inpaint, prior, refine, or other: the pipeline of another editor (editors.py); drawn,
    refined: whether there is a prior to draw, a second stage; looks: whether that has an
    IP-Adapter; residence: holds the models; states: encoded prompts on the CPU, role -> text ->
    embeddings; fits: batch sizes that fitted into memory, by stage.
    """

    device: torch.device
    dtype: torch.dtype
    residence: Residence
    drawn: bool = False
    refined: bool = False
    looks: bool = False
    states: dict[str, dict] = field(default_factory=dict)
    fits: dict[str, oom_retry.Fit] = field(default_factory=dict)

    @property
    def inpaint(self) -> Any:
        """The inpainting pipeline."""
        return self.residence.get("inpaint")

    @property
    def prior(self) -> Any:
        """The pipeline that draws backgrounds and surfaces."""
        return self.residence.get("prior")

    @property
    def refine(self) -> Any:
        """The pipeline of the second stage."""
        return self.residence.get("refine")

    @property
    def other(self) -> Any:
        """The pipeline of another editor."""
        return self.residence.get("other")

    def fit(self, stage: str) -> oom_retry.Fit:
        """The batch size of a stage that fits into memory."""
        return self.fits.setdefault(stage, oom_retry.Fit())

    def autocast(self, pipe: Any) -> AbstractContextManager:
        """What one of the pipelines runs under (models/precision.py)."""
        return precision.pipeline_autocast(pipe, self.device, self.dtype)


def load(
    settings: EditStage,
    device: torch.device,
    dtype: torch.dtype,
    residence: Residence | None = None,
) -> Pipes:
    """What an attribute needs; nothing is loaded yet. Background edits have no refinement (paper,
    method figure). residence: of a caller who has other models too."""
    models, editor, home = settings.models, settings.edit.editor, residence or Residence()
    if editor in editors.EDITORS:
        home.add("other", lambda: editors.EDITORS[editor].load(models, device))
        return Pipes(device, dtype, home)
    own_base, from_noise = models.refine is not None, settings.own.refine_from == "noise"
    home.add("inpaint", lambda: loaders.load_pipeline(models, "inpaint", device), "paint")
    home.add("prior", lambda: loaders.load_pipeline(models, "prior", device))

    def refiner() -> Any:
        base = None if own_base else home.get("inpaint")
        return loaders.load_refiner(models, base, device, from_noise)

    home.add("refine", refiner, "" if own_base else "paint")
    drawn = ATTRIBUTES[settings.attribute].generates_prior
    refined = settings.own.refine_steps > 0
    return Pipes(device, dtype, home, drawn, refined, looks=models.ip_adapter is not None)


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


def generators(seeds: list[int], stage: str, attempt: int) -> list[torch.Generator]:
    """One CPU generator per image, so that its noise does not know its neighbours."""
    return [torch.Generator("cpu").manual_seed(seed_for(s, stage, attempt)) for s in seeds]


def encode(
    pipes: Pipes,
    role: str,
    texts: Sequence[str | conditioning.Fragments],
    negative: str = "",
) -> dict[str, torch.Tensor]:
    """The arguments of a role's pipeline for prompts; each text is encoded once. negative: what
    guidance leads away from, "" for nothing in particular."""
    known, away = pipes.states.setdefault(role, {}), negative or None
    for text in dict.fromkeys((away, *texts)):
        if text not in known:
            pipe = pipes.residence.get(role)
            empty = text is None
            new = conditioning.unconditional(pipe) if empty else conditioning.encode(pipe, text)
            known[text] = {name: value.cpu() for name, value in new.items()}
    found = conditioning.arguments([known[t] for t in texts], known[away])
    return {name: value.to(pipes.device) for name, value in found.items()}


@torch.no_grad()
def make_priors(
    pipes: Pipes, texts: list, seeds: list[int], settings: EditStage, size: int
) -> list[np.ndarray]:
    """Draw backgrounds or surfaces from text alone, (size, size, 3) uint8 each."""
    own = settings.own

    def make(texts: list, seeds: list[int]) -> list[np.ndarray]:
        with pipes.autocast(pipes.prior):
            made = pipes.prior(
                **encode(pipes, "prior", texts, own.prior_negative),
                height=size,
                width=size,
                num_inference_steps=own.prior_steps,
                guidance_scale=own.prior_guidance_scale,
                generator=generators(seeds, "prior", 0),
                output_type="np",
            )
        return checked_pictures(made, pipes.prior)

    out: list[np.ndarray] = []
    step = settings.edit.batch_size
    for i in range(0, len(texts), step):
        out += oom_retry.retry_in_halves(
            make, texts[i : i + step], seeds[i : i + step], fit=pipes.fit("prior")
        )
    return out


def prior_bank(
    pipes: Pipes, bank: Bank, phrases: list[str], settings: EditStage, size: int
) -> Priors:
    """Draw the background or surface of each (phrase, variant) once, for all photographs."""
    if not pipes.drawn:
        return {}
    attribute, edit = settings.attribute, settings.edit
    keys = [(p, v) for p in sorted(set(phrases)) for v in range(edit.prior_variants)]
    weight = settings.own.prior_prompt_weight
    texts = [
        phrase_bank.weighted(phrase_bank.prior_prompt(bank, attribute, p), p, weight)
        for p, _ in keys
    ]
    seeds = [seed_for(settings.seed, "prior", attribute, p, v) for p, v in keys]
    size = settings.own.prior_size or edit.canvas or size
    return dict(zip(keys, make_priors(pipes, texts, seeds, settings, size)))


def blend(
    source: Source, row: dict, prior_of: Priors, bank: Bank, settings: EditStage, attempt: int = 0
) -> np.ndarray:
    """The picture that inpainting starts from, (H, W, 3) uint8. row: of the plan. Raises ValueError
    where a drawn prior is needed and not given."""
    own, kind, phrase = settings.own, ATTRIBUTES[settings.attribute].prior, row["phrase"]
    if kind == "flat":
        rgb = phrase_bank.rgb(bank, phrase)
        return priors.color_prior(source.image, source.editable, rgb, own.alpha)
    prior = prior_of.get((phrase, (row["seed"] + attempt) % settings.edit.prior_variants))
    if prior is None:
        raise ValueError(f"no prior was drawn for {settings.attribute} {phrase!r}")
    if kind == "scene":
        shape = own.dilate_shape
        return priors.background_prior(source.image, source.mask, prior, own.dilate, shape)[0]
    rng = numpy_rng(row["seed"], "crop", attempt)
    drawn = priors.surface(prior, source.image, source.editable, own, rng)
    return priors.texture_prior(source.image, source.editable, drawn, own.alpha)


@torch.no_grad()
def inpaint(
    pipes: Pipes,
    starts: list[np.ndarray],
    masks: list[np.ndarray],
    texts: list,
    seeds: list[int],
    own: AttributeEdit,
    attempt: int = 0,
) -> list[np.ndarray]:
    """First diffusion stage: repaint the masked part of each start towards its text."""
    height, width = starts[0].shape[:2]
    with pipes.autocast(pipes.inpaint):
        made = pipes.inpaint(
            **encode(pipes, "inpaint", texts),
            image=[Image.fromarray(s) for s in starts],
            mask_image=[Image.fromarray(m) for m in masks],
            height=height,
            width=width,
            strength=own.strength,
            num_inference_steps=own.steps,
            guidance_scale=own.guidance_scale,
            generator=generators(seeds, "inpaint", attempt),
            output_type="np",
        )
    return checked_pictures(made, pipes.inpaint)


@torch.no_grad()
def refine(
    pipes: Pipes,
    starts: list[np.ndarray],
    sources: list[Source],
    texts: list,
    seeds: list[int],
    own: AttributeEdit,
    attempt: int = 0,
) -> list[np.ndarray]:
    """Second stage, for colour and texture: the object's own lines through the ControlNet, and,
    where there is an IP-Adapter, the look of the object that the first stage painted.

    From noise there is neither an initial picture nor a mask: lines and look alone hold the object.
    """
    height, width = starts[0].shape[:2]
    more: dict[str, Any] = {}
    if pipes.looks:
        pipes.refine.set_ip_adapter_scale(own.ip_scale)
        seen = [
            Image.fromarray(np.where(source.mask[..., None] > 0, start, np.uint8(GREY)))
            for source, start in zip(sources, starts)
        ]
        more["ip_adapter_image"] = [seen]  # those of one adapter
    with pipes.autocast(pipes.refine), conditioning.own_looks(pipes.refine):
        made = pipes.refine(
            **encode(pipes, "refine", texts),
            **more,
            **_refined_from(starts, sources, own),
            height=height,
            width=width,
            num_inference_steps=own.refine_steps,
            guidance_scale=own.refine_guidance_scale,
            controlnet_conditioning_scale=own.controlnet_scale,
            generator=generators(seeds, "refine", attempt),
            output_type="np",
        )
    return checked_pictures(made, pipes.refine)


def _refined_from(
    starts: list[np.ndarray], sources: list[Source], own: AttributeEdit
) -> dict[str, Any]:
    """The refinement's arguments that say where it starts."""
    lines = [Image.fromarray(s.lines).convert("RGB") for s in sources]
    if own.refine_from == "noise":
        return {"image": lines}
    return {
        "image": [Image.fromarray(s) for s in starts],
        "mask_image": [Image.fromarray(s.editable) for s in sources],
        "control_image": lines,
        "strength": own.refine_strength,
    }


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
