"""Fine-tunes CLIP with LoRA on a recipe's images and tests it, once (PROTOCOL.md, C2 and C4).

symbols   tokens    (T, C, L)   the C class names in T templates
          t         (C, D)      text feature of a class: unit mean of its T templates' features
          logits    (B, C)      exp(logit_scale) image_features @ t.T
          lambda    lambda_real weight of a real image in the loss; an edited one has 1 - lambda
          loss      sum_i w_i CE_i / sum_i w_i over the batch: no sub-batch, so none can be empty

What the reference gets wrong and this module's tests hold: the best step is chosen on the
validation split and the test split is looked at once, after it; accuracy is a mean over images; a
column says what is real, not a path; text is encoded once per evaluation; the adapter is stored
unmerged. Every recipe takes the same number of steps and sees the same number of images.

Invariant: every random draw comes from (seed, what, step), so a training that was stopped and
resumed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from . import augment, clip_lora, recipes, seeds, stats, store

CHECKPOINT, MIN_LR = "checkpoint.pt", 1e-8


def load_clip(spec: dict, device: str | torch.device = "cpu") -> tuple[nn.Module, Callable, dict]:
    """(model in eval mode, tokenizer, preprocess) of params["models"]["clip"].

    spec: name; optional config (an open_clip_config.json, whose folder holds the tokenizer, or a
    bare model configuration); optional weights (a file, or a tag that open_clip knows).
    Without config, `name` is open_clip's own name or "hf-hub:owner/model".
    """
    name, config, weights = spec.get("name"), spec.get("config"), spec.get("weights")
    for key in ("config", "weights"):
        path = str(spec.get(key) or "")
        if path.endswith((".json", ".safetensors", ".pt", ".bin")) and not Path(path).is_file():
            raise FileNotFoundError(f"models.clip.{key}: {path!r} is not there; clone the "
                                    "repository with its models/ folder, or name another file.")
    if config and Path(config).name == "open_clip_config.json":
        name = f"local-dir:{Path(config).parent}"
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it would say that the weights, which come next, lack
        model = open_clip.create_model(name, load_weights=False)
        logging.disable(level)
        open_clip.load_checkpoint(model, str(weights))
    else:
        if config:
            open_clip.add_model_config(Path(config))
            name = Path(config).stem
        model = open_clip.create_model(name, pretrained=str(weights) if weights else None,
                                       require_pretrained=True)
    keys = ("size", "mean", "std", "interpolation", "resize_mode")
    preprocess = {k: model.visual.preprocess_cfg[k] for k in keys}
    return model.float().eval().to(device), open_clip.get_tokenizer(name), preprocess


def class_tokens(class_names: list[str], templates: list[str], tokenizer: Callable) -> torch.Tensor:
    """(T, C, L) token ids of every class name in every template ("a photo of a {class}")."""
    bad = [t for t in templates if "{class}" not in t]
    if bad or not templates:
        raise ValueError(f"classify.templates: {bad or templates} lacks '{{class}}'.")
    return torch.stack([tokenizer([t.replace("{class}", c) for c in class_names])
                        for t in templates])


def text_features(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(C, D) unit features of (T, C, L) tokens, on the model's device, with gradients."""
    count, classes, length = tokens.shape
    flat = clip_lora.cut(model, tokens.reshape(-1, length)).to(model.logit_scale.device)
    features = clip_lora.encode_text(model, flat).view(count, classes, -1).mean(0)
    return F.normalize(features, dim=-1)


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, is_real: torch.Tensor,
                  lambda_real: float) -> torch.Tensor:
    """sum w CE / sum w; w = lambda_real for real and 1 - lambda_real for edited images.

    0 (with zero gradients) where every image of the batch has weight 0; never NaN.
    """
    loss = F.cross_entropy(logits.float(), labels, reduction="none")
    weight = torch.where(is_real, lambda_real, 1.0 - lambda_real).to(loss)
    return (weight * loss).sum() / weight.sum().clamp_min(1e-12)


