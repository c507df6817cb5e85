"""InstructPix2Pix: an instruction ("make the beagle blue"); Brooks et al. 2023.

The text guides it (guidance_scale), and so does the photograph (image_guidance_scale).
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
    """The pipeline of role instruct."""
    return loaders.load_pipeline(models, "instruct", device)


def paint(
    pipe: Any,
    pictures: list[np.ndarray],
    texts: list[str],
    generators: list[torch.Generator],
    own: AttributeEdit,
) -> list[np.ndarray]:
    """Repaint whole pictures by instructions."""
    scale = own.image_guidance_scale
    return painted(pipe, pictures, texts, generators, own, image_guidance_scale=scale)


EDITOR = Editor(role="instruct", prompt="instruct", load=load, paint=paint)
