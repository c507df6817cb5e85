"""Takes one optimiser step of a classifier, in parts and on several processes if asked.

symbols   w_i    lambda_real for a real image, 1 - lambda_real for an edited one
          y_i    class, one-hot; under Mixup or CutMix the mixture of two classes
          loss   sum_i w_i CE(logits_i, y_i) / sum_i w_i over the whole batch
          part   one of `accumulate` slices of the batch; each process takes equally many

Text is encoded once for all parts. A part's gradient is that of its own summands of the loss, with
the batch's denominator. Gradients are gathered and added in the order of the parts.

Invariants (tests/unit/test_classify.py): the loss is lambda * mean(real) + (1 - lambda) *
mean(edited) of a batch with equally many of both, and the plain mean with one kind; one process and
several give the same bits (on a CPU, with equally many threads); dropout draws from (seed, step,
part).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from ..core import oom_retry, seeds
from ..core.config_sections import MixSettings, TrainSettings
from ..models import preprocess
from ..models.classifiers import Classifier
from ..models.schedule import cosine_with_warmup

if TYPE_CHECKING:
    from accelerate import Accelerator

MIN_LR = 1e-8


def mix(
    pixels: torch.Tensor,
    labels: torch.Tensor,
    is_real: torch.Tensor,
    classes: int,
    settings: MixSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images by Mixup or CutMix, at random; pixels (B, 3, S, S) float, labels (B,).

    Real images mix with real ones and edited with edited, so both halves of a mixture have the same
    weight. is_real (B,) lies on the CPU, so that nobody waits for a device.
    Returns pixels and (B, classes) soft labels. Draws from torch's global CPU generator.
    """
    soft = F.one_hot(labels, classes).float()
    if float(torch.rand(())) >= settings.probability:
        return pixels, soft
    way, alpha = (
        (v2.MixUp, settings.mixup_alpha)
        if float(torch.rand(())) < 0.5
        else (v2.CutMix, settings.cutmix_alpha)
    )
    blend, pixels = way(alpha=alpha, num_classes=classes), pixels.clone()
    for kind in (is_real, ~is_real):
        if int(kind.sum()) > 1:
            rows = kind.nonzero().flatten().to(pixels.device, non_blocking=True)
            pixels[rows], soft[rows] = blend(pixels[rows], labels[rows])
    return pixels, soft


