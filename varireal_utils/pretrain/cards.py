"""Measures the micro models on held-out renderings and writes what was measured into their cards.

Each measure edits renderings that no training saw, through the study's own stages (edit.py), with
the settings of params/micro.yaml, and asks the judge (judge.py) what it sees.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .. import edit, guidance, prompts, store
from ..seeds import numpy_rng, seed_for
from ..world.law import COLORS, FEASIBLE, INFEASIBLE
from ..world.render import Picture, class_names, photograph
from . import contrastive, data
from . import judge as judge_module
from .autoencoder import psnr

TARGETS = {"autoencoder_psnr_db": 28.0, "judge_background": 0.95, "judge_texture": 0.95,
           "background_recognised": 0.90, "texture_recognised": 0.80, "color_nearest": 0.90,
           "class_after_color": 0.80, "class_after_texture": 0.80}


def nearest_color(image: np.ndarray, paint: np.ndarray) -> str:
    """The palette colour nearest to the mean RGB inside `paint` (H, W) uint8."""
    mean = image[paint > 0].mean(axis=0)
    return min(COLORS, key=lambda name: float(np.square(mean - np.array(COLORS[name])).sum()))


def _edited(shop, attribute: str, count: int, params: dict) -> tuple[list, list, list]:
    """count edits of held-out photographs: pictures, asked attribute names, results."""
    families = ("cars", "aircraft", "pets")
    banks = {f: prompts.load_bank(params["prompts"], f, {"family": f}, list(class_names(f)))
             for f in families}
    params = params | {"models": params["models"] | {
        role: {"path": str(shop.shelf / folder)} for role, folder in
        {"inpaint": "inpaint", "prior": "text2image", "controlnet": "controlnet"}.items()}}
    pipes = edit.load(params, attribute)
    rng = numpy_rng("cards", attribute)
    pictures: list[Picture] = []
    asked, rows, sources = [], [], []
    for i in range(count):
        family = families[i % 3]
        bank = banks[family]
        picture = photograph(family, "val", 5000 + i)
        names = FEASIBLE[family][attribute] + INFEASIBLE[family][attribute]
        name = str(rng.choice([n for n in names if n != getattr(picture.spec, attribute)]))
        phrase = prompts.own_phrase(bank, attribute, picture.spec.class_name, name)
        rows.append({"attribute": attribute, "phrase": phrase, "seed": seed_for("cards", i),
                     "prompt": prompts.edit_prompt(bank, attribute, phrase,
                                                   picture.spec.class_name)})
        sources.append(edit.Source(
            picture.image, picture.mask,
            edit.editable_mask(attribute, picture.mask, picture.paint),
            guidance.canny(picture.image, picture.mask)))
        pictures.append(picture)
        asked.append(name)
    prior = edit.prior_bank(pipes, bank, attribute, [r["phrase"] for r in rows], params, 128)
    out, size = [], params["edit"]["batch_size"]
    for i in range(0, count, size):
        out += edit.edit_batch(pipes, sources[i:i + size], rows[i:i + size], prior, bank, params, 0)
    return pictures, asked, out


def measure(shop, judge, params: dict, per_attribute: int = 96) -> tuple[dict, np.ndarray]:
    """Figures for the cards, and a sheet (source above edit) to look at, (H, W, 3) uint8."""
    from .stages import load_vae
    held, specs = shop.held_out()
    truth = data.labels(specs)
    seen = judge_module.judge(judge, held, held[..., 3] & judge_module.PAINT)
    figures = {"autoencoder_psnr_db": psnr(load_vae(shop), held[:400, ..., :3])}
    figures |= {f"judge_{k}": float((seen[k] == truth[k]).mean()) for k in seen}
    rows = []
    for attribute in ("background", "color", "texture"):
        pictures, asked, edits = _edited(shop, attribute, per_attribute, params)
        verdict = judge_module.judge(judge, np.stack(edits), np.stack([p.paint for p in pictures]))
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
    return figures | _clip_figures(shop), np.vstack(rows)


def _clip_figures(shop) -> dict[str, float]:
    """Zero-shot accuracy of the CLIP on the fine classes of held-out validation photographs."""
    import open_clip

    from ..world.captions import sentence
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{shop.shelf / 'clip'}")
    model.eval()
    vocab = json.loads((shop.shelf / "clip" / "tokenizer.json").read_text())["model"]["vocab"]
    out = {}
    for family in ("cars", "aircraft", "pets"):
        pictures = [photograph(family, "val", i) for i in range(240)]
        out[f"clip_zero_shot_{family}"] = contrastive.zero_shot(
            model, vocab, np.stack([p.image for p in pictures]),
            [sentence(n) for n in class_names(family)], np.array([p.label for p in pictures]))
    return out


def write(shop, figures: dict, reports: dict) -> list[Path]:
    """README.md with the figures beside each model, and acceptance.json beside them all."""
    store.write_json(shop.shelf / "acceptance.json", {
        "figures": {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()},
        "targets": TARGETS,
        "training": {k: {"steps": r["step"], "seconds": round(r["seconds"])}
                     for k, r in reports.items()}})
    made = [shop.shelf / "acceptance.json"]
    for name, about in ABOUT.items():
        folder = shop.shelf / name
        if folder.exists():
            store.write_text(folder / "README.md", card(name, about, figures, reports))
            made.append(folder / "README.md")
    return made


ABOUT = {
    "vae": ("Autoencoder", "`diffusers.AutoencoderTiny`, 128 x 128 x 3 to 32 x 32 x 4",
            ("autoencoder",), ("autoencoder_psnr_db",)),
    "inpaint": ("Inpainting pipeline", "`diffusers.StableDiffusionInpaintPipeline`, 9-channel UNet",
                ("coarse", "inpaint"), ("background_recognised", "texture_recognised",
                                        "color_recognised", "color_nearest",
                                        "class_after_background", "class_after_color",
                                        "class_after_texture")),
    "text2image": ("Text-to-image pipeline",
                   "`diffusers.StableDiffusionPipeline`; draws the priors", ("text2image",), ()),
    "controlnet": ("Canny ControlNet", "`diffusers.ControlNetModel` for the inpainting UNet",
                   ("controlnet",), ("texture_recognised", "class_after_texture")),
    "clip": ("CLIP", "`open_clip`, plain ViT, 16-pixel patches of 128 x 128 pictures",
             ("teacher", "clip"),
             ("clip_zero_shot_cars", "clip_zero_shot_aircraft", "clip_zero_shot_pets")),
}


def card(name: str, about: tuple, figures: dict, reports: dict) -> str:
    """A model card: what it is, how it was trained, what was measured against which target."""
    title, what, stages, keys = about
    lines = [f"# Micro {title}", "", f"{what}. Trained from nothing by `notebooks/micro_pretrain"
             ".ipynb` on renderings of the micro world; it knows that world and nothing else.", "",
             "| measured on held-out renderings | value | target |", "|---|---|---|"]
    for key in keys:
        target = TARGETS.get(key)
        reached = "" if target is None else (" (reached)" if figures[key] >= target
                                             else " (not reached)")
        lines.append(f"| {key.replace('_', ' ')} | {figures[key]:.3g} | "
                     f"{'' if target is None else f'>= {target:g}'}{reached} |")
    trained = [f"{s}: {reports[s]['step']} steps, {reports[s]['seconds'] / 60:.0f} minutes"
               for s in stages if s in reports]
    lines += ["", "Training: " + "; ".join(trained) + ". Weights: float16 safetensors.",
              "", "Recognition is judged by a classifier that was trained on renderings for this "
              "measurement alone and is never used by the study.", ""]
    return "\n".join(lines)
