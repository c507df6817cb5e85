"""Masks cover the object: CLIP recognises the class by what is inside, not by what is outside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...core import storage
from ...core.config import StudyConfig
from ...editing import guidance
from ...verification.clip_verifier import object_only
from ..check import Check, Finding, judged
from ..workspace import Workspace
from .zero_shot import clip_role

LEAST = 0.5  # of photographs that their object says more of than their background
SHOWN = 6


def run(bench: Workspace) -> Iterator[Finding]:
    """Two findings: which side of the mask is the object, and the masks' own quality."""
    sample, table = bench.sample(), bench.guided
    photographs = [storage.read_image(bench.paths.root / p) for p in table["path"]]
    masks = [storage.read_mask(bench.paths.root / p) for p in table["mask_path"]]
    for image, mask, name in list(zip(photographs, masks, table["class_name"]))[:SHOWN]:
        bench.show("masks", name, object_only(image, mask))
    own = np.arange(len(table)), table["label"].to_numpy()
    inside = bench.chances(sample, [object_only(i, m) for i, m in zip(photographs, masks)])[own]
    outside = bench.chances(sample, [object_only(i, 255 - m) for i, m in zip(photographs, masks)])
    share = float((inside > outside[own]).mean())
    yield judged(
        "masks",
        f"the object is inside, {len(table)} photographs",
        share >= LEAST,
        f"CLIP finds the class inside the mask in {share:.0%}",
        f"at least {LEAST:.0%}",
        "the masks look inverted: 255 must be the object, 0 the background; mend the data set's "
        "masks, or models.detector and models.segmenter",
    )
    verdicts = [str(guidance.mask_quality(m)["verdict"]) for m in masks]
    good = verdicts.count("ok") / len(verdicts)
    odd = ", ".join(sorted(set(verdicts) - {"ok"}))
    yield Finding(
        "masks",
        "size and pieces",
        "pass" if good >= LEAST else "warn",
        f"{good:.0%} ok{f', others {odd}' if odd else ''}",
        f"at least {LEAST:.0%} ok",
        "" if good >= LEAST else "look at 03_guidance before editing; give masks or a detector",
    )


def roles(config: StudyConfig) -> tuple[str, ...]:
    """CLIP, and what finds masks."""
    return (*clip_role(config), *({"detector", "segmenter"} & set(config.models.present())))


CHECK = Check(
    "masks",
    "Do the masks cover the object?",
    run,
    "see that masks and photographs have the same size, and that the detector loads",
    roles,
)
