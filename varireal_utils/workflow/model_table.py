"""The models of a study as a table: name, revision, size, licence; nothing is loaded."""

from __future__ import annotations

from pathlib import Path

from ..core.config_sections import ModelRoles, ModelSpec

HEADER = ["role", "model", "revision", "GB", "licence"]
FALLBACK = ["fallback", "GrabCut, where no mask is given or found", "OpenCV's", "0", "Apache-2.0"]
UNSTATED = "not stated"


def rows(models: ModelRoles) -> list[list[str]]:
    """A row for each model, as text; a header first."""
    return [
        HEADER,
        *(row for role, spec in models.present().items() for row in _of_role(role, spec)),
        FALLBACK,
    ]


def _of_role(role: str, spec: ModelSpec) -> list[list[str]]:
    """The rows of a role: its model, and a VAE of its own."""
    local, name = spec.local(), spec.path or spec.name
    if spec.role and not spec.path:
        return [[role, f"the model of role {spec.role}", "-", "-", "-"]]
    if local:
        size = sum(p.stat().st_size for p in local.rglob("*") if p.is_file()) / 1e9
        return [[role, name, "local", f"{size:.3f}", spec.licence or _stated_licence(local)]]
    shown = _revision(spec.revision)
    if spec.weights:
        name, shown = f"{name} ({spec.weights})", spec.revision or spec.weights
    size_gb = UNSTATED if spec.size_gb is None else str(spec.size_gb)
    out = [[role, name, shown, size_gb, spec.licence or UNSTATED]]
    parts = (
        ("vae", spec.vae, spec.vae_revision, spec.vae_licence),
        ("lora", spec.lora, spec.lora_revision, spec.lora_licence),
    )
    for part, source, revision, licence in parts:
        if source:
            stated = licence or UNSTATED
            out.append([f"{role}.{part}", source, _revision(revision), f"with {role}", stated])
    return out


def _revision(revision: str) -> str:
    """A revision, and whether it is a commit."""
    revision = revision or "main"
    pinned = len(revision) >= 7 and all(c in "0123456789abcdef" for c in revision)
    return revision if pinned else f"{revision} (not pinned)"


def _stated_licence(folder: Path) -> str:
    """The licence that a model card's front matter states."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines()[:30] if card.is_file() else []
    stated = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return stated[0] if stated else UNSTATED
