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
    """One editor. role: of the model that it paints with, "" without one; prompt: kind of prompt
    in the phrase bank, edit or instruct; load: (models, device) -> pipeline; paint: a batch; or
    draw: a planned edit -> picture, from `facts`, columns of the photograph's row."""

    role: str
    prompt: str
    load: Callable[[ModelRoles, torch.device], Any] = lambda models, device: None
    paint: Paint | None = None
    draw: Callable[[dict[str, Any]], np.ndarray] | None = None
    facts: tuple[str, ...] = ()

    def made(
        self,
        pipe: Any,
        pictures: list[np.ndarray],
        rows: list[dict[str, Any]],
        generators: list[torch.Generator],
        own: AttributeEdit,
    ) -> list[np.ndarray]:
        """The edits of a batch, whole pictures. rows: the planned edits."""
        if self.draw is not None:
            return [self.draw(row) for row in rows]
        if self.paint is None:
            raise TypeError("an editor paints or draws; this one does neither")
        return self.paint(pipe, pictures, [r["prompt"] for r in rows], generators, own)


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
