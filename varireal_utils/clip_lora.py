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

`adapters` stores and merges them, `steps` trains them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from open_clip.transformer import (
    ResidualAttentionBlock,
    VisionTransformer,
    text_global_pool,
)
from torch import nn
from torch.nn import functional as F

from . import seeds

TOWERS = ("image", "text")
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
                attn_mask: torch.Tensor | None = None, queries: int | None = None,
                ) -> tuple[torch.Tensor, None]:
        """queries: the output of so many first positions alone, without a mask; by default all."""
        batch, length, d = x.shape
        if self.merged is not None:
            if self.training:
                raise RuntimeError("A merged adapter does not learn: call unmerge(model) first.")
            q, k, v = self._project(x, self.merged, queries)
        else:
            q, k, v = self._project(x, self.in_proj_weight, queries)
            low = F.dropout(x, self.dropout, self.training)
            low = F.linear(low, torch.cat([self.A_q, self.A_v]))  # (B, L, 2r): one pass over x
            low = low * (self.alpha / self.rank)
            q = q + F.linear(low[:, :queries, : self.rank], self.B_q)
            v = v + F.linear(low[..., self.rank:], self.B_v)
        q, k, v = (t.view(batch, -1, self.num_heads, d // self.num_heads).transpose(1, 2)
                   for t in (q, k, v))
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
        return self.out_proj(y.transpose(1, 2).reshape(batch, -1, d)), None

    def _project(self, x: torch.Tensor, weight: torch.Tensor,
                 queries: int | None) -> tuple[torch.Tensor, ...]:
        """q of the first `queries` positions, k and v of all, by one product or two."""
        bias, d = self.in_proj_bias, x.shape[-1]
        if queries is None:
            return F.linear(x, weight, bias).chunk(3, dim=-1)
        return (F.linear(x[:, :queries], weight[:d], bias[:d]),
                *F.linear(x, weight[d:], bias[d:]).chunk(2, dim=-1))


def _text_tower(model: nn.Module) -> nn.Module:
    return getattr(model, "text", model)  # CLIP holds the parts itself, CustomTextCLIP in .text


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
    """Unit image features (B, D), float32, of normalised pixels (B, 3, H, W).

    Exact: a plain tower is read off at its class token, so its last block works out that one alone,
    from the keys and values of all.
    """
    net = model.visual
    if not _class_token_alone(net):
        return F.normalize(model.encode_image(pixels).float(), dim=-1)
    *blocks, last = net.transformer.resblocks
    x = net._embeds(pixels)  # (B, L, d)
    for block in blocks:
        x = block(x)
    y, _ = last.attn(last.ln_1(x), queries=1)
    x = x[:, :1] + last.ls_1(y)
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    x, _ = net._pool(x)  # (B, d)
    return F.normalize((x if net.proj is None else x @ net.proj).float(), dim=-1)


def _class_token_alone(net: nn.Module) -> bool:
    """Whether an image tower is open_clip's adapted ViT, read off at its class token."""
    return (type(net) is VisionTransformer and net.pool_type == "tok" and net.attn_pool is None
            and net.transformer.batch_first and not net.transformer.grad_checkpointing
            and type(net.transformer.resblocks[-1]) is ResidualAttentionBlock
            and isinstance(net.transformer.resblocks[-1].attn, LoRAAttention))
