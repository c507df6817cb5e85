"""Draws images from a text-to-image model, by prompt or from a photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.config_sections import DrawSettings, ModelRoles, ModelSpec
from ..models import classifiers, loaders, precision, preprocess
from ..models.pictures import checked_pictures


def load(models: ModelRoles, device: torch.device) -> Any:
    """Load the text-to-image pipeline of `ModelRoles.generator_role`."""
    return loaders.load_pipeline(models, models.generator_role(), device)


def image_to_image(pipe: Any) -> Any:
    """The same model as a pipeline that starts from an image."""
    from diffusers import AutoPipelineForImage2Image

    pipe = AutoPipelineForImage2Image.from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def draw(
    pipe: Any,
    prompts: list[str],
    seeds: list[int],
    settings: DrawSettings,
    dtype: torch.dtype = torch.float32,
    starts: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Draw one image for each prompt and seed, (H, W, 3) uint8; each depends on its own seed alone.

    starts: images to start from, for a pipeline of `image_to_image`.
    """
    device = pipe.unet.device
    states, _ = pipe.encode_prompt(prompts, device, 1, False)
    empty, _ = pipe.encode_prompt("", device, 1, False)
    more: dict[str, Any] = {}
    if starts is not None:
        side = pipe.unet.config.sample_size * pipe.vae_scale_factor
        more = {
            "image": [
                Image.fromarray(s).resize((side, side), Image.Resampling.LANCZOS) for s in starts
            ],
            "strength": settings.img2img_strength,
        }
    generators = [torch.Generator("cpu").manual_seed(s) for s in seeds]
    with precision.pipeline_autocast(pipe, device, dtype):
        made = pipe(
            prompt_embeds=states,
            negative_prompt_embeds=empty.repeat(len(seeds), 1, 1),
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            generator=generators,
            output_type="np",
            **more,
        )
    return checked_pictures(made, pipe)


class ClassProbability:
    """CLIP's zero-shot probability, 0..1, that an image is of the class it was drawn for."""

    def __init__(
        self, spec: ModelSpec, class_names: list[str], template: str, device: torch.device
    ):
        self.net = classifiers.load(spec, class_names, [template], device)
        self.place = {name: i for i, name in enumerate(class_names)}
        with torch.no_grad():
            self.text = self.net.text_features()

    @torch.no_grad()
    def __call__(self, images: list[np.ndarray], class_names: list[str]) -> np.ndarray:
        """(N,) for N images (H, W, 3) uint8 and their classes."""
        pixels = preprocess.network_input(images, self.net.preprocess, self.net.device)
        shares = self.net.logits(pixels, self.text).softmax(1).cpu().numpy()
        return shares[np.arange(len(shares)), [self.place[c] for c in class_names]]
