"""Trains the text-to-image model of 64 x 64 pixels that DataDream adapts, in sittings.

    python -m microworld.pretrain.dream --checkpoints DIR --output DIR [--minutes M]

DIR/datadream is written; models/micro/datadream is what ships.

Stages: pictures as the data sets have them, halved; an autoencoder with more channels, from the
shipped one; a text encoder beside the image tower of models/micro/clip; latents; UNet and text
encoder together (dream_model.py). Stopped by --minutes or by a kill, and called again, it goes on
from its checkpoints with the same batches. Steps end it, so that a slower machine gives the same
training. At the end of each call the model as far as it is trained is written and measured
(dream_card.py).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from PIL import Image

from varireal_utils.core import storage
from varireal_utils.core.config import load_config

from .. import captions
from ..feasibility import FAMILIES
from ..render import class_names
from . import contrastive, data, dream_model, stages
from .dream_card import TARGETS, Measure, card, faults
from .trainer import FitSettings
from .vocabulary import build_tokenizer

STUDY = "params/registered_datadream.yaml"  # whose settings draw, adapt and measure
SHIPPED = Path("models/micro")  # vae and clip, from which this begins
FOLDER = "datadream"  # of the output
FEATURES = 12000  # pictures beside which the text encoder learns
STEPS = {"autoencoder": 4000, "text": 1500, "unet": 9000}
BATCH = {"autoencoder": 48, "text": 192, "unet": 32}


@dataclass(frozen=True)
class DreamConfig:
    """checkpoint_dir: checkpoints and caches; output_dir: gets datadream/; count: renderings;
    steps: of each stage; until: time.time() at which the training of this call stops."""

    checkpoint_dir: Path
    output_dir: Path
    count: int = 40000
    steps: dict[str, int] = field(default_factory=lambda: dict(STEPS))
    device: str = "cpu"
    until: float = math.inf

    def fit(self, name: str, lr: float, every: int, **more: Any) -> FitSettings:
        """Settings of a stage."""
        return FitSettings(
            self.checkpoint_dir / f"{name}.pt",
            self.steps[name],
            lr=lr,
            batch=BATCH[name],
            every=every,
            pause=self.until - time.time(),
            **more,
        )

    def once(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that is made on first use, then mapped from `checkpoint_dir`."""
        path = self.checkpoint_dir / f"{name}.npy"
        if not path.exists():
            draft = path.with_suffix(".tmp.npy")
            np.save(draft, make())
            draft.replace(path)
        return np.load(path, mmap_mode="r")

    def finished(self, reports: dict[str, dict]) -> bool:
        """Whether every stage that was begun has taken all its steps."""
        return all(r["step"] >= self.steps[name] for name, r in reports.items())

    def progress(self, reports: dict[str, dict]) -> list[str]:
        """How far each stage came, in words."""
        return [
            f"{k}: {r['step']} of {self.steps[k]} steps, {r['seconds'] / 60:.0f} minutes"
            for k, r in reports.items()
        ]


def make(config: DreamConfig) -> dict[str, dict]:
    """Train the stages as far as this call's time reaches; the reports of those that were begun.
    Writes datadream/ once the UNet has begun."""
    folder = config.checkpoint_dir / "pictures"
    pixels, specs = data.renderings(config.count, folder, 0, "feasible")
    count = len(specs)
    small = config.once(f"half_{count}", lambda: _halves(pixels))
    vae = AutoencoderTiny.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32)
    vae = dream_model.widened(vae).to(config.device)
    settings = config.fit("autoencoder", 1.5e-3, 100, ema=0.995)
    reports = {"autoencoder": dream_model.train_autoencoder(vae, small, settings)}
    if not config.finished(reports):
        return reports
    tokenizer = build_tokenizer(captions.vocabulary(), config.checkpoint_dir / "tokenizer")
    vocab = tokenizer.get_vocab()
    torch.manual_seed(0)
    text, net = dream_model.text_encoder(vocab), dream_model.unet()
    seen = torch.tensor(config.once(f"features_{count}", lambda: _features(pixels[:FEATURES])))
    settings = config.fit("text", 1e-3, 200, seed=1, weight_decay=0.02)
    reports["text"] = dream_model.train_text(text, seen, specs, vocab, settings)
    if not config.finished(reports):
        return reports
    latents = f"latents_{count}_{config.steps['autoencoder']}"
    examples = dream_model.Examples(
        config.once(latents, lambda: dream_model.encode(vae, small)),
        config.once(f"coverage_{count}", lambda: dream_model.coverage(small)),
        specs,
        vocab,
    )
    net = net.to(config.device, memory_format=torch.channels_last)
    text = text.to(config.device)
    settings = config.fit("unet", 8e-4, 100, seed=2, weight_decay=1e-3)
    reports["unet"] = dream_model.train_unet(net, text, examples, settings)
    parts = (vae, text, tokenizer, net, dream_model.scheduler())
    stages.write_pipeline(StableDiffusionPipeline, config.output_dir / FOLDER, *parts)
    return reports


