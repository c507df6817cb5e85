"""Photographs, phrases and pictures that the checks share, in a folder of their own.

symbols   sample   validation photographs, and training photographs for a batch, of a data set

Photographs come from the study's own table where 01_data has made it, else from the source, of
which so many a class are read as the sample needs. The test split is never opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from ..core import storage
from ..core.config import StudyConfig
from ..core.config_editing import GuidanceOnCanvas
from ..core.config_sections import ModelSpec
from ..core.device import device_of, dtype_of
from ..core.seeds import seed_for
from ..core.stage import Run, StageSettings
from ..core.study_paths import StudyPaths
from ..data import datasets, registry
from ..data.data_set import DataSetSpec
from ..editing import guidance, segmentation, sources
from ..editing.slices import GuidanceStage
from ..models import classifiers, loaders, preprocess
from ..prompts import phrase_bank
from ..verification.features import BATCH, ClipFeatures
from ..workflow import cost

S = TypeVar("S", bound=StageSettings)
VALIDATION = 200  # photographs whose zero-shot classes are looked at
GUIDED = 48  # of them, those with a mask: the verifier's thresholds rest on these
PHRASES = 2  # of an arm, in edits; they are judged among all
PATHS = ("path", "mask_path", "paint_mask_path")


def _few_phrases(bank: phrase_bank.Bank) -> phrase_bank.Bank:
    """The first PHRASES of each list: what edits are asked for here, and priors drawn for."""
    few = {
        attribute: {
            name: {arm: phrases[:PHRASES] for arm, phrases in arms.items()}
            for name, arms in classes.items()
        }
        for attribute, classes in bank["phrases"].items()
    }
    return bank | {"phrases": few}


@dataclass(frozen=True)
class Sample:
    """Photographs of a data set. table: train and val, with absolute paths; names: of the classes,
    by label; bank: its phrases; spec: its settings."""

    name: str
    spec: DataSetSpec
    table: pd.DataFrame
    names: list[str]
    bank: phrase_bank.Bank

    def split(self, name: str) -> pd.DataFrame:
        """The rows of train or val."""
        return self.table[self.table["split"] == name]


@dataclass
class Workspace:
    """What the checks work with.

    config: of the study; folder: where preflight writes; pictures: (section, caption, picture) for
    the contact sheet; rates: job of the plan -> images a second.
    """

    config: StudyConfig
    folder: Path
    pictures: list[tuple[str, str, np.ndarray]] = field(default_factory=list)
    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    _samples: dict[str, Sample] = field(default_factory=dict)
    _nets: dict[str, classifiers.Classifier] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        """The study's device."""
        return device_of(self.config.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The study's compute type."""
        return dtype_of(self.config.precision, self.config.device)

    @property
    def paths(self) -> StudyPaths:
        """A study's folder of preflight's own."""
        return StudyPaths(self.folder / "study")

    @property
    def dataset(self) -> str:
        """The data set that edits and trainings are tried on: the first one."""
        return next(iter(self.config.datasets))

    @property
    def batch(self) -> int:
        """Training photographs that the largest batch of the study asks for, at most 64."""
        sizes = [self.config.classify.batch_size, self.config.edit.batch_size]
        if self.config.datadream:
            sizes.append(self.config.datadream.batch_size)
        return min(max(sizes), 64)

    @cached_property
    def clip(self) -> ClipFeatures:
        """The study's CLIP, for similarities."""
        return ClipFeatures(self.config.models, self.device)

    @property
    def guidance(self) -> GuidanceOnCanvas:
        """Settings of masks and lines, with the canvas, as 03_guidance reads them."""
        return GuidanceStage.of(self.config).guidance

    @cached_property
    def find(self) -> Callable[[np.ndarray, str], Any]:
        """Finds masks where a data set has none."""
        return segmentation.build_finder(self.guidance, self.config.models, self.device)

    def sample(self, dataset: str = "") -> Sample:
        """The sample of a data set, the first one without a name."""
        name = dataset or self.dataset
        if name not in self._samples:
            self._samples[name] = self._read(name)
        return self._samples[name]

    def _read(self, name: str) -> Sample:
        spec = registry.of_study(self.config, name)
        made = self.config.paths.images_table(name)
        if made.is_file():
            table, root = storage.read_table(made), self.config.paths.root
        else:
            few = self._few(name, spec)
            table, _ = datasets.load(name, few, self.paths.root, self.config.seed)
            root = self.paths.root
        names = table.drop_duplicates("label").sort_values("label")["class_name"].tolist()
        table = self._taken(table[table["split"] != "test"])
        for column in PATHS:
            if column in table:
                table[column] = [
                    str((root / p).resolve()) if isinstance(p, str) and p else ""
                    for p in table[column]
                ]
        family = spec.phrase_family(name)
        stored = self.config.paths.phrase_bank(name)
        bank = (
            storage.read_json(stored)
            if stored.is_file()
            else phrase_bank.load_bank(self.config.phrase_file, name, sorted(names), family)
        )
        storage.write_json(self.paths.phrase_bank(name), _few_phrases(bank))
        return Sample(name, spec, table.reset_index(drop=True), names, bank)

    def _few(self, name: str, spec: DataSetSpec) -> DataSetSpec:
        """The settings of a data set with as many photographs a class as the sample needs."""
        _, classes, _ = cost.sizes(self.config, name)
        wanted = {"val": VALIDATION, "train": self.batch, "test": 0}
        few = {}
        for split, count in wanted.items():
            each = max(2, ceil(count / classes)) if classes and count else 4 if count else 0
            most = getattr(spec, "most", None)
            own = most(split) if most else getattr(spec, f"{split}_per_class", each)
            few[f"{split}_per_class"] = int(min(each, own))
        return spec.model_copy(update=few)

    def _taken(self, table: pd.DataFrame) -> pd.DataFrame:
        """VALIDATION and `batch` photographs, by turns of the classes, in the order of a hash."""
        kept = []
        for split, count in (("train", self.batch), ("val", VALIDATION)):
            rows = table[table["split"] == split]
            rank = [seed_for(self.config.seed, "preflight", i) for i in rows["image_id"]]
            rows = rows.assign(_rank=rank).sort_values(["_rank", "image_id"])
            turn = rows.groupby("label").cumcount()
            rows = rows.assign(_turn=turn).sort_values(["_turn", "_rank"]).head(count)
            kept.append(rows.drop(columns=["_rank", "_turn"]))
        return pd.concat(kept, ignore_index=True)

    @cached_property
    def guided(self) -> pd.DataFrame:
        """Training photographs of an edit batch and GUIDED validation photographs of the first data
        set, with their masks and lines, as 03_guidance makes them."""
        sample = self.sample()
        rows = pd.concat(
            [
                sample.split("train").head(self.config.edit.batch_size),
                sample.split("val").head(GUIDED),
            ]
        )
        out, settings = self.paths.guidance(sample.name), self.guidance
        maps = [
            guidance.guide(row, self.paths.root, out, settings, self._finder(row))
            for row in rows.to_dict("records")
        ]
        storage.write_table(self.paths.guidance_table(sample.name), pd.DataFrame(maps))
        storage.write_table(self.paths.images_table(sample.name), rows.reset_index(drop=True))
        return sources.read_inputs(self.paths, sample.name)

    def _finder(self, row: dict) -> Callable | None:
        given = guidance.has_mask(row) and self.guidance.masks == "given"
        return None if given else self.find

    @property
    def classifier(self) -> ModelSpec:
        """The CLIP that classifies untrained: the one that is fine-tuned, or the study's other."""
        spec = classifiers.fine_tuned(self.config.models)
        return spec if spec.kind == "clip" else loaders.required(self.config.models, "clip")

    def net(self, sample: Sample) -> classifiers.Classifier:
        """`classifier`, untrained, for the classes of a sample."""
        if sample.name not in self._nets:
            self._nets = {  # one at a time
                sample.name: classifiers.load(
                    self.classifier, sample.names, self.config.classify.templates, self.device
                )
            }
        return self._nets[sample.name]

    @torch.no_grad()
    def chances(self, sample: Sample, pictures: list[np.ndarray]) -> np.ndarray:
        """(N, C) zero-shot probabilities of (H, W, 3) uint8 pictures."""
        net, out = self.net(sample), []
        text = net.text_features()
        for i in range(0, len(pictures), BATCH):
            pixels = preprocess.network_input(pictures[i : i + BATCH], net.preprocess, net.device)
            out.append(net.logits(pixels, text).float().softmax(1).cpu())
        return torch.cat(out).numpy()

    def run(self, stage: str, settings: S, out: Path, **target: Any) -> Run[S]:
        """A run of a stage in preflight's own folder."""
        return Run(
            stage, settings, self.paths, out, self.config.seed, self.device, self.dtype, target
        )

    def show(self, section: str, caption: str, picture: np.ndarray) -> None:
        """Put a picture on the contact sheet."""
        self.pictures.append((section, caption, picture))
