"""Fine-tunes CLIP with LoRA on a recipe's images and tests it, once (PROTOCOL.md, C2 and C4).

The network (`networks`) is CLIP with LoRA, or a convolutional one of timm; `steps.Step` is one
step of it.

What the reference gets wrong and this module's tests hold: the best step is chosen on the
validation split and the test split is looked at once, after it; accuracy is a mean over images; a
column says what is real, not a path; text is encoded once per evaluation; the adapter is stored
unmerged. Every recipe takes the same number of steps and sees the same number of images.

Invariant: every random draw comes from (seed, what, step), so a training that was stopped and
resumed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..analysis import bootstrap
from ..core import checkpoints, oom_retry, storage
from ..models import classifiers, distributed, preprocess
from . import augment, recipes, train_step

CHECKPOINT = "checkpoint.safetensors"


@torch.inference_mode()
def evaluate(
    net: Any, images: augment.Images, dtype: torch.dtype = torch.float32, batch_size: int = 256
) -> np.ndarray:
    """Logits (N, C), float32, of all images in their order; the text is encoded once."""
    was, device, out = net.train(False), net.device, []
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        context = net.context()
        for i in range(0, len(images), batch_size):
            stop = min(i + batch_size, len(images))
            pixels = torch.stack(
                [preprocess.resize(images[j], net.preprocess) for j in range(i, stop)]
            )
            out += oom_retry.in_parts(
                lambda part: net.logits(
                    preprocess.normalise(part.to(device), net.preprocess), context
                ).cpu(),
                pixels,
            )
    net.train(was)
    return torch.stack(out).numpy()


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """0..1, over images."""
    return float((logits.argmax(1) == np.asarray(labels)).mean())


def train(
    net: Any,
    rows: pd.DataFrame,
    val: pd.DataFrame,
    cfg: dict,
    *,
    root: str | Path,
    out: str | Path,
    seed: int,
    dtype: torch.dtype = torch.float32,
    checkpoint_every: int = 0,
    workers: int = 0,
    team: Any = None,
    stop_after: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Fine-tune a classifier of `networks` in place; it ends as it was at its best validation step.

    rows, val: frames with path (below root), label, and, in rows, is_real (bool).
    cfg: params["classify"], with optional keys augment (augment.DEFAULTS), eval_batch_size,
    accumulate (parts of a batch), mix (steps.mix), patience (validations without a gain before an
    early finish). workers: processes that prepare batches; they change no pixel. team: an
    `accelerate.Accelerator` where several processes share this training; its first one writes.
    out: folder for the weights and, every `checkpoint_every` steps, for a checkpoint, from which a
    later call with the same arguments goes on. stop_after: stop there, as if killed (for tests).
    Returns steps, selected_step (1-based; 0 for zero-shot), val_top1 (0..1), val_curve, loss_curve,
    images_seen, n_train_images, seconds. No rows: nothing is trained (zero-shot).
    Raises ValueError without validation images, with a loss that is not finite, or for zero-shot
    with a network that knows no words.
    """
    if val.empty:
        raise ValueError(
            "The validation split is empty: the best step cannot be chosen on it, and "
            "the test split must not choose. Give the data set a val split."
        )
    start, out, first = time.perf_counter(), Path(out), team is None or team.is_main_process
    val_images = augment.Images(val["path"], root, preprocess.input_size(net.preprocess))

    def validate() -> float:
        return top1(evaluate(net, val_images, dtype, _eval_batch(cfg)), val["label"])

    if rows.empty:
        if not net.zero_shot:
            raise ValueError(
                "Recipe zero_shot: this classifier knows no words and answers nothing "
                "untrained. Take the recipe out, or use models.clip."
            )
        return {
            "steps": 0,
            "selected_step": 0,
            "val_top1": validate(),
            "val_curve": [],
            "loss_curve": [],
            "images_seen": 0,
            "n_train_images": 0,
            "seconds": time.perf_counter() - start,
        }
    step_once = train_step.Step(net, net.adapt(cfg, seed), rows, cfg, seed, dtype, team)
    state = {
        "step": 0,
        "loss_curve": [],
        "val_curve": [],
        "best": None,
        "of": fingerprint([rows, val], root, cfg, seed, net.identity()),
    }
    _resume(out / CHECKPOINT, state, net, step_once)
    loader = _loader(rows, cfg, net.preprocess, root, seed, state["step"], workers)
    with torch.random.fork_rng(devices=[net.device] if net.device.type == "cuda" else []):
        for pixels, chosen in () if _finished(state, cfg) else loader:
            state["loss_curve"].append(step_once(state["step"], pixels, chosen))
            state["step"] += 1
            last = state["step"] == cfg["steps"]
            if last or state["step"] % cfg["eval_every"] == 0:
                _select(state, validate(), net)
            if checkpoint_every and first and (last or state["step"] % checkpoint_every == 0):
                _checkpoint(out / CHECKPOINT, state, net, step_once)
            if progress:
                progress(state["step"], cfg["steps"])
            if state["step"] == stop_after or _finished(state, cfg):
                break
    best = state["best"]
    if _finished(state, cfg):
        net.load_state(best["weights"])
        if first:
            net.save(out)
    net.train(False)
    return {
        "steps": state["step"],
        "selected_step": best["step"] if best else None,
        "val_top1": best["val_top1"] if best else None,
        "val_curve": state["val_curve"],
        "loss_curve": state["loss_curve"],
        "images_seen": state["step"] * cfg["batch_size"],
        "n_train_images": len(rows),
        "seconds": time.perf_counter() - start,
    }


