"""How fast each kind of work runs on the card of a study: measured rates, and where they are from.

    paint      SDXL's UNet, by batch              share of the card's peak
    read       a vision-language model            the UNet's share at one image: none was measured
    learn      DataDream's UNet                   the UNet's share at 8 images: none was measured
    train      CLIP with LoRA                     TFLOP/s: launching operations limits it, not the
                                                  card, so a faster card is no faster; at most SHARE
                                                  of the peak of a slower one
    evaluate   CLIP, forward                      share of the peak

All are of results/bench_gpu.json, on the card that it names. `plan.tflops` of a parameter file
takes the place of every one: it is somebody's own measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import StudyConfig

MEASURED = Path("results/bench_gpu.json")
KINDS = ("paint", "read", "learn", "train", "evaluate")
STEP, UNET = "training step", "a step of SDXL inpainting, 1024 px"

# Dense half-precision TFLOP/s by NVIDIA's data sheets; T4 in float16, the others in bfloat16 with
# sums in float32
PEAKS = {
    "T4": 65,
    "RTX 3090": 71,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "A100": 312,
    "L40S": 362,
    "H100 or H200": 989,
}


@dataclass(frozen=True)
class Rate:
    """1e12 operations a second of one kind of work, and where the number is from."""

    tflops: float
    source: str


def peak_of(card: str) -> float | None:
    """TFLOP/s of the data sheet of a card by its name, None for one that is not in PEAKS."""
    known = {part: peak for names, peak in PEAKS.items() for part in names.split(" or ")}
    return next((known[n] for n in sorted(known, key=len, reverse=True) if n in card), None)


@cache
def _measured(file: Path) -> dict[str, Any]:
    return storage.read_json(file) if file.is_file() else {}


def rates(config: StudyConfig, classes: int = 0) -> dict[str, Rate]:
    """Kind -> rate on the card of `plan`; empty where the file names none, or nothing is measured.

    classes: of the data set, for training.
    """
    own = config.plan
    if own is None:
        return {}
    if own.tflops is not None:
        return {kind: Rate(own.tflops, own.source) for kind in KINDS}
    return of_card(own.card, config.edit.batch_size, classes)


def of_card(card: str, batch: int, classes: int = 0) -> dict[str, Rate]:
    """The same for a card by name, and so many images in a batch."""
    peak, found = peak_of(card), _measured(MEASURED)
    if peak is None or not found:
        return {}
    many, one = _row(found, UNET, batch=8), _row(found, UNET, batch=1)
    unet = many if batch >= 8 else one
    step = _row(found, STEP, "bfloat16", classes=classes)
    forward = _row(found, "evaluation", "bfloat16", classes=classes)
    on, share = f"{found['card']}, {MEASURED}", many["share_of_peak"]

    def shared(row: dict, what: str) -> Rate:
        text = f"{row['share_of_peak']:.0%} of {peak:g} TFLOP/s: {what} ({on})"
        return Rate(row["share_of_peak"] * peak, text)

    limit = min(step["tflops"], share * peak)
    return {
        "paint": shared(unet, f"SDXL's UNet, {unet['batch']} image(s) a pass"),
        "read": shared(one, "as SDXL's UNet with one image; a verifier was not measured"),
        "learn": shared(many, "as SDXL's UNet with 8 images; DataDream was not measured"),
        "train": Rate(limit, f"CLIP's training step of {step['classes']} classes ({on})"),
        "evaluate": shared(forward, "CLIP's evaluation"),
    }


def _row(found: dict[str, Any], what: str, way: str = "bfloat16", **near: int) -> dict[str, Any]:
    """The measured row of a kind of work that is nearest in batch or classes."""
    rows = [r for r in found["rows"] if (r["what"], r["way"]) == (what, way)]
    return min(rows, key=lambda r: sum(abs((r[k] or 0) - v) for k, v in near.items()))
