"""CLIP with LoRA as the reference repositories step it, written plainly: what we are timed against.

77 text tokens whatever the captions' length, q, k and v as products of their own with a low-rank
branch each, activations of the text tower recomputed in the backward pass, float32, class names
encoded again for every evaluation batch (docs/protocol.md, C2 and C4). Mathematically it is what
varireal_utils.models.clip_lora computes; bench/run.py checks that before it times anything.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class PlainAttention(nn.Module):
    """Four linear maps, LoRA on q and v; takes the weights of an adapted block of ours."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        d = ours.out_proj.weight.shape[0]
        w, b = ours.in_proj_weight, ours.in_proj_bias
        for i, name in enumerate("qkv"):
            linear = nn.Linear(d, d)
            linear.weight = nn.Parameter(w[i * d : (i + 1) * d].detach().clone(), False)
            linear.bias = nn.Parameter(b[i * d : (i + 1) * d].detach().clone(), False)
            self.add_module(name, linear)
        self.out, self.heads, self.dropout = _linear(ours.out_proj), ours.num_heads, ours.dropout
        self.scale = ours.alpha / ours.rank
        self.low = nn.ParameterDict(
            {
                n: nn.Parameter(getattr(ours, n).detach().clone())
                for n in ("A_q", "B_q", "A_v", "B_v")
            }
        )

    def _lora(self, x: torch.Tensor, part: str) -> torch.Tensor:
        x = F.dropout(x, self.dropout, self.training)
        return self.scale * F.linear(F.linear(x, self.low[f"A_{part}"]), self.low[f"B_{part}"])

    def forward(self, x, key=None, value=None, need_weights=False, attn_mask=None):
        batch, length, d = x.shape
        q = self.q(x) + self._lora(x, "q")
        k = self.k(x)
        v = self.v(x) + self._lora(x, "v")
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
        if attn_mask is not None:
            scores = scores + attn_mask
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, d)), None


def _linear(layer: nn.Linear) -> nn.Linear:
    made = nn.Linear(layer.in_features, layer.out_features)
    made.weight, made.bias = layer.weight, layer.bias
    return made


def plain(model: nn.Module) -> nn.Module:
    """Replace what is ours in every block of an open_clip model, in place."""
    for transformer in (model.visual.transformer, model.transformer):
        for block in transformer.resblocks:
            block.attn = PlainAttention(block.attn)
            block.mlp.c_fc, block.mlp.c_proj = _linear(block.mlp.c_fc), _linear(block.mlp.c_proj)
    model.transformer.grad_checkpointing = True
    return model


def logits(model: nn.Module, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(B, C) of pixels (B, 3, H, W) and tokens (C, 77)."""
    image = F.normalize(model.encode_image(pixels), dim=-1)
    text = F.normalize(model.encode_text(tokens), dim=-1)
    return model.logit_scale.exp() * image @ text.T


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    pixels: torch.Tensor,
    tokens: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    """One training step; returns the loss."""
    model.train()
    loss = F.cross_entropy(logits(model, pixels, tokens), labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def evaluate(model: nn.Module, batches: list[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Logits of all batches; the text is encoded with each of them."""
    model.eval()
    return torch.cat([logits(model, pixels, tokens) for pixels in batches])
