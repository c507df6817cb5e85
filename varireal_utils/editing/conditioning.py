"""What a text-to-image pipeline reads: embeddings of its prompt, for Stable Diffusion, SDXL, FLUX.

symbols   text       a plain prompt, or fragments ((words, weight), ...) of one
          embedding  "states" (1, L, D); of SDXL and FLUX also "pooled" (1, P)

Weighted fragments go through compel's embedding provider as words and numbers, never as compel's
prompt syntax: a phrase with brackets or plus signs in it stays a phrase.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

Fragments = tuple[tuple[str, float], ...]
Embedding = dict[str, torch.Tensor]


def is_flux(pipe: Any) -> bool:
    """Whether a pipeline is FLUX: a transformer, T5 beside CLIP, guidance learnt, not computed."""
    return type(pipe).__name__.startswith("Flux")


def is_xl(pipe: Any) -> bool:
    """Whether a pipeline has SDXL's two text encoders."""
    return getattr(pipe, "text_encoder_2", None) is not None and not is_flux(pipe)


@torch.no_grad()
def encode(pipe: Any, text: str | Fragments) -> Embedding:
    """Embedding of one prompt."""
    device = pipe._execution_device
    if not isinstance(text, str):
        if any(weight != 1 for _, weight in text):
            if is_flux(pipe):
                raise ValueError(
                    "FLUX reads its prompt through T5, whose words have no weights: "
                    "set edit.<attribute>.prompt_weight to 1"
                )
            return _weighted(pipe, text, device)
        text = "".join(words for words, _ in text)
    if is_flux(pipe):
        states, pooled, _ = pipe.encode_prompt(text, text, device=device)
        return {"states": states, "pooled": pooled}
    if not is_xl(pipe):
        return {"states": pipe.encode_prompt(text, device, 1, False)[0]}
    states, _, pooled, _ = pipe.encode_prompt(
        text, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"states": states, "pooled": pooled}


@torch.no_grad()
def unconditional(pipe: Any) -> Embedding:
    """What guidance leads away from: the empty prompt, or zeros where SDXL's pipeline says so;
    nothing for FLUX, which guides itself."""
    if is_flux(pipe):
        return {}
    empty = encode(pipe, "")
    if is_xl(pipe) and pipe.config.get("force_zeros_for_empty_prompt"):
        return {name: torch.zeros_like(value) for name, value in empty.items()}
    return empty


@contextlib.contextmanager
def own_looks(pipe: Any) -> Iterator[None]:
    """Let an IP-Adapter show each image of a batch its own picture: ip_adapter_image=[pictures].

    diffusers shows every picture of a batch to every image of it; with one picture both agree.
    """
    from diffusers.models.embeddings import ImageProjection

    def embeddings(
        pictures: list[list], given: Any, device: Any, count: int, guided: bool
    ) -> list[torch.Tensor]:
        layers = pipe.unet.encoder_hid_proj.image_projection_layers
        out = []
        for own, layer in zip(pictures, layers, strict=True):
            hidden = not isinstance(layer, ImageProjection)
            seen, unseen = pipe.encode_image(own, device, 1, hidden)
            parts = [unseen, seen] if guided else [seen]
            out.append(torch.cat(parts)[:, None].to(device))
        return out

    pipe.prepare_ip_adapter_image_embeds = embeddings
    try:
        yield
    finally:
        del pipe.prepare_ip_adapter_image_embeds


def _weighted(pipe: Any, text: Fragments, device: torch.device) -> Embedding:
    from compel import Compel, ReturnedEmbeddingsType

    words, weights = [t for t, _ in text], [w for _, w in text]

    def of(tokenizer: Any, encoder: Any, kind: ReturnedEmbeddingsType) -> torch.Tensor:
        compel = Compel(tokenizer, encoder, returned_embeddings_type=kind, device=device)
        return compel.conditioning_provider.get_embeddings_for_weighted_prompt_fragments(
            text_batch=[words], fragment_weights_batch=[weights], device=device
        )

    if not is_xl(pipe):
        kind = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        return {"states": of(pipe.tokenizer, pipe.text_encoder, kind)}
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    states = torch.cat(
        [
            of(pipe.tokenizer, pipe.text_encoder, kind),
            of(pipe.tokenizer_2, pipe.text_encoder_2, kind),
        ],
        dim=-1,
    )
    return {"states": states, "pooled": encode(pipe, "".join(words))["pooled"]}


def arguments(positive: list[Embedding], negative: Embedding) -> dict[str, torch.Tensor]:
    """The pipeline's arguments for a batch."""
    out = {}
    for key, word in (("states", "prompt_embeds"), ("pooled", "pooled_prompt_embeds")):
        if key in positive[0]:
            out[word] = torch.cat([p[key] for p in positive])
        if key in negative:
            out[f"negative_{word}"] = torch.cat([negative[key]] * len(positive))
    return out
