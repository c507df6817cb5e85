"""Zero-shot accuracy on validation photographs against a floor, and class names against labels.

A CLIP with the wrong activation, normalisation or tokenizer loses accuracy without an error; class
names that are exchanged lose it in those classes alone, each of which is then taken for the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...core import storage
from ...core.config import StudyConfig
from ..check import Check, Finding, judged
from ..floors import floor_of
from ..workspace import Sample, Workspace

LEAST = 3  # photographs of a class, before its name is judged


def run(bench: Workspace) -> Iterator[Finding]:
    """Two findings for each data set."""
    for dataset in bench.config.datasets:
        sample = bench.sample(dataset)
        val = sample.split("val")
        if val.empty:
            yield Finding(
                "zero_shot",
                dataset,
                "fail",
                "no validation photograph",
                "a val split",
                f"give datasets.{dataset} val_per_class or val_fraction above 0",
            )
            continue
        chances = bench.chances(sample, [storage.read_image(p) for p in val["path"]])
        labels = val["label"].to_numpy()
        yield _accuracy(bench, sample, chances, labels)
        yield _names(sample, chances, labels)


def _accuracy(bench: Workspace, sample: Sample, chances: np.ndarray, labels: np.ndarray) -> Finding:
    share = float((chances.argmax(1) == labels).mean())
    floor = floor_of(bench.classifier, sample.spec, len(labels), len(sample.names))
    return judged(
        "zero_shot",
        f"{sample.name}, {len(labels)} validation photographs",
        share >= floor.share,
        f"{share:.1%}",
        f"at least {floor.share:.1%}: {floor.source}",
        "compare models.clip (name, weights, config) with what the weights were trained as, "
        "classify.templates with what the photographs show, and labels with class names",
    )


def _names(sample: Sample, chances: np.ndarray, labels: np.ndarray) -> Finding:
    pairs = exchanged(chances, labels)
    names = sample.names
    told = "; ".join(f"photographs of {names[i]!r} are taken for {names[j]!r}" for i, j in pairs)
    return judged(
        "zero_shot",
        f"{sample.name}, class names against labels",
        not pairs,
        told or "each class is nearest to its own name, or to none in particular",
        "no names that are exchanged",
        "put the names of these classes right in the data set's lists or folders",
    )


def exchanged(chances: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """(class, class that it is taken for) of classes whose names explain the photographs better
    when they change places.

    chances: (N, C) probabilities; labels: (N,). The assignment of names to classes with the most
    hits is compared with the given one, cycle by cycle; a cycle counts where its hits exceed those
    of the given names by two standard errors and most photographs agree.
    """
    classes, taken = chances.shape[1], chances.argmax(1)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, taken), 1)
    rows, best = linear_sum_assignment(counts + 1e-3 * np.eye(classes), maximize=True)
    out, done = [], set()
    for start in rows:
        cycle, at = [], int(start)
        while at not in done:
            done.add(at)
            cycle.append(at)
            at = int(best[at])
        if len(cycle) < 2:
            continue
        total = counts[cycle].sum()
        own = counts[cycle, cycle].sum()
        other = counts[cycle, best[cycle]].sum()
        enough = counts[cycle].sum(1).min() >= LEAST
        if enough and other > total / 2 and other - own > 2 * np.sqrt(other + own):
            out += [(i, int(best[i])) for i in cycle]
    return out


def clip_role(config: StudyConfig) -> tuple[str, ...]:
    """The role whose CLIP classifies untrained."""
    own = config.models.classifier
    return ("classifier",) if own is not None and own.kind == "clip" else ("clip",)


CHECK = Check(
    "zero_shot",
    "Does CLIP recognise the validation photographs as well as it should?",
    run,
    "see that models.clip loads (weights, architecture) and that 01_data reads the data set",
    clip_role,
)
