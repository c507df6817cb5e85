"""LoRA on the query and value projections of both open_clip towers (docs/protocol.md, C2).

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

Text is worked out as `captions` lays it out: attention is causal, so captions that begin alike
share what stands there. Where dropout is at work that holds only if the shared beginning's noise is
drawn once for all captions (`noise="prefix"`: each caption's noise is distributed as ever, but that
of two captions is no longer independent). By default (`noise="caption"`) every caption draws its
own, as in the reference, and a training step shares nothing.

`adapters` stores and merges them, `steps` trains them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from open_clip.transformer import (
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import nn
from torch.nn import functional as F

from ..core import seeds
from . import packed_linear, prefix_tree

TOWERS = ("image", "text")
NOISE = ("caption", "prefix")
NAMES = ("A_q", "B_q", "A_v", "B_v")
SHORT = 256  # positions: up to there a CPU keeps all scores, as `_by_products` does


class LoRAAttention(nn.Module):
    """Stands in for a block's `nn.MultiheadAttention` and shares its (frozen) weights.

    Called as open_clip calls it: `attn(x, x, x, need_weights=False, attn_mask=mask)[0]` with
    x (B, L, d) and an additive mask (L, L) or (B * heads, L, L).
    """

    def __init__(
        self,
        attn: nn.MultiheadAttention,
        rank: int,
        alpha: float,
        dropout: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.num_heads, self.rank, self.alpha, self.dropout = attn.num_heads, rank, alpha, dropout
        self.in_proj_weight, self.in_proj_bias = attn.in_proj_weight, attn.in_proj_bias
        self.out_proj, self.packed = packed_linear.Linear(attn.out_proj), packed_linear.Packed()
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

    def forward(
        self,
        x: torch.Tensor,
        key=None,
        value=None,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
        queries: torch.Tensor | slice | None = None,
    ) -> tuple[torch.Tensor, None]:
        """queries: the output of these positions alone, without a mask; by default of all."""
        batch, length, d = x.shape
        q, k, v = (self._heads(t) for t in self._project(x, queries))
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.view(batch, self.num_heads, length, length)
        return self._join(_attend(q, k, v, attn_mask)), None

    def over(self, x: torch.Tensor, text: prefix_tree.Captions, ends: bool = False) -> torch.Tensor:
        """(N, d) of nodes x (N, d), each attending to its caption's beginning; or, with `ends`, of
        the end tokens alone (C, d)."""
        q, k, v = (t[0] for t in self._project(x[None], text.ends if ends else None))
        if text.shared and q.device.type == "cpu" and q.requires_grad:
            q, k, v = q.float(), k.float(), v.float()  # where captions meet, gradients are summed
        k, v = (self._heads(text.spread(t)) for t in (k, v))  # (C, h, L, d / h)
        if ends:
            y = _attend(self._heads(q[:, None]), k, v, text.seen[:, None, None])
            return self._join(y.to(x.dtype))[:, 0]
        y = _attend(self._heads(text.spread(q)), k, v, causal=True)
        return self.out_proj(text.collect(y.transpose(1, 2).flatten(2)))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _join(self, y: torch.Tensor) -> torch.Tensor:
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _project(
        self,
        x: torch.Tensor,
        queries: torch.Tensor | slice | None,
    ) -> tuple[torch.Tensor, ...]:
        """q of the positions `queries`, k and v of all, of x (B, L, d)."""
        if self.merged is not None:
            if self.training:
                raise RuntimeError("A merged adapter does not learn: call unmerge(model) first.")
            return self._frozen(x, self.merged, queries)
        q, k, v = self._frozen(x, self.in_proj_weight, queries)
        low, kept = _thinned(x, self.dropout) if self.training else (x, 1.0)
        low = F.linear(low, torch.cat([self.A_q, self.A_v]))  # (B, L, 2r): one pass over x
        low = low * (self.alpha / self.rank / kept)
        low_q = low[..., : self.rank] if queries is None else low[:, queries, : self.rank]
        return q + F.linear(low_q, self.B_q), k, v + F.linear(low[..., self.rank :], self.B_v)

    def _frozen(
        self, x: torch.Tensor, weight: torch.Tensor, queries: torch.Tensor | slice | None
    ) -> tuple[torch.Tensor, ...]:
        """`_project` by W alone, in one product or two."""
        bias, d = self.in_proj_bias, x.shape[-1]
        if queries is None:
            project = F.linear if self.merged is not None else self.packed.linear
            return project(x, weight, bias).chunk(3, dim=-1)
        return (
            F.linear(x[:, queries], weight[:d], bias[:d]),
            *F.linear(x, weight[d:], bias[d:]).chunk(2, dim=-1),
        )


def _thinned(x: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    """Dropout whose division is left to the caller: x with a share p of its entries zero, and the
    share of them that is kept.

    On a CPU 16 random bits decide on an entry, so that p counts in steps of 2^-16; the share that
    is kept is exactly that of these steps. F.dropout takes several times as long there.
    """
    if x.device.type != "cpu" or p in (0, 1):
        return F.dropout(x, p), 1.0
    zeros = min(round(p * 2**16), 2**16 - 1)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= zeros - 2**15
    return x * keep.to(x.dtype), 1 - zeros / 2**16


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Scaled dot product attention of (B, h, L, d / h), in q's own precision."""
    half, long = q.device.type == "cpu" and q.dtype == torch.bfloat16, k.shape[-2] > SHORT
    kind = q.dtype
    with torch.autocast(q.device.type, enabled=False):
        if half and not long:
            return _by_products(q, k, v, mask, causal)
        if half and q.requires_grad:  # the kernel's gradient takes 4 times as long as in float32
            q, k, v = q.float(), k.float(), v.float()
            mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).to(kind)