def _halves(pixels: np.ndarray, chunk: int = 250) -> np.ndarray:
    parts = range(0, len(pixels), chunk)
    return np.concatenate([dream_model.halved(pixels[i : i + chunk]) for i in parts])


def _features(pixels: np.ndarray) -> np.ndarray:
    """(N, D) float32 unit features of the shipped CLIP's image tower."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{SHIPPED / 'clip'}")
    return contrastive.image_features(model.eval(), pixels).numpy()


def measure(
    config: DreamConfig, reports: dict[str, dict], per_class: int, guidance: float | None = None
) -> dict[str, float]:
    """Figures of the pipeline that was written, its card beside it, and sheet.png in
    `checkpoint_dir`. guidance: scale in place of the study's."""
    folder = config.output_dir / FOLDER
    changed = {} if guidance is None else {"datadream.guidance_scale": guidance}
    judge = Measure(folder, load_config(STUDY, changed), config.device, per_class)
    figures: dict[str, float] = {}
    for family in FAMILIES:
        scratch = config.checkpoint_dir / "adapters" / f"{reports['unet']['step']}-{family}"
        figures |= judge.family(family, scratch)
    Image.fromarray(np.vstack(judge.sheet)).save(config.checkpoint_dir / "sheet.png")
    storage.write_json(
        config.checkpoint_dir / "acceptance.json", {"figures": figures, "targets": TARGETS}
    )
    drawn = f"{STUDY}, guidance {judge.settings.guidance_scale:g}"
    pictures = per_class * len(class_names(FAMILIES[0]))
    text = card(figures, config.progress(reports), config.count, drawn, pictures)
    storage.write_text(folder / "README.md", text)
    return figures


def main(words: list[str] | None = None) -> int:
    """Train, write, measure; 1 where a target is missed or the UNet has not begun."""
    parser = argparse.ArgumentParser(prog="python -m microworld.pretrain.dream")
    add = parser.add_argument
    add("--checkpoints", type=Path, required=True, help="checkpoints, pictures, sheet.png")
    add("--output", type=Path, required=True, help="gets datadream/ with its card")
    add("--minutes", type=float, default=math.inf, help="training of this call; then it measures")
    for name, said in (("unet", "steps"), ("autoencoder", None), ("text", None)):
        option = f"--{said or name + '-steps'}"
        add(option, type=int, default=STEPS[name], dest=name, help=f"of {BATCH[name]} examples")
    add("--count", type=int, default=40000, help="renderings")
    add("--per-class", type=int, default=16, help="pictures of a class that are measured")
    add("--guidance", type=float, help="scale that is measured, in place of the study's")
    add("--threads", type=int, default=1)
    add("--device", default="cpu")
    asked = parser.parse_args(words)
    torch.set_num_threads(asked.threads)
    config = DreamConfig(
        asked.checkpoints,
        asked.output,
        asked.count,
        {name: getattr(asked, name) for name in STEPS},
        asked.device,
        time.time() + 60 * asked.minutes,
    )
    reports = make(config)
    print("\n".join(config.progress(reports)))
    if "unet" not in reports:
        print("the UNet has not begun: call again")
        return 1
    figures = measure(config, reports, asked.per_class, asked.guidance)
    print("\n".join(f"{k:24s} {v:.3f}" for k, v in figures.items()))
    print("\n".join(found := faults(figures)) or "every target is reached")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