def _finished(state: dict, cfg: dict) -> bool:
    """All steps done, or `patience` validations in a row brought nothing."""
    patience, best = cfg.get("patience"), state["best"]
    since = sum(step > best["step"] for step, _ in state["val_curve"]) if best else 0
    return state["step"] >= cfg["steps"] or bool(patience and since >= patience)


def _eval_batch(cfg: dict) -> int:
    return cfg.get("eval_batch_size", 256)


def _loader(rows: pd.DataFrame, cfg: dict, pixels: dict, root, seed: int, first: int, workers: int):
    images = augment.Images(rows["path"], root, preprocess.input_size(pixels))
    plan = augment.order(rows["is_real"].to_numpy(bool), cfg["batch_size"], cfg["steps"], seed)
    batches = augment.Batches(images, plan, pixels, cfg.get("augment"), seed)
    return torch.utils.data.DataLoader(
        batches, batch_size=None, sampler=range(first, len(plan)), num_workers=workers
    )


def _select(state: dict, accuracy: float, net: Any) -> None:
    """Keep the weights of the best validation step; the earliest of equals."""
    state["val_curve"].append([state["step"], accuracy])
    if state["best"] is None or accuracy > state["best"]["val_top1"]:
        state["best"] = {"step": state["step"], "val_top1": accuracy, "weights": net.state()}


def fingerprint(
    frames: list[pd.DataFrame],
    root: str | Path,
    cfg: dict,
    seed: int,
    identity: list,
    weights: str | Path | None = None,
) -> str:
    """Digest of what decides a result: settings, pictures (their bytes), the network, its weights
    if named.

    frames: the training, validation and test rows (path, label, and is_real if known).
    """
    idle = ("seeds", "recipes", "job", "checkpoint_every", "processes")
    keep = {k: v for k, v in cfg.items() if k not in idle}
    parts = [
        [
            [storage.sha256_file(Path(root) / p) for p in f["path"]],
            *(f[c].astype(int).tolist() for c in ("label", "is_real") if c in f),
        ]
        for f in frames
    ]
    file = weights and Path(weights).is_file()
    return storage.sha256_json(
        [parts, keep, seed, identity, storage.sha256_file(weights) if file else str(weights)]
    )


def _checkpoint(path: Path, state: dict, net: Any, step_once: train_step.Step) -> None:
    checkpoints.write(
        path,
        {
            "state": state,
            "weights": net.state(),
            "optimiser": step_once.optimiser.state_dict(),
            "scaler": step_once.scaler.state_dict(),
        },
    )


def _resume(path: Path, state: dict, net: Any, step_once: train_step.Step) -> None:
    if not path.is_file():
        return
    saved = checkpoints.read(path)
    if saved["state"]["of"] != state["of"]:
        warnings.warn(
            f"{path} is of another training (images, settings or seed): starting anew.",
            stacklevel=3,
        )
        return
    state.update(saved["state"])
    net.load_state(saved["weights"])
    step_once.optimiser.load_state_dict(saved["optimiser"])
    step_once.scaler.load_state_dict(saved["scaler"])


