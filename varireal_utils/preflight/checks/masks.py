"""Masks cover the object and not its surroundings, by the picture's border.

An object may leave the picture on some sides; its surroundings reach nearly all of the border. No
network is asked: CLIP tells look-alike classes apart no better inside a mask than outside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...core import storage
from ...core.config import StudyConfig
from ...editing import guidance
from ...verification.clip_verifier import object_only
from ..check import Check, Finding, judged
from ..workspace import Workspace

MOST = 0.5  # of the border that lies inside the mask, median over photographs
LEAST = 0.5  # of masks whose size and pieces are those of an object
SHOWN = 6


def run(bench: Workspace) -> Iterator[Finding]:
    """Two findings: which side of the mask is the object, and the masks' own quality."""
    if not bench.config.attributes:
        yield Finding("masks", "attributes", "skip", "none in this study", "-")
        return
    table = bench.guided
    masks = [storage.read_mask(bench.paths.root / p) for p in table["mask_path"]]
    for path, mask, name in list(zip(table["path"], masks, table["class_name"]))[:SHOWN]:
        bench.show("masks", name, object_only(storage.read_image(path), mask))
    share = float(np.median([border(m) for m in masks]))
    yield judged(
        "masks",
        f"the object is inside, {len(table)} photographs",
        share <= MOST,
        f"{share:.0%} of the picture's border lies inside the mask (median)",
        f"at most {MOST:.0%}",
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


def border(mask: np.ndarray) -> float:
    """Share of the outermost pixels of a (H, W) mask that are on."""
    on = mask > 0
    edges = np.concatenate([on[0], on[-1], on[1:-1, 0], on[1:-1, -1]])
    return float(edges.mean())


def roles(config: StudyConfig) -> tuple[str, ...]:
    """What finds masks."""
    return tuple(r for r in ("detector", "segmenter") if config.models.get(r))


CHECK = Check(
    "masks",
    "Do the masks cover the object?",
    run,
    "see that masks and photographs have the same size, and that the detector loads",
    roles,
)
