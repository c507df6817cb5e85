"""Feasible and infeasible phrases are not exchanged: photographs look feasible."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...core import storage
from ...core.config import StudyConfig
from ...prompts import phrase_bank
from ..check import Check, Finding
from ..workspace import Sample, Workspace

COUNT = 64  # photographs
LEAST, SURE = 0.5, 0.35  # share whose nearest phrase is feasible: a warning, a failure below


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each data set and attribute."""
    for dataset in bench.config.datasets:
        sample = bench.sample(dataset)
        phrase_bank.check_bank(sample.bank, bench.config.protocol == "controlled")
        val = sample.split("val").head(COUNT)
        features = bench.clip.embed_images([storage.read_image(p) for p in val["path"]])
        for attribute in bench.config.attributes:
            share = feasible_share(bench, sample, attribute, features, list(val["class_name"]))
            yield Finding(
                "phrases",
                f"{dataset}, {attribute}",
                "pass" if share >= LEAST else "warn" if share >= SURE else "fail",
                f"{share:.0%} of {len(val)} photographs are nearest to a feasible phrase",
                f"at least {LEAST:.0%}",
                ""
                if share >= LEAST
                else f"the arms of {attribute} look swapped: compare feasible and infeasible in "
                f"{sample.bank['source']}",
            )


def feasible_share(
    bench: Workspace, sample: Sample, attribute: str, features: np.ndarray, names: list[str]
) -> float:
    """Share of photographs, by their (N, D) features and class names, whose nearest phrase of both
    arms is a feasible one."""
    known: dict[str, tuple[np.ndarray, int]] = {}
    hits = []
    for feature, name in zip(features, names):
        if name not in known:
            options = phrase_bank.alternatives(sample.bank, attribute, name)
            sentences = [
                phrase_bank.verify_prompt(sample.bank, attribute, p, name) for p in options
            ]
            size = len(phrase_bank.lists(sample.bank, attribute, name)["feasible"])
            known[name] = bench.clip.embed_texts(sentences), size
        texts, size = known[name]
        hits.append(int((texts @ feature).argmax()) < size)
    return float(np.mean(hits))


def roles(config: StudyConfig) -> tuple[str, ...]:
    """The CLIP that compares photographs and sentences."""
    return (config.models.clip_role(),)


CHECK = Check(
    "phrases",
    "Are feasible and infeasible phrases what they say?",
    run,
    "see the phrase file that `prompts` names",
    roles,
)
