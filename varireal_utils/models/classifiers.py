"""Interface of the classifiers that a study can fine-tune, and their registry by kind.

A kind is one file with a class of this interface and one line in `CLASSIFIERS`
(core/config_sections.py), which names the class without importing it.

symbols   pixels          (B, 3, S, S) float32, normalised (preprocess.py)
          text_features   (C, D) unit features of the class names; None without a text tower
          logits          (B, C) float32
          state           what training changed, by name, on the CPU
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from ..core.config_sections import CLASSIFIERS, ModelRoles, ModelSpec, TrainSettings


class Classifier(Protocol):
    """One classifier, loaded for the classes of a data set.

    zero_shot: it classifies without training; learns_text: after `adapt`, its text features change
    with training; preprocess: size, mean, std, resize_mode.
    """

    zero_shot: bool
    learns_text: bool
    classes: int
    preprocess: dict

    def __init__(
        self,
        spec: ModelSpec,
        class_names: list[str],
        templates: list[str],
        device: str | torch.device = "cpu",
    ): ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def identity(self) -> list:
        """What a prediction depends on beside the weights: part of a result's fingerprint."""

    def adapt(self, settings: TrainSettings, seed: int) -> list[nn.Parameter]:
        """Prepare for training; return the parameters that learn."""

    def text_features(self) -> torch.Tensor | None:
        """(C, D), with gradients where the text tower learns."""

    def logits(self, pixels: torch.Tensor, text_features: torch.Tensor | None) -> torch.Tensor:
        """(B, C) float32."""

    def train(self, mode: bool = True) -> bool:
        """Switch training mode; return what it was."""

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of what training changed."""

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put `state` back."""

    def save(self, folder: Path) -> Path:
        """Write the trained weights; return their file."""


def fine_tuned(models: ModelRoles) -> ModelSpec:
    """The model that is fine-tuned: role classifier where it is filled, else role clip."""
    spec = models.classifier or models.clip
    if spec is None:
        raise ValueError("models.clip is missing; 06_classify fine-tunes it (name, weights)")
    return spec


def load(
    spec: ModelSpec,
    class_names: list[str],
    templates: list[str],
    device: str | torch.device = "cpu",
) -> Classifier:
    """Load the classifier of a kind. class_names: by label; templates: each has {class}.

    Raises ValueError for a kind that is no classifier, FileNotFoundError for missing weights.
    """
    if spec.kind not in CLASSIFIERS:
        raise ValueError(
            f"models.classifier.kind: got {spec.kind!r}, wanted one of {sorted(CLASSIFIERS)}."
        )
    module, _, name = CLASSIFIERS[spec.kind].partition(".")
    found = getattr(import_module(f"{__package__}.{module}"), name)
    return found(spec, class_names, templates, device)
