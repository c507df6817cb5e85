"""CLIP features of images and sentences, as the verifier and the quality measures compare them.

symbols   image     (H, W, 3) uint8 RGB
          features  (N, D) float32 unit vectors, of images and of sentences in one space
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..core.config_sections import ModelRoles
from ..models import clip_lora, loaders, preprocess

BATCH = 64  # images


class ClipFeatures:
    """The features of one CLIP."""

    def __init__(self, models: ModelRoles, device: torch.device):
        """models: of which `ModelRoles.clip_role` names the CLIP. Raises ValueError without it."""
        spec = loaders.required(models, models.clip_role())
        self.device = device
        self._clip: Any
        self._tokenizer: Callable
        self._clip, self._tokenizer, self._preprocess = loaders.load_clip(spec, device)

    @torch.no_grad()
    def embed_images(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Features of images of any size."""
        out = []
        for i in range(0, len(pictures), BATCH):
            pixels = preprocess.network_input(
                pictures[i : i + BATCH], self._preprocess, self.device
            )
            out.append(clip_lora.encode_image(self._clip, pixels).cpu())
        return torch.cat(out).numpy()

    @torch.no_grad()
    def embed_texts(self, sentences: list[str]) -> np.ndarray:
        """Features of sentences."""
        return clip_lora.encode_text(self._clip, self._tokenizer(sentences)).cpu().numpy()

    @torch.no_grad()
    def patch_features(self, pictures: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Features of images, and the last patch tokens of each, normed: a list of (C, h, w)."""
        pixels = preprocess.network_input(pictures, self._preprocess, self.device)
        found = self._clip.forward_intermediates(
            image=pixels, image_indices=1, normalize_intermediates=True
        )
        return (
            found["image_features"].float().cpu().numpy(),
            list(found["image_intermediates"][-1].float().cpu().numpy()),
        )