def files(out: Path) -> list[Path]:
    """What `run` left in a result's folder: predictions, metrics and the adapter or network."""
    return sorted(
        p for p in Path(out).iterdir() if p.is_file() and not p.name.startswith((".", "checkpoint"))
    )


def predictions_frame(test: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """image_id, label, prediction, correct, logit_0 ..: one row per test image."""
    frame = pd.DataFrame(
        {
            "image_id": test["image_id"].to_numpy(),
            "label": test["label"].to_numpy(np.int64),
            "prediction": logits.argmax(1),
        }
    )
    frame["correct"] = frame["prediction"] == frame["label"]
    columns = [f"logit_{i}" for i in range(logits.shape[1])]
    return pd.concat([frame, pd.DataFrame(logits.astype(np.float32), columns=columns)], axis=1)


def metrics(predictions: pd.DataFrame, class_names: list[str]) -> dict:
    """top1 (0..1, over images), per_class (name -> 0..1, None without test images), ece, n_test."""
    share = predictions.groupby("label")["correct"].mean()
    logits = predictions[[c for c in predictions if c.startswith("logit_")]].to_numpy()
    return {
        "top1": float(predictions["correct"].mean()),
        "n_test": len(predictions),
        "per_class": {
            n: float(share[i]) if i in share.index else None for i, n in enumerate(class_names)
        },
        "ece": bootstrap.expected_calibration_error(logits, predictions["label"].to_numpy()),
    }


def run(
    params: dict,
    dataset: str,
    recipe: str,
    seed: int,
    images: pd.DataFrame,
    edits: pd.DataFrame | None,
    *,
    root: str | Path,
    out: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    accepted: str = "paired",
    samples: pd.DataFrame | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Train one recipe with one seed, test it once, write predictions.parquet and metrics.json.

    images, edits, samples: of the data set, with paths below root; out: the folder of this
    result; accepted: of recipes.training_set; workers: processes that load pictures, by default
    none beside a CPU and up to 8 beside a GPU (pixels do not depend on it).
    Done before with the same pictures, weights and settings: only reads. Killed: goes on from its
    checkpoint (classify.checkpoint_every, default 50 steps). Returns metrics.json's content.
    """
    cfg, out = params["classify"], Path(out)
    spec = params["models"].get("classifier") or params["models"]["clip"]
    rows = recipes.training_set(recipe, images, edits, params["seed"], accepted, samples)
    val, test = (images[images["split"] == s] for s in ("val", "test"))
    names = images.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    net = classifiers.load(params, names, device)
    of = fingerprint([rows, val, test], root, cfg, seed, net.identity(), spec.get("weights"))
    result = out / "metrics.json"
    whole = result.is_file() and (out / "predictions.parquet").is_file()
    if whole and (old := storage.read_json(result)).get("fingerprint") == of:
        return old
    result.unlink(missing_ok=True)
    if workers is None:
        workers = 0 if torch.device(device).type == "cpu" else min(8, (os.cpu_count() or 2) - 1)
    options = {
        "root": root,
        "out": out,
        "seed": seed,
        "dtype": dtype,
        "workers": workers,
        "checkpoint_every": cfg.get("checkpoint_every", 50),
    }
    count = cfg.get("processes", 1)
    if count > 1 and not rows.empty:
        report = distributed.train(net, params, names, rows, val, options, count, device)
    else:
        report = train(net, rows, val, cfg, **options, progress=progress)
    test_images = augment.Images(test["path"], root, preprocess.input_size(net.preprocess))
    logits = evaluate(net, test_images, dtype, _eval_batch(cfg))
    predictions = predictions_frame(test, logits)
    storage.write_table(out / "predictions.parquet", predictions)
    del report["seconds"]  # the same inputs give the same bytes; run.json has the time
    content = {
        **metrics(predictions, names),
        **report,
        "dataset": dataset,
        "seed": seed,
        "recipe": str(recipes.parse(recipe)),
        "fingerprint": of,
        **rows.attrs,
    }
    storage.write_json(result, content)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return content
