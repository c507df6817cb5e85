"""A canny ControlNet for the micro inpainting UNet: keeps an object's lines on a new surface.

The lines come from the same object under another colour and texture, as they do in the study,
where they come from the source photograph. So the ControlNet learns to follow shape and to ignore
the pattern that is to go.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel

from varireal_utils.editing import guidance

from ..feasibility import COLORS, TEXTURES
from ..render import Spec, render
from .contrastive import tokens
from .data import on_all_cores
from .editor import TASKS, WIDTH, Examples, _velocity, draw, prompt_for, scheduler
from .trainer import FitSettings, fit, half, on


def build(inpaint) -> ControlNetModel:
    """The encoder half of the inpainting UNet, without its mask channels, and zero convolutions."""
    net = ControlNetModel(
        in_channels=4,
        conditioning_channels=3,
        layers_per_block=1,
        norm_num_groups=16,
        block_out_channels=(48, 128, WIDTH),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",),
        conditioning_embedding_out_channels=(16, 32, 64),
    )
    state = {k: v for k, v in inpaint.state_dict().items() if k in net.state_dict()}
    state["conv_in.weight"] = state["conv_in.weight"][:, :4].clone()
    net.load_state_dict(state, strict=False)
    return net.to(memory_format=torch.channels_last)


def lines(job: tuple[Spec, int, int]) -> np.ndarray:
    """Canny map (128, 128) uint8 of the same object under another colour and texture, by (spec,
    seed, number)."""
    spec, rng = job[0], np.random.default_rng(job[1:])
    other = render(
        replace(spec, color=str(rng.choice(list(COLORS))), texture=str(rng.choice(TEXTURES)))
    )
    return guidance.canny(other.image, other.mask)


def prepare(
    data: dict,
    specs: list[Spec],
    count: int,
    folder: Path,
    seed: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of colour and texture examples, and their line maps (count, 128, 128) uint8."""
    wanted = [TASKS.index("texture"), TASKS.index("color")]
    rows = np.flatnonzero(np.isin(data["tasks"], wanted))[:count]
    path = folder / "lines.npy"
    if not path.exists():
        jobs = [(specs[i], seed, int(i)) for i in rows]
        np.save(path, np.stack(list(on_all_cores(lines, jobs, "lines", 50))))
    return rows, np.load(path)


def train(
    net: ControlNetModel,
    inpaint: UNet2DConditionModel,
    text: CLIPTextModel,
    examples: Examples,
    rows: np.ndarray,
    maps: np.ndarray,
    settings: FitSettings,
) -> dict:
    """Train the ControlNet alone; rows, maps: what `prepare` returns."""
    data, specs = examples.data, examples.specs
    device = on(net)
    abar = scheduler().alphas_cumprod.to(device)
    inpaint.requires_grad_(False)
    text.requires_grad_(False)

    def sample(step: int, rng: np.random.Generator) -> dict:
        pick = rng.integers(len(rows), size=settings.batch)
        index = rows[pick]
        texts = [
            "" if rng.random() < 0.1 else prompt_for(specs[i], TASKS[data["tasks"][i]], rng)
            for i in index
        ]
        return {
            "x0": data["x0"][index],
            "context": data["context"][index],
            "mask": data["mask"][index][:, None],
            "lines": maps[pick],
            "tokens": tokens(texts, examples.vocab),
            **draw(data["x0"][index].shape, rng),
        }

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        x0, context, mask = (given[k].float() for k in ("x0", "context", "mask"))
        edges, t = given["lines"][:, None].expand(-1, 3, -1, -1) / 255.0, given["t"]
        noisy, target = _velocity(x0, given["noise"], t, abar)
        with half(device):
            states = text(given["tokens"]).last_hidden_state
            down, mid = net(noisy, t, states, controlnet_cond=edges, return_dict=False)
            out = inpaint(
                torch.cat([noisy, mask, context], 1),
                t,
                states,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
        square = F.mse_loss(out.float(), target, reduction="none").mean(1, keepdim=True)
        weight = 0.1 + 0.9 * mask
        return (square * weight).sum() / weight.sum(), {}

    return fit({"controlnet": net}, sample, loss_of, settings)