def learning_rate(step: int, steps: int, lr: float, warmup: float) -> float:
    """Linear over the first `warmup` share of the steps, then half a cosine down to MIN_LR."""
    rise = math.ceil(warmup * steps)
    if step < rise:
        return lr * (step + 1) / rise
    return MIN_LR + (lr - MIN_LR) * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


@torch.inference_mode()
def evaluate(model: nn.Module, tokens: torch.Tensor, preprocess: dict, images: augment.Images,
             dtype: torch.dtype = torch.float32, batch_size: int = 256) -> np.ndarray:
    """Logits (N, C), float32, of all images in their order; the text is encoded once."""
    was, device = model.training, model.logit_scale.device
    model.eval()
    features = []
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        text = text_features(model, tokens)
        for i in range(0, len(images), batch_size):
            stop = min(i + batch_size, len(images))
            pixels = torch.stack([augment.plain(images[j], preprocess) for j in range(i, stop)])
            pixels = augment.normalise(pixels.to(device), preprocess)
            features.append(clip_lora.encode_image(model, pixels))
    model.train(was)
    return (model.logit_scale.exp() * torch.cat(features) @ text.T).cpu().numpy()


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """0..1, over images."""
    return float((logits.argmax(1) == np.asarray(labels)).mean())


def train(model: nn.Module, tokens: torch.Tensor, preprocess: dict, rows: pd.DataFrame,
          val: pd.DataFrame, cfg: dict, *, root: str | Path, out: str | Path, seed: int,
          dtype: torch.dtype = torch.float32, checkpoint_every: int = 0, workers: int = 0,
          stop_after: int | None = None, progress: Callable[[int, int], None] | None = None
          ) -> dict:
    """Fine-tune the model in place; it ends with the adapter of the best validation step.

    rows, val: frames with path (below root), label, and, in rows, is_real (bool).
    cfg: params["classify"], with optional keys augment (augment.DEFAULTS), eval_batch_size.
    workers: processes that prepare batches; they change no pixel.
    out: folder for the adapter and, every `checkpoint_every` steps, for a checkpoint, from which a
    later call with the same arguments goes on. stop_after: stop there, as if killed (for tests).
    Returns steps, selected_step (1-based; 0 for zero-shot), val_top1 (0..1), val_curve, loss_curve,
    images_seen, n_train_images, seconds. No rows: nothing is trained (zero-shot).
    Raises ValueError without validation images or with a loss that is not finite.
    """
    if val.empty:
        raise ValueError("The validation split is empty: the best step cannot be chosen on it, and "
                         "the test split must not choose. Give the data set a val split.")
    start, device, out = time.perf_counter(), model.logit_scale.device, Path(out)
    val_images = augment.Images(val["path"], root, augment.side(preprocess))

    def validate() -> float:
        logits = evaluate(model, tokens, preprocess, val_images, dtype, _eval_batch(cfg))
        return top1(logits, val["label"])

    if rows.empty:
        return {"steps": 0, "selected_step": 0, "val_top1": validate(), "val_curve": [],
                "loss_curve": [], "images_seen": 0, "n_train_images": 0,
                "seconds": time.perf_counter() - start}
    params = clip_lora.add_lora(model, cfg["rank"], cfg["alpha"], cfg["dropout"], cfg["towers"],
                                seed)
    optimiser = torch.optim.AdamW(params, lr=cfg["lr"], weight_decay=cfg["weight_decay"])
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    state = {"step": 0, "loss_curve": [], "val_curve": [], "best": None,
             "of": fingerprint([rows, val], root, cfg, seed, tokens)}
    _resume(out / CHECKPOINT, state, model, optimiser, scaler)
    loader = _loader(rows, cfg, preprocess, root, seed, state["step"], workers)
    step_once = _stepper(model, tokens, preprocess, rows, cfg, params, optimiser, scaler, dtype)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for pixels, chosen in loader:
            torch.manual_seed(seeds.seed_for(seed, "dropout", state["step"]))
            loss = step_once(state["step"], pixels, chosen)
            state["step"] += 1
            state["loss_curve"].append(loss)
            last = state["step"] == cfg["steps"]
            if last or state["step"] % cfg["eval_every"] == 0:
                _select(state, validate(), model)
            if checkpoint_every and (last or state["step"] % checkpoint_every == 0):
                _checkpoint(out / CHECKPOINT, state, model, optimiser, scaler)
            if progress:
                progress(state["step"], cfg["steps"])
            if state["step"] == stop_after:
                break
    best = state["best"]
    if state["step"] == cfg["steps"]:
        clip_lora.load_lora_state_dict(model, best["adapter"])
        clip_lora.save_lora(model, out)
    model.eval()
    return {"steps": state["step"], "selected_step": best["step"] if best else None,
            "val_top1": best["val_top1"] if best else None, "val_curve": state["val_curve"],
            "loss_curve": state["loss_curve"], "images_seen": state["step"] * cfg["batch_size"],
            "n_train_images": len(rows), "seconds": time.perf_counter() - start}


