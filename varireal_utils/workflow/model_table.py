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
    revision = spec.revision or "main"
    pinned = len(revision) >= 7 and all(c in "0123456789abcdef" for c in revision)
    if spec.weights:
        name, revision, pinned = f"{name} ({spec.weights})", spec.weights, True
    size_gb = UNSTATED if spec.size_gb is None else str(spec.size_gb)
    shown = revision if pinned else f"{revision} (not pinned)"
    out = [[role, name, shown, size_gb, spec.licence or UNSTATED]]
    if spec.vae:
        licence = spec.vae_licence or UNSTATED
        out.append([f"{role}.vae", spec.vae, "main (not pinned)", f"with {role}", licence])
    return out


def _stated_licence(folder: Path) -> str:
    """The licence that a model card's front matter states."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines()[:30] if card.is_file() else []
    stated = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return stated[0] if stated else UNSTATED
