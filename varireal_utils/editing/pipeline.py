"""VariReal's minimal edit of a photograph: prior, inpainting, refinement, composition, check.

symbols   image, prior, inpainted, refined, result  (H, W, 3) uint8 RGB
          editable   (H, W) uint8 0 | 255, what may change: all but the object for a background,
                     the paintable surface (else the whole object) for colour and texture
          k          which of a photograph's `images_per_real` edits
          attempt    0, 1, ...; a rejected edit is made again from other noise

Invariants (tests/unit/test_edit.py): outside `editable` the result equals the source byte for byte;
the noise of an edit depends on (study seed, image id, attribute, k, attempt) alone, so batch size,
order and resuming change no image, and the feasible and the infeasible edit of a photograph share
their noise: arms are paired (DESIGN.md, 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..core import oom_retry
from ..core.attributes import ATTRIBUTES
from ..core.params import compute, roles
from ..core.seeds import seed_for
from ..models import loaders
from ..prompts import phrase_bank
from . import compositing, conditioning, editors, priors

GREY = 100  # behind the object that an IP-Adapter sees


@dataclass(frozen=True)
class Source:
    """A photograph and its guidance; arrays as in the module's symbols, lines (H, W) uint8."""

    image: np.ndarray
    mask: np.ndarray
    editable: np.ndarray
    lines: np.ndarray


@dataclass(frozen=True)
class Pipes:
    """The loaded pipelines, encoded prompts kept: `states` maps (pipe, text) to embeddings.

    other: the pipeline of another editor (editors.py); the rest is None then.
    """

    inpaint: Any
    prior: Any
    refine: Any | None
    states: dict
    other: Any = None


def load(params: dict, attribute: str) -> Pipes:
    """Load what an attribute needs. Background edits have no refinement (paper, method figure)."""
    if editors.name(params) != editors.DEFAULT:
        return Pipes(None, None, None, {}, editors.load(params))
    models, (device, _) = roles(params), compute(params)
    inpaint = loaders.load_pipeline(models, "inpaint", device)
    drawn = ATTRIBUTES[attribute].generates_prior
    prior = loaders.load_pipeline(models, "prior", device) if drawn else None
    steps = params["edit"][attribute].get("refine_steps", 0)
    refine = loaders.load_refiner(models, inpaint, device) if steps else None
    return Pipes(inpaint, prior, refine, {})


def settings_of(params: dict, attribute: str, feasibility: str = "") -> dict:
    """The settings of an attribute's edits; under protocol faithful an arm may have its own."""
    settings = dict(params["edit"][attribute])
    return settings | (settings.pop("arms", None) or {}).get(feasibility, {})


def plan(
    images: pd.DataFrame, bank: dict, attribute: str, feasibility: str, params: dict
) -> pd.DataFrame:
    """One row per edit to make: edit_id, image_id, k, phrase, prompt, seed, label, class_name."""
    rows, kind = [], "instruct" if editors.name(params) == "instruct" else "edit"
    for image in images.itertuples():
        count = params["edit"]["images_per_real"]
        own = phrase_bank.own_phrase(
            bank, attribute, image.class_name, getattr(image, attribute, None)
        )
        drawn = phrase_bank.draw(
            bank,
            attribute,
            feasibility,
            image.class_name,
            image.image_id,
            count,
            params["seed"],
            own,
        )
        for k, phrase in enumerate(drawn):
            rows.append(
                {
                    "edit_id": f"{image.image_id}-{attribute}-{feasibility}-{k}",
                    "image_id": image.image_id,
                    "k": k,
                    "label": image.label,
                    "class_name": image.class_name,
                    "attribute": attribute,
                    "feasibility": feasibility,
                    "phrase": phrase,
                    "prompt": phrase_bank.edit_prompt(
                        bank, attribute, phrase, image.class_name, kind
                    ),
                    "seed": seed_for(params["seed"], image.image_id, attribute, k),
                }
            )
    return pd.DataFrame(rows)


