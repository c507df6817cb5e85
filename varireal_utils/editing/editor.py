"""Interface of the editors to compare VariReal with.

symbols   pictures   (H, W, 3) uint8, of one size
          own        settings of the attribute that is edited (`edit.<attribute>`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from ..core.config_editing import AttributeEdit
from ..core.config_sections import ModelRoles
from ..models.pictures import checked_pictures


class Paint(Protocol):
    """How an editor paints a batch."""

    def __call__(
        self,
        pipe: Any,
        pictures: list[np.ndarray],
        texts: list[str],
        generators: list[torch.Generator],
        own: AttributeEdit,
    ) -> list[np.ndarray]:
        """As many pictures as came in, of the same size."""


@dataclass(frozen=True)
class Editor:
    """One editor. role: of the model that it paints with; prompt: kind of prompt in the phrase
    bank, edit or instruct; load: (models, device) -> pipeline; paint: a batch."""

    role: str
    prompt: str
    load: Callable[[ModelRoles, torch.device], Any]
    paint: Paint


def painted(
    pipe: Any,
    pictures: list[np.ndarray],
    texts: list[str],
    generators: list[torch.Generator],
    own: AttributeEdit,
    **arguments: float,
) -> list[np.ndarray]:
    """Call a diffusers pipeline that takes a prompt and an image. arguments: its own ones."""
    with torch.no_grad():
        made = pipe(
            prompt=texts,
            image=[Image.fromarray(p) for p in pictures],
            num_inference_steps=own.steps,
            guidance_scale=own.guidance_scale,
            generator=generators,
            output_type="np",
            **arguments,
        )
    height, width = pictures[0].shape[:2]
    made = [Image.fromarray(picture) for picture in checked_pictures(made, pipe)]
    return [np.asarray(image.resize((width, height))) for image in made]
