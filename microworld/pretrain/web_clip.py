"""Trains the CLIP of studies of replicates anew, on web-like pictures, and measures it.

    python -m microworld.pretrain.web_clip --checkpoints DIR --output DIR [--steps 7000]

symbols   web-like   each attribute of a picture is feasible for its family in 9 of 10, else any
                     other value of the world (render.web): the model has seen what is infeasible
                     seldom, so that infeasible means something to it
          names      what classes are called: the text tower is trained anew beside the locked
                     image tower on captions that seldom name a class, so that fine-tuning has
                     names to learn
          head-room  accuracy of a classifier fine-tuned on real photographs minus zero-shot

Begins from nothing; stopped and called again, it goes on from its checkpoints with the same
batches. Steps, not hours, end it, so that a slower machine gives the same weights' training. The
accepted figures stand in `TARGETS`; the card and acceptance.json say which are reached.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch

from varireal_utils.core import storage
from varireal_utils.core.config import StudyConfig, load_config
from varireal_utils.core.config_sections import ModelSpec
from varireal_utils.models import classifiers, preprocess
from varireal_utils.training import image_cache
from varireal_utils.training.train import Training, evaluate, top1, train

from ..captions import sentence
from ..feasibility import ATTRIBUTES, FAMILIES, values
from ..render import class_names, photograph_of
from . import contrastive, data, stages
from .stages import PretrainConfig

BASE, REPLICATE = 7, 100  # the photographs of the figures: no study's
PER_CLASS = {"train": 8, "val": 16, "test": 50}  # as STUDY has them
STUDY = "params/registered.yaml"  # whose training settings head-room is measured with
NAMES = contrastive.Naming(right=0.01, wrong=0.06)  # of the captions of the text tower
CHANCE = 1 / 8
TARGETS = {"head_room": 0.10, "zero_shot": 2 * CHANCE}  # least, of each family
SAID = {
    "background": lambda noun, v: sentence(noun, "", "", v),
    "color": lambda noun, v: sentence(noun, v),
    "texture": lambda noun, v: sentence(noun, "", v),
}


def make(
    config: PretrainConfig, teacher_steps: int, steps: int, text_steps: int
) -> dict[str, dict]:
    """Teacher, CLIP, then its text tower anew, on the distribution of `config`: their reports."""
    done, clip = config.checkpoint_dir / "reports.json", config.output_dir / "clip"
    if not done.exists():
        report = {
            "teacher": stages.train_teacher(config, teacher_steps),
            "clip": stages.train_clip(config, steps),
        }
        report["clip"]["head_room"] = head_room(clip, load_config(STUDY))
        report["text"] = stages.train_text(config, text_steps, NAMES)
        storage.write_json(done, report)
    return storage.read_json(done)


def _photographs(family: str, folder: Path) -> pd.DataFrame:
    """Photographs of one replicate, written to `folder`: path, label, split, is_real."""
    rows = []
    for split, count in PER_CLASS.items():
        for index in range(count * len(class_names(family))):
            picture = photograph_of(family, split, index, BASE, REPLICATE)
            path = f"{family}-{split}-{index}.png"
            storage.write_image(folder / path, picture.image)
            rows.append((path, picture.label, split, True))
    return pd.DataFrame(rows, columns=["path", "label", "split", "is_real"])


def head_room(folder: Path, study: StudyConfig, starts: int = 2) -> dict[str, float]:
    """Zero-shot and fine-tuned accuracy, 0..1, of the CLIP in `folder`: each family's photographs,
    sixteen of a class to train on, tested on others; fine-tuned: a mean over `starts`."""
    out: dict[str, float] = {}
    settings, spec = study.classify.training(), ModelSpec(name=f"local-dir:{folder}")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            table = _photographs(family, root)
            rows, val, test = (table[table["split"] == s] for s in PER_CLASS)
            tuned = []
            for seed in range(starts):
                net = classifiers.load(spec, list(class_names(family)), settings.templates, "cpu")
                images = image_cache.Images(
                    test["path"], root, preprocess.input_size(net.preprocess)
                )
                if seed == 0:
                    out[f"zero_shot_{family}"] = top1(evaluate(net, images), test["label"])
                train(net, rows, val, settings, Training(root, root / f"{seed}", seed))
                tuned.append(top1(evaluate(net, images), test["label"]))
            out[f"fine_tuned_{family}"] = float(np.mean(tuned))
            out[f"head_room_{family}"] = out[f"fine_tuned_{family}"] - out[f"zero_shot_{family}"]
    return out


def knows(folder: Path, config: PretrainConfig) -> dict[str, float]:
    """Zero-shot accuracy, 0..1, of each attribute's values on held-out pictures of the wide
    distribution: of those whose value is feasible for the family, and of those where it is not."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    held, specs = data.renderings(1000, config.checkpoint_dir / "pictures", 1)
    features, out = contrastive.image_features(model.eval(), held), {}
    nouns = {"cars": "car", "aircraft": "aircraft", "pets": "dog"}
    for attribute in ATTRIBUTES:
        names = data.ATTRIBUTES[attribute]
        feasible = [getattr(s, attribute) in values(s.family, attribute)[0] for s in specs]
        right = np.zeros(len(specs), bool)
        for family in FAMILIES:
            said = [SAID[attribute](nouns[family], v) for v in names]
            here = np.array([s.family == family for s in specs])
            guess = (features @ contrastive.text_features(model, vocab, said).T).argmax(1).numpy()
            truth = np.array([names.index(getattr(s, attribute)) for s in specs])
            right[here] = (guess == truth)[here]
        for word, rows in (("feasible", np.array(feasible)), ("infeasible", ~np.array(feasible))):
            out[f"{attribute}_{word}"] = float(right[rows].mean())
    return out