def _eval_batch(cfg: dict) -> int:
    return cfg.get("eval_batch_size", 256)


def _loader(rows: pd.DataFrame, cfg: dict, preprocess: dict, root, seed: int, first: int,
            workers: int):
    images = augment.Images(rows["path"], root, augment.side(preprocess))
    plan = augment.order(rows["is_real"].to_numpy(bool), cfg["batch_size"], cfg["steps"], seed)
    batches = augment.Batches(images, plan, preprocess, cfg.get("augment"), seed)
    return torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(first, len(plan)),
                                       num_workers=workers)


def _stepper(model, tokens, preprocess, rows, cfg, params, optimiser, scaler, dtype) -> Callable:
    """The function (step, pixels, rows) -> loss that takes one optimiser step."""
    device = model.logit_scale.device
    labels = torch.tensor(rows["label"].to_numpy(np.int64))
    is_real = torch.tensor(rows["is_real"].to_numpy(bool))
    # one kind of image only: its weight would cancel, or, at lambda 0 or 1, leave nothing
    lambda_real = cfg["lambda_real"] if 0 < int(is_real.sum()) < len(rows) else 0.5
    fixed = None
    if "text" not in cfg["towers"]:
        with torch.no_grad():
            fixed = text_features(model, tokens)

    def step_once(step: int, pixels: torch.Tensor, chosen: torch.Tensor) -> float:
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, cfg["steps"], cfg["lr"], cfg["warmup"])
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            text = text_features(model, tokens) if fixed is None else fixed
            image = clip_lora.encode_image(
                model, augment.normalise(pixels.to(device), preprocess))
        logits = model.logit_scale.exp() * image @ text.T  # float32: autocast would round it
        loss = weighted_loss(logits, labels[chosen].to(device), is_real[chosen].to(device),
                             lambda_real)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"The loss is {value} at step {step + 1}: lower classify.lr "
                             f"({cfg['lr']}), or set precision to float32 (it is {dtype}).")
        return value

    return step_once


def _select(state: dict, accuracy: float, model: nn.Module) -> None:
    """Keep the adapter of the best validation step; the earliest of equals."""
    state["val_curve"].append([state["step"], accuracy])
    if state["best"] is None or accuracy > state["best"]["val_top1"]:
        state["best"] = {"step": state["step"], "val_top1": accuracy,
                         "adapter": clip_lora.lora_state_dict(model)}


def fingerprint(frames: list[pd.DataFrame], root: str | Path, cfg: dict, seed: int,
                tokens: torch.Tensor, weights: str | Path | None = None) -> str:
    """Digest of what decides a result: settings, pictures (their bytes), CLIP's weights if named.

    frames: the training, validation and test rows (path, label, and is_real if known).
    """
    idle = ("seeds", "recipes", "job", "checkpoint_every")
    keep = {k: v for k, v in cfg.items() if k not in idle}
    parts = [[[store.sha256_file(Path(root) / p) for p in f["path"]],
              *(f[c].astype(int).tolist() for c in ("label", "is_real") if c in f)]
             for f in frames]
    file = weights and Path(weights).is_file()
    return store.sha256_json([parts, keep, seed, tokens.tolist(),
                              store.sha256_file(weights) if file else str(weights)])


