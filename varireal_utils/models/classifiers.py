"""The classifiers that a study can fine-tune, behind one small face.

    ClipNetwork   an open_clip model with LoRA: an image's class is the nearest sentence
    TimmNetwork   a convolutional network of timm (ResNet-50 in both papers) with a new linear head

symbols   pixels    uint8 (B, 3, S, S) of `augment`
          context   (C, D) unit text features, shared by all images of a step; None without text
          logits    (B, C) float32
          state     what training changed, by name, on the CPU
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional as F

from ..core import seeds, storage
from . import clip_lora, lora_io

KEYS = ("size", "mean", "std", "interpolation", "resize_mode")


def load(params: dict, class_names: list[str], device: str | torch.device = "cpu") -> Any:
    """The classifier of a parameter file: `models.classifier` if it is there, else `models.clip`.

    Raises ValueError for an unknown kind, FileNotFoundError for weights that are not there.
    """
    spec = params["models"].get("classifier") or {"kind": "clip", **params["models"]["clip"]}
    kinds = {"clip": ClipNetwork, "timm": TimmNetwork}
    kind = spec.get("kind", "clip")
    if kind not in kinds:
        raise ValueError(f"models.classifier.kind: got {kind!r}, wanted one of {sorted(kinds)}.")
    return kinds[kind](spec, class_names, params["classify"].get("templates", []), device)


class ClipNetwork:
    """CLIP with LoRA on queries and values; untouched until `adapt`, so also zero-shot."""

    zero_shot = True

    def __init__(
        self,
        spec: dict,
        class_names: list[str],
        templates: list[str],
        device: str | torch.device = "cpu",
    ):
        self.model, tokenizer, self.preprocess = load_clip(spec, device)
        self.tokens = class_tokens(class_names, templates, tokenizer)
        self.classes = len(class_names)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    def identity(self) -> list:
        """What, beside the weights, decides an answer: part of a result's fingerprint."""
        return self.tokens.tolist()

    def adapt(self, cfg: dict, seed: int) -> list[nn.Parameter]:
        """Freeze the model, put adapters in, return their parameters."""
        self.learns_text = "text" in cfg["towers"]
        return clip_lora.add_lora(
            self.model,
            cfg["rank"],
            cfg["alpha"],
            cfg["dropout"],
            cfg["towers"],
            seed,
            cfg.get("noise", "caption"),
        )

    def context(self) -> torch.Tensor:
        """(C, D) unit text features of the class names, with gradients."""
        return text_features(self.model, self.tokens)

    def logits(self, pixels: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """exp(logit_scale) times the cosine of image and sentence."""
        features = clip_lora.encode_image(self.model, pixels)
        with torch.autocast(self.device.type, enabled=False):  # it would round the logits
            return self.model.logit_scale.exp() * features @ context.T

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


class TimmNetwork:
    """A network of timm with as many outputs as classes; every weight is trained.

    spec: name (timm's), optional weights: "pretrained" (timm's own, from the hub), or a safetensors
    file of the same architecture, whose head is left out where it has other classes. Without
    weights training starts from nothing.
    """

    zero_shot = False

    def __init__(
        self,
        spec: dict,
        class_names: list[str],
        templates: list[str],
        device: str | torch.device = "cpu",
    ):
        weights = spec.get("weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.seed_for(0, "timm", spec["name"]))
            self.model = timm.create_model(
                spec["name"], num_classes=len(class_names), pretrained=weights == "pretrained"
            )
        if weights and weights != "pretrained":
            self._load_file(Path(weights))
        data = timm.data.resolve_model_data_config(self.model)
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
        """What, beside the weights, decides an answer."""
        return [self.spec["name"], self.names]

    def adapt(self, cfg: dict, seed: int) -> list[nn.Parameter]:
        """A new head from the seed; all parameters learn."""
        self.learns_text = False
        head = self.model.get_classifier()
        generator = seeds.torch_generator(seed, "head")
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.01)
            head.bias.zero_()
        return [p for p in self.model.parameters() if p.requires_grad]

    def context(self) -> None:
        """There is no text."""

    def logits(self, pixels: torch.Tensor, context: None = None) -> torch.Tensor:
        """The head's outputs."""
        return self.model(pixels).float()

    def train(self, mode: bool = True) -> bool:
        """Switch dropout and the statistics of normalisation; returns what it was."""
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
            folder / "model.json", {"name": self.spec["name"], "class_names": self.names}
        )
        return folder / "model.safetensors"


def load_clip(spec: dict, device: str | torch.device = "cpu") -> tuple[nn.Module, Callable, dict]:
    """(model in eval mode, tokenizer, preprocess) of params["models"]["clip"].

    spec: name; optional config (an open_clip_config.json, whose folder holds the tokenizer, or a
    bare model configuration); optional weights (a file, or a tag that open_clip knows).
    Without config, `name` is open_clip's own name or "hf-hub:owner/model".
    """
    name, config, weights = spec.get("name"), spec.get("config"), spec.get("weights")
    for key in ("config", "weights"):
        path = str(spec.get(key) or "")
        if path.endswith((".json", ".safetensors", ".pt", ".bin")) and not Path(path).is_file():
            raise FileNotFoundError(
                f"models.clip.{key}: {path!r} is not there; clone the "
                "repository with its models/ folder, or name another file."
            )
    if config and Path(config).name == "open_clip_config.json":
        name = f"local-dir:{Path(config).parent}"
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it would say that the weights, which come next, lack
        model = open_clip.create_model(name, load_weights=False)
        logging.disable(level)
        open_clip.load_checkpoint(model, str(weights))
    else:
        if config:
            open_clip.add_model_config(Path(config))
            name = Path(config).stem
        model = open_clip.create_model(
            name, pretrained=str(weights) if weights else None, require_pretrained=True
        )
    preprocess = {k: model.visual.preprocess_cfg[k] for k in KEYS}
    return model.float().eval().to(device), open_clip.get_tokenizer(name), preprocess


def class_tokens(class_names: list[str], templates: list[str], tokenizer: Callable) -> torch.Tensor:
    """(T, C, L) token ids of every class name in every template ("a photo of a {class}")."""
    bad = [t for t in templates if "{class}" not in t]
    if bad or not templates:
        raise ValueError(f"classify.templates: {bad or templates} lacks '{{class}}'.")
    return torch.stack(
        [tokenizer([t.replace("{class}", c) for c in class_names]) for t in templates]
    )


def text_features(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(C, D) unit features of (T, C, L) tokens, on the model's device, with gradients."""
    count, classes, length = tokens.shape
    features = clip_lora.encode_text(model, tokens.reshape(-1, length))
    features = features.view(count, classes, -1).mean(0)
    return F.normalize(features, dim=-1)
