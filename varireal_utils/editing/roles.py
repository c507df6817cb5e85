"""The diffusion pipelines of an attribute's edits by their role, and what a call of one is given.

Invariant (tests/unit/test_edit.py): the noise of an edit depends on (study seed, image id,
attribute, k, attempt) alone, so batch size, order and resuming change no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core import oom_retry
from ..core.attributes import ATTRIBUTES
from ..core.seeds import seed_for
from ..models import loaders, precision
from ..models.residence import Residence
from . import conditioning, editors
from .slices import EditStage


@dataclass(frozen=True)
class Pipes:
    """The pipelines of an attribute's edits, loaded when they are asked for, and what they compute
    with.

    roles: inpaint, prior, refine, or other: the pipeline of another editor (editors.py); drawn,
    refined: whether there is a prior to draw, a second stage; looks: whether that has an
    IP-Adapter; residence: holds the models; states: encoded prompts on the CPU, role -> text ->
    embeddings; fits: batch sizes that fitted into memory, by stage.
    """

    device: torch.device
    dtype: torch.dtype
    residence: Residence
    drawn: bool = False
    refined: bool = False
    looks: bool = False
    states: dict[str, dict] = field(default_factory=dict)
    fits: dict[str, oom_retry.Fit] = field(default_factory=dict)

    @property
    def inpaint(self) -> Any:
        """The inpainting pipeline."""
        return self.residence.get("inpaint")

    @property
    def prior(self) -> Any:
        """The pipeline that draws backgrounds and surfaces."""
        return self.residence.get("prior")

    @property
    def refine(self) -> Any:
        """The pipeline of the second stage."""
        return self.residence.get("refine")

    @property
    def other(self) -> Any:
        """The pipeline of another editor."""
        return self.residence.get("other")

    def fit(self, stage: str) -> oom_retry.Fit:
        """The batch size of a stage that fits into memory."""
        return self.fits.setdefault(stage, oom_retry.Fit())

    def autocast(self, pipe: Any) -> AbstractContextManager:
        """What one of the pipelines runs under (models/precision.py)."""
        return precision.pipeline_autocast(pipe, self.device, self.dtype)


def load(
    settings: EditStage,
    device: torch.device,
    dtype: torch.dtype,
    residence: Residence | None = None,
) -> Pipes:
    """What an attribute needs; nothing is loaded yet. Background edits have no refinement (paper,
    method figure). residence: of a caller who has other models too."""
    models, editor, home = settings.models, settings.edit.editor, residence or Residence()
    if editor in editors.EDITORS:
        home.add("other", lambda: editors.EDITORS[editor].load(models, device))
        return Pipes(device, dtype, home)
    own_base, from_noise = models.refine is not None, settings.own.refine_from == "noise"
    home.add("inpaint", lambda: loaders.load_pipeline(models, "inpaint", device), "paint")
    home.add("prior", lambda: loaders.load_pipeline(models, "prior", device))

    def refiner() -> Any:
        base = None if own_base else home.get("inpaint")
        return loaders.load_refiner(models, base, device, from_noise)

    home.add("refine", refiner, "" if own_base else "paint")
    drawn = ATTRIBUTES[settings.attribute].generates_prior
    refined = settings.own.refine_steps > 0
    return Pipes(device, dtype, home, drawn, refined, looks=models.ip_adapter is not None)


def generators(seeds: list[int], stage: str, attempt: int) -> list[torch.Generator]:
    """One CPU generator per image, so that its noise does not know its neighbours."""
    return [torch.Generator("cpu").manual_seed(seed_for(s, stage, attempt)) for s in seeds]


def encode(
    pipes: Pipes,
    role: str,
    texts: Sequence[str | conditioning.Fragments],
    negative: str = "",
) -> dict[str, torch.Tensor]:
    """The arguments of a role's pipeline for prompts; each text is encoded once. negative: what
    guidance leads away from, "" for nothing in particular."""
    known, away = pipes.states.setdefault(role, {}), negative or None
    for text in dict.fromkeys((away, *texts)):
        if text not in known:
            pipe = pipes.residence.get(role)
            empty = text is None
            new = conditioning.unconditional(pipe) if empty else conditioning.encode(pipe, text)
            known[text] = {name: value.cpu() for name, value in new.items()}
    found = conditioning.arguments([known[t] for t in texts], known[away])
    return {name: value.to(pipes.device) for name, value in found.items()}
