"""Counts what a training step asks a device to do, without the device.

    kernels   operations that compute or copy; views and allocations are none
    casts     those of them that only change the type
    waits     operations that read a value from the device, so that the host waits for it

`vit_b_16_step` builds a captured step of CLIP ViT-B/16 at the paper's sizes. Under torch's
FakeTensorMode it needs neither weights nor a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import open_clip
import pandas as pd
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from varireal_utils.core.config_sections import AugmentSettings, TrainSettings
from varireal_utils.models import clip_lora
from varireal_utils.models.clip_classifier import ClipClassifier
from varireal_utils.training.captured_step import CapturedStep

ALLOCATIONS = ("empty", "new_empty", "empty_like", "empty_strided", "detach", "alias", "lift_fresh")
WAITS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")


class Operations(TorchDispatchMode):
    """Context in which operations are counted: .kernels, .casts, .waits."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.casts = 0, 0
        self.waits: list[str] = []
        self.names: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        fake = name.startswith("_fused_adam") and isinstance(args[0][0], FakeTensor)
        out = None if fake else func(*args, **kwargs)  # it writes in place and has no fake kind
        if func.namespace != "aten" or func.is_view or name in ALLOCATIONS:
            return out
        self.kernels += 1
        self.names[name] = self.names.get(name, 0) + 1
        self.casts += _is_cast(name, args, out)
        if name in WAITS or (name == "index" and _by_mask(args[1])):
            self.waits.append(name)
        return out


def _is_cast(name: str, args: Any, out: Any) -> bool:
    if name == "copy_":
        return isinstance(args[1], torch.Tensor) and args[0].dtype != args[1].dtype
    return name == "_to_copy" and args[0].dtype != out.dtype


def _by_mask(indices: Any) -> bool:
    return any(i is not None and i.dtype == torch.bool for i in indices)


def vit_b_16_step(
    device: torch.device, classes: int, batch: int, words: int = 10
) -> tuple[CapturedStep, torch.Tensor, torch.Tensor]:
    """(step, pixels, rows) of ViT-B/16 with random weights: rank 16 on both towers, bfloat16.

    words: tokens of a class name's sentence.
    """
    with device:
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16-quickgelu"))
    settings = TrainSettings(
        rank=16,
        alpha=32,
        dropout=0.1,
        lr=1e-4,
        weight_decay=1e-4,
        warmup=0.1,
        batch_size=batch,
        eval_batch_size=batch,
        steps=100,
        eval_every=100,
        checkpoint_every=0,
        lambda_real=0.5,
        towers=["image", "text"],
        templates=["a photo of a {class}"],
        augment=AugmentSettings(),
    )
    weights = clip_lora.add_lora(model, 16, 32, 0.1)
    net = SimpleNamespace(
        model=model,
        device=device,
        tokens=torch.zeros(1, classes, 77, dtype=torch.long),
        ends=[words - 1] * classes,
        classes=classes,
        preprocess={"size": 224, "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)},
        train=model.train,
    )
    rows = pd.DataFrame({"label": [i % classes for i in range(batch)], "is_real": [True] * batch})
    step = CapturedStep(cast(ClipClassifier, net), weights, rows, settings, 0, torch.bfloat16)
    step.whole = False  # one operation at a time, so that they can be counted
    pixels = torch.zeros(batch, 3, 224, 224, dtype=torch.uint8)
    return step, pixels, torch.arange(batch)
