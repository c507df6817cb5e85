"""What a training step asks a GPU to launch, counted without a GPU.

    python -m bench.operations [--out results/operations.json]

CLIP ViT-B/16 with LoRA on both towers, rank 16, 37 classes, bfloat16. The captured step is counted
on fake CUDA tensors; the plain one, autograd under autocast, on this CPU with a batch of two, since
the number of operations does not depend on the batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.counting import Operations, vit_b_16_step
from varireal_utils.core import storage
from varireal_utils.models import packed_linear, preprocess

from .run import NAME, build, captions, ours_step

CLASSES = 37


def captured() -> Operations:
    """Of the captured step, its optimiser's memory made before."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step, pixels, rows = vit_b_16_step(torch.device("cuda"), CLASSES, batch=64)
        with Operations():
            step(0, pixels, rows)
        with Operations() as counted:
            step(1, pixels, rows)
    preprocess._channels.cache_clear()  # it holds fake tensors
    return counted


def plain() -> Operations:
    """Of the plain step, without the packed products of a CPU."""
    model, _, tokenizer = build()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    pixels, tokens = torch.randn(2, 3, 224, 224), tokenizer(captions(CLASSES))
    model.train()
    supported, packed_linear.supported = packed_linear.supported, lambda: False
    try:
        for _ in range(2):  # the first makes the optimiser's memory
            with Operations() as counted:
                ours_step(model, optimiser, pixels, tokens, torch.arange(2), torch.bfloat16)
    finally:
        packed_linear.supported = supported
    return counted


def counts() -> list[dict]:
    """A row for each way, printed as it comes."""
    rows = []
    for way, count in (("plain", plain), ("captured", captured)):
        found = count()
        row = {
            "way": way,
            "operations": found.kernels,
            "casts": found.casts,
            "reads": len(found.waits),
        }
        print(
            f"{'operations of a step':22s} {CLASSES} classes  {way:9s} {found.kernels:6,d}, "
            f"of them {found.casts} casts, {len(found.waits)} reads from the device",
            flush=True,
        )
        rows.append(row)
    return rows


def write(out: Path) -> None:
    """Count and write."""
    facts = {"model": NAME, "classes": CLASSES, "rows": counts(), "torch": torch.__version__}
    storage.write_json(out, facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/operations.json"))
    write(parser.parse_args().out)
