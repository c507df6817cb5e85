"""Editors to compare VariReal with, by `edit.editor`: InstructPix2Pix and image to image.

Both paint the whole picture from a prompt alone, without prior, mask or refinement: they show what
minimal editing is worth (docs/protocol.md, A8). Under `edit.compose: true` their result is laid in
only where it may change.

    instruct  reads an instruction ("make the beagle blue"), guided by the text (guidance_scale) and
              by the photograph (image_guidance_scale); Brooks et al. 2023
    img2img   reads a description ("a photo of a blue beagle") and denoises the photograph, noised
              up to `strength`, towards it; Meng et al. 2022

Invariant (tests/unit/test_editors.py): with `edit.compose: true` no pixel outside the editable
region changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.config_editing import AttributeEdit
from ..core.config_sections import ModelRoles
from ..models import loaders

DEFAULT = "varireal"


@dataclass(frozen=True)
class Editor:
    """One editor. role: of its model; prompt: kind of prompt in the phrase bank; image_to_image:
    whether the model's text-to-image pipeline is turned into one; arguments: its own arguments."""

    role: str
    prompt: str
    image_to_image: bool
    arguments: Callable[[AttributeEdit], dict[str, float]]


EDITORS = {
    "img2img": Editor("prior", "edit", True, lambda own: {"strength": own.strength}),
    "instruct": Editor(
        "instruct",
        "instruct",
        False,
        lambda own: {"image_guidance_scale": own.image_guidance_scale},
    ),
}


def prompt_kind(name: str) -> str:
    """The kind of prompt that an editor reads: edit or instruct."""
    return EDITORS[name].prompt if name in EDITORS else "edit"


def load(name: str, models: ModelRoles, device: torch.device) -> Any:
    """Load the pipeline of an editor of EDITORS."""
    from diffusers import AutoPipelineForImage2Image

    pipe = loaders.load_pipeline(models, EDITORS[name].role, device)
    if EDITORS[name].image_to_image:
        pipe = AutoPipelineForImage2Image.from_pipe(pipe)
        pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def paint(
    name: str,
    pipe: Any,
    pictures: list[np.ndarray],
    texts: list[str],
    generators: list[torch.Generator],
    own: AttributeEdit,
) -> list[np.ndarray]:
    """Paint pictures of one size, (H, W, 3) uint8 each, all over; size and number stay."""
    made = pipe(
        prompt=texts,
        image=[Image.fromarray(p) for p in pictures],
        num_inference_steps=own.steps,
        guidance_scale=own.guidance_scale,
        generator=generators,
        **EDITORS[name].arguments(own),
    ).images
    height, width = pictures[0].shape[:2]
    return [np.asarray(image.convert("RGB").resize((width, height))) for image in made]
