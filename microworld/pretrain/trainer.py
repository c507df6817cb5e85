"""One training loop for every micro model: bf16 where it pays, EMA, checkpoints, exact resume.

A batch is a function of (seed, step) alone, so a run that was stopped goes on with the very batches
that it would have seen, and on a GPU worker processes may put the next ones together ahead of time.
Checkpoints are written beside the old one and renamed.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

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


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def fit(
    modules: dict[str, torch.nn.Module],
    sample: Callable,
    loss_of: Callable,
    steps: int,
    checkpoint: Path,
    lr: float,
    seed: int = 0,
    warmup: int = 100,
    weight_decay: float = 1e-4,
    ema: float = 0.998,
    seconds: float = math.inf,
    every: int = 300,
) -> dict:
    """Train until `steps` or `seconds`; returns {"step", "loss": [[step, loss], ...], "seconds",
    "device"}.

    The modules end as their exponential moving averages.

    sample(step, rng) -> dict of arrays or tensors, on the CPU; loss_of(step, batch), the same as
    tensors on the modules' device -> (loss tensor, dict of tensors to log). With a time limit the
    learning rate follows the time used, so that a run on a slow machine still ends with its cosine
    done. Raises FloatingPointError where the loss is not finite, found at most 25 steps later and
    before it reaches a checkpoint.
    """
    loaders.avoid_faulty_attention()
    device = on(next(iter(modules.values())))
    weights = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    averages = {
        k: {n: t.detach().clone() for n, t in m.state_dict().items()} for k, m in modules.items()
    }
    step, spent, history = 0, 0.0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for k, m in modules.items():
            m.load_state_dict(saved["modules"][k])
        optimizer.load_state_dict(saved["optimizer"])
        averages, step, spent = saved["averages"], saved["step"], saved["spent"]
        history = saved["history"]
    for m in modules.values():
        m.train()
    bar, start, running = tqdm(total=steps, initial=step, mininterval=10), time.time(), {}

    def keep() -> None:
        """Check, then write the checkpoint; nothing is written where no step was taken."""
        if running:
            _check(checkpoint.stem, step, running, batch)
            save_checkpoint(
                checkpoint, modules, optimizer, averages, step, spent + time.time() - start, history
            )

    for batch in batches(sample, seed, range(step, steps), device):
        used = spent + time.time() - start
        if used > seconds:
            break
        progress = max(step / steps, used / seconds)
        now = (
            learning_rate(int(progress * steps), steps, lr, warmup)
            if step >= warmup
            else lr * (step + 1) / warmup
        )
        for group in optimizer.param_groups:
            group["lr"] = now
        batch = {k: torch.as_tensor(v).to(device, non_blocking=True) for k, v in batch.items()}
        with loaders.short_attention(device):
            loss, logs = loss_of(step, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        _average(modules, averages, min(ema, step / (step + 10)))
        for k, v in {"loss": loss, **logs}.items():  # read every 25 steps: a GPU need not wait
            running[k] = torch.lerp(running.get(k, v.detach()), v.detach(), 0.02)
        bar.update(1)
        if step % 25 == 0:
            bar.set_postfix({k: f"{float(v):.4f}" for k, v in running.items()}, refresh=False)
            history.append([step, float(running["loss"])])
            _check(checkpoint.stem, step, running, batch)
        if step % every == 0:
            keep()
    keep()
    bar.close()
    for k, m in modules.items():
        m.load_state_dict(averages[k])
        m.eval()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"step": step, "loss": history, "seconds": spent + time.time() - start, "device": name}


def _check(stage: str, step: int, running: dict, batch: dict[str, torch.Tensor]) -> None:
    """Raise FloatingPointError where the running loss is not finite."""
    loss = float(running["loss"])
    if math.isfinite(loss):
        return
    bad = [k for k, v in batch.items() if not torch.isfinite(torch.as_tensor(v).float()).all()]
    why = (
        f"{', '.join(bad)} of the batch is not finite: delete what was prepared on the bench"
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


def save_checkpoint(
    path: Path,
    modules: dict,
    optimizer: torch.optim.Optimizer,
    averages: dict,
    step: int,
    spent: float,
    history: list,
) -> None:
    """Write beside, then rename: a kill leaves the old checkpoint or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    torch.save(
        {
            "modules": {k: m.state_dict() for k, m in modules.items()},
            "averages": averages,
            "optimizer": optimizer.state_dict(),
            "step": step,
            "spent": spent,
            "history": history,
        },
        draft,
    )
    os.replace(draft, path)
