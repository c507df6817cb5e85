"""Fine-tunes a classifier on a recipe's images (docs/protocol.md, C2 and C4).

    evaluate      logits of a list of images
    train         fine-tune in this process
    train_shared  fine-tune in several processes, each with a GPU of its own if there are several
    fingerprint   what decides a result

Where the reference errs (tests/unit/test_reference_bugs.py): the best step is chosen on the
validation split, never on the test split; accuracy is a mean over images; text is encoded once per
evaluation; the adapter is stored unmerged. Every recipe takes equally many steps and images.

Invariant: every random draw comes from (seed, what, step), so a training that was stopped and
resumed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save

from ..core import checkpoints, oom_retry, storage
from ..core.config_base import content
from ..core.config_sections import ModelSpec, TrainSettings
from ..models import classifiers, distributed, preprocess
from ..models.classifiers import Classifier
from ..models.clip_classifier import ClipClassifier
from . import augment, captured_step, feed
from .captured_step import CapturedStep
from .image_cache import Images
from .train_step import Step, refuse_infinite

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = "checkpoint.safetensors"
RESULT, WEIGHTS = "training.json", "training.safetensors"


@dataclass(frozen=True)
class Training:
    """Where and how one training runs. root: paths of images lie below it; out: folder of weights
    and checkpoint; workers: processes that prepare batches, which change no pixel; rests_on: digest
    of the classifier's model and weights, precision and device (Run.rests_on); maps: folder of the
    decoded pictures that trainings share, None for none."""

    root: Path
    out: Path
    seed: int
    dtype: torch.dtype = torch.float32
    workers: int = 0
    rests_on: str = ""
    maps: Path | None = None

    def images(self, paths: Iterable[str], net: Classifier) -> Images:
        """The images of a list of files, as a classifier sees them."""
        side = preprocess.input_size(net.preprocess)
        return Images(list(paths), self.root, side, maps=self.maps)


@torch.inference_mode()
def evaluate(
    net: Classifier,
    images: Images,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 256,
) -> np.ndarray:
    """Logits (N, C), float32, of all images in their order; the text is encoded once."""
    was, device = net.train(False), net.device
    out: list[torch.Tensor] = []
    fit = oom_retry.Fit()
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        text = net.text_features()

        def logits(part: torch.Tensor) -> torch.Tensor:
            return net.logits(preprocess.normalise(part.to(device), net.preprocess), text).cpu()

        for i in range(0, len(images), batch_size):
            rows = range(i, min(i + batch_size, len(images)))
            pixels = images.inputs(rows, net.preprocess)
            out += oom_retry.retry_in_halves(logits, pixels, fit=fit)
    net.train(was)
    return torch.stack(out).numpy()


def top1(logits: np.ndarray, labels: Iterable[int]) -> float:
    """Share of images whose largest logit is their label's, 0..1."""
    return float((logits.argmax(1) == np.asarray(labels)).mean())