def faults(figures: dict[str, float]) -> list[str]:
    """Which of `TARGETS` a model misses, a line each."""
    return [
        f"{kind}_{family} is {figures[f'{kind}_{family}']:.3f}, wanted at least {least:.3g}"
        for kind, least in TARGETS.items()
        for family in FAMILIES
        if figures[f"{kind}_{family}"] < least
    ]


def card(figures: dict[str, float], reports: dict[str, dict], count: int) -> str:
    """The model card: what it is, what it saw, what was measured."""
    lines = [
        "---",
        "license: apache-2.0",
        "---",
        "",
        "# Micro CLIP of web-like pictures",
        "",
        "`open_clip`, plain ViT, 16-pixel patches of 128 x 128 pictures. Trained from nothing by "
        "`python -m microworld.pretrain.web_clip` on renderings of which each attribute is "
        "feasible for its family in 9 of 10 (`microworld.render.web`): 73 % are feasible "
        f"throughout. {count} renderings; captions name the fine class rightly in "
        f"{contrastive.Naming.right:.0%}, wrongly in {contrastive.Naming.wrong:.0%}. Then the text "
        "tower was trained anew beside the locked image tower, on captions that name it rightly in "
        f"{NAMES.right:.0%}, wrongly in {NAMES.wrong:.0%}. Head-room with the first tower: "
        + ", ".join(f"{reports['clip']['head_room'][f'head_room_{f}']:.3f} {f}" for f in FAMILIES)
        + ".",
        "",
        "Zero-shot and fine-tuned: photographs of a replicate that no study uses, "
        f"{PER_CLASS['train']} of a class to train on, {STUDY}'s training. Attributes: zero-shot "
        "among all values of the world, on held-out pictures where anything meets anything.",
        "",
        "| measured | value | target |",
        "|---|---|---|",
    ]
    for key, value in figures.items():
        kind = key.rpartition("_")[0]
        wanted = f">= {TARGETS[kind]:.3g}" if kind in TARGETS else ""
        lines.append(f"| {key.replace('_', ' ')} | {value:.3f} | {wanted} |")
    missed, trained = faults(figures), []
    for name, report in reports.items():
        trained.append(f"{name}: {report['step']} steps, {report['seconds'] / 60:.0f} minutes")
    reached = "Not reached: " + "; ".join(missed) if missed else "Every target is reached"
    return "\n".join([*lines, "", f"{reached}.", "", f"Training: {'; '.join(trained)}.", ""])


def main(words: list[str] | None = None) -> int:
    """Train, measure, write the card; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m microworld.pretrain.web_clip")
    parser.add_argument("--checkpoints", type=Path, required=True, help="checkpoints and pictures")
    parser.add_argument("--output", type=Path, required=True, help="gets clip/ with its card")
    parser.add_argument("--steps", type=int, default=7000, help="of 96 pictures")
    parser.add_argument("--teacher-steps", type=int, default=1500, help="of 64 pictures")
    parser.add_argument("--text-steps", type=int, default=2000, help="of 256 features")
    parser.add_argument("--count", type=int, default=32000, help="renderings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args(words)
    torch.set_num_threads(asked.threads)
    config = PretrainConfig(
        asked.checkpoints, asked.output, asked.count, asked.device, distribution="web"
    )
    reports = make(config, asked.teacher_steps, asked.steps, asked.text_steps)
    folder = asked.output / "clip"
    figures = head_room(folder, load_config(STUDY)) | knows(folder, config)
    storage.write_json(folder / "acceptance.json", {"figures": figures, "targets": TARGETS})
    storage.write_text(folder / "README.md", card(figures, reports, asked.count))
    print("\n".join(f"{k:24s} {v:.3f}" for k, v in figures.items()))
    print("\n".join(found := faults(figures)) or "every target is reached")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
