"""The calls of an edit's diffusion pipelines: prior, inpainting, refinement; arrays in and out.

symbols   start     (H, W, 3) uint8, what a call begins from
          variant   0, 1, ...: which of the backgrounds or surfaces that were drawn of a phrase
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core import oom_retry
from ..core.attributes import ATTRIBUTES
from ..core.config_editing import AttributeEdit
from ..core.seeds import numpy_rng, seed_for
from ..models.pictures import checked_pictures
from ..prompts import phrase_bank
from ..prompts.phrase_bank import Bank
from . import conditioning, priors
from .roles import Pipes, encode, generators
from .slices import EditStage
from .sources import Source

Priors = dict[tuple[str, int], np.ndarray]  # (phrase, variant) -> (H, W, 3) uint8
GREY = 100  # behind the object that an IP-Adapter sees


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
