"""CLIP with LoRA as a classifier: an image's class is the sentence nearest to it.

symbols   T, C, L, D   templates, classes, tokens of a sentence, features
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..core.config_sections import ModelSpec, TrainSettings
from . import clip_lora, loaders, lora_io


class ClipClassifier:
    """CLIP with LoRA on queries and values; untouched until `adapt`, so also zero-shot."""

    zero_shot = True

    def __init__(
        self,
        spec: ModelSpec,
        class_names: list[str],
        templates: list[str],
        device: str | torch.device = "cpu",
    ):
        self.model, tokenizer, self.preprocess = loaders.load_clip(spec, device)
        self.tokens = class_tokens(class_names, templates, tokenizer)
        self.classes, self.learns_text = len(class_names), False
        text, rows = clip_lora.text_tower(self.model), self.tokens.flatten(0, 1)
        self.ends = clip_lora.end_columns(text, rows).tolist()  # where each sentence is read off

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    def identity(self) -> list:
        """Token ids of the class names in every template."""
        return self.tokens.tolist()

    def adapt(self, settings: TrainSettings, seed: int) -> list[nn.Parameter]:
        """Freeze the model, add adapters, return their parameters."""
        self.learns_text = "text" in settings.towers
        return clip_lora.add_lora(
            self.model,
            settings.rank,
            settings.alpha,
            settings.dropout,
            settings.towers,
            seed,
            settings.noise,
        )

    def text_features(self) -> torch.Tensor:
        """(C, D) unit features of the class names, with gradients."""
        return encode_classes(self.model, self.tokens)

    def logits(self, pixels: torch.Tensor, text_features: torch.Tensor | None) -> torch.Tensor:
        """exp(logit_scale) times the cosine of image and sentence."""
        if text_features is None:
            raise ValueError("CLIP classifies by text features: pass those of `text_features`.")
        features = clip_lora.encode_image(self.model, pixels)
        with torch.autocast(self.device.type, enabled=False):  # it would round the logits
            return self.model.logit_scale.exp() * features @ text_features.T

    def train(self, mode: bool = True) -> bool:
        """Switch dropout; returns what it was."""
        was = self.model.training
        self.model.train(mode)
        return was

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of the adapters."""
        return lora_io.lora_state_dict(self.model)

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put `state` back."""
        lora_io.load_lora_state_dict(self.model, state)

    def save(self, folder: Path) -> Path:
        """Adapters in PEFT's format; returns the file with the weights."""
        return lora_io.save_lora(self.model, folder)


def class_tokens(class_names: list[str], templates: list[str], tokenizer: Callable) -> torch.Tensor:
    """(T, C, L) token ids of every class name in every template ("a photo of a {class}")."""
    bad = [t for t in templates if "{class}" not in t]
    if bad or not templates:
        raise ValueError(f"classify.templates: {bad or templates} lacks '{{class}}'.")
    return torch.stack(
        [tokenizer([t.replace("{class}", c) for c in class_names]) for t in templates]
    )


def encode_classes(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(C, D) unit features of (T, C, L) tokens, on the model's device, with gradients."""
    count, classes, length = tokens.shape
    features = clip_lora.encode_text(model, tokens.reshape(-1, length))
    features = features.view(count, classes, -1).mean(0)
    return F.normalize(features, dim=-1)
