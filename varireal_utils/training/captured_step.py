"""Takes a whole training step as one CUDA graph; the plain path (`train_step`) is its reference.

A step of two CLIP towers is some 800 short operations: a GPU waits for their launch. Their list is
the same at every step, so it is recorded once and replayed. What changes from step to step lies in
buffers of a fixed place:

    pixels (B, 3, S, S)   normalised, Mixup and CutMix done        float32
    target (B, C)         classes, one-hot or mixed                float32
    weight (B,)           of each image in the loss                float32
    rate   ()             learning rate                            float32

    flat parameters, float32 -> compute type -> towers -> loss, gradients -> float32 -> fused AdamW

Losses stay on the device; `train` reads them every 50 steps. Without CUDA the same operations run
one by one, which is how tests compare them with the plain path.

Invariants (tests/unit/test_captured_step.py): at ViT-B/16 at most 1,000 operations a step, 40 of
them casts, on fake CUDA tensors, none of which reads a value from the device; without dropout, a
training's losses and adapters are the plain path's up to rounding.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from ..core import seeds
from ..core.config_sections import TrainSettings
from ..models import clip_lora, frozen_towers, preprocess
from ..models.clip_classifier import ClipClassifier
from . import train_step


class FlatAdapters:
    """All adapters in one buffer: of float32, of the compute type, and of gradients in both."""

    def __init__(self, model: torch.nn.Module, kind: torch.dtype):
        modules = [m for m in model.modules() if isinstance(m, clip_lora.LoRAAttention)]
        self.parameters = [
            p for m in modules for p in (m.A_q, m.A_v, m.B_q, m.B_v)
        ]  # q and v side by side
        device, count = self.parameters[0].device, sum(p.numel() for p in self.parameters)
        self.full = torch.empty(count, device=device)
        self.full_grad = torch.zeros(count, device=device)
        self.half, self.half_grad = (torch.zeros(count, device=device, dtype=kind) for _ in "wg")
        at = 0
        for p in self.parameters:
            own = slice(at, at + p.numel())
            self.full[own].copy_(p.detach().flatten())
            p.data = self.full[own].view_as(p)
            p.grad = self.full_grad[own].view_as(p)
            at = own.stop
        self.of = {}
        at = 0
        for m in modules:
            (d, r), size = m.B_q.shape, 2 * m.B_q.numel()
            shapes = [
                (slice(at, at + size), (2 * r, d)),
                (slice(at + size, at + 2 * size), (2, d, r)),
            ]
            A, B, g_A, g_B = (
                buffer[own].view(shape)
                for buffer in (self.half, self.half_grad)
                for own, shape in shapes
            )
            self.of[m] = frozen_towers.Adapter(A, B, g_A, g_B, m.dropout, m.alpha / m.rank)
            at += 2 * size

    def read(self) -> None:
        """Weights of float32 into the compute type."""
        self.half.copy_(self.full)

    def write(self) -> None:
        """Gradients of the compute type into float32, where the optimiser looks."""
        self.full_grad.copy_(self.half_grad)


class CapturedStep:
    """step(number, pixels, rows) -> loss on the device, a tensor of one number.

    weights: what `net.adapt` returned; rows: frame with label and is_real. Use `fits` first.
    """

    read_every = 50  # steps between two looks at the losses

    def __init__(
        self,
        net: ClipClassifier,
        weights: list[torch.nn.Parameter],
        rows: pd.DataFrame,
        settings: TrainSettings,
        seed: int,
        dtype: torch.dtype,
    ):
        self.net, self.settings, self.seed, self.dtype = net, settings, seed, dtype
        self.device = net.device
        real = rows["is_real"].to_numpy(bool)
        share = train_step.weight_of_real(real, settings)
        self.is_real = torch.tensor(real)
        self.labels = torch.tensor(rows["label"].to_numpy(np.int64), device=self.device)
        self.weights = torch.tensor(
            np.where(real, share, 1 - share), dtype=torch.float32, device=self.device
        )
        self.adapters = FlatAdapters(net.model, dtype)
        text = clip_lora.text_tower(net.model)
        self.image = frozen_towers.ImageTower(net.model.visual, self.adapters.of, dtype)
        self.text = frozen_towers.TextTower(text, net.tokens, net.ends, self.adapters.of, dtype)
        self.scale = net.model.logit_scale.detach().exp()
        self.optimiser = torch.optim.AdamW(
            weights,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        for group in self.optimiser.param_groups:
            group["lr"] = torch.tensor(settings.lr, device=self.device)  # a graph's rate may change
        side, count = preprocess.input_size(net.preprocess), settings.batch_size
        self.pixels = torch.zeros(count, 3, side, side, device=self.device)
        self.target = torch.zeros(count, net.classes, device=self.device)
        self.weight = torch.zeros(count, device=self.device)
        self.loss = torch.zeros((), device=self.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.whole = self.device.type == "cuda"  # whether steps are to be captured

    def __call__(self, step: int, pixels: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Take step `step` (0-based) on uint8 pixels (B, 3, S, S) of the rows `chosen`."""
        self.net.train()
        self.fill(step, pixels, chosen)
        if self.whole and self.graph is None:
            self._capture()
        for group in self.optimiser.param_groups:
            group["lr"].fill_(train_step.learning_rate(step, self.settings))
        torch.manual_seed(seeds.seed_for(self.seed, "dropout", step, "whole"))
        if self.graph is None:
            self.work()
        else:
            self.graph.replay()
        return self.loss.clone()

    def memory(self) -> dict:
        """What the optimiser remembers, for a checkpoint."""
        return {"optimiser": {"state": self.optimiser.state_dict()["state"]}}

    def remember(self, memory: dict) -> None:
        """Put back what `memory` gave; before the first step."""
        groups = self.optimiser.state_dict()["param_groups"]  # the rate stays on the device
        self.optimiser.load_state_dict(memory["optimiser"] | {"param_groups": groups})

    def fill(self, step: int, pixels: torch.Tensor, chosen: torch.Tensor) -> None:
        """Put a batch into the buffers."""
        settings = self.settings
        there = pixels.to(self.device, non_blocking=True)  # the loader has pinned both
        ready, at = (
            preprocess.normalise(there, self.net.preprocess),
            chosen.to(self.device, non_blocking=True),
        )
        labels = self.labels.index_select(0, at)
        if settings.mix:
            torch.manual_seed(seeds.seed_for(self.seed, "dropout", step, "mix"))
            kinds = self.is_real[chosen]
            ready, target = train_step.mix(ready, labels, kinds, self.net.classes, settings.mix)
        else:
            target = F.one_hot(labels, self.net.classes)
        self.pixels.copy_(ready)
        self.target.copy_(target)
        weights = self.weights.index_select(0, at)
        self.weight.copy_(weights / weights.sum().clamp_min(1e-12))

    @torch.no_grad()
    def _gradients(self) -> None:
        """Loss and gradients of what lies in the buffers."""
        self.adapters.read()
        text, image = self.text.forward(), self.image.forward(self.pixels)
        logits = self.scale * image @ text.t()
        log_p = logits.log_softmax(-1)
        weighted = self.weight[:, None] * self.target
        self.loss.copy_((weighted * log_p).sum().neg())
        g = self.scale * (self.weight[:, None] * log_p.exp() - weighted)
        self.image.backward(g @ text)
        self.text.backward(g.t() @ image)
        self.adapters.write()

    def work(self) -> None:
        """A step on what lies in the buffers, one operation at a time."""
        self._gradients()
        self.optimiser.step()

    def _capture(self) -> None:
        """Record the step as a graph; where that fails, steps run one operation at a time."""
        held = self.copies()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their kernels before anything is recorded
                self.work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.work()
            self.graph = graph
        except RuntimeError as error:
            self.whole = False
            warnings.warn(
                f"A training step cannot be captured as a CUDA graph ({error}); it runs "
                "one operation at a time, which gives the same numbers and takes longer.",
                stacklevel=3,
            )
        self.put_back(held)

    def copies(self) -> tuple[torch.Tensor, list[dict]]:
        """Copies of the adapters and of the optimiser's memory, before steps that do not count."""
        state = self.optimiser.state
        copies = [
            {k: v.clone() for k, v in state[p].items()} if p in state else {}
            for p in self.adapters.parameters
        ]
        return self.adapters.full.clone(), copies

    @torch.no_grad()
    def put_back(self, held: tuple[torch.Tensor, list[dict]]) -> None:
        """Undo every step since `copies`."""
        self.adapters.full.copy_(held[0])
        for p, copies in zip(self.adapters.parameters, held[1]):
            for key, value in self.optimiser.state[p].items():
                value.copy_(copies[key]) if copies else value.zero_()


def fits(net: ClipClassifier, settings: TrainSettings, dtype: torch.dtype) -> bool:
    """Whether a training can go this way: CLIP with both towers adapted, one part, bfloat16, CUDA.

    On a CPU the plain path is faster: its products are packed (models/packed_linear.py).
    """
    return (
        net.device.type == "cuda"
        and dtype == torch.bfloat16
        and settings.accumulate == 1
        and net.learns_text
        and "image" in settings.towers
        and frozen_towers.fits(net.model)
    )
