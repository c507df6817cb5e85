"""A convolutional network of timm (ResNet-50 in both papers) with a new linear head."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save
from timm.data.config import resolve_model_data_config
from torch import nn

from ..core import seeds, storage
from ..core.config_sections import ModelSpec, TrainSettings
from . import loaders, trained_with


def _at_commit(spec: ModelSpec) -> dict[str, str]:
    """What changes in timm's entry of a network so that it is read at the role's revision."""
    repository = loaders.timm_repository(spec) if spec.revision else ""
    return {"hf_hub_id": f"{repository}@{spec.revision}"} if repository else {}


class TimmClassifier:
    """A network of timm with one output per class; every weight is trained.

    spec: name (timm's), optional weights: "pretrained" (timm's own, from the hub), or a safetensors
    file of the same architecture, whose head is left out where it has other classes. Without
    weights training starts from nothing.
    """

    zero_shot, learns_text = False, False

    def __init__(
        self,
        spec: ModelSpec,
        class_names: list[str],
        templates: list[str],
        device: str | torch.device = "cpu",
    ):
        trained_with.check("classifier", spec)
        weights = spec.weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.seed_for(0, "timm", spec.name))
            self.model = timm.create_model(
                spec.name,
                num_classes=len(class_names),
                pretrained=weights == "pretrained",
                pretrained_cfg_overlay=_at_commit(spec),
            )
        if weights and weights != "pretrained":
            self._load_file(Path(weights))
        data = resolve_model_data_config(self.model)
        self.preprocess = {
            "size": data["input_size"][1],
            "mean": data["mean"],
            "std": data["std"],
            "interpolation": data["interpolation"],
            "resize_mode": "shortest",
        }
        self.spec, self.names, self.classes = spec, class_names, len(class_names)
        self.model.float().eval().to(device)

    def _load_file(self, path: Path) -> None:
        if not path.is_file() or path.suffix != ".safetensors":
            raise FileNotFoundError(
                f"models.classifier.weights: {str(path)!r} is not there or no "
                "safetensors file; name one, or `pretrained`, or nothing."
            )
        state, own = load_file(path), self.model.state_dict()
        head = self.model.default_cfg["classifier"]
        kept = {
            k: v
            for k, v in state.items()
            if not (k.startswith(f"{head}.") and v.shape != own[k].shape)
        }
        report = self.model.load_state_dict(kept, strict=False)
        lacking = [k for k in report.missing_keys if not k.startswith(f"{head}.")]
        if lacking or report.unexpected_keys:
            raise ValueError(
                f"models.classifier.weights: {path} is not of {type(self.model)}: "
                f"lacks {lacking[:2]}, has {report.unexpected_keys[:2]}."
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def identity(self) -> list:
        """The architecture and the class names."""
        return [self.spec.name, self.names]

    def adapt(self, settings: TrainSettings, seed: int) -> list[nn.Parameter]:
        """Draw a new head from the seed; all parameters learn."""
        head = self.model.get_classifier()
        generator = seeds.torch_generator(seed, "head")
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.01)
            head.bias.zero_()
        return [p for p in self.model.parameters() if p.requires_grad]

    def text_features(self) -> None:
        """None: there is no text tower."""

    def logits(
        self, pixels: torch.Tensor, text_features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The head's outputs."""
        return self.model(pixels).float()

    def train(self, mode: bool = True) -> bool:
        """Switch dropout and the statistics of normalisation; return what it was."""
        was = self.model.training
        self.model.train(mode)
        return was

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of all weights and statistics."""
        return {
            k: v.detach().cpu().clone().contiguous() for k, v in self.model.state_dict().items()
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put `state` back."""
        self.model.load_state_dict(state)

    def save(self, folder: Path) -> Path:
        """The whole model as model.safetensors, its name and classes beside it."""
        storage.write_bytes(folder / "model.safetensors", save(self.state()))
        storage.write_json(
            folder / "model.json", {"name": self.spec.name, "class_names": self.names}
        )
        return folder / "model.safetensors"
