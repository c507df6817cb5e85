"""Zero-shot accuracies that a CLIP must reach on a data set, as data with their sources.

symbols   n   validation photographs      C   classes
          SE  standard error of a share, sqrt(p (1 - p) / n)

The floor of a known model is its known accuracy less MARGIN, for templates and splits that differ,
less two SE. Of an unknown one it is chance plus three SE, and at least twice chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from ..core import storage
from ..core.config_sections import ModelSpec
from ..data.data_set import DataSetSpec

MARGIN = 0.05
OPENAI_B16 = {  # docs/protocol.md, B1: CLIP ViT-B/16 zero-shot, by `source` of a data set
    "imagenet": 0.702,
    "caltech101": 0.961,
    "dtd": 0.461,
    "eurosat": 0.381,
    "fgvc_aircraft": 0.238,
    "oxford_pets": 0.910,
    "stanford_cars": 0.631,
    "sun397": 0.722,
    "food101": 0.851,
    "flowers102": 0.718,
}
ACCEPTANCE = "acceptance.json"  # of the micro models, beside their folders


@dataclass(frozen=True)
class Floor:
    """share: least accuracy, 0..1; source: where that is from, in words."""

    share: float
    source: str


def floor_of(spec: ModelSpec, data: DataSetSpec, n: int, classes: int) -> Floor:
    """The floor of a model on `n` photographs of a data set of so many classes."""
    known = _known(spec, data)
    if known is None:
        chance = 1 / max(classes, 1)
        least = max(2 * chance, chance + 3 * sqrt(chance * (1 - chance) / max(n, 1)))
        return Floor(min(least, 1.0), "no known accuracy: well above chance")
    share, source = known
    room = MARGIN + 2 * sqrt(share * (1 - share) / max(n, 1))
    return Floor(max(share - room, 1 / max(classes, 1)), f"{share:.1%} known ({source})")


def _known(spec: ModelSpec, data: DataSetSpec) -> tuple[float, str] | None:
    if spec.weights == "openai" and spec.name in ("ViT-B-16", "ViT-B-16-quickgelu"):
        share = OPENAI_B16.get(data.source)
        return None if share is None else (share, "docs/protocol.md, B1")
    folder, family = spec.local(), getattr(data, "family", "")
    file = folder.parent / ACCEPTANCE if folder else None
    if data.source != "world" or file is None or not file.is_file():
        return None
    share = storage.read_json(file).get("figures", {}).get(f"clip_zero_shot_{family}")
    return None if share is None else (float(share), file.as_posix())
