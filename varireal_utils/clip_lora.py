"""LoRA on the query and value projections of both open_clip towers (PROTOCOL.md, C2).

A block of CLIP projects its input x by one fused matrix W = [W_q; W_k; W_v]. LoRA freezes W and
adds, to the rows of q and of v, a product of two thin matrices:

              x (B, L, d)
               |-------------------------------.
               |                          dropout
               |                               |
        W x + b (B, L, 3d)         A_q x, A_v x (B, L, r)     A ~ kaiming uniform
               |                               |
               |          (alpha / r) B_q A_q x, (alpha / r) B_v A_v x      B = 0 at the start
               '------------- + ---------------'
                              |
        q, k, v (B, h, L, d/h) -> softmax(q k^T / sqrt(d/h) + mask) v -> frozen output projection

symbols   r      rank           16     rows of A, columns of B
          alpha  alpha          32     the update is scaled by alpha / r
          A_q, A_v  (r, d)  and  B_q, B_v  (d, r)      float32 whatever the compute precision
          W, b   in_proj_weight (3d, d), in_proj_bias (3d,): frozen, under open_clip's own names

Invariant: with B = 0 the model gives the untouched model's outputs; loading, evaluating, merging
and unmerging, any number of times, never change an output, because W itself is never written to.

Adapters are stored in PEFT's format. PEFT's LoRA of `nn.MultiheadAttention` is one pair of
matrices for the fused W, of rank 2r here: A = [A_q; A_v], B = [[B_q, 0], [0, 0], [0, B_v]], with
2 alpha. So `peft` reads the folder and computes the same. Training is left to `classify`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from open_clip.transformer import text_global_pool
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from . import seeds, store

TOWERS = ("image", "text")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
NAMES = ("A_q", "B_q", "A_v", "B_v")


class LoRAAttention(nn.Module):
    """Stands in for a block's `nn.MultiheadAttention` and shares its (frozen) weights.

    Called as open_clip calls it: `attn(x, x, x, need_weights=False, attn_mask=mask)[0]` with
    x (B, L, d) and an additive mask (L, L) or (B * heads, L, L).
    """

    def __init__(self, attn: nn.MultiheadAttention, rank: int, alpha: float, dropout: float,
                 generator: torch.Generator):
        super().__init__()
        self.num_heads, self.rank, self.alpha, self.dropout = attn.num_heads, rank, alpha, dropout
        self.in_proj_weight, self.in_proj_bias = attn.in_proj_weight, attn.in_proj_bias
        self.out_proj = attn.out_proj
        d, device = attn.embed_dim, attn.in_proj_weight.device
        for part in "qv":
            down = torch.empty(rank, d)  # drawn on the CPU: the same on every device
            nn.init.kaiming_uniform_(down, math.sqrt(5), generator=generator)
            self.register_parameter(f"A_{part}", nn.Parameter(down.to(device)))
            self.register_parameter(f"B_{part}", nn.Parameter(torch.zeros(d, rank, device=device)))
        self.register_buffer("merged", None, persistent=False)
        self.train(attn.training)

    def merged_weight(self) -> torch.Tensor:
        """(3d, d): W + (alpha / r) B A, computed in float32, in W's own precision."""
        scale = self.alpha / self.rank
        q, v = scale * self.B_q @ self.A_q, scale * self.B_v @ self.A_v
        delta = torch.cat([q, torch.zeros_like(q), v])
        return (self.in_proj_weight.float() + delta).to(self.in_proj_weight.dtype)

    def forward(self, x: torch.Tensor, key=None, value=None, need_weights: bool = False,
                attn_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, None]:
        batch, length, d = x.shape
        if self.merged is not None:
            if self.training:
                raise RuntimeError("A merged adapter does not learn: call unmerge(model) first.")
            q, k, v = F.linear(x, self.merged, self.in_proj_bias).chunk(3, dim=-1)
        else:
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            low = F.dropout(x, self.dropout, self.training)
            low = F.linear(low, torch.cat([self.A_q, self.A_v]))  # (B, L, 2r): one pass over x
            low = low * (self.alpha / self.rank)
            q = q + F.linear(low[..., : self.rank], self.B_q)
            v = v + F.linear(low[..., self.rank:], self.B_v)
        q, k, v = (t.view(batch, length, self.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.view(batch, self.num_heads, length, length)
        if q.device.type == "cpu" and q.dtype != torch.float32 and q.requires_grad:
            # torch's CPU kernel needs 4 times as long for the gradient in bfloat16 as in float32
            with torch.autocast("cpu", enabled=False):
                mask = None if attn_mask is None else attn_mask.float()
                y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask)
            y = y.to(q.dtype)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask)
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, d)), None


