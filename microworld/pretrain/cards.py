"""Measures the micro models on held-out renderings and writes what was measured into their cards.

Each measure edits renderings that no training saw, through the study's own pipeline
(editing/pipeline.py), with the settings of params/micro.yaml, and asks the attribute classifier
what it sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from varireal_utils.core import storage
from varireal_utils.core.config import StudyConfig
from varireal_utils.core.config_sections import DrawSettings, ModelRoles, ModelSpec
from varireal_utils.core.device import device_of, dtype_of
from varireal_utils.core.seeds import numpy_rng, seed_for
from varireal_utils.datadream import sampling
from varireal_utils.editing import guidance, passes, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.prompts import phrase_bank

from ..captions import kind, sentence
from ..feasibility import COLORS, FAMILIES, FEASIBLE, INFEASIBLE
from ..render import Picture, class_names, photograph
from . import attribute_classifier, contrastive, data
from .attribute_classifier import AttributeClassifier
from .autoencoder import psnr
from .stages import PretrainConfig, load_vae

DRAWING = DrawSettings(steps=25, guidance_scale=2.0)
TARGETS = {
    "autoencoder_psnr_db": 28.0,
    "judge_background": 0.95,
    "judge_texture": 0.95,
    "background_recognised": 0.90,
    "texture_recognised": 0.80,
    "color_nearest": 0.90,
    "class_after_color": 0.80,
    "class_after_texture": 0.80,
}


def nearest_color(image: np.ndarray, paint: np.ndarray) -> str:
    """The palette colour nearest to the mean RGB inside `paint` (H, W) uint8."""
    mean = image[paint > 0].mean(axis=0)
    return min(COLORS, key=lambda name: float(np.square(mean - np.array(COLORS[name])).sum()))


def _edited(
    config: PretrainConfig, attribute: str, count: int, study: StudyConfig
) -> tuple[list, list, list]:
    """count edits of held-out photographs: pictures, asked attribute names, results."""
    banks = {f: phrase_bank.load_bank(study.phrase_file, f, list(class_names(f))) for f in FAMILIES}
    folders = {"inpaint": "inpaint", "prior": "text2image", "controlnet": "controlnet"}
    own = {role: ModelSpec(path=str(config.output_dir / f)) for role, f in folders.items()}
    trained = study.model_copy(update={"models": study.models.model_copy(update=own)})
    settings = EditStage.of(trained, attribute=attribute, feasibility="feasible")
    pipes = roles.load(settings, device_of(study.device), dtype_of(study.precision, study.device))
    rng = numpy_rng("cards", attribute)
    pictures: list[Picture] = []
    rows: list[dict[str, Any]] = []
    asked, sources = [], []
    for i in range(count):
        family = FAMILIES[i % 3]
        bank = banks[family]
        picture = photograph(family, "val", 5000 + i)
        names = FEASIBLE[family][attribute] + INFEASIBLE[family][attribute]
        name = str(rng.choice([n for n in names if n != getattr(picture.spec, attribute)]))
        phrase = phrase_bank.own_phrase(bank, attribute, picture.spec.class_name, name) or name
        rows.append(
            {
                "attribute": attribute,
                "phrase": phrase,
                "seed": seed_for("cards", i),
                "prompt": phrase_bank.edit_prompt(bank, attribute, phrase, picture.spec.class_name),
            }
        )
        sources.append(
            Source(
                picture.image,
                picture.mask,
                editable_mask(attribute, picture.mask, picture.paint),
                guidance.canny(picture.image, picture.mask),
            )
        )
        pictures.append(picture)
        asked.append(name)
    prior = passes.prior_bank(pipes, bank, [r["phrase"] for r in rows], settings, 128)
    out, size = [], settings.edit.batch_size
    for i in range(0, count, size):
        out += pipeline.edit_batch(
            pipes, sources[i : i + size], rows[i : i + size], prior, bank, settings, 0
        )
    return pictures, asked, out


def measure(
    config: PretrainConfig,
    classifier: AttributeClassifier,
    study: StudyConfig,
    per_attribute: int = 96,
) -> tuple[dict, np.ndarray]:
    """Figures for the cards, and a sheet (source above edit) to look at, (H, W, 3) uint8."""
    held, specs = config.held_out()
    truth = data.labels(specs)
    seen = attribute_classifier.classify(
        classifier, held, held[..., 3] & attribute_classifier.PAINT
    )
    figures = {"autoencoder_psnr_db": psnr(load_vae(config), held[:400, ..., :3])}
    figures |= {f"judge_{k}": float((seen[k] == truth[k]).mean()) for k in seen}
    rows = []
    for attribute in ("background", "color", "texture"):
        pictures, asked, edits = _edited(config, attribute, per_attribute, study)
        verdict = attribute_classifier.classify(
            classifier, np.stack(edits), np.stack([p.paint for p in pictures])
        )
        names = [data.ATTRIBUTES[attribute][i] for i in verdict[attribute]]
        classes = [data.ATTRIBUTES["class_name"][i] for i in verdict["class_name"]]
        kept = float(np.mean([c == p.spec.class_name for c, p in zip(classes, pictures)]))
        figures[f"{attribute}_recognised"] = float(np.mean([a == b for a, b in zip(names, asked)]))
        figures[f"class_after_{attribute}"] = kept
        if attribute == "color":
            near = [nearest_color(e, p.paint) for e, p in zip(edits, pictures)]
            figures["color_nearest"] = float(np.mean([a == b for a, b in zip(near, asked)]))
        shown = slice(0, 10)
        rows += [np.hstack([p.image for p in pictures[shown]]), np.hstack(edits[shown])]
    figures["edits_per_attribute"] = per_attribute
    return figures | clip_figures(config) | drawn_figures(config), np.vstack(rows)


def _clip(config: PretrainConfig) -> tuple:
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{config.output_dir / 'clip'}")
    text = (config.output_dir / "clip" / "tokenizer.json").read_text(encoding="utf-8")
    vocab = json.loads(text)["model"]["vocab"]
    return model.eval(), vocab


def clip_figures(config: PretrainConfig) -> dict[str, float]:
    """Zero-shot accuracy of the CLIP: the fine classes of held-out validation photographs, and the
    textures, colours and scenes of held-out renderings."""
    model, vocab = _clip(config)
    out = {}
    for family in FAMILIES:
        pictures = [photograph(family, "val", i) for i in range(240)]
        out[f"clip_zero_shot_{family}"] = contrastive.zero_shot(
            model,
            vocab,
            np.stack([p.image for p in pictures]),
            [sentence(n) for n in class_names(family)],
            np.array([p.label for p in pictures]),
        )
    held, specs = config.held_out()
    truth = data.labels(specs)
    for key, said in (
        ("texture", lambda n: sentence("car", "", n)),
        ("color", lambda n: sentence("car", n)),
        ("background", lambda n: sentence("car", "", "", n)),
    ):
        out[f"clip_zero_shot_{key}"] = contrastive.zero_shot(
            model, vocab, held, [said(n) for n in data.ATTRIBUTES[key]], truth[key]
        )
    return out


def drawn_figures(config: PretrainConfig, per_class: int = 6) -> dict[str, float]:
    """What the text-to-image model draws from "a photo of a {class}": the share of pictures of
    which zero-shot CLIP names the class, among those of its family, and the share of which it names
    the kind (car, aircraft, dog, cat). It draws priors, which show no class."""
    asked = [(f, k, n) for f in FAMILIES for k, n in enumerate(class_names(f))] * per_class
    texts, seeds = (
        [sentence(n) for _, _, n in asked],
        [seed_for("drawn", j) for j in range(len(asked))],
    )
    model, vocab = _clip(config)
    kinds = [(f, k) for f in FAMILIES for k in sorted({kind(f, n) for n in class_names(f)})]
    models = ModelRoles(datadream=ModelSpec(path=str(config.output_dir / "text2image")))
    pipe = sampling.load(models, torch.device(config.device))
    drawn: list[np.ndarray] = []
    for i in range(0, len(asked), 16):
        part = slice(i, i + 16)
        drawn += sampling.draw(pipe, texts[part], seeds[part], DRAWING, dtype_of("auto"))
    features = contrastive.image_features(model, np.stack(drawn))

    def guess(words: list[str]) -> np.ndarray:
        return (features @ contrastive.text_features(model, vocab, words).T).argmax(1).numpy()

    named = {f: guess([sentence(n) for n in class_names(f)]) for f in FAMILIES}
    seen = guess([sentence(k) for _, k in kinds])
    right = [named[f][i] == k for i, (f, k, _) in enumerate(asked)]
    alike = [kinds[seen[i]] == (f, kind(f, n)) for i, (f, _, n) in enumerate(asked)]
    return {
        "text2image_class_named": float(np.mean(right)),
        "text2image_kind_named": float(np.mean(alike)),
    }


def write(config: PretrainConfig, figures: dict, reports: dict) -> list[Path]:
    """README.md with the figures beside each model, and acceptance.json beside them all."""
    storage.write_json(
        config.output_dir / "acceptance.json",
        {
            "figures": {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()},
            "targets": TARGETS,
            "training": {
                k: {
                    "steps": r["step"],
                    "seconds": round(r["seconds"]),
                    "device": r.get("device", "cpu"),
                }
                for k, r in reports.items()
            },
        },
    )
    made = [config.output_dir / "acceptance.json"]
    for name, about in ABOUT.items():
        folder = config.output_dir / name
        if folder.exists():
            storage.write_text(folder / "README.md", card(name, about, figures, reports))
            made.append(folder / "README.md")
    return made


ABOUT = {
    "vae": (
        "Autoencoder",
        "`diffusers.AutoencoderTiny`, 128 x 128 x 3 to 32 x 32 x 4",
        ("autoencoder", "autoencoder_decoder"),
        ("autoencoder_psnr_db",),
    ),
    "inpaint": (
        "Inpainting pipeline",
        "`diffusers.StableDiffusionInpaintPipeline`, 9-channel UNet",
        ("coarse", "inpaint"),
        (
            "background_recognised",
            "texture_recognised",
            "color_recognised",
            "color_nearest",
            "class_after_background",
            "class_after_color",
            "class_after_texture",
        ),
    ),
    "text2image": (
        "Text-to-image pipeline",
        "`diffusers.StableDiffusionPipeline`; draws the priors",
        ("text2image", "text2image_more"),
        ("text2image_class_named", "text2image_kind_named"),
    ),
    "controlnet": (
        "Canny ControlNet",
        "`diffusers.ControlNetModel` for the inpainting UNet",
        ("controlnet",),
        ("texture_recognised", "class_after_texture"),
    ),
    "clip": (
        "CLIP",
        "`open_clip`, plain ViT, 16-pixel patches of 128 x 128 pictures",
        ("teacher", "clip"),
        (
            "clip_zero_shot_cars",
            "clip_zero_shot_aircraft",
            "clip_zero_shot_pets",
            "clip_zero_shot_texture",
            "clip_zero_shot_color",
            "clip_zero_shot_background",
        ),
    ),
}


def card(name: str, about: tuple, figures: dict, reports: dict) -> str:
    """A model card: what it is, how it was trained, what was measured against which target."""
    title, what, stages, keys = about
    lines = [
        "---",
        "license: apache-2.0",
        "---",
        "",
        f"# Micro {title}",
        "",
        f"{what}. Trained from nothing, in several sittings, by the "
        "stages that `notebooks/micro_pretrain.ipynb` calls, on renderings of the micro "
        "world; it knows that world and nothing else.",
        "",
        "| measured on held-out renderings | value | target |",
        "|---|---|---|",
    ]
    for key in (k for k in keys if k in figures):
        target = TARGETS.get(key)
        reached = (
            "" if target is None else (" (reached)" if figures[key] >= target else " (not reached)")
        )
        lines.append(
            f"| {key.replace('_', ' ')} | {figures[key]:.3g} | "
            f"{'' if target is None else f'>= {target:g}'}{reached} |"
        )
    trained = [
        f"{s}: {r['step']} steps, {r['seconds'] / 60:.0f} minutes"
        + (f" of an {r['device']}" if r.get("device", "cpu") != "cpu" else "")
        for s, r in ((s, reports[s]) for s in stages if s in reports)
    ]
    lines += [
        "",
        "Training: " + "; ".join(trained) + ". Weights: float16 safetensors.",
        "",
        "Recognition is judged by a classifier that was trained on renderings for this "
        "measurement alone and is never used by the study; pictures drawn from words alone "
        "are named by the micro CLIP.",
        "",
    ]
    return "\n".join(lines)
