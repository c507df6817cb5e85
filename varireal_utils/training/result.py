"""Tables and measures of one tested classifier: predictions, accuracy, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from ..core import storage

SUMS = "files.json"  # name -> sha256, of a finished training
EDITED_TEST = "edited_test.parquet"  # answers to edited test photographs (edited_test.py)
BINS = 15  # of confidence, as Guo et al. 2017


def files(out: Path) -> list[Path]:
    """What a training left in its folder: predictions, metrics, and the adapter or network."""
    return sorted(
        p for p in Path(out).iterdir() if p.is_file() and not p.name.startswith((".", "checkpoint"))
    )


def write_sums(out: Path) -> None:
    """Write the digests of what a training left in its folder, before its metrics."""
    left = [p for p in files(out) if p.name not in (SUMS, "metrics.json")]
    storage.write_json(out / SUMS, {p.name: storage.sha256_file(p) for p in left})


def is_whole(out: Path) -> bool:
    """Whether every file of a finished training is as it left it. Raises OSError, ValueError where
    its digests cannot be read."""
    kept = storage.read_json(out / SUMS)
    return all(
        (out / name).is_file() and storage.sha256_file(out / name) == digest
        for name, digest in kept.items()
    )


def predictions_frame(test: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """image_id, label, prediction, correct, logit_0 ..: one row per test image.

    test: image_id and label; logits (N, C).
    """
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


def metrics(predictions: pd.DataFrame, class_names: list[str]) -> dict[str, Any]:
    """top1 (0..1, over images), per_class (name -> 0..1, None without test images), ece, n_test."""
    share = predictions.groupby("label")["correct"].mean()
    logits = predictions[[c for c in predictions if c.startswith("logit_")]].to_numpy()
    return {
        "top1": float(predictions["correct"].mean()),
        "n_test": len(predictions),
        "per_class": {
            n: float(share[i]) if i in share.index else None for i, n in enumerate(class_names)
        },
        "ece": calibration_error(logits, predictions["label"].to_numpy()),
    }


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, 0..1, of logits (N, C) and labels (N,); 0 with one class."""
    classes = logits.shape[1]
    if classes < 2:
        return 0.0
    shares = torch.tensor(logits).softmax(1)
    return float(multiclass_calibration_error(shares, torch.tensor(labels), classes, BINS))
