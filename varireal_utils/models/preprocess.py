"""Turns stored images into a network's input pixels: resize, centre crop, normalise.

Training, verification and the quality measures share it, so that each sees the same pixels.

symbols   image       uint8 (3, H, W), any size        pixels   (B, 3, S, S), S the network's size
          preprocess  dict: size, mean, std, resize_mode, as open_clip writes it
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

BICUBIC = v2.InterpolationMode.BICUBIC


def input_size(preprocess: dict) -> int:
    """The side S of the network's input in pixels. Raises ValueError where it is not square."""
    size = preprocess["size"]
    sizes = {size} if isinstance(size, int) else set(size)
    if len(sizes) != 1:
        raise ValueError(f"preprocess size {size} of the CLIP is not square.")
    return int(sizes.pop())


def resize(image: torch.Tensor, preprocess: dict) -> torch.Tensor:
    """uint8 (3, H, W) -> uint8 (3, S, S) for evaluation, as open_clip's `resize_mode` says.

    shortest: shorter side to S, then the centre; squash: both sides to S. Raises ValueError for
    another mode.
    """
    size, mode = input_size(preprocess), preprocess.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ValueError(f"preprocess resize_mode is {mode!r}, wanted shortest or squash.")
    if image.shape[1:] == (size, size):
        return image
    goal = [size] if mode == "shortest" else [size, size]
    return tvf.center_crop(tvf.resize(image, goal, BICUBIC, antialias=True), [size, size])


def normalise(pixels: torch.Tensor, preprocess: dict) -> torch.Tensor:
    """uint8 (B, 3, S, S) -> float32, (x / 255 - mean) / std by channel."""
    mean, std = (_channels(tuple(preprocess[k]), pixels.device) for k in ("mean", "std"))
    return torch.div(pixels, 255).sub_(mean).div_(std)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(1, 3, 1, 1), copied to a device once."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def network_input(
    images: Iterable[np.ndarray], preprocess: dict, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Arrays (H, W, 3) uint8 -> normalised pixels (B, 3, S, S) float32 on `device`."""
    resized = [resize(torch.tensor(i).permute(2, 0, 1), preprocess) for i in images]
    return normalise(torch.stack(resized).to(device), preprocess)
