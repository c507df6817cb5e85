"""A small finished study on disk, with true records and hostile names, made without any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from varireal_utils.core import storage
from varireal_utils.workflow import provenance

CLASSES = ["../../x", "CON", "a" * 300, "new\nline", "<script>alert(1)</script>", "שלום | 🐶"]


def picture(study: Path, name: str, number: int) -> dict[str, str]:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    return {"path": name, "sha256": storage.write_image(study / name, pixels)}


def record(
    study: Path, folder: str, outputs: list[str], inputs: list[str] | None = None, **facts: Any
) -> Path:
    params = {"seed": 1}
    value = {
        "stage": folder.split("/")[0],
        "finished": True,
        "run_id": "r",
        "parameters": params,
        "parameter_digest": storage.sha256_json(params),
        "started": "2026-01-01T00:00:00Z",
        "inputs": {n: storage.sha256_file(study / n) for n in inputs or []},
        "outputs": {n: storage.sha256_file(study / n) for n in outputs},
        **facts,
    }
    storage.write_json(study / folder / "run.json", value)
    return provenance.seal(study / folder / "run.json")


def make(study: Path, dataset: str = "Mine / yours") -> Path:
    """Write the study; its data set and its classes are called as nobody should call them."""
    slug = storage.slug(dataset)
    rows = [
        {
            "image_id": f"i{n}",
            "label": n,
            "class_name": c,
            "split": s,
            **picture(study, f"data/{slug}/images/i{n}.png", n),
        }
        for n, (c, s) in enumerate(zip(CLASSES, ["train"] * 4 + ["val", "test"], strict=True))
    ]
    table = f"data/{slug}/images.parquet"
    storage.write_table(study / table, pd.DataFrame(rows))
    record(study, f"data/{slug}", [table, *(r["path"] for r in rows)])
    for arm in ("feasible", "infeasible"):
        folder = f"edits/{slug}/color/{arm}"
        edits = [
            {
                "edit_id": f"e{arm}{n}",
                "image_id": f"i{n}",
                "label": n,
                "class_name": CLASSES[n],
                "attribute": "color",
                "feasibility": arm,
                "phrase": "<b>blue</b>",
                "prompt": "p",
                "accepted": n % 2 == 0,
                "attribute_score": 0.5,
                "identity": 0.9,
                "seed": 2**62 + n,
                **picture(study, f"{folder}/images/e{n}.png", 50 + n),
            }
            for n in range(4)
        ]
        storage.write_table(study / folder / "edits.parquet", pd.DataFrame(edits))
        record(study, folder, [f"{folder}/edits.parquet", *(e["path"] for e in edits)], [table])
    folder = f"classify/{slug}/real/seed0"
    storage.write_bytes(study / folder / "adapter_model.safetensors", save({"a": torch.ones(2)}))
    storage.write_text(
        study / folder / "adapter_config.json",
        json.dumps({"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}),
    )
    storage.write_json(
        study / folder / "metrics.json",
        {"top1": 0.5, "n_test": 1, "val_top1": None, "selected_step": 2},
    )
    record(
        study,
        f"classify/{slug}/seed0",
        [
            f"{folder}/{n}"
            for n in ("adapter_model.safetensors", "adapter_config.json", "metrics.json")
        ],
        [table],
    )
    book = study / "notebooks" / "01_data.ipynb"
    storage.write_text(book, nbformat.writes(nbformat.v4.new_notebook()))
    provenance.seal(book)
    (study / ".driver").touch()
    return study
