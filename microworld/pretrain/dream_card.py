"""Measures DataDream's model as the gate of claims D1 and D2 does, and writes its card.

symbols   named       share, 0..1, of pictures drawn from "a photo of a {class}" of which the
                      study's zero-shot CLIP names the class among its family's eight: by chance 1/8
          adapted     the same, drawn with an adapter of 8 shots a class (DataDream's dset)
          ceiling     the same, of photographs halved and put through the autoencoder
          photograph  the same, of photographs as they are
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from varireal_utils.analysis.gates import NAMED
from varireal_utils.core.config import StudyConfig
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.core.device import dtype_of
from varireal_utils.core.seeds import seed_for
from varireal_utils.datadream import adapters, sampling
from varireal_utils.quality.edit_metrics import recognised
from varireal_utils.verification.features import ClipFeatures

from ..feasibility import FAMILIES
from ..render import class_names, photograph_of
from . import autoencoder, dream_model

BASE, REPLICATE = 7, 100  # the photographs of the figures: no study's
TARGETS = {"named": NAMED, "adapted": NAMED}  # least, as shares of `photograph`, of each family
SHOWN = 10  # pictures of a row of the sheet
BATCH = 32  # pictures drawn at once


class Measure:
    """Draws from the pipeline in `folder`, adapts it, and names the pictures' classes.

    study: whose section `datadream` and CLIP are used; raises ValueError where it has none.
    per_class: pictures of a class. sheet: rows of pictures to look at, three for each family that
    was measured: halved photographs after the autoencoder, drawn, adapted.
    """

    def __init__(self, folder: Path, study: StudyConfig, device: str, per_class: int):
        if study.datadream is None:
            raise ValueError(f"{study.file}: wanted a section `datadream`, which draws and adapts")
        models = ModelRoles(clip=study.models.clip, datadream=ModelSpec(path=str(folder)))
        self.settings, self.dtype = study.datadream, dtype_of(study.precision, device)
        self.pipe = sampling.load(models, torch.device(device))
        self.clip = ClipFeatures(models, torch.device(device))
        self.per_class = per_class
        self.sheet: list[np.ndarray] = []

    def family(self, family: str, scratch: Path) -> dict[str, float]:
        """The figures of a family; its adapter stays in `scratch`, from where one that was stopped
        goes on."""
        names = class_names(family)
        prompts = [self.settings.template.replace("{class}", n) for n in names]
        labels = np.arange(len(names) * self.per_class) % len(names)
        photographs = _photographs(family, "test", len(labels))
        sets = {
            "photograph": photographs,
            "ceiling": list(autoencoder.reconstruct(self.pipe.vae, _halves(photographs))),
            "named": self.draw(family, prompts, labels),
            "adapted": self.adapted(family, prompts, labels, scratch),
        }
        self.sheet += [np.hstack(v[:SHOWN]) for k, v in sets.items() if k != "photograph"]
        texts = self.clip.embed_texts(prompts)
        return {
            f"{kind}_{family}": recognised(self.clip.embed_images(pictures), labels, texts)
            for kind, pictures in sets.items()
        }

    def draw(self, family: str, prompts: list[str], labels: np.ndarray) -> list[np.ndarray]:
        """A picture of each label, (64, 64, 3) uint8, whose noise is its family's and place's."""
        out: list[np.ndarray] = []
        for i in range(0, len(labels), BATCH):
            texts = [prompts[k] for k in labels[i : i + BATCH]]
            seeds = [seed_for("dream64", family, i + j) for j in range(len(texts))]
            out += sampling.draw(self.pipe, texts, seeds, self.settings, self.dtype)
        return out

    def adapted(
        self, family: str, prompts: list[str], labels: np.ndarray, scratch: Path
    ) -> list[np.ndarray]:
        """`draw` with an adapter of the family's shots."""
        count = len(prompts) * self.settings.shots
        shown = _photographs(family, "train", count)
        shots = adapters.Shots(shown, [prompts[i % len(prompts)] for i in range(count)])
        seed = seed_for("dream64", family)
        adapters.adapt(self.pipe, shots, self.settings, scratch, seed, self.dtype)
        self.pipe.load_lora_weights(str(scratch), weight_name=adapters.WEIGHTS)
        out = self.draw(family, prompts, labels)
        self.pipe.unload_lora_weights()
        return out


def _photographs(family: str, split: str, count: int) -> list[np.ndarray]:
    return [photograph_of(family, split, i, BASE, REPLICATE).image for i in range(count)]


def _halves(pictures: list[np.ndarray]) -> np.ndarray:
    """(N, 64, 64, 3) uint8 of N photographs (128, 128, 3)."""
    blank = np.zeros((*pictures[0].shape[:2], 1), np.uint8)
    return dream_model.halved(np.stack([np.dstack([p, blank]) for p in pictures]))[..., :3]


def faults(figures: dict[str, float]) -> list[str]:
    """Which of `TARGETS` a model misses, a line each."""
    return [
        f"{kind}_{family} is {figures[f'{kind}_{family}']:.3f}, wanted at least {least:.3f}"
        for kind, share in TARGETS.items()
        for family in FAMILIES
        if figures[f"{kind}_{family}"] < (least := share * figures[f"photograph_{family}"])
    ]


def card(
    figures: dict[str, float], trained: list[str], count: int, study: str, pictures: int
) -> str:
    """The model card. trained: how far each stage came, in words; count: renderings; study: file
    whose settings drew, adapted and measured; pictures: of each family that were measured."""
    lines = [
        "---",
        "license: apache-2.0",
        "---",
        "",
        "# Micro text-to-image pipeline of 64 x 64 pixels",
        "",
        "`diffusers.StableDiffusionPipeline`; what DataDream adapts. Trained by `python -m "
        f"microworld.pretrain.dream` on {count} renderings as the data sets have them, every "
        "attribute feasible; captions name the class in most. Its autoencoder starts from the "
        "shipped one. Its text encoder learned first beside the image tower of "
        "`models/micro/clip`, which is not the CLIP that names its pictures.",
        "",
        f"Share of {pictures} pictures of each family whose class zero-shot CLIP names, by chance "
        "0.125: photographs; "
        "photographs halved and put through the autoencoder (ceiling); pictures drawn from "
        '"a photo of a {class}" (named); pictures drawn with an adapter of the shots (adapted). '
        f"Settings: {study}. Targets are halves of the photographs' share.",
        "",
        "| measured | value | target |",
        "|---|---|---|",
    ]
    for key, value in figures.items():
        kind, _, family = key.rpartition("_")
        least = TARGETS.get(kind, 0) * figures[f"photograph_{family}"]
        wanted = f">= {least:.3f}" if kind in TARGETS else ""
        lines.append(f"| {key.replace('_', ' ')} | {value:.3f} | {wanted} |")
    missed = faults(figures)
    reached = "Not reached: " + "; ".join(missed) if missed else "Every target is reached"
    return "\n".join([*lines, "", f"{reached}.", "", f"Training: {'; '.join(trained)}.", ""])
