"""The parts of `make bench` beside CLIP: loading pictures, editing them, the whole `make study`.

What was learnt: with one picture at a time a diffusion step of the micro models is half overhead of
Python; a batch of 16 hides it. Decoding a PNG of 512 pixels costs as much as augmenting it, so
pictures are decoded once and kept at twice CLIP's size while they fit into memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from microworld import render
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import AugmentSettings
from varireal_utils.core.device import device_of, dtype_of
from varireal_utils.editing import guidance, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.prompts import phrase_bank
from varireal_utils.training import augment, image_cache

ROOT = Path(__file__).resolve().parents[1]
PREPROCESS = {
    "size": 224,
    "mean": (0.48, 0.46, 0.41),
    "std": (0.27, 0.26, 0.28),
    "resize_mode": "shortest",
}
SIDE, COUNT = 512, 48


def photographs(folder: Path) -> list[str]:
    """Smooth pictures of SIDE pixels as PNG, as 01_data stores them; returns their names."""
    rng, names = np.random.default_rng(0), []
    for n in range(COUNT):
        small = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
        picture = np.asarray(small.resize((SIDE * 4 // 3, SIDE), Image.Resampling.BICUBIC))
        names.append(f"{n}.png")
        storage.write_image(folder / names[-1], picture)
    return names


def load_plainly(folder: Path, names: list[str]) -> None:
    """Each picture opened, augmented and turned into a tensor on its own, as the references do."""
    transform = augment.transform(PREPROCESS, AugmentSettings())
    for name in names:
        with Image.open(folder / name) as picture:
            transform(v2.functional.pil_to_tensor(picture.convert("RGB")))


def load_ours(batches: augment.Batches, steps: int) -> None:
    """The same augmentation through the training's own loader."""
    loader = torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(steps))
    for _ in loader:
        pass


def loading(timed: Any, repeats: int, batch: int = 16) -> dict[str, float]:
    """Median seconds an image of both ways."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        names = photographs(folder)
        images = image_cache.Images(names, folder, PREPROCESS["size"])
        rows = np.arange(COUNT).reshape(-1, batch)
        batches = augment.Batches(images, rows, PREPROCESS, AugmentSettings(), 0)
        seconds = timed(
            {
                "plain": partial(load_plainly, folder, names),
                "ours": partial(load_ours, batches, len(rows)),
            },
            repeats,
        )
    return {name: s / COUNT for name, s in seconds.items()}


def editing(timed: Any, repeats: int, batch: int = 16, device: str = "cpu") -> dict[str, float]:
    """Median seconds an edit of a colour with the micro models: one by one, and in batches."""
    config = load_config(ROOT / "params/micro.yaml", {"device": device})
    settings = EditStage.of(config, attribute="color", feasibility="feasible")
    bank = phrase_bank.load_bank(
        ROOT / config.phrase_file, "cars", list(render.class_names("cars"))
    )
    pipes = roles.load(
        settings, device_of(config.device), dtype_of(config.precision, config.device)
    )
    sources, rows = [], []
    for n in range(batch):
        p = render.photograph("cars", "val", n)
        sources.append(
            Source(
                p.image,
                p.mask,
                editable_mask("color", p.mask, p.paint),
                guidance.canny(p.image, p.mask),
            )
        )
        rows.append(
            {
                "attribute": "color",
                "phrase": "red",
                "seed": n,
                "class_name": "alvera",
                "prompt": phrase_bank.edit_prompt(bank, "color", "red", "alvera"),
            }
        )

    def one_by_one() -> None:
        for source, row in zip(sources, rows, strict=True):
            pipeline.edit_batch(pipes, [source], [row], {}, bank, settings, 0)

    seconds = timed(
        {
            "plain": one_by_one,
            "ours": partial(pipeline.edit_batch, pipes, sources, rows, {}, bank, settings, 0),
        },
        repeats,
    )
    return {name: s / batch for name, s in seconds.items()}


def whole_study() -> float:
    """Seconds of `make study` (without its set-up), in a folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "varireal_utils",
                "study",
                "--params",
                "params/micro.yaml",
                "--set",
                f"runs_dir={home}",
            ],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start