def editable_mask(attribute: str, mask: np.ndarray, paint: np.ndarray | None) -> np.ndarray:
    """What an attribute's edit may change, (H, W) uint8 0 | 255."""
    if ATTRIBUTES[attribute].region == "background":
        return np.where(mask > 0, 0, 255).astype(np.uint8)
    return mask if paint is None else np.where(paint > 0, 255, 0).astype(np.uint8)


def generators(seeds: list[int], stage: str, attempt: int) -> list[torch.Generator]:
    """One CPU generator per image, so that its noise does not know its neighbours."""
    return [torch.Generator("cpu").manual_seed(seed_for(s, stage, attempt)) for s in seeds]


def encode(
    pipes: Pipes,
    pipe: Any,
    texts: list[str | conditioning.Fragments],
) -> dict[str, torch.Tensor]:
    """A pipeline's arguments for prompts; each text is encoded once."""
    known = pipes.states.setdefault(id(pipe), {})
    if None not in known:
        known[None] = conditioning.unconditional(pipe)
    for text in texts:
        if text not in known:
            known[text] = conditioning.encode(pipe, text)
    return conditioning.arguments([known[t] for t in texts], known[None])


@torch.no_grad()
def make_priors(
    pipes: Pipes, texts: list[str], seeds: list[int], settings: dict, params: dict, size: int
) -> list[np.ndarray]:
    """Backgrounds or surfaces from text alone, (size, size, 3) uint8 each."""

    def make(texts: list[str], seeds: list[int]) -> list[np.ndarray]:
        with loaders.autocast(*compute(params)):
            made = pipes.prior(
                **encode(pipes, pipes.prior, texts),
                height=size,
                width=size,
                num_inference_steps=settings["prior_steps"],
                guidance_scale=settings["prior_guidance_scale"],
                generator=generators(seeds, "prior", 0),
            ).images
        return [np.asarray(image.convert("RGB")) for image in made]

    out: list[np.ndarray] = []
    step = params["edit"]["batch_size"]
    for i in range(0, len(texts), step):
        out += oom_retry.in_parts(make, texts[i : i + step], seeds[i : i + step])
    return out


def prior_bank(
    pipes: Pipes, bank: dict, attribute: str, phrases: list[str], params: dict, size: int
) -> dict[tuple[str, int], np.ndarray]:
    """(phrase, variant) -> generated background or surface, made once and shared by photographs."""
    if pipes.prior is None:
        return {}
    settings, variants = settings_of(params, attribute), params["edit"]["prior_variants"]
    keys = [(p, v) for p in sorted(set(phrases)) for v in range(variants)]
    texts = [phrase_bank.prior_prompt(bank, attribute, p) for p, _ in keys]
    seeds = [seed_for(params["seed"], "prior", attribute, p, v) for p, v in keys]
    size = settings.get("prior_size") or params["edit"].get("canvas") or size
    return dict(zip(keys, make_priors(pipes, texts, seeds, settings, params, size)))


def blend(
    source: Source,
    attribute: str,
    phrase: str,
    prior: np.ndarray | None,
    bank: dict,
    settings: dict,
) -> np.ndarray:
    """The picture that inpainting starts from, (H, W, 3) uint8."""
    kind = ATTRIBUTES[attribute].prior
    if kind == "scene":
        return priors.background_prior(source.image, source.mask, prior, settings["dilate"])[0]
    if kind == "flat":
        rgb = phrase_bank.rgb(bank, phrase)
        return priors.color_prior(source.image, source.editable, rgb, settings["alpha"])
    surface = priors.keep_mean(prior, source.image, source.editable)
    return priors.texture_prior(
        source.image, source.editable, surface, settings["alpha"], settings.get("prior_crop", 0)
    )


