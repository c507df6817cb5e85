"""Builds the verifier of an arm: loads its model, sets its thresholds on validation photographs.

symbols   table   images of a data set with their guidance, indexed by image_id
          bank    phrases of the data set (prompts/phrase_bank.py)

Invariant (tests/unit/test_vlm.py): thresholds rest on photographs of the val split alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from ..core import storage
from ..core.config_sections import ClipVerifierSettings, ModelRoles, VlmVerifierSettings
from ..core.seeds import seed_for
from ..models import loaders
from ..models.residence import Residence
from ..prompts import phrase_bank
from . import clip_verifier, vlm_verifier
from .features import ClipFeatures
from .vlm_asker import Answer, Experience, VlmAsker


class Photograph(Protocol):
    """An unedited photograph, (H, W, 3) uint8, with the mask of its object, (H, W) uint8."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def mask(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Verifier:
    """thresholds: of the record; score: (edits, their rows, their photographs) -> verdicts, a row
    each, with `accepted` and `worst_margin`."""

    thresholds: dict[str, float]
    score: Callable[[list[np.ndarray], list[dict], Sequence[Any]], pd.DataFrame]


@dataclass(frozen=True)
class Verified:
    """What is verified: edits of one attribute in a study's folder. thresholds: file that keeps
    them, named by all that they rest on; None to measure them anew."""

    study: Path
    table: pd.DataFrame
    bank: phrase_bank.Bank
    attribute: str
    seed: int
    thresholds: Path | None = None

    def measured(self, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The thresholds that an earlier job, shard or arm has measured, else those of `measure`,
        which are kept."""
        if self.thresholds is not None:
            with contextlib.suppress(OSError, ValueError):  # absent or damaged: measured again
                return storage.read_json(self.thresholds)
        found = measure()
        if self.thresholds is not None:
            storage.write_json(self.thresholds, found)
        return found

    def validation(self) -> pd.DataFrame:
        """Rows of the val split."""
        return self.table[self.table["split"] == "val"]

    def sentences(self, class_name: str) -> list[str]:
        """What each phrase of a class says, in the order of `phrase_bank.alternatives`."""
        phrases = phrase_bank.alternatives(self.bank, self.attribute, class_name)
        return [
            phrase_bank.verify_prompt(self.bank, self.attribute, p, class_name) for p in phrases
        ]


def build_verifier(
    edits: Verified,
    settings: ClipVerifierSettings,
    models: ModelRoles,
    device: torch.device,
    residence: Residence | None = None,
) -> Verifier:
    """Build the verifier of the kind that models.verifier names: clip, or vlm.

    residence: of a caller who has other models too; the verifier's is loaded when it is asked.
    """
    home = residence or Residence()
    if isinstance(settings, VlmVerifierSettings):
        return _vlm(edits, settings, models, device, home)
    return _clip(edits, settings, models, device, home)


def _vlm(
    edits: Verified,
    settings: VlmVerifierSettings,
    models: ModelRoles,
    device: torch.device,
    home: Residence,
) -> Verifier:
    bank, names = edits.bank, sorted(edits.table["class_name"].unique())
    known, size = Experience(), settings.max_size
    home.add("verifier", lambda: VlmAsker(loaders.load_vlm(models, device), size, device, known))

    def ask(pictures: list[np.ndarray], questions: list[list[str]]) -> list[list[Answer]]:
        return home.get("verifier")(pictures, questions)

    def measure() -> dict[str, float]:
        val = edits.validation()
        lot = sorted(val["image_id"], key=lambda i: seed_for("verify", i))[: settings.calibration]
        val = val.loc[lot]
        return vlm_verifier.calibrate(
            ask,
            vlm_verifier.Calibration(
                [storage.read_image(edits.study / p) for p in val["path"]],
                list(val["class_name"]),
                list(val["image_id"]),
            ),
            bank,
            edits.attribute,
            names,
            settings,
            edits.seed,
        )

    thresholds = edits.measured(measure)

    def score(
        pictures: list[np.ndarray], rows: list[dict], sources: Sequence[Photograph]
    ) -> pd.DataFrame:
        before = [s.image for s in sources]
        return vlm_verifier.score(ask, pictures, before, rows, bank, names, settings, thresholds)

    return Verifier(thresholds, score)


def _clip(
    edits: Verified,
    settings: ClipVerifierSettings,
    models: ModelRoles,
    device: torch.device,
    home: Residence,
) -> Verifier:
    home.add("verifier", lambda: ClipFeatures(models, device))
    thresholds = edits.measured(lambda: _clip_thresholds(edits, settings, home.get("verifier")))
    known: dict[str, np.ndarray] = {}

    def score(
        pictures: list[np.ndarray], rows: list[dict], sources: Sequence[Photograph]
    ) -> pd.DataFrame:
        features = home.get("verifier")
        for name in {r["class_name"] for r in rows} - set(known):
            known[name] = features.embed_texts(edits.sentences(name))
        options = [
            phrase_bank.alternatives(edits.bank, edits.attribute, r["class_name"]) for r in rows
        ]
        return clip_verifier.score(
            pictures,
            [s.image for s in sources],
            [s.mask for s in sources],
            [phrases.index(r["phrase"]) for phrases, r in zip(options, rows)],
            [known[r["class_name"]] for r in rows],
            features.embed_images,
            thresholds,
        )

    return Verifier(thresholds, score)


def _clip_thresholds(
    edits: Verified, settings: ClipVerifierSettings, features: ClipFeatures
) -> dict[str, float]:
    """From validation photographs; sentences of their own classes, averaged over classes."""
    val, study = edits.validation(), edits.study
    phrases = {c: features.embed_texts(edits.sentences(c)) for c in val["class_name"].unique()}
    photographs = (
        (storage.read_image(study / p), storage.read_mask(study / m))
        for p, m in zip(val["path"], val["mask_path"])
    )
    return clip_verifier.calibrate(
        photographs,
        val["label"].to_numpy(),
        [phrases[c] for c in val["class_name"]],
        features.embed_images,
        settings,
        edits.seed,
    )