def _checkpoint(path: Path, state: dict, model, optimiser, scaler) -> None:
    with store.atomic_path(path) as temporary:
        torch.save({"state": state, "adapter": clip_lora.lora_state_dict(model),
                    "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict()}, temporary)


def _resume(path: Path, state: dict, model, optimiser, scaler) -> None:
    if not path.is_file():
        return
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["state"]["of"] != state["of"]:
        warnings.warn(f"{path} is of another training (images, settings or seed): starting anew.",
                      stacklevel=3)
        return
    state.update(saved["state"])
    clip_lora.load_lora_state_dict(model, saved["adapter"])
    optimiser.load_state_dict(saved["optimiser"])
    scaler.load_state_dict(saved["scaler"])


def predictions_frame(test: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """image_id, label, prediction, correct, logit_0 ..: one row per test image."""
    frame = pd.DataFrame({"image_id": test["image_id"].to_numpy(),
                          "label": test["label"].to_numpy(np.int64),
                          "prediction": logits.argmax(1)})
    frame["correct"] = frame["prediction"] == frame["label"]
    columns = [f"logit_{i}" for i in range(logits.shape[1])]
    return pd.concat([frame, pd.DataFrame(logits.astype(np.float32), columns=columns)], axis=1)


def metrics(predictions: pd.DataFrame, class_names: list[str]) -> dict:
    """top1 (0..1, over images), per_class (name -> 0..1, None without test images), ece, n_test."""
    share = predictions.groupby("label")["correct"].mean()
    logits = predictions[[c for c in predictions if c.startswith("logit_")]].to_numpy()
    return {"top1": float(predictions["correct"].mean()), "n_test": len(predictions),
            "per_class": {n: float(share[i]) if i in share.index else None
                          for i, n in enumerate(class_names)},
            "ece": stats.expected_calibration_error(logits, predictions["label"].to_numpy())}


def run(params: dict, dataset: str, recipe: str, seed: int, images: pd.DataFrame,
        edits: pd.DataFrame | None, *, root: str | Path, out: str | Path,
        device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32,
        accepted: str = "paired", samples: pd.DataFrame | None = None, workers: int = 0,
        progress: Callable[[int, int], None] | None = None) -> dict:
    """Train one recipe with one seed, test it once, write predictions.parquet and metrics.json.

    images, edits, samples: of the data set, with paths below root; out: the folder of this
    result; accepted: of recipes.training_set.
    Done before with the same pictures, weights and settings: only reads. Killed: goes on from its
    checkpoint (classify.checkpoint_every, default 50 steps). Returns metrics.json's content.
    """
    cfg, out, spec = params["classify"], Path(out), params["models"]["clip"]
    rows = recipes.training_set(recipe, images, edits, params["seed"], accepted, samples)
    val, test = (images[images["split"] == s] for s in ("val", "test"))
    names = images.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    model, tokenizer, preprocess = load_clip(spec, device)
    tokens = class_tokens(names, cfg["templates"], tokenizer)
    of = fingerprint([rows, val, test], root, cfg, seed, tokens, spec.get("weights"))
    result = out / "metrics.json"
    if result.is_file() and (old := store.read_json(result)).get("fingerprint") == of:
        return old
    result.unlink(missing_ok=True)
    report = train(model, tokens, preprocess, rows, val, cfg, root=root, out=out, seed=seed,
                   dtype=dtype, checkpoint_every=cfg.get("checkpoint_every", 50),
                   workers=workers, progress=progress)
    test_images = augment.Images(test["path"], root, augment.side(preprocess))
    logits = evaluate(model, tokens, preprocess, test_images, dtype, _eval_batch(cfg))
    predictions = predictions_frame(test, logits)
    store.write_table(out / "predictions.parquet", predictions)
    del report["seconds"]  # the same inputs give the same bytes; run.json has the time
    content = {**metrics(predictions, names), **report, "dataset": dataset, "seed": seed,
               "recipe": str(recipes.parse(recipe)), "fingerprint": of, **rows.attrs}
    store.write_json(result, content)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return content
