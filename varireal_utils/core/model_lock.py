"""The lock of a study's models: the commit of each repository of the hub that weights come from.

    runs/<study>/models.lock.json   repository -> revision_asked, commit, ...; by `fetch-models`

A repository asked for at another revision than main is named repository@revision. Settings that ask
for the same revision of the same repository are read with the commit in its place, so that it is
part of the key of every stage that loads the model. Without a lock nothing changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from . import storage
from .config_base import Settings
from .config_errors import ParameterError
from .config_prompts import LlmPrompts, LocalModel
from .config_sections import ModelRoles, ModelSpec

MAIN = "main"


class Locked(Settings):
    """What was fetched of a repository. commit: its hash; bytes, files: of what the study loads;
    named: how parameters name it where they give no path, as "ViT-B-16-quickgelu openai"."""

    revision_asked: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    licence: str
    bytes: int
    files: list[str]
    named: list[str] = []


Lock = dict[str, Locked]


def key_of(repository: str, revision: str) -> str:
    """The name of a repository's entry: itself, or repository@revision where that is not main."""
    return repository if revision in ("", MAIN) else f"{repository}@{revision}"


def read(path: Path) -> Lock:
    """The lock of a study; empty where there is none. Raises ParameterError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        return {name: Locked.model_validate(e) for name, e in storage.read_json(path).items()}
    except (ValidationError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"{path}: not a lock of models: {error}; remove the file and run fetch-models again"
        ) from error


def commit_of(lock: Lock, name: str, revision: str) -> str:
    """The commit for a repository (or a model of a library's table) at the revision asked for; the
    revision itself where the lock has none."""
    for key, entry in lock.items():
        known = name == key.partition("@")[0] or name in entry.named
        if known and entry.revision_asked == (revision or MAIN):
            return entry.commit
    return revision


def source_of(spec: ModelSpec) -> str:
    """How a role names its model: the path, a name of the hub, or a library's name and weights."""
    return spec.path or f"{spec.name.removeprefix('hf-hub:')} {spec.weights}".strip()


def pinned_roles(models: ModelRoles, lock: Lock) -> ModelRoles:
    """The roles with the lock's commits in place of the revisions that it has."""

    def pinned(spec: ModelSpec) -> ModelSpec:
        asked = {
            "revision": (source_of(spec), spec.revision),
            "vae_revision": (spec.vae, spec.vae_revision),
            "lora_revision": (spec.lora, spec.lora_revision),
        }
        return spec.model_copy(update={k: commit_of(lock, *v) for k, v in asked.items() if v[0]})

    return models.model_copy(update={r: pinned(s) for r, s in models.present().items()})


def pinned_prompts(prompts: str | LlmPrompts, lock: Lock) -> str | LlmPrompts:
    """Settings of prompts with the commits of their local language models."""
    if isinstance(prompts, str):
        return prompts
    models = {"model": prompts.model, "judge": prompts.judge}
    return prompts.model_copy(
        update={
            key: m.model_copy(update={"revision": commit_of(lock, m.path, m.revision)})
            for key, m in models.items()
            if isinstance(m, LocalModel)
        }
    )
