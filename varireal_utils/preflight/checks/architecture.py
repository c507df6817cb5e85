"""Each CLIP and timm model is built as its weights were trained: activation, size, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from ...models import trained_with
from ..check import Check, Finding
from ..workspace import Workspace


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each model that is built otherwise."""
    faults = trained_with.faults(bench.config.models)
    for fault in faults:
        key, _, rest = fault.partition(": ")
        what, _, wanted = rest.partition("; wanted ")
        remedy = f"set {key} to {wanted}" if wanted else f"mend {key} in {bench.config.file}"
        yield Finding("architecture", key, "fail", what, wanted or "as trained", remedy)
    if not faults:
        wanted = "activation, normalisation, size and tokenizer as trained"
        yield Finding("architecture", "CLIP and timm models", "pass", "as trained", wanted)


CHECK = Check(
    "architecture",
    "Is each CLIP built as its weights were trained?",
    run,
    "name a model that open_clip or timm knows",
)
