"""Cards of an archived study: what its images are, and which models made them.

Names from data never break the Markdown of a table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import StudyConfig
from ..core.config_sections import ModelRoles
from ..core.study_paths import StudyPaths
from ..data import registry
from . import model_table

OWN_TERMS = "yours: state them before you pass this on"


def model_cards(models: ModelRoles) -> dict[str, bytes]:
    """models/<role>.md: the model's own card where it is local, else name, revision, licence."""
    out = {}
    for role, name, revision, size, licence in model_table.rows(models)[1:]:
        spec = models.get(role)
        folder = spec.local() if spec else None
        card = folder / "README.md" if folder else None
        own = card.read_text(encoding="utf-8") if card and card.is_file() else ""
        out[f"models/{storage.slug(role)}.md"] = (
            f"# {role}: {name}\n\nrevision {revision}, {size} GB, licence {licence}\n\n{own}"
        ).encode()
    return out


def data_card(config: StudyConfig) -> str:
    """Markdown: what the images are, how many, how they were made, terms, limits."""
    paths = config.paths
    lines = [
        f"# Data card of the study {config.study}",
        "",
        "Real photographs or renderings, and edits of them whose background, colour or "
        "texture a text-prompted diffusion model changed to something feasible or "
        "infeasible, each with its phrase, seed, verifier's scores and source.",
        "",
        *_sources_and_terms(config.datasets),
        "## Images",
        "",
        "| data set | kind | images | accepted by the verifier |",
        "|---|---|---|---|",
    ]
    for kind, tables in (
        ("split", paths.images_tables()),
        ("arm", paths.edits_tables()),
        ("generated", paths.samples_tables()),
    ):
        for path in tables:
            lines += _counts(kind, path, paths)
    return "\n".join(
        [
            *lines,
            *_making(config),
            "",
            "## Limits",
            "",
            "The phrases say what people, or a language model, hold to be feasible; the "
            "edits are a diffusion model's and not photographs of anything; the verifier "
            "errs at the rates that its calibration states.",
            "",
        ]
    )


def _sources_and_terms(datasets: dict[str, dict[str, Any]]) -> list[str]:
    """A table of the data sets with their owners' terms."""
    lines = [
        "## Sources and terms",
        "",
        "| data set | source | terms as their owners state them |",
        "|---|---|---|",
    ]
    for name, spec in datasets.items():
        source = str(spec.get("source", ""))
        known = registry.DATA_SETS.get(source)
        owner = known.owner if known and known.owner else source
        terms = known.terms if known and known.terms else OWN_TERMS
        lines.append(f"| {_cell(name)} | {_cell(owner)} | {terms} |")
    return [
        *lines,
        "",
        "Edits and generated images carry the terms of the photographs that they were "
        "made from, and of the models below `models/`.",
        "",
    ]


def _making(config: StudyConfig) -> list[str]:
    """Commit, parameters, versions and machine of the last run; nothing without a record."""
    records = [storage.read_json(p) for p in config.paths.records()]
    if not records:
        return []
    last = max(records, key=lambda r: r.get("started", ""))
    versions = ", ".join(f"{k} {v}" for k, v in last.get("versions", {}).items())
    return [
        "",
        "## How they were made",
        "",
        f"Commit {last.get('commit') or 'unknown'}"
        f"{', with changes' if last.get('dirty') else ''}; parameters "
        f"{last.get('parameter_file')} (sha256 {last.get('parameter_digest')}); "
        f"protocol {config.protocol}; seed {config.seed}; {versions}; "
        f"{last.get('machine')}.",
        "",
        "`python -m varireal_utils unpack` checked every byte against the records when "
        "this was unpacked; `verify` does so again.",
    ]


def _counts(kind: str, path: Path, paths: StudyPaths) -> list[str]:
    table = storage.read_table(path)
    dataset = _cell(path.relative_to(paths.root).parts[1])
    if kind == "split":
        return [
            f"| {dataset} | {split} | {n} | |"
            for split, n in table["split"].value_counts(sort=False).items()
        ]
    what = " ".join(path.relative_to(paths.root).parts[2:-1])
    share = f"{table['accepted'].mean():.2f}" if "accepted" in table and len(table) else ""
    return [f"| {dataset} | {kind} {what} | {len(table)} | {share} |"]


def _cell(text: Any) -> str:
    return re.sub(r"[|\r\n<>]+", " ", str(text))
