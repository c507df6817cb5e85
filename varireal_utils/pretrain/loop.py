"""One training loop for every micro model: bf16 where it pays, EMA, checkpoints, exact resume.

A batch is a function of (seed, step) alone, so a run that was stopped goes on with the very batches
that it would have seen. Checkpoints are written beside the old one and renamed.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm


def on(module: torch.nn.Module) -> torch.device:
    """The device that a module's weights are on."""
    return next(module.parameters()).device


def half(device: torch.device) -> torch.autocast:
    """bfloat16 autocast, on a CPU as on a GPU."""
    return torch.autocast(device.type, torch.bfloat16)


def short_attention(device: torch.device) -> contextlib.AbstractContextManager:
    """Plain matrix products for attention on a CPU: over 64 tokens a fifth faster than the fused
    kernel, whose backward pass is made for long rows."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


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


def fit(modules: dict[str, torch.nn.Module], loss_of: Callable, steps: int, checkpoint: Path,
        lr: float, seed: int = 0, warmup: int = 100, weight_decay: float = 1e-4,
        ema: float = 0.998, seconds: float = math.inf, every: int = 300,
        ) -> dict:
    """Train until `steps` or `seconds`; returns {"step", "loss": [[step, loss], ...], "seconds"}.

    The modules end as their exponential moving averages.

    loss_of(step, rng) -> (loss tensor, dict of numbers to log). With a time limit the learning rate
    follows the time used, so that a run on a slow machine still ends with its cosine done.
    """
    weights = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay,
                                  fused=True)
    averages = {k: {n: t.detach().clone() for n, t in m.state_dict().items()}
                for k, m in modules.items()}
    step, spent, history = 0, 0.0, []
    if checkpoint.exists():
        device = on(next(iter(modules.values())))
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for k, m in modules.items():
            m.load_state_dict(saved["modules"][k])
        optimizer.load_state_dict(saved["optimizer"])
        averages, step, spent = saved["averages"], saved["step"], saved["spent"]
        history = saved["history"]
    for m in modules.values():
        m.train()
    bar, start, running = tqdm(total=steps, initial=step, mininterval=10), time.time(), {}
    while step < steps:
        used = spent + time.time() - start
        if used > seconds:
            break
        progress = max(step / steps, used / seconds)
        now = learning_rate(int(progress * steps), steps, lr, warmup) if step >= warmup else \
            lr * (step + 1) / warmup
        for group in optimizer.param_groups:
            group["lr"] = now
        with short_attention(weights[0].device):
            loss, logs = loss_of(step, batch_rng(seed, step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        _average(modules, averages, min(ema, step / (step + 10)))
        for k, v in {"loss": float(loss.detach()), **logs}.items():
            running[k] = 0.98 * running.get(k, v) + 0.02 * v
        bar.update(1)
        if step % 25 == 0:
            bar.set_postfix({k: f"{v:.4f}" for k, v in running.items()}, refresh=False)
            history.append([step, running["loss"]])
        if step % every == 0 or step == steps:
            save_checkpoint(checkpoint, modules, optimizer, averages, step,
                            spent + time.time() - start, history)
    save_checkpoint(checkpoint, modules, optimizer, averages, step, spent + time.time() - start,
                    history)
    bar.close()
    for k, m in modules.items():
        m.load_state_dict(averages[k])
        m.eval()
    return {"step": step, "loss": history, "seconds": spent + time.time() - start}


@torch.no_grad()
def _average(modules: dict, averages: dict, decay: float) -> None:
    for k, m in modules.items():
        for n, t in m.state_dict().items():
            if t.dtype.is_floating_point:
                averages[k][n].lerp_(t.detach(), 1 - decay)
            else:
                averages[k][n].copy_(t)


def save_checkpoint(path: Path, modules: dict, optimizer: torch.optim.Optimizer, averages: dict,
                    step: int, spent: float, history: list) -> None:
    """Write beside, then rename: a kill leaves the old checkpoint or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    torch.save({"modules": {k: m.state_dict() for k, m in modules.items()}, "averages": averages,
                "optimizer": optimizer.state_dict(), "step": step, "spent": spent,
                "history": history}, draft)
    os.replace(draft, path)
