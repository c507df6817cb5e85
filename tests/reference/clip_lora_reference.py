"""CLIP with LoRA on q and v, written out plainly: slow, and independent of varireal_utils.

Everything is a function of a plain open_clip state dict and of a dict of adapters
{"<block>.attn": (A_q, B_q, A_v, B_v)}. Each forward pass merges W + (alpha / r) B A by hand, uses
torch's own multi-head attention, all tokens of the context, and no module of open_clip.
"""

import torch
import torch.nn.functional as F


def merged(weight, adapter, alpha):
    """(3d, d): the fused projection with the two low-rank products added to its q and v rows."""
    if adapter is None:
        return weight
    down_q, up_q, down_v, up_v = adapter
    d, rank = up_q.shape
    w_q, w_k, w_v = weight[:d], weight[d : 2 * d], weight[2 * d :]
    scale = alpha / rank
    return torch.cat([w_q + scale * (up_q @ down_q), w_k, w_v + scale * (up_v @ down_v)])


def norm(x, state, name):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def transformer(x, state, prefix, layers, heads, adapters, alpha, mask=None, gelu=F.gelu):
    """x (B, L, d) through `layers` pre-norm blocks."""
    for i in range(layers):
        b = f"{prefix}transformer.resblocks.{i}"
        weight = merged(state[f"{b}.attn.in_proj_weight"], adapters.get(f"{b}.attn"), alpha)
        h = norm(x, state, f"{b}.ln_1").transpose(0, 1)  # (L, B, d)
        h, _ = F.multi_head_attention_forward(
            h,
            h,
            h,
            x.shape[-1],
            heads,
            weight,
            state[f"{b}.attn.in_proj_bias"],
            None,
            None,
            False,
            0.0,
            state[f"{b}.attn.out_proj.weight"],
            state[f"{b}.attn.out_proj.bias"],
            need_weights=True,
            attn_mask=mask,
        )
        x = x + h.transpose(0, 1)
        h = norm(x, state, f"{b}.ln_2")
        h = gelu(F.linear(h, state[f"{b}.mlp.c_fc.weight"], state[f"{b}.mlp.c_fc.bias"]))
        x = x + F.linear(h, state[f"{b}.mlp.c_proj.weight"], state[f"{b}.mlp.c_proj.bias"])
    return x


def image_features(pixels, state, cfg, adapters, alpha):
    """pixels (B, 3, H, W) -> unit vectors (B, D)."""
    v = cfg["vision_cfg"]
    x = F.conv2d(pixels, state["visual.conv1.weight"], stride=v["patch_size"])
    x = x.flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + state["visual.positional_embedding"]
    x = norm(x, state, "visual.ln_pre")
    x = transformer(
        x, state, "visual.", v["layers"], v["width"] // v["head_width"], adapters, alpha
    )
    x = norm(x, state, "visual.ln_post")
    x = x[:, 1:].mean(1) if v.get("pool_type") == "avg" else x[:, 0]
    return F.normalize(x @ state["visual.proj"], dim=-1)


def text_features(tokens, state, cfg, adapters, alpha):
    """tokens (C, L), all L of the context -> unit vectors (C, D)."""
    t = cfg["text_cfg"]
    length = tokens.shape[1]
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"][:length]
    mask = torch.full((length, length), float("-inf")).triu(1)
    x = transformer(x, state, "", t["layers"], t["heads"], adapters, alpha, mask)
    x = norm(x, state, "ln_final")
    x = torch.stack([row[int(ids.argmax())] for row, ids in zip(x, tokens, strict=True)])
    return F.normalize(x @ state["text_projection"], dim=-1)


def logits(pixels, tokens, state, cfg, adapters, alpha):
    """(B, C)."""
    image = image_features(pixels, state, cfg, adapters, alpha)
    text = text_features(tokens, state, cfg, adapters, alpha)
    return state["logit_scale"].exp() * image @ text.T