def _text_tower(model: nn.Module) -> nn.Module:
    return getattr(model, "text", model)  # CLIP holds the parts itself, CustomTextCLIP in .text


def _adapters(model: nn.Module) -> dict[str, LoRAAttention]:
    found = {n: m for n, m in model.named_modules() if isinstance(m, LoRAAttention)}
    if not found:
        raise ValueError("The model has no LoRA adapters: call add_lora(model) first.")
    return found


def add_lora(model: nn.Module, rank: int = 16, alpha: float = 32, dropout: float = 0.1,
             towers: Iterable[str] = TOWERS, seed: int = 0) -> list[nn.Parameter]:
    """Freeze an open_clip model, put adapters into its towers, return what is left to train.

    The start of an adapter depends on `seed` and its place only, not on which towers are adapted.
    Raises ValueError for an unknown tower, a model adapted before, or foreign attention.
    """
    towers = tuple(towers)
    if not towers or set(towers) - set(TOWERS):
        raise ValueError(f"towers: got {towers}, wanted one or both of {TOWERS}.")
    if any(isinstance(m, LoRAAttention) for m in model.modules()):
        raise ValueError("The model has LoRA adapters already: load a fresh one.")
    model.requires_grad_(False)
    roots = {"image": model.visual, "text": _text_tower(model)}
    params = []
    for tower in towers:
        blocks = getattr(getattr(roots[tower], "transformer", None), "resblocks", None)
        if blocks is None or not all(isinstance(b.attn, nn.MultiheadAttention) for b in blocks):
            raise ValueError(f"The {tower} tower ({type(roots[tower]).__name__}) is not "
                             "open_clip's own ViT or text transformer with nn.MultiheadAttention.")
        for i, block in enumerate(blocks):
            generator = seeds.torch_generator(seed, "lora", tower, i)
            block.attn = LoRAAttention(block.attn, rank, alpha, dropout, generator)
            params += [getattr(block.attn, n) for n in NAMES]
    return params


def lora_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the adapters on the CPU: '<block>.attn.A_q' -> float32 (rank, d), and so on."""
    return {f"{name}.{n}": getattr(m, n).detach().cpu().clone().contiguous()
            for name, m in _adapters(model).items() for n in NAMES}


@torch.no_grad()
def load_lora_state_dict(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put adapters back; replaces (never adds to) what was there, and ends any merge."""
    want = {f"{name}.{n}": getattr(m, n) for name, m in _adapters(model).items() for n in NAMES}
    if set(want) != set(state):
        odd = sorted(set(want) ^ set(state))
        raise ValueError(f"Adapters do not fit the model: {len(odd)} keys differ: {odd[:2]} ...")
    unmerge(model)
    for key, parameter in want.items():
        if parameter.shape != state[key].shape:
            raise ValueError(f"{key}: got {tuple(state[key].shape)}, wanted "
                             f"{tuple(parameter.shape)}. Same rank and model?")
        parameter.copy_(state[key])


def save_lora(model: nn.Module, folder: str | Path) -> Path:
    """Write adapter_model.safetensors and adapter_config.json, unmerged, as PEFT reads them."""
    tensors, adapters = {}, _adapters(model)
    for name, m in adapters.items():
        d, r = m.B_q.shape
        up = m.B_q.new_zeros(3 * d, 2 * r)
        up[:d, :r], up[2 * d:, r:] = m.B_q.detach(), m.B_v.detach()
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.cat([m.A_q, m.A_v]).detach()
        tensors[f"{key}.lora_B.weight"] = up
        # PEFT always pairs the output projection with one of its own; zero leaves it as it is
        tensors[f"{key}.base_layer.out_proj.lora_A.weight"] = up.new_zeros(2 * r, d)
        tensors[f"{key}.base_layer.out_proj.lora_B.weight"] = up.new_zeros(d, 2 * r)
    tensors = {k: t.cpu().contiguous() for k, t in sorted(tensors.items())}
    towers = sorted({"visual" if n.startswith("visual.") else "" for n in adapters})
    pattern = {("",): r"(?!visual\.).*", ("visual",): r"visual\..*", ("", "visual"): r".*"}
    config = {"peft_type": "LORA", "task_type": None, "base_model_name_or_path": None,
              "r": 2 * m.rank, "lora_alpha": 2 * m.alpha, "lora_dropout": 0.0, "bias": "none",
              "target_modules": pattern[tuple(towers)] + r"resblocks\.\d+\.attn",
              "init_lora_weights": True, "inference_mode": True}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # PEFT refuses dropout on this layer, so ours is a note; one key, as their order is not stable
    store.write_bytes(folder / WEIGHTS, save(tensors, {"trained_with_dropout": str(m.dropout)}))
    store.write_json(folder / CONFIG, config)
    return folder / WEIGHTS


