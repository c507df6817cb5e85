"""Trains any micro model: moving averages of weights, checkpoints, exact resume.

Invariant (tests/unit/test_pretrain.py): a batch is a function of (seed, step) alone, so a training
that was stopped resumes with the same batches, whatever processes prepare them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from varireal_utils.core.cores import cores
from varireal_utils.models import loaders


def on(module: torch.nn.Module) -> torch.device:
    """The device that a module's weights are on."""
    return next(module.parameters()).device


def half(device: torch.device) -> torch.autocast:
    """bfloat16 autocast, on a CPU as on a GPU."""
    return torch.autocast(device.type, torch.bfloat16)


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step."""
    return np.random.default_rng([seed, step])


def learning_rate(step: int, steps: int, peak: float, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up, then a hold, then a cosine over the last 60 % of the steps."""
    hold = 0.4 * steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if step < hold:
        return peak
    turn = min(1.0, (step - hold) / max(1.0, steps - hold))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * turn)))


class _Batches(Dataset):
    """sample(step, rng) by step, for worker processes."""

    def __init__(self, sample: Callable, seed: int):
        self.sample, self.seed = sample, seed

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return self.sample(step, batch_rng(self.seed, step))


def batches(sample: Callable, seed: int, steps: range, device: torch.device) -> DataLoader:
    """The batches of `steps` in their order; for a GPU, made by the other cores, ahead of it."""
    ahead = (
        {}
        if device.type == "cpu"
        else {
            "num_workers": max(1, cores() - 1),
            "multiprocessing_context": "fork",
            "pin_memory": torch.cuda.is_available(),
            "prefetch_factor": 3,
        }
    )
    return DataLoader(_Batches(sample, seed), batch_size=None, sampler=steps, **ahead)


@dataclass(frozen=True)
class FitSettings:
    """How long and how a model trains. checkpoint: file to resume from; batch: examples of a step;
    ema: decay of the moving average of weights; every: steps between checkpoints; pause: seconds
    after which one call stops with its checkpoint written, which changes no weight of the end."""

    checkpoint: Path
    steps: int
    seconds: float = math.inf
    lr: float = 1e-3
    batch: int = 32
    seed: int = 0
    warmup: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    every: int = 300
    pause: float = math.inf


@dataclass
class Progress:
    """What a checkpoint holds beside weights: steps and seconds so far, losses, moving averages."""

    averages: dict[str, dict[str, torch.Tensor]]
    step: int = 0
    spent: float = 0.0
    history: list[list[float]] = field(default_factory=list)


