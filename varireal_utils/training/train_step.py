"""One optimiser step of a classifier, the same whatever number of parts or processes shares it.

symbols   w_i    lambda_real for a real image, 1 - lambda_real for an edited one
          y_i    class, one-hot; under Mixup or CutMix the mixture of two classes
          loss   sum_i w_i CE(logits_i, y_i) / sum_i w_i over the whole batch
          part   one of `accumulate` slices of the batch; each process takes equally many

The text is encoded once for all parts. A part's gradient is that of its own summands of the loss,
with the batch's denominator; gradients are gathered and added in the order of the parts, so that
one process and several end with the same bits (on a CPU, with as many threads in each). Dropout
draws from (seed, step, part).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from ..core import oom_retry, seeds
from ..models import preprocess

MIN_LR = 1e-8


def weighted_loss(
    logits: torch.Tensor, labels: torch.Tensor, is_real: torch.Tensor, lambda_real: float
) -> torch.Tensor:
    """sum w CE / sum w of logits (B, C), labels (B,) or (B, C), is_real (B,) bool.

    0 (with zero gradients) where every image of the batch has weight 0; never NaN.
    """
    weight = torch.where(is_real, lambda_real, 1.0 - lambda_real).to(logits.float())
    loss = F.cross_entropy(logits.float(), labels, reduction="none")
    return (weight * loss).sum() / weight.sum().clamp_min(1e-12)


def learning_rate(step: int, steps: int, lr: float, warmup: float) -> float:
    """Linear over the first `warmup` share of the steps, then half a cosine down to MIN_LR."""
    rise = math.ceil(warmup * steps)
    if step < rise:
        return lr * (step + 1) / rise
    return MIN_LR + (lr - MIN_LR) * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


def mix(
    pixels: torch.Tensor, labels: torch.Tensor, is_real: torch.Tensor, classes: int, options: dict
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or CutMix, by a coin, with `probability`; pixels (B, 3, S, S) float, labels (B,).

    Real images are mixed with real ones and edited with edited, so that a mixture has the weight of
    both of its halves. Returns pixels and (B, classes) soft labels. Draws from torch's generator.
    """
    soft = F.one_hot(labels, classes).float()
    if float(torch.rand(())) >= options["probability"]:
        return pixels, soft
    kind, alpha = (
        (v2.MixUp, options.get("mixup_alpha", 0.8))
        if float(torch.rand(())) < 0.5
        else (v2.CutMix, options.get("cutmix_alpha", 1.0))
    )
    blend, pixels = kind(alpha=alpha, num_classes=classes), pixels.clone()
    for rows in (is_real, ~is_real):
        if int(rows.sum()) > 1:
            pixels[rows], soft[rows] = blend(pixels[rows], labels[rows])
    return pixels, soft


class Step:
    """step(number, pixels, rows) -> loss. Owns optimiser and gradient scaler.

    net: of `networks`; weights: its trainable parameters; rows: frame with label and is_real;
    cfg: params["classify"]; team: an `accelerate.Accelerator` where several processes share a
    training, else None. Raises ValueError where the batch cannot be shared out.
    """

    def __init__(
        self,
        net: Any,
        weights: list,
        rows: pd.DataFrame,
        cfg: dict,
        seed: int,
        dtype: torch.dtype = torch.float32,
        team: Any = None,
    ):
        self.net, self.weights, self.cfg, self.seed, self.dtype = net, weights, cfg, seed, dtype
        self.team, self.device = team, net.device
        self.labels = torch.tensor(rows["label"].to_numpy(np.int64))
        self.is_real = torch.tensor(rows["is_real"].to_numpy(bool))
        # one kind of image only: its weight would cancel, or, at lambda 0 or 1, leave nothing
        both = 0 < int(self.is_real.sum()) < len(rows)
        self.lambda_real = cfg["lambda_real"] if both else 0.5
        self.parts = cfg.get("accumulate", 1)
        count = team.num_processes if team else 1
        if self.parts % count or self.parts > cfg["batch_size"]:
            raise ValueError(
                f"classify.accumulate is {self.parts}: it must be a multiple of the "
                f"{count} processes and at most batch_size {cfg['batch_size']}."
            )
        each = self.parts // count
        self.mine = range(
            each * (team.process_index if team else 0),
            each * ((team.process_index if team else 0) + 1),
        )
        self.optimiser = torch.optim.AdamW(weights, lr=cfg["lr"], weight_decay=cfg["weight_decay"])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.fixed = None
        if not net.learns_text:
            with torch.no_grad():
                self.fixed = net.context()

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _draw(self, step: int, what: str | int) -> None:
        torch.manual_seed(seeds.seed_for(self.seed, "dropout", step, what))

    def __call__(self, step: int, pixels: torch.Tensor, chosen: torch.Tensor) -> float:
        cfg = self.cfg
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, cfg["steps"], cfg["lr"], cfg["warmup"])
        labels, is_real = self.labels[chosen].to(self.device), self.is_real[chosen].to(self.device)
        pixels = preprocess.normalise(pixels.to(self.device), self.net.preprocess)
        if cfg.get("mix"):
            self._draw(step, "mix")
            pixels, labels = mix(pixels, labels, is_real, self.net.classes, cfg["mix"])
        weight = torch.where(is_real, self.lambda_real, 1.0 - self.lambda_real)
        weight = weight / weight.sum().clamp_min(1e-12)
        self._draw(step, "text")
        text = self.fixed
        if self.net.learns_text:
            with self._half():
                text = self.net.context()
        with oom_retry.named(
            f"raise classify.accumulate, which shares a batch out, from {self.parts}"
        ):
            loss, gradients = self._gradients(step, pixels, labels, weight, text)
        self.optimiser.zero_grad(set_to_none=True)
        for parameter, gradient in zip(self.weights, gradients):
            parameter.grad = gradient
        if self.net.learns_text:
            text.backward(gradients[-1])
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss is {loss} at step {step + 1}: lower classify.lr "
                f"({cfg['lr']}), or set precision to float32 (it is {self.dtype})."
            )
        return loss

    def _gradients(self, step: int, pixels, labels, weight, text) -> tuple[float, list]:
        """The loss, and its gradients: of every weight without the text's share, then of text."""
        held = text.detach().requires_grad_() if self.net.learns_text else text
        sources = [*self.weights, *([held] if self.net.learns_text else [])]
        slices = torch.arange(len(pixels)).tensor_split(self.parts)
        made = []
        for part in self.mine:
            at = slices[part]
            self._draw(step, part)
            with self._half():
                logits = self.net.logits(pixels[at], held)
            each = F.cross_entropy(logits.float(), labels[at], reduction="none")
            loss = (weight[at] * each).sum()
            found = torch.autograd.grad(self.scaler.scale(loss), sources, allow_unused=True)
            made.append((loss.detach(), found))
        if self.team is None and len(made) == 1:
            return float(made[0][0]), list(made[0][1])
        flat = torch.stack(
            [
                torch.cat(
                    [
                        loss.view(1),
                        *(
                            torch.zeros_like(s).flatten() if g is None else g.flatten()
                            for s, g in zip(sources, found)
                        ),
                    ]
                )
                for loss, found in made
            ]
        )
        if self.team is not None:
            flat = self.team.gather(flat)
        total = flat[0]
        for row in flat[1:]:
            total = total + row
        pieces = total[1:].split([s.numel() for s in sources])
        return float(total[0]), [p.view_as(s) for p, s in zip(pieces, sources)]
