"""A few steps of the classifier's training: its loss falls, and the adapters change its answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...core.config import StudyConfig
from ...models import classifiers, preprocess
from ...training import image_cache
from ...training.train import Training, evaluate, train
from ..check import Check, Finding, judged
from ..workspace import Workspace

STEPS, VALIDATION = 12, 16
ROOT = Path("/")  # paths of the sample are absolute


def run(bench: Workspace) -> Iterator[Finding]:
    """Two findings."""
    sample, own = bench.sample(), bench.config.classify.training()
    spec = classifiers.fine_tuned(bench.config.models)
    net = classifiers.load(spec, sample.names, own.templates, bench.device)
    settings = own.model_copy(
        update={
            "steps": STEPS,
            "eval_every": STEPS,
            "checkpoint_every": 0,
            "processes": 1,
            "patience": None,
        }
    )
    rows = sample.split("train")[["path", "label"]].assign(is_real=True).reset_index(drop=True)
    val = sample.split("val")[["path", "label"]].head(VALIDATION).reset_index(drop=True)
    images = image_cache.Images(rows["path"], ROOT, preprocess.input_size(net.preprocess))
    before = evaluate(net, images, bench.dtype, own.eval_batch_size) if net.zero_shot else None
    training = Training(ROOT, bench.folder / "training", bench.config.seed, bench.dtype)
    report = train(net, rows, val, settings, training)
    bench.rates["06_classify", sample.name] = report["images_seen"] / report["seconds"]
    after = evaluate(net, images, bench.dtype, own.eval_batch_size)
    labels = rows["label"].to_numpy()
    was = cross_entropy(before, labels) if before is not None else float(report["loss_curve"][0])
    now = cross_entropy(after, labels)
    yield judged(
        "training",
        f"loss over {STEPS} steps of {own.batch_size}",
        bool(now < was),
        f"{was:.4f} before, {now:.4f} after",
        "a lower loss on the training photographs",
        f"lower classify.lr ({own.lr:g}) where it rises, raise it where it stays",
    )
    moved = np.inf if before is None else float(np.abs(after - before).max())
    yield judged(
        "training",
        "adapters change the answers",
        moved > 1e-4,
        f"largest change of a logit {moved:.3g}",
        "above 0.0001",
        "classify.towers, rank and alpha must add adapters that learn; see models/clip_lora.py",
    )


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats of (N, C) logits."""
    top = logits.max(1, keepdims=True)
    norm = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((norm - logits[np.arange(len(labels)), labels]).mean())


def roles(config: StudyConfig) -> tuple[str, ...]:
    """The classifier that is fine-tuned."""
    return ("classifier",) if config.models.classifier else ("clip",)


CHECK = Check(
    "training",
    "Does the classifier learn?",
    run,
    "out of memory: raise classify.accumulate; not finite: set precision: float32",
    roles,
)