def train(
    net: Classifier,
    rows: pd.DataFrame,
    val: pd.DataFrame,
    settings: TrainSettings,
    training: Training,
    accelerator: Accelerator | None = None,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Fine-tune a classifier in place; it ends as it was at its best validation step.

    rows, val: frames with path, label, and, in rows, is_real (bool). accelerator: where several
    processes share this training; the first one writes. stop_after: stop there, as if killed (for
    tests). A checkpoint in `training.out` of the same images, settings and seed is resumed.
    Returns steps, selected_step (1-based; 0 for zero-shot), val_top1 (0..1), val_curve, loss_curve,
    images_seen, n_train_images, seconds. Without rows nothing is trained (zero-shot).
    Raises ValueError without validation images, with a loss that is not finite, or for zero-shot
    with a classifier that has no text tower.
    """
    if val.empty:
        raise ValueError(
            "The validation split is empty: the best step cannot be chosen on it, and "
            "the test split must not choose. Give the data set a val split."
        )
    start, dtype = time.perf_counter(), training.dtype
    val_images = training.images(val["path"], net)

    def validate() -> float:
        logits = evaluate(net, val_images, dtype, settings.eval_batch_size)
        return top1(logits, val["label"])

    if rows.empty:
        return _report(_zero_shot(net, validate()), 0, 0, start)
    step = _step(net, rows, settings, training, accelerator)
    of = fingerprint([rows, val], training, settings, net.identity())
    state: dict[str, Any] = {"step": 0, "loss_curve": [], "val_curve": [], "best": None, "of": of}
    _resume(training.out / CHECKPOINT, state, step)
    writes = accelerator is None or accelerator.is_main_process
    with torch.random.fork_rng(devices=[net.device] if net.device.type == "cuda" else []):
        _take_steps(
            state,
            step,
            _batches(rows, settings, net, training, state["step"]),
            validate,
            training.out if writes else None,
            stop_after,
        )
    if _finished(state, settings):
        net.load_state(state["best"]["weights"])
        if writes:
            net.save(training.out)
    net.train(False)
    return _report(state, settings.batch_size, len(rows), start)


def _step(
    net: Classifier,
    rows: pd.DataFrame,
    settings: TrainSettings,
    training: Training,
    accelerator: Accelerator | None,
) -> Step | CapturedStep:
    """The step of an adapted classifier: captured where it fits, else plain."""
    weights, seed, dtype = net.adapt(settings, training.seed), training.seed, training.dtype
    if accelerator is None and isinstance(net, ClipClassifier):
        if captured_step.fits(net, settings, dtype):
            return CapturedStep(net, weights, rows, settings, seed, dtype)
    return Step(net, weights, rows, settings, seed, dtype, accelerator)


def _zero_shot(net: Classifier, accuracy: float) -> dict[str, Any]:
    """The state of a training of no steps."""
    if not net.zero_shot:
        raise ValueError(
            "Recipe zero_shot: this classifier knows no words and answers nothing "
            "untrained. Take the recipe out, or use models.clip."
        )
    best = {"step": 0, "val_top1": accuracy}
    return {"step": 0, "loss_curve": [], "val_curve": [], "best": best}


def _report(state: dict, batch_size: int, count: int, start: float) -> dict[str, Any]:
    best = state["best"]
    return {
        "steps": state["step"],
        "selected_step": best["step"] if best else None,
        "val_top1": best["val_top1"] if best else None,
        "val_curve": state["val_curve"],
        "loss_curve": state["loss_curve"],
        "images_seen": state["step"] * batch_size,
        "n_train_images": count,
        "seconds": time.perf_counter() - start,
    }


def _take_steps(
    state: dict,
    step: Step | CapturedStep,
    batches: Iterable[feed.Batch],
    validate: Callable[[], float],
    out: Path | None,
    stop_after: int | None,
) -> None:
    """Train from `state` on until all is done or `stop_after`; out: where checkpoints go."""
    settings = step.settings
    losses: list[torch.Tensor] = []  # on the device, not looked at yet
    for pixels, chosen in () if _finished(state, settings) else batches:
        losses.append(torch.as_tensor(step(state["step"], pixels, chosen)))
        state["step"] += 1
        last, every = state["step"] == settings.steps, settings.checkpoint_every
        look = last or state["step"] % settings.eval_every == 0
        keep = bool(every and out and (last or state["step"] % every == 0))
        if look or keep or state["step"] == stop_after or len(losses) == step.read_every:
            _read(losses, state, step)
        if look:
            _select(state, validate(), step.net)
        if keep and out:
            _checkpoint(out / CHECKPOINT, state, step)
        if state["step"] == stop_after or _finished(state, settings):
            break


def _read(losses: list[torch.Tensor], state: dict, step: Step | CapturedStep) -> None:
    """Move losses from the device to the curve. Raises ValueError for the first that is lost."""
    for loss in torch.stack(losses).tolist():
        refuse_infinite(loss, len(state["loss_curve"]), step.settings, step.dtype)
        state["loss_curve"].append(loss)
    losses.clear()


def _finished(state: dict, settings: TrainSettings) -> bool:
    """All steps done, or `patience` validations in a row without a better one."""
    patience, best = settings.patience, state["best"]
    since = sum(step > best["step"] for step, _ in state["val_curve"]) if best else 0
    return state["step"] >= settings.steps or bool(patience and since >= patience)


def _batches(
    rows: pd.DataFrame, settings: TrainSettings, net: Classifier, training: Training, first: int
) -> Iterable[feed.Batch]:
    is_real, seed = rows["is_real"].to_numpy(bool), training.seed
    order = augment.order(is_real, settings.batch_size, settings.steps, seed)
    images = training.images(rows["path"], net)
    return feed.batches(
        images, order, net.preprocess, settings, seed, net.device, first, training.workers
    )


def _select(state: dict, accuracy: float, net: Classifier) -> None:
    """Keep the weights of the best validation step; the earliest of equals."""
    state["val_curve"].append([state["step"], accuracy])
    if state["best"] is None or accuracy > state["best"]["val_top1"]:
        state["best"] = {"step": state["step"], "val_top1": accuracy, "weights": net.state()}


def fingerprint(
    frames: list[pd.DataFrame],
    training: Training,
    settings: TrainSettings,
    identity: list,
) -> str:
    """Digest of what decides a result: settings, seed, images (their bytes), classifier, weights.

    frames: the training, validation and test rows (path, label, and is_real if known).
    """
    parts = [
        [
            [_sha256(training.root / p) for p in f["path"]],
            *(f[c].astype(int).tolist() for c in ("label", "is_real") if c in f),
        ]
        for f in frames
    ]
    own = [content(settings), training.seed, training.rests_on]
    return storage.sha256_json([parts, own, identity])


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1 << 20)
def _sha256_of(path: Path, *state: int) -> str:
    """Digest of a file in a state; a training and its checkpoint ask for the same ones."""
    return storage.sha256_file(path)


def _checkpoint(path: Path, state: dict, step: Step | CapturedStep) -> None:
    checkpoints.write(path, {"state": state, "weights": step.net.state()} | step.memory())


def _resume(path: Path, state: dict, step: Step | CapturedStep) -> None:
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
    step.net.load_state(saved["weights"])
    step.remember(saved)


def train_shared(
    net: Classifier,
    spec: ModelSpec,
    class_names: list[str],
    rows: pd.DataFrame,
    val: pd.DataFrame,
    settings: TrainSettings,
    training: Training,
) -> dict[str, Any]:
    """`train` by `settings.processes` processes; `net` ends with the weights of the best validation
    step. Each batch is cut into `accumulate` parts, shared out among the processes.

    spec, class_names: what each process loads `net` from. Returns the report of `train`.
    """
    training.out.mkdir(parents=True, exist_ok=True)
    distributed.launch(
        _work, settings.processes, net.device, spec, class_names, rows, val, settings, training
    )
    report = storage.read_json(training.out / RESULT)
    net.adapt(settings, training.seed)
    net.load_state(load_file(training.out / WEIGHTS))
    net.train(False)
    for name in (RESULT, WEIGHTS):
        (training.out / name).unlink()
    return report


def _work(
    accelerator: Accelerator,
    spec: ModelSpec,
    class_names: list[str],
    rows: pd.DataFrame,
    val: pd.DataFrame,
    settings: TrainSettings,
    training: Training,
) -> None:
    """One of the processes of `train_shared`; the first one writes."""
    net = classifiers.load(spec, class_names, settings.templates, accelerator.device)
    report = train(net, rows, val, settings, training, accelerator)
    if accelerator.is_main_process:
        storage.write_bytes(training.out / WEIGHTS, save(net.state()))
        storage.write_json(training.out / RESULT, report)
