"""Image to image: the photograph, noised up to `strength`, is denoised towards a description.

Meng et al. 2022 (SDEdit), with the text-to-image model of role prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..core.config_editing import AttributeEdit
from ..core.config_sections import ModelRoles
from ..models import loaders
from .editor import Editor, painted


def load(models: ModelRoles, device: torch.device) -> Any:
    """The pipeline of role prior, turned into one that starts from an image."""
    from diffusers import AutoPipelineForImage2Image

    plain = loaders.load_pipeline(models, "prior", device)
    pipe = AutoPipelineForImage2Image.from_pipe(plain)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def paint(
    pipe: Any,
    pictures: list[np.ndarray],
    texts: list[str],
    generators: list[torch.Generator],
    own: AttributeEdit,
) -> list[np.ndarray]:
    """Repaint whole pictures towards their descriptions."""
    return painted(pipe, pictures, texts, generators, own, strength=own.strength)


EDITOR = Editor(role="prior", prompt="edit", load=load, paint=paint)