@torch.no_grad()
def inpaint(
    pipes: Pipes,
    starts: list[np.ndarray],
    masks: list[np.ndarray],
    texts: list,
    seeds: list[int],
    settings: dict,
    params: dict,
    attempt: int = 0,
) -> list[np.ndarray]:
    """First diffusion stage: repaint the masked part of each start towards its text."""
    height, width = starts[0].shape[:2]
    with loaders.autocast(*compute(params)):
        made = pipes.inpaint(
            **encode(pipes, pipes.inpaint, texts),
            image=[Image.fromarray(s) for s in starts],
            mask_image=[Image.fromarray(m) for m in masks],
            height=height,
            width=width,
            strength=settings["strength"],
            num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance_scale"],
            generator=generators(seeds, "inpaint", attempt),
        ).images
    return [np.asarray(image.convert("RGB")) for image in made]


@torch.no_grad()
def refine(
    pipes: Pipes,
    starts: list[np.ndarray],
    sources: list[Source],
    texts: list,
    seeds: list[int],
    settings: dict,
    params: dict,
    attempt: int = 0,
) -> list[np.ndarray]:
    """Second stage, for colour and texture: the object's own lines through the ControlNet, and,
    where there is an IP-Adapter, the look of the object that the first stage painted.

    With an IP-Adapter one by one: diffusers shows every picture of a batch to every image of it.
    """
    height, width = starts[0].shape[:2]
    looks = bool(params["models"].get("ip_adapter"))
    size, out = 1 if looks else len(starts), []
    for i in range(0, len(starts), size):
        part = slice(i, i + size)
        more = {}
        if looks:
            pipes.refine.set_ip_adapter_scale(settings["ip_scale"])
            seen = np.where(sources[i].mask[..., None] > 0, starts[i], np.uint8(GREY))
            more["ip_adapter_image"] = Image.fromarray(seen)
        with loaders.autocast(*compute(params)):
            out += pipes.refine(
                **encode(pipes, pipes.refine, texts[part]),
                **more,
                image=[Image.fromarray(s) for s in starts[part]],
                mask_image=[Image.fromarray(s.editable) for s in sources[part]],
                control_image=[Image.fromarray(s.lines).convert("RGB") for s in sources[part]],
                height=height,
                width=width,
                strength=settings["refine_strength"],
                num_inference_steps=settings["refine_steps"],
                guidance_scale=settings["refine_guidance_scale"],
                controlnet_conditioning_scale=settings["controlnet_scale"],
                generator=generators(seeds[part], "refine", attempt),
            ).images
    return [np.asarray(image.convert("RGB")) for image in out]


def boxed(source: Source, size: int) -> tuple[Source, compositing.Box | None]:
    """A photograph and its guidance on a square canvas of `size` pixels; 0 leaves it as it is."""
    if not size:
        return source, None
    parts = [
        compositing.letterbox(a, size, size)
        for a in (source.image, source.mask, source.editable, source.lines)
    ]
    return Source(*(canvas for canvas, _ in parts)), parts[0][1]


def paint(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    prior_of: dict[tuple[str, int], np.ndarray],
    bank: dict,
    params: dict,
    attempt: int,
) -> dict[str, list[np.ndarray]]:
    """Every stage of a batch of edits of one attribute and arm, in the sources' own sizes:
    "prior", "inpainted", perhaps "refined". Raises ValueError for sizes that make no batch."""
    attribute = rows[0]["attribute"]
    settings = settings_of(params, attribute, rows[0].get("feasibility", ""))
    variants, weight = params["edit"]["prior_variants"], settings.get("prompt_weight", 1.0)
    placed = [boxed(s, params["edit"].get("canvas", 0)) for s in sources]
    inside = [s for s, _ in placed]
    sizes = sorted({s.image.shape[:2] for s in inside})
    if len(sizes) > 1:
        raise ValueError(
            f"photographs of different sizes {sizes} in one batch: set edit.canvas to "
            "the pixels of a square to edit on"
        )
    seeds = [r["seed"] for r in rows]
    if pipes.other is not None:
        made = editors.paint(
            pipes.other,
            [s.image for s in inside],
            [r["prompt"] for r in rows],
            generators(seeds, "other", attempt),
            settings,
            params,
        )
        return {"edited": _unboxed(made, placed)}
    starts = [
        blend(
            s,
            attribute,
            r["phrase"],
            prior_of.get((r["phrase"], (r["seed"] + attempt) % variants)),
            bank,
            settings,
        )
        for s, r in zip(inside, rows)
    ]
    texts = [phrase_bank.weighted(r["prompt"], r["phrase"], weight) for r in rows]
    stages = {"prior": starts}
    stages["inpainted"] = inpaint(
        pipes, starts, [s.editable for s in inside], texts, seeds, settings, params, attempt
    )
    if pipes.refine is not None:
        stages["refined"] = refine(
            pipes, stages["inpainted"], inside, texts, seeds, settings, params, attempt
        )
    return {name: _unboxed(pictures, placed) for name, pictures in stages.items()}