def _by_products(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """The same as three plain steps: in bfloat16, over short rows, in half of the kernel's time."""
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -math.inf)
            if mask.dtype == torch.bool
            else scores + mask.to(scores.dtype)
        )
    return scores.softmax(-1) @ v


def text_tower(model: nn.Module) -> nn.Module:
    return getattr(model, "text", model)  # CLIP holds the parts itself, CustomTextCLIP in .text


def add_lora(
    model: nn.Module,
    rank: int = 16,
    alpha: float = 32,
    dropout: float = 0.1,
    towers: Iterable[str] = TOWERS,
    seed: int = 0,
    noise: str = "caption",
) -> list[nn.Parameter]:
    """Freeze an open_clip model, put adapters into its towers, return what is left to train.

    The start of an adapter depends on `seed` and its place only, not on which towers are adapted.
    noise: of NOISE, for what the text's dropout is drawn.
    Raises ValueError for an unknown tower or noise, a model adapted before, or foreign attention.
    """
    towers = tuple(towers)
    if noise not in NOISE:
        raise ValueError(f"noise: got {noise!r}, wanted one of {NOISE}.")
    if not towers or set(towers) - set(TOWERS):
        raise ValueError(f"towers: got {towers}, wanted one or both of {TOWERS}.")
    if any(isinstance(m, LoRAAttention) for m in model.modules()):
        raise ValueError("The model has LoRA adapters already: load a fresh one.")
    model.requires_grad_(False)
    roots = {"image": model.visual, "text": text_tower(model)}
    params = []
    for tower in towers:
        blocks = getattr(getattr(roots[tower], "transformer", None), "resblocks", None)
        if blocks is None or not all(isinstance(b.attn, nn.MultiheadAttention) for b in blocks):
            raise ValueError(
                f"The {tower} tower ({type(roots[tower]).__name__}) is not "
                "open_clip's own ViT or text transformer with nn.MultiheadAttention."
            )
        for i, block in enumerate(blocks):
            generator = seeds.torch_generator(seed, "lora", tower, i)
            block.attn = LoRAAttention(block.attn, rank, alpha, dropout, generator)
            block.attn.noise = noise
            packed_linear.pack(block)
            params += [getattr(block.attn, n) for n in NAMES]
    return params


def encode_text(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Unit text features (C, D), float32, on the model's device, of tokens (C, L).

    Exact: what stands behind the end tokens is never worked out, equal beginnings once (unless
    noise is drawn by the caption), and the last block the end tokens alone.
    """
    device = model.logit_scale.device
    blocks, text = adapted_text(model), text_tower(model)
    if not blocks:
        return F.normalize(model.encode_text(tokens.to(device)).float(), dim=-1)
    attn = blocks[0].attn
    apart = attn.noise == "caption" and attn.training and attn.dropout > 0
    laid = prefix_tree.build_prefix_tree(tokens, end_columns(text, tokens), not apart, device)
    x = text.token_embedding(laid.tokens) + text.positional_embedding[laid.places]  # (N, d)
    for block in blocks[:-1]:
        x = _rest(block, x, block.attn.over(block.ln_1(x), laid))
    last = blocks[-1]
    x = _rest(last, x[laid.ends], last.attn.over(last.ln_1(x), laid, ends=True))  # (C, d)
    x, projection = text.ln_final(x), text.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return F.normalize(x.float(), dim=-1)


def _rest(block: nn.Module, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """What a pre-norm block does behind its attention."""
    x = x + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def adapted_text(model: nn.Module) -> list[nn.Module]:
    """The blocks of an adapted, causal text tower that is read off at its end token, else none."""
    text = text_tower(model)
    pool = getattr(text, "pool_type", getattr(text, "text_pool_type", None))
    plain = (
        hasattr(text, "token_embedding")
        and getattr(text, "attn_mask", None) is not None
        and getattr(text, "cls_emb", None) is None
        and pool in ("argmax", "eos")
    )
    blocks = list(text.transformer.resblocks) if plain else []
    ours = all(
        type(b) is ResidualAttentionBlock and isinstance(b.attn, LoRAAttention) for b in blocks
    )
    return blocks if ours and not text.transformer.grad_checkpointing else []


def end_columns(text: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(C,) the column at which each caption is read off."""
    if getattr(text, "pool_type", getattr(text, "text_pool_type", None)) == "argmax":
        return tokens.argmax(1)
    end = getattr(text, "eos_id", getattr(text, "text_eos_id", None))
    return (tokens == end).int().argmax(1)  # a caption without its end token: at position 0


def encode_image(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Unit image features (B, D), float32, of normalised pixels (B, 3, H, W).

    Exact: a plain tower is read off at its class token, so its last block works out that one alone,
    from the keys and values of all.
    """
    net = model.visual
    if not class_token_alone(net):
        return F.normalize(model.encode_image(pixels).float(), dim=-1)
    *blocks, last = net.transformer.resblocks
    x = net._embeds(pixels)  # (B, L, d)
    for block in blocks:
        x = block(x)
    y, _ = last.attn(last.ln_1(x), queries=slice(1))
    x, _ = net._pool(_rest(last, x[:, :1], y))  # (B, d)
    return F.normalize((x if net.proj is None else x @ net.proj).float(), dim=-1)


def class_token_alone(net: nn.Module) -> bool:
    """Whether an image tower is open_clip's adapted ViT, read off at its class token."""
    return (
        type(net) is VisionTransformer
        and net.pool_type == "tok"
        and net.attn_pool is None
        and net.transformer.batch_first
        and not net.transformer.grad_checkpointing
        and type(net.transformer.resblocks[-1]) is ResidualAttentionBlock
        and isinstance(net.transformer.resblocks[-1].attn, LoRAAttention)
    )