def fit(
    modules: dict[str, torch.nn.Module],
    sample: Callable,
    loss_of: Callable,
    settings: FitSettings,
) -> dict:
    """Train until `steps` or `seconds`; the modules end as their exponential moving averages.

    sample(step, rng) -> dict of arrays or tensors, on the CPU; loss_of(step, batch), the same as
    tensors on the modules' device -> (loss tensor, dict of tensors to log). With a time limit the
    learning rate follows the time used, so that a slow machine also reaches the end of the cosine.
    Returns {"step", "loss": [[step, loss], ...], "seconds", "device"}. Raises FloatingPointError
    where the loss is not finite, found at most 25 steps later and before it reaches a checkpoint.
    """
    loaders.avoid_faulty_attention()
    device = on(next(iter(modules.values())))
    weights = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, fused=True
    )
    progress = _resume(modules, optimizer, settings.checkpoint, device)
    for m in modules.values():
        m.train()
    start, before = time.time(), progress.spent
    running: dict[str, torch.Tensor] = {}
    bar = tqdm(total=settings.steps, initial=progress.step, mininterval=10)
    todo = range(progress.step, settings.steps)
    for batch in batches(sample, settings.seed, todo, device):
        progress.spent = before + time.time() - start
        if progress.spent > settings.seconds or time.time() - start > settings.pause:
            break
        for group in optimizer.param_groups:
            group["lr"] = _rate(progress, settings)
        batch = {k: torch.as_tensor(v).to(device, non_blocking=True) for k, v in batch.items()}
        with loaders.short_attention(device):
            loss, logs = loss_of(progress.step, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        progress.step += 1
        decay = min(settings.ema, progress.step / (progress.step + 10))
        _average(modules, progress.averages, decay)
        for k, v in {"loss": loss, **logs}.items():  # read every 25 steps: a GPU need not wait
            running[k] = torch.lerp(running.get(k, v.detach()), v.detach(), 0.02)
        bar.update(1)
        progress.spent = before + time.time() - start
        if progress.step % 25 == 0:
            _note(progress, running, bar, settings.checkpoint.stem, batch)
        if progress.step % settings.every == 0:
            _keep(modules, optimizer, progress, settings.checkpoint, running, batch)
    if running:  # nothing is written where no step was taken
        _keep(modules, optimizer, progress, settings.checkpoint, running, batch)
    bar.close()
    for k, m in modules.items():
        m.load_state_dict(progress.averages[k])
        m.eval()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    seconds = before + time.time() - start
    return {"step": progress.step, "loss": progress.history, "seconds": seconds, "device": name}


def _rate(progress: Progress, settings: FitSettings) -> float:
    """The learning rate of the next step; after the warm-up it follows steps or time, whichever is
    further on."""
    steps, peak, warmup = settings.steps, settings.lr, settings.warmup
    if progress.step < warmup:
        return peak * (progress.step + 1) / warmup
    share = max(progress.step / steps, progress.spent / settings.seconds)
    return learning_rate(int(share * steps), steps, peak, warmup)


def _resume(
    modules: dict[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    checkpoint: Path,
    device: torch.device,
) -> Progress:
    """Put a checkpoint back, if there is one; how far it was."""
    if not checkpoint.exists():
        return Progress(
            {
                k: {n: t.detach().clone() for n, t in m.state_dict().items()}
                for k, m in modules.items()
            }
        )
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    for k, m in modules.items():
        m.load_state_dict(saved["modules"][k])
    optimizer.load_state_dict(saved["optimizer"])
    return Progress(saved["averages"], saved["step"], saved["spent"], saved["history"])


def _note(
    progress: Progress, running: dict, bar: tqdm, stage: str, batch: dict[str, torch.Tensor]
) -> None:
    """Show and store the running loss. Raises FloatingPointError where it is not finite."""
    bar.set_postfix({k: f"{float(v):.4f}" for k, v in running.items()}, refresh=False)
    progress.history.append([progress.step, float(running["loss"])])
    _check(stage, progress.step, running, batch)


def _keep(
    modules: dict[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    checkpoint: Path,
    running: dict[str, torch.Tensor],
    batch: dict[str, torch.Tensor],
) -> None:
    """Check the loss, then write the checkpoint beside the old one and rename it: a kill leaves the
    old checkpoint or the new one."""
    _check(checkpoint.stem, progress.step, running, batch)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    draft = checkpoint.with_suffix(".tmp")
    torch.save(
        {
            "modules": {k: m.state_dict() for k, m in modules.items()},
            "optimizer": optimizer.state_dict(),
            **vars(progress),
        },
        draft,
    )
    os.replace(draft, checkpoint)


def _check(stage: str, step: int, running: dict, batch: dict[str, torch.Tensor]) -> None:
    """Raise FloatingPointError where the running loss is not finite."""
    loss = float(running["loss"])
    if math.isfinite(loss):
        return
    bad = [k for k, v in batch.items() if not torch.isfinite(torch.as_tensor(v).float()).all()]
    why = (
        f"{', '.join(bad)} of the batch is not finite: delete the prepared files beside it"
        if bad
        else "the batch is finite: lower the learning rate, or train on the CPU"
    )
    raise FloatingPointError(
        f"{stage}: the loss is {loss} at step {step}, and {why}; the checkpoint of before is kept"
    )


@torch.no_grad()
def _average(modules: dict, averages: dict, decay: float) -> None:
    for k, m in modules.items():
        state = {n: t.detach() for n, t in m.state_dict().items()}
        real = [n for n, t in state.items() if t.dtype.is_floating_point]
        torch._foreach_lerp_([averages[k][n] for n in real], [state[n] for n in real], 1 - decay)
        for n in state.keys() - set(real):
            averages[k][n].copy_(state[n])
