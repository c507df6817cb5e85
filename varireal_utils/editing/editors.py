"""Editors to compare VariReal with, by `edit.editor`: InstructPix2Pix and image to image.

Both paint the whole picture from a prompt alone: no prior, no mask, no refinement. So they show
what minimal editing is worth (the paper shows InstructPix2Pix beside its own edits, PROTOCOL.md,
A8). With `edit.compose: true` their result, too, is laid in only where it may change.

    instruct  an instruction ("make the beagle blue"); guided by the text (guidance_scale) and
              by the photograph (image_guidance_scale); Brooks et al. 2023
    img2img   a description ("a photo of a blue beagle"); the photograph, noised up to `strength`,
              is denoised towards it; Meng et al. 2022
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.params import compute, roles
from ..models import loaders

DEFAULT = "varireal"
EDITORS = {"img2img": "prior", "instruct": "instruct"}  # the role each of them paints with


def name(params: dict) -> str:
    """The editor that the parameters ask for."""
    return params["edit"].get("editor", DEFAULT)


def load(params: dict) -> Any:
    """The pipeline of an editor of EDITORS."""
    from diffusers import AutoPipelineForImage2Image

    pipe = loaders.load_pipeline(roles(params), EDITORS[name(params)], compute(params)[0])
    if name(params) == "img2img":
        pipe = AutoPipelineForImage2Image.from_pipe(pipe)
        pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def paint(
    pipe: Any,
    pictures: list[np.ndarray],
    texts: list[str],
    generators: list[torch.Generator],
    settings: dict,
    params: dict,
) -> list[np.ndarray]:
    """(H, W, 3) uint8 each, of one size -> the same number and size, edited all over."""
    if name(params) == "instruct":
        own = {"image_guidance_scale": settings.get("image_guidance_scale", 1.5)}
    else:
        own = {"strength": settings["strength"]}
    with loaders.autocast(*compute(params)):
        made = pipe(
            prompt=texts,
            image=[Image.fromarray(p) for p in pictures],
            num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance_scale"],
            generator=generators,
            **own,
        ).images
    height, width = pictures[0].shape[:2]
    return [np.asarray(image.convert("RGB").resize((width, height))) for image in made]
