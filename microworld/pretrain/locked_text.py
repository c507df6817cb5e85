"""Trains a micro CLIP's text tower anew beside a locked image tower.

symbols   locked   the image tower stays as it is; its features are computed once (locked-image
                   tuning: Zhai et al., arXiv 2111.07991)
          naming   shares of captions that name the fine class rightly, and wrongly

A CLIP that has seen enough captions knows the names of all classes, and fine-tuning has little left
to gain. Fewer captions that name a class leave the shapes in the features and the names unlearned:
head-room, as real CLIP has on fine-grained classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch

from ..render import Spec
from . import contrastive
from .trainer import FitSettings, fit


def train(
    pixels: np.ndarray,
    specs: list[Spec],
    folder: Path,
    settings: FitSettings,
    naming: contrastive.Naming,
) -> dict:
    """A text tower from nothing for the CLIP in `folder`, whose weights it replaces; pixels
    (N, 128, 128, 3 or 4) uint8 with what they show. Returns the report of `trainer.fit`.
    """
    vocab = contrastive.prepare(folder)
    model = _renewed(folder, settings.seed)
    features = contrastive.image_features(model.eval(), pixels)

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(pixels), size=settings.batch))
        texts = [contrastive.caption(specs[i], rng, naming) for i in rows]
        return {
            "features": features[rows],
            "tokens": contrastive.tokens(texts, vocab),
            "caption": np.unique(texts, return_inverse=True)[1],
        }

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        written = model.encode_text(given["tokens"])
        loss = contrastive.contrast(given["features"], written, model.logit_scale, given["caption"])
        return loss, {}

    report = fit({"clip": model}, sample, loss_of, settings)
    contrastive.save(model, folder)
    return report


def _renewed(folder: Path, seed: int) -> open_clip.CLIP:
    """The CLIP in `folder` with its image tower locked, its temperature, and a text tower that
    knows nothing, drawn from `seed`."""
    trained, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, _, _ = open_clip.create_model_and_transforms(
            f"local-dir:{folder}", load_weights=False
        )
    model.float().visual.load_state_dict(trained.float().visual.state_dict())
    model.visual.requires_grad_(False)
    with torch.no_grad():
        model.logit_scale.copy_(trained.logit_scale)
    return model