def load_lora(model: nn.Module, folder: str | Path) -> None:
    """Read what `save_lora` wrote into an adapted model, or into a fresh one, which it adapts."""
    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text())
    with safe_open(folder / WEIGHTS, "pt") as f:
        notes, tensors = f.metadata() or {}, {k: f.get_tensor(k) for k in f.keys()}
    rank, state, prefix = config["r"] // 2, {}, "base_model.model."
    for key in (k for k in tensors if k.endswith(".attn.lora_A.weight")):
        name = key.removeprefix(prefix).removesuffix(".lora_A.weight")
        down, up = tensors[key], tensors[key.replace("lora_A", "lora_B")]
        d = down.shape[1]
        parts = (down[:rank], up[:d, :rank], down[rank:], up[2 * d:, rank:])
        state |= {f"{name}.{n}": t for n, t in zip(NAMES, parts, strict=True)}
    if not any(isinstance(m, LoRAAttention) for m in model.modules()):
        towers = sorted({"image" if n.startswith("visual.") else "text" for n in state})
        dropout = float(notes.get("trained_with_dropout", 0))
        add_lora(model, rank, config["lora_alpha"] / 2, dropout, towers)
    load_lora_state_dict(model, state)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Compute with W + (alpha / r) B A from now on; W is kept, so merging twice is merging once.

    For evaluation only; load_lora and unmerge end it.
    """
    for m in _adapters(model).values():
        m.merged = m.merged_weight()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, exactly."""
    for m in _adapters(model).values():
        m.merged = None


@torch.no_grad()
def merged_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """A plain open_clip state dict with the adapters merged in; the model stays as it is."""
    adapters = _adapters(model)
    state = {k: v for k, v in model.state_dict().items() if k.rpartition(".")[2] not in NAMES}
    return state | {f"{n}.in_proj_weight": m.merged_weight() for n, m in adapters.items()}


def _causal_text(model: nn.Module) -> tuple[nn.Module, str, int | None] | None:
    """(text parts, pooling, end id) where the text tower is the plain causal one, else None."""
    text = _text_tower(model)
    pool = getattr(text, "pool_type", getattr(text, "text_pool_type", None))
    plain = hasattr(text, "token_embedding") and getattr(text, "attn_mask", None) is not None \
        and getattr(text, "cls_emb", None) is None and pool in ("argmax", "eos")
    return (text, pool, getattr(text, "eos_id", getattr(text, "text_eos_id", None))) if plain \
        else None


def cut(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (B, L) without the columns behind the last end token of the batch.

    Exact: attention is causal and the text is read off at its end token, so nothing behind it
    counts. Where that does not hold (no causal mask, other pooling) the tokens come back whole.
    """
    plain = _causal_text(model)
    if plain is None:
        return tokens
    _, pool, eos = plain
    if pool == "argmax":
        last = tokens.argmax(1)
    else:  # a caption without its end token is read off at position 0
        last = (tokens == eos).int().argmax(1)
    return tokens[:, : int(last.max()) + 1]


def encode_text(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Unit text features (B, D), float32, of tokens (B, L), L any length up to the context's."""
    plain = _causal_text(model)
    if plain is None:
        return F.normalize(model.encode_text(tokens).float(), dim=-1)
    text, pool, eos = plain
    length = tokens.shape[1]
    x = text.token_embedding(tokens) + text.positional_embedding[:length]
    x = text.transformer(x, attn_mask=text.attn_mask[:length, :length])
    x = text_global_pool(text.ln_final(x), tokens, pool, eos_token_id=eos)  # (B, d)
    projection = text.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return F.normalize(x.float(), dim=-1)


def encode_image(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Unit image features (B, D), float32, of normalised pixels (B, 3, H, W)."""
    return F.normalize(model.encode_image(pixels).float(), dim=-1)