class Step:
    """step(number, pixels, rows) -> loss. Owns optimiser and gradient scaler.

    weights: the classifier's trainable parameters; rows: frame with label and is_real; accelerator:
    of `accelerate`, where several processes share a training. Raises ValueError where the batch
    cannot be shared out.
    """

    read_every = 1  # steps between two looks at the losses

    def __init__(
        self,
        net: Classifier,
        weights: list[torch.nn.Parameter],
        rows: pd.DataFrame,
        settings: TrainSettings,
        seed: int,
        dtype: torch.dtype = torch.float32,
        accelerator: Accelerator | None = None,
    ):
        self.net, self.weights, self.settings = net, weights, settings
        self.seed, self.dtype, self.accelerator = seed, dtype, accelerator
        self.device = net.device
        self.labels = torch.tensor(rows["label"].to_numpy(np.int64))
        self.is_real = torch.tensor(rows["is_real"].to_numpy(bool))
        self.lambda_real = weight_of_real(rows["is_real"].to_numpy(bool), settings)
        self.own_parts = _own_parts(settings, accelerator)
        self.optimiser = torch.optim.AdamW(
            weights, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.fixed_text = None
        if not net.learns_text:
            with torch.no_grad():
                self.fixed_text = net.text_features()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _seed_dropout(self, step: int, what: str | int) -> None:
        torch.manual_seed(seeds.seed_for(self.seed, "dropout", step, what))

    def __call__(self, step: int, pixels: torch.Tensor, chosen: torch.Tensor) -> float:
        """Take step `step` (0-based) on uint8 pixels (B, 3, S, S) of the rows `chosen`; returns the
        loss. Raises ValueError where it is not finite."""
        settings = self.settings
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        labels, is_real = self.labels[chosen].to(self.device), self.is_real[chosen]
        pixels = preprocess.normalise(pixels.to(self.device), self.net.preprocess)
        if settings.mix:
            self._seed_dropout(step, "mix")
            pixels, labels = mix(pixels, labels, is_real, self.net.classes, settings.mix)
        weight = weights_of(is_real, self.lambda_real).to(self.device)
        self._seed_dropout(step, "text")
        text = self.fixed_text
        if self.net.learns_text:
            with self._autocast():
                text = self.net.text_features()
        with oom_retry.named(
            f"raise classify.accumulate, which shares a batch out, from {settings.accumulate}"
        ):
            loss, gradients = self._gradients(step, pixels, labels, weight, text)
        self._update(gradients, text)
        refuse_infinite(loss, step, settings, self.dtype)
        return loss

    def memory(self) -> dict:
        """What the optimiser and the scaler remember, for a checkpoint."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def remember(self, memory: dict) -> None:
        """Put back what `memory` gave."""
        self.optimiser.load_state_dict(memory["optimiser"])
        self.scaler.load_state_dict(memory["scaler"])

    def _update(self, gradients: list[torch.Tensor], text: torch.Tensor | None) -> None:
        """Apply gradients of the weights, and of the text's features through its tower."""
        self.optimiser.zero_grad(set_to_none=True)
        for parameter, gradient in zip(self.weights, gradients):
            parameter.grad = gradient
        if self.net.learns_text and text is not None:
            text.backward(gradients[-1])
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def _gradients(
        self,
        step: int,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        weight: torch.Tensor,
        text: torch.Tensor | None,
    ) -> tuple[float, list[torch.Tensor]]:
        """The loss, and its gradients: of every weight without the text's share, then of text."""
        held: torch.Tensor | None = text
        sources: list[torch.Tensor] = list(self.weights)
        if self.net.learns_text and text is not None:
            held = text.detach().requires_grad_()
            sources.append(held)
        slices = torch.arange(len(pixels)).tensor_split(self.settings.accumulate)
        found = []
        for part in self.own_parts:
            at = slices[part]
            self._seed_dropout(step, part)
            with self._autocast():
                logits = self.net.logits(pixels[at], held)
            each = F.cross_entropy(logits.float(), labels[at], reduction="none")
            loss = (weight[at] * each).sum()
            gradients = torch.autograd.grad(self.scaler.scale(loss), sources, allow_unused=True)
            found.append((loss.detach(), gradients))
        if self.accelerator is None and len(found) == 1:
            return float(found[0][0]), list(found[0][1])
        return self._sum(found, sources)

    def _sum(
        self, found: list[tuple[torch.Tensor, tuple]], sources: list[torch.Tensor]
    ) -> tuple[float, list[torch.Tensor]]:
        """Loss and gradients of all parts of all processes, added in the order of the parts."""
        flat = torch.stack(
            [torch.cat([loss.view(1), *_flat(gradients, sources)]) for loss, gradients in found]
        )
        if self.accelerator is not None:
            flat = self.accelerator.gather(flat)
        total = flat[0]
        for row in flat[1:]:
            total = total + row
        pieces = total[1:].split([s.numel() for s in sources])
        return float(total[0]), [p.view_as(s) for p, s in zip(pieces, sources)]


def weight_of_real(is_real: np.ndarray, settings: TrainSettings) -> float:
    """lambda_real where a training set has both kinds of image, else 0.5: weights would cancel."""
    return settings.lambda_real if 0 < int(is_real.sum()) < len(is_real) else 0.5


def weights_of(is_real: torch.Tensor, lambda_real: float) -> torch.Tensor:
    """(B,) weight of each image in the loss of a batch, of sum 1."""
    weight = torch.where(is_real, lambda_real, 1.0 - lambda_real)
    return weight / weight.sum().clamp_min(1e-12)


def refuse_infinite(loss: float, step: int, settings: TrainSettings, dtype: torch.dtype) -> None:
    """Raise ValueError for a loss of step `step` (0-based) that is not finite."""
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss is {loss} at step {step + 1}: lower classify.lr "
            f"({settings.lr}), or set precision to float32 (it is {dtype})."
        )


def learning_rate(step: int, settings: TrainSettings) -> float:
    """The rate of a step: warm-up over a share of the steps, then half a cosine to MIN_LR."""
    rise = math.ceil(settings.warmup * settings.steps)
    return cosine_with_warmup(step, settings.steps, settings.lr, rise, MIN_LR)


def _flat(gradients: tuple, sources: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients as vectors, zeros where a weight was not used."""
    return [
        torch.zeros_like(s).flatten() if g is None else g.flatten()
        for s, g in zip(sources, gradients)
    ]


def _own_parts(settings: TrainSettings, accelerator: Accelerator | None) -> range:
    """The parts of a batch that this process works out."""
    parts = settings.accumulate
    count = accelerator.num_processes if accelerator else 1
    if parts % count or parts > settings.batch_size:
        raise ValueError(
            f"classify.accumulate is {parts}: it must be a multiple of the "
            f"{count} processes and at most batch_size {settings.batch_size}."
        )
    each, index = parts // count, accelerator.process_index if accelerator else 0
    return range(each * index, each * (index + 1))
