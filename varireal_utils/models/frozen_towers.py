"""Computes both CLIP towers with LoRA, forwards and backwards, in few operations on a GPU.

The plain path (`clip_lora`) leaves derivatives to autograd and precision to autocast, which casts
every frozen weight anew in every step: 2,600 operations at ViT-B/16, most of them shorter than
their launch. Here frozen weights are stored in the compute type once, each block is a fixed list of
operations with its derivative written out, and nothing reads a value from the device; so a whole
step can be captured as one CUDA graph (training/captured_step.py).

symbols   x       (B, L, d)   input of a block, residual stream included
          n       (B, L, d)   layer norm of x
          kept    (B, L, d)   dropout's mask of n, for LoRA alone
          low     (B L, 2r)   A n: of q, then of v
          u, h    (B, L, 4d)  input and output of the activation
          g_      derivative of the loss by what follows
          s       1.702 for QuickGELU, u sigmoid(s u) = silu(s u) / s; else 1

    qkv = W n + b,  qkv[q, v] += (alpha / r) B low          y = attention(qkv)
    x1  = x + W_o y + b_o                   out = x1 + W_2 h(s (W_1 n1 + b_1)) / s + b_2

Invariants (tests/unit/test_frozen_towers.py): without dropout, features and gradients are those of
`clip_lora` under autograd, up to rounding; in bfloat16 they are no further from float32's than
autocast's; with dropout the derivative is that of the same noise (finite differences).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import open_clip.transformer as oc
import torch
from torch import nn
from torch.nn import functional as F

from . import clip_lora

aten = torch.ops.aten
QUICK = 1.702


@dataclass
class Adapter:
    """LoRA of a block in the compute type, and where its gradients go: A, g_A (2r, d) of q and v;
    B, g_B (2, d, r). rate: of dropout; scale: alpha / r."""

    A: torch.Tensor
    B: torch.Tensor
    g_A: torch.Tensor
    g_B: torch.Tensor
    rate: float
    scale: float


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> tuple[Any, ...]:
    """(output, *what the derivative needs) of (B, h, L, d / h), by torch's fused kernel."""
    if q.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)


def _attend_back(
    g: torch.Tensor,
    qkv: tuple[torch.Tensor, ...],
    saved: tuple[Any, ...],
    block: _Block,
) -> tuple[torch.Tensor, ...]:
    """Derivatives by q, k and v."""
    causal = block.causal
    if g.device.type == "cpu":
        out, lse = saved
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            g, *qkv, out, lse, 0.0, causal
        )
    out, lse, cum_q, cum_k, max_q, max_k, seed, offset, _ = saved
    return aten._scaled_dot_product_flash_attention_backward(
        g, *qkv, out, lse, cum_q, cum_k, max_q, max_k, 0.0, causal, seed, offset
    )


class _Norm:
    """Layer norm with frozen weights."""

    def __init__(self, of: nn.LayerNorm, kind: torch.dtype):
        self.weight, self.bias = of.weight.detach().to(kind), of.bias.detach().to(kind)
        self.shape, self.eps = of.normalized_shape, of.eps

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return aten.native_layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def back(self, g: torch.Tensor, x: torch.Tensor, mean: Any, rstd: Any) -> torch.Tensor:
        """Derivative by x."""
        only_x = [True, False, False]
        return aten.native_layer_norm_backward(
            g, x, self.shape, mean, rstd, self.weight, self.bias, only_x
        )[0]


