"""Photographs that a vision-language verifier cannot name: their edits are exempt from its "is it
still a {class}".

A model that cannot tell look-alikes, as variants of an aircraft, says no to the unedited photograph
too. Its edits would use up every attempt, and then the verifier, not the study, would choose which
photographs are trained on. So an edit that fails in identity alone is compared with its photograph:
where that fails the same questions, identity decides nothing and the edit is accepted, `exempt`.

The questions depend on photograph and k alone, so both arms of a slot are exempt together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.config_sections import ClipVerifierSettings, VlmVerifierSettings
from ..verification.build import Verifier

LEAST = 0.8  # share of unedited photographs that pass as their own class, below which we warn


def applies(settings: ClipVerifierSettings) -> bool:
    """Whether a verifier asks what the object is; CLIP compares it with its photograph instead."""
    return isinstance(settings, VlmVerifierSettings) and settings.rule == "strict"


def exempting(verifier: Verifier) -> Verifier:
    """The verifier with a column `exempt` in its answers, whose rows are accepted. Warns where
    few validation photographs pass as their own class."""
    _warn(verifier.thresholds)
    known: dict[tuple[str, int], bool] = {}  # (image id, k) -> the photograph passes itself

    def score(pictures: list[np.ndarray], rows: list[dict], sources: Sequence[Any]) -> pd.DataFrame:
        answers = verifier.score(pictures, rows, sources)
        alone = answers["attribute_passed"] & ~answers["identity_passed"]
        keys = [(row["image_id"], row["k"]) for row in rows]
        new = [i for i, fails in enumerate(alone) if fails and keys[i] not in known]
        if new:
            photographs = [sources[i].image for i in new]
            asked = verifier.score(photographs, [rows[i] for i in new], [sources[i] for i in new])
            known.update(zip([keys[i] for i in new], asked["identity_passed"].astype(bool)))
        exempt = np.array([bool(a) and not known[key] for a, key in zip(alone, keys)], bool)
        return answers.assign(exempt=exempt, accepted=answers["accepted"].astype(bool) | exempt)

    return Verifier(verifier.thresholds, score)


def _warn(thresholds: dict[str, float]) -> None:
    kept = thresholds.get("identity_kept", 1.0)
    if kept < LEAST:
        warnings.warn(
            f"the verifier names {kept:.0%} of the unedited photographs as their own class (wanted "
            f"{LEAST:.0%}): edits of the others are exempt from that question, and `exempt` in "
            "edits.parquet counts them; another model at models.verifier.path may name more",
            stacklevel=3,
        )