def _unboxed(pictures: list[np.ndarray], placed: list[tuple]) -> list[np.ndarray]:
    return [
        p if box is None else compositing.unletterbox(p, box)
        for p, (_, box) in zip(pictures, placed)
    ]


def strip(
    pipes: Pipes, source: Source, row: dict, prior_of: dict, bank: dict, params: dict
) -> dict[str, np.ndarray]:
    """Every step of one edit, for the pipeline figure: name -> (H, W, 3) or (H, W) uint8."""
    stages = paint(pipes, [source], [row], prior_of, bank, params, 0)
    steps = {"source": source.image, "mask": source.mask, "canny": source.lines}
    steps |= {name: pictures[0] for name, pictures in stages.items()}
    return steps | {"result": _composed(source, list(stages.values())[-1][0], params)}


def _composed(source: Source, painted: np.ndarray, params: dict) -> np.ndarray:
    """What was painted, where it may change; all of it under `edit.compose: false`."""
    if not params["edit"].get("compose", True):
        return painted
    return compositing.compose(source.image, painted, source.editable)


def edit_batch(
    pipes: Pipes,
    sources: list[Source],
    rows: list[dict],
    prior_of: dict[tuple[str, int], np.ndarray],
    bank: dict,
    params: dict,
    attempt: int,
) -> list[np.ndarray]:
    """One attempt at a batch of edits of one attribute and arm, composed onto their sources."""
    painted = list(paint(pipes, sources, rows, prior_of, bank, params, attempt).values())[-1]
    return [_composed(s, p, params) for s, p in zip(sources, painted)]


def run(
    pipes: Pipes,
    rows: pd.DataFrame,
    source_of: Callable[[str], Source],
    prior_of: dict,
    bank: dict,
    params: dict,
    verify: Callable,
    skip: Callable[[int], bool],
) -> Iterator[tuple[int, list[np.ndarray], pd.DataFrame]]:
    """Edit all rows in fixed batches; yields (batch number, images, finished rows).

    verify(images, rows) -> DataFrame with `accepted` and the verifier's answers. A rejected edit is
    made again until `max_attempts`; then its best attempt is kept, marked as not accepted.
    skip(batch number) is True for batches that an earlier, interrupted run has finished.
    """
    size = params["edit"]["batch_size"]
    for number, start in enumerate(range(0, len(rows), size)):
        if skip(number):
            continue
        batch = rows.iloc[start : start + size].to_dict("records")
        sources = [source_of(r["image_id"]) for r in batch]
        best: list[tuple] = [(-np.inf, None, None)] * len(batch)
        pending = list(range(len(batch)))
        for attempt in range(params["edit"]["max_attempts"]):
            part = [batch[i] for i in pending]
            made = oom_retry.in_parts(
                partial(
                    edit_batch, pipes, prior_of=prior_of, bank=bank, params=params, attempt=attempt
                ),
                [sources[i] for i in pending],
                part,
            )
            answers = verify(made, part, [sources[i] for i in pending]).to_dict("records")
            for i, image, answer in zip(pending, made, answers):
                rank = answer["worst_margin"] + (1e6 if answer["accepted"] else 0)
                if rank > best[i][0]:
                    best[i] = (rank, image, {**answer, "attempt": attempt})
            pending = [i for i in pending if not best[i][2]["accepted"]]
            if not pending:
                break
        done = pd.DataFrame([{**r, **b[2]} for r, b in zip(batch, best)])
        yield number, [b[1] for b in best], done