class _Block:
    """One residual block; weights frozen in the compute type."""

    def __init__(self, block: nn.Module, adapter: Adapter, kind: torch.dtype, causal: bool):
        def frozen(t: torch.Tensor) -> torch.Tensor:
            return t.detach().to(kind)

        attn, mlp = block.attn, block.mlp
        self.adapter, self.heads, self.causal = adapter, attn.num_heads, causal
        self.norm_1, self.norm_2 = _Norm(block.ln_1, kind), _Norm(block.ln_2, kind)
        self.W, self.b = frozen(attn.in_proj_weight), frozen(attn.in_proj_bias)
        self.W_o, self.b_o = frozen(attn.out_proj.weight), frozen(attn.out_proj.bias)
        self.W_1, self.b_1 = frozen(mlp.c_fc.weight), frozen(mlp.c_fc.bias)
        self.W_2, self.b_2 = frozen(mlp.c_proj.weight), frozen(mlp.c_proj.bias)
        self.quick = isinstance(mlp.gelu, oc.QuickGELU)

    def forward(self, x: torch.Tensor, first: bool = False) -> tuple[torch.Tensor, tuple]:
        """(output, what `backward` needs); first: the output of position 0 alone."""
        (batch, length, d), lora = x.shape, self.adapter
        n, *moments = self.norm_1(x)
        flat = n.view(-1, d)
        thin, kept = aten.native_dropout(flat, lora.rate, True) if lora.rate else (flat, None)
        low = thin @ lora.A.t()
        qkv = torch.addmm(self.b, flat, self.W.t())
        _products(_of_q_and_v(qkv, d), _pair(low), lora.B.transpose(1, 2), 1, lora.scale)
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2)
            for t in qkv.view(batch, length, 3 * d).chunk(3, -1)
        )
        if first:
            q = q[:, :, :1]
        found = _attend(q, k, v, self.causal)
        y = torch.addmm(self.b_o, found[0].transpose(1, 2).reshape(-1, d), self.W_o.t())
        x1 = y.view(batch, -1, d) + (x[:, :1] if first else x)
        out, after = self._mlp(x1)
        return out, (x, moments, thin, kept, low, (q, k, v), found, x1, after)

    def _mlp(self, x1: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        s = QUICK if self.quick else 1.0
        n, *moments = self.norm_2(x1)
        u = torch.addmm(self.b_1, n.view(-1, n.shape[-1]), self.W_1.t(), beta=s, alpha=s)
        h = F.silu(u) if self.quick else F.gelu(u)
        y = torch.addmm(self.b_2, h, self.W_2.t(), alpha=1 / s)
        return y.view_as(x1) + x1, (u, moments)

    def _mlp_back(self, g: torch.Tensor, x1: torch.Tensor, after: tuple) -> torch.Tensor:
        """Derivative by x1: the two factors s cancel."""
        u, moments = after
        back = aten.silu_backward if self.quick else aten.gelu_backward
        g_n = back(g.reshape(-1, g.shape[-1]) @ self.W_2, u) @ self.W_1
        return self.norm_2.back(g_n.view_as(x1), x1, *moments) + g

    def backward(self, g: torch.Tensor, saved: tuple, whole: bool) -> torch.Tensor | None:
        """Write the adapter's gradients; whole: return the derivative by the input as well."""
        x, moments, thin, kept, low, qkv, found, x1, after = saved
        (batch, length, d), lora = x.shape, self.adapter
        g_x1 = self._mlp_back(g, x1, after)
        g_y = (g_x1.view(-1, d) @ self.W_o).view(batch, -1, self.heads, d // self.heads)
        parts = [p.transpose(1, 2) for p in _attend_back(g_y.transpose(1, 2), qkv, found, self)]
        behind = length - g_x1.shape[1]  # positions that nobody reads
        if behind:
            parts[0] = F.pad(parts[0], (0, 0, 0, 0, 0, behind))
            g_x1 = F.pad(g_x1, (0, 0, 0, behind))
        g_qkv = torch.stack(parts, 2).view(-1, 3 * d)
        g_up, g_low = _of_q_and_v(g_qkv, d), torch.empty_like(low)
        _products(_pair(g_low), g_up, lora.B, 0, lora.scale)
        _products(lora.g_B, g_up.transpose(1, 2), _pair(low), 0, lora.scale)
        lora.g_A.addmm_(g_low.t(), thin, beta=0)
        if not whole:
            return None
        g_thin = g_low @ lora.A
        if kept is not None:
            g_thin = aten.native_dropout_backward(g_thin, kept, 1 / (1 - lora.rate))
        g_n = (g_qkv @ self.W).add_(g_thin).view_as(x)
        return self.norm_1.back(g_n, x, *moments) + g_x1


def _products(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, beta: int, alpha: float) -> None:
    """out = beta out + alpha a @ b of (2, ., .), views included; beta 0 or 1.

    oneDNN refuses some of these views in bfloat16, and torch then switches oneDNN off for good.
    """
    if out.device.type != "cpu":
        out.baddbmm_(a, b, beta=beta, alpha=alpha)
    elif beta:
        out.add_(torch.bmm(a.contiguous(), b.contiguous()), alpha=alpha)
    else:
        out.copy_(torch.bmm(a.contiguous(), b.contiguous()) * alpha)


def _pair(low: torch.Tensor) -> torch.Tensor:
    """(2, N, r), a view of (N, 2r)."""
    return low.view(len(low), 2, -1).transpose(0, 1)


def _of_q_and_v(qkv: torch.Tensor, d: int) -> torch.Tensor:
    """(2, N, d), a view of the columns of q and v in (N, 3d)."""
    return qkv.view(len(qkv), 3, d)[:, ::2].transpose(0, 1)


def _unit(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of length 1 of (N, D), and their lengths (N, 1)."""
    length = x.norm(dim=-1, keepdim=True)
    return x / length, length


def _unit_back(g: torch.Tensor, unit: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    return (g - unit * (g * unit).sum(-1, keepdim=True)) / length


class _Tower:
    """Blocks, and what follows them: layer norm, projection, unit length, in float32."""

    def __init__(
        self,
        net: nn.Module,
        norm: nn.LayerNorm,
        projection: Any,
        adapters: dict[nn.Module, Adapter],
        kind: torch.dtype,
        causal: bool,
    ):
        self.blocks = [_Block(b, adapters[b.attn], kind, causal) for b in net.transformer.resblocks]
        self.norm = _Norm(norm, kind)
        weight = projection.weight.t() if isinstance(projection, nn.Linear) else projection
        self.projection = weight.detach().to(kind)
        self.saved: list = []

    def _through(self, x: torch.Tensor, first: bool) -> torch.Tensor:
        """(B, L, d) behind the last block; first: position 0 alone there."""
        self.saved = []
        for i, block in enumerate(self.blocks):
            x, saved = block.forward(x, first and i == len(self.blocks) - 1)
            self.saved.append(saved)
        return x

    def _back_through(self, g: torch.Tensor | None) -> None:
        for i in reversed(range(len(self.blocks))):
            assert g is not None
            g = self.blocks[i].backward(g, self.saved.pop(), whole=i > 0)

    def _head(self, x: torch.Tensor) -> torch.Tensor:
        """Unit features (N, D), float32, of states (N, d)."""
        n, *moments = self.norm(x)
        wide = torch.promote_types(n.dtype, torch.float32)
        features, length = _unit((n @ self.projection).to(wide))
        self.end = (x, moments, features, length)
        return features

    def _head_back(self, g: torch.Tensor) -> torch.Tensor:
        x, moments, features, length = self.end
        g = _unit_back(g, features, length).to(x.dtype)
        return self.norm.back(g @ self.projection.t(), x, *moments)


class ImageTower(_Tower):
    """open_clip's ViT, read off at its class token."""

    def __init__(self, net: Any, adapters: dict[nn.Module, Adapter], kind: torch.dtype):
        super().__init__(net, net.ln_post, net.proj, adapters, kind, causal=False)
        self.patches, self.stride = net.conv1.weight.detach().to(kind), net.conv1.stride
        self.start = net.class_embedding.detach().to(kind)
        self.places = net.positional_embedding.detach().to(kind)
        self.norm_pre = None if isinstance(net.ln_pre, nn.Identity) else _Norm(net.ln_pre, kind)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit features (B, D), float32, of normalised pixels (B, 3, S, S)."""
        x = F.conv2d(pixels.to(self.patches.dtype), self.patches, stride=self.stride)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(len(x), 1, -1), x], 1) + self.places
        if self.norm_pre is not None:
            x = self.norm_pre(x)[0]
        return self._head(self._through(x, first=True)[:, 0])

    def backward(self, g: torch.Tensor) -> None:
        """Write the adapters' gradients; g: derivative by the features."""
        self._back_through(self._head_back(g)[:, None])


class TextTower(_Tower):
    """open_clip's causal text tower, read off at each caption's end token.

    tokens (T, C, L): class names in T templates; a class's feature is the mean of its sentences'.
    ends: the column of each sentence's end token, T C of them.
    """

    def __init__(
        self,
        net: Any,
        tokens: torch.Tensor,
        ends: Sequence[int],
        adapters: dict[nn.Module, Adapter],
        kind: torch.dtype,
    ):
        super().__init__(net, net.ln_final, net.text_projection, adapters, kind, causal=True)
        length, device = max(ends) + 1, net.token_embedding.weight.device
        rows = tokens.view(-1, tokens.shape[-1])[:, :length]
        words = net.token_embedding.weight.detach()[rows.to(device)]
        self.x = (words + net.positional_embedding.detach()[:length]).to(kind)
        at = [row * length + end for row, end in enumerate(ends)]
        self.ends = torch.tensor(at, device=device)
        self.templates = len(tokens)

    def forward(self) -> torch.Tensor:
        """Unit features (C, D), float32, of the classes."""
        x = self._through(self.x, first=False)
        each = self._head(x.view(-1, x.shape[-1]).index_select(0, self.ends))
        features, length = _unit(each.view(self.templates, -1, each.shape[-1]).mean(0))
        self.mean = (features, length)
        return features

    def backward(self, g: torch.Tensor) -> None:
        """Write the adapters' gradients; g: derivative by the features."""
        g = _unit_back(g, *self.mean) / self.templates
        g = self._head_back(g.repeat(self.templates, 1))
        whole = torch.zeros_like(self.x).view(-1, self.x.shape[-1])
        self._back_through(whole.index_copy_(0, self.ends, g).view_as(self.x))


def fits(model: nn.Module) -> bool:
    """Whether both towers are of the shape that is written out here, adapted by `add_lora`."""
    net, text = model.visual, clip_lora.text_tower(model)
    return (
        clip_lora.class_token_alone(net)
        and net.proj is not None
        and not net.final_ln_after_pool
        and isinstance(net.patch_dropout, nn.Identity)
        and net.conv1.bias is None
        and bool(clip_lora.adapted_text(model))
        and text.text_projection is not None
        and getattr(text.text_projection, "bias", None) is None
        and all(_plain(b) for part in (net, text) for b in part.transformer.resblocks)
    )


def _plain(block: nn.Module) -> bool:
    return (
        type(block) is oc.ResidualAttentionBlock
        and isinstance(block.attn, clip_lora.LoRAAttention)
        and block.attn.noise == "caption"
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
        and isinstance(block.mlp.gelu, nn.GELU | oc.QuickGELU)
        and getattr(block.mlp.gelu, "approximate", "none") == "none"
    )
