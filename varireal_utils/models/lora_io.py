"""LoRA adapters of CLIP in memory and on disk: state, PEFT's format, merging.

PEFT's LoRA of `nn.MultiheadAttention` is one pair of matrices for the fused W, of rank 2r here:
A = [A_q; A_v], B = [[B_q, 0], [0, 0], [0, B_v]], with 2 alpha (symbols: clip_lora). So `peft` reads
the folder and computes the same.

Invariant: loading, merging and unmerging, any number of times, never write to W.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..core import storage
from .clip_lora import NAMES, LoRAAttention, add_lora

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class AdapterError(ValueError):
    """An adapter's files that cannot be used; the message names the file and the remedy."""


def adapters_of(model: nn.Module) -> dict[str, LoRAAttention]:
    found = {n: m for n, m in model.named_modules() if isinstance(m, LoRAAttention)}
    if not found:
        raise ValueError("The model has no LoRA adapters: call add_lora(model) first.")
    return found


def lora_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the adapters on the CPU: '<block>.attn.A_q' -> float32 (rank, d), and so on."""
    return {
        f"{name}.{n}": getattr(m, n).detach().cpu().clone().contiguous()
        for name, m in adapters_of(model).items()
        for n in NAMES
    }


@torch.no_grad()
def load_lora_state_dict(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put adapters back; replaces (never adds to) what was there, and ends any merge."""
    want = {f"{name}.{n}": getattr(m, n) for name, m in adapters_of(model).items() for n in NAMES}
    if set(want) != set(state):
        odd = sorted(set(want) ^ set(state))
        raise ValueError(f"Adapters do not fit the model: {len(odd)} keys differ: {odd[:2]} ...")
    unmerge(model)
    for key, parameter in want.items():
        if parameter.shape != state[key].shape:
            raise ValueError(
                f"{key}: got {tuple(state[key].shape)}, wanted "
                f"{tuple(parameter.shape)}. Same rank and model?"
            )
        parameter.copy_(state[key])


def save_lora(model: nn.Module, folder: str | Path) -> Path:
    """Write adapter_model.safetensors and adapter_config.json, unmerged, as PEFT reads them."""
    tensors, adapters = {}, adapters_of(model)
    for name, m in adapters.items():
        d, r = m.B_q.shape
        up = m.B_q.new_zeros(3 * d, 2 * r)
        up[:d, :r], up[2 * d :, r:] = m.B_q.detach(), m.B_v.detach()
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.cat([m.A_q, m.A_v]).detach()
        tensors[f"{key}.lora_B.weight"] = up
        # PEFT always pairs the output projection with one of its own; zero leaves it as it is
        tensors[f"{key}.base_layer.out_proj.lora_A.weight"] = up.new_zeros(2 * r, d)
        tensors[f"{key}.base_layer.out_proj.lora_B.weight"] = up.new_zeros(d, 2 * r)
    tensors = {k: t.cpu().contiguous() for k, t in sorted(tensors.items())}
    towers = sorted({"visual" if n.startswith("visual.") else "" for n in adapters})
    pattern = {("",): r"(?!visual\.).*", ("visual",): r"visual\..*", ("", "visual"): r".*"}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": 2 * m.rank,
        "lora_alpha": 2 * m.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": pattern[tuple(towers)] + r"resblocks\.\d+\.attn",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # PEFT refuses dropout on this layer, so ours is a note; one key, as their order is not stable
    storage.write_bytes(folder / WEIGHTS, save(tensors, {"trained_with_dropout": str(m.dropout)}))
    storage.write_json(folder / CONFIG, config)
    return folder / WEIGHTS


def load_lora(model: nn.Module, folder: str | Path) -> None:
    """Read what `save_lora` wrote into an adapted model, or into a fresh one, which it adapts.

    Raises AdapterError that names the file, before the model is touched, for what is no adapter of
    this form, is damaged, or holds numbers that are not finite; ValueError where it is whole but
    another model's.
    """
    state, rank, alpha, dropout = _read(Path(folder))
    if not any(isinstance(m, LoRAAttention) for m in model.modules()):
        towers = sorted({"image" if n.startswith("visual.") else "text" for n in state})
        add_lora(model, rank, alpha, dropout, towers)
    load_lora_state_dict(model, state)


def _read(folder: Path) -> tuple[dict[str, torch.Tensor], int, float, float]:
    """(state of lora_state_dict, rank, alpha, dropout) of an adapter's folder."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        double, alpha = config["r"], config["lora_alpha"] / 2
        if type(double) is not int or double < 2 or double % 2 or not 0 < alpha < math.inf:
            raise ValueError(f"r is {double!r}, lora_alpha {2 * alpha!r}")
        rank, file = double // 2, folder / WEIGHTS
        with safe_open(file, "pt") as f:
            notes, tensors = f.metadata() or {}, {k: f.get_tensor(k) for k in f.keys()}
        dropout = float(notes.get("trained_with_dropout", 0))
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}")
        return _parts(tensors, rank), rank, alpha, dropout
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise AdapterError(
            f"{file}: no whole adapter of this project ({type(error).__name__}: "
            f"{str(error)[:200]}); train it again, or fetch it again"
        ) from error


def _parts(tensors: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """PEFT's fused matrices -> A_q, B_q, A_v, B_v of each block. Raises ValueError, KeyError."""
    state: dict[str, torch.Tensor] = {}
    prefix = "base_model.model."
    for key in (k for k in tensors if k.endswith(".attn.lora_A.weight")):
        name = key.removeprefix(prefix).removesuffix(".lora_A.weight")
        down, up = tensors[key], tensors[key.replace("lora_A", "lora_B")]
        d = down.shape[-1]
        if down.shape != (2 * rank, d) or up.shape != (3 * d, 2 * rank):
            raise ValueError(f"{key}: {tuple(down.shape)} and {tuple(up.shape)} for rank {rank}")
        if not (down.isfinite().all() and up.isfinite().all()):
            raise ValueError(f"{key}: not finite")
        parts = (down[:rank], up[:d, :rank], down[rank:], up[2 * d :, rank:])
        state |= {f"{name}.{n}": t for n, t in zip(NAMES, parts, strict=True)}
    if not state:
        raise ValueError("no LoRA matrices of attention in it")
    return state


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Compute with W + (alpha / r) B A from now on; W is kept, so merging twice is merging once.

    For evaluation only; load_lora and unmerge end it.
    """
    for m in adapters_of(model).values():
        m.merged = m.merged_weight()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, exactly."""
    for m in adapters_of(model).values():
        m.merged = None


@torch.no_grad()
def merged_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """A plain open_clip state dict with the adapters merged in; the model stays as it is."""
    adapters = adapters_of(model)
    state = {k: v for k, v in model.state_dict().items() if k.rpartition(".")[2] not in NAMES}
    return state | {f"{n}.in_proj_weight": m.merged_weight() for n, m in adapters.items()}
