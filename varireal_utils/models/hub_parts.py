"""What a study loads from the hub: repositories, revisions, and which of their files.

symbols   part    what one role takes from one repository: inpaint, inpaint.vae, refine.lora, ...
          names   the files of a repository, by their path in it

Chosen is what the loaders read: safetensors of the role's variant, configurations, tokenizers,
schedulers. Single-file checkpoints, other variants, pickles, other frameworks' weights and safety
checkers stay where they are. Models in local folders have no part.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.config import StudyConfig
from ..core.config_prompts import LlmPrompts, LocalModel
from ..core.config_sections import PIPELINES, ModelSpec
from ..core.model_lock import source_of
from . import loaders

PLAIN = (".json", ".txt", ".model", ".jinja")  # configurations, vocabularies, chat templates
OTHERS = ["*.bin", "*.onnx", "*.onnx_data", "*.pb", "*.msgpack"]
FILES = (".safetensors", ".pt", ".bin")  # ends of weights that are a file on this machine
Rule = Callable[[list[str]], set[str]]  # names -> those that are loaded. Raises ValueError


@dataclass(frozen=True)
class Part:
    """One role's share of a repository. named: how the parameters name it where not by path."""

    part: str
    repository: str
    revision: str
    files: Rule
    licence: str = ""
    size_gb: float | None = None
    named: str = ""


def parts(config: StudyConfig) -> list[Part]:
    """Every part of a study's models that comes from the hub."""
    out = [p for role, spec in config.models.present().items() for p in _of_role(role, spec)]
    prompts = config.prompts
    if isinstance(prompts, LlmPrompts):
        for key, model in (("model", prompts.model), ("judge", prompts.judge)):
            if isinstance(model, LocalModel) and not Path(model.path).is_dir():
                out.append(Part(f"prompts.{key}", model.path, model.revision, network_files()))
    return out


def _of_role(role: str, spec: ModelSpec) -> Iterator[Part]:
    found = _own(role, spec)
    if found:
        repository, files, named = found
        terms = (spec.licence, spec.size_gb, named)
        yield Part(role, repository, spec.revision, files, *terms)
    if spec.vae and not Path(spec.vae).is_dir():
        files = network_files()
        yield Part(f"{role}.vae", spec.vae, spec.vae_revision, files, spec.vae_licence)
    if spec.lora and not Path(spec.lora).is_dir():
        files = exactly(spec.lora_file)
        yield Part(f"{role}.lora", spec.lora, spec.lora_revision, files, spec.lora_licence)


def _own(role: str, spec: ModelSpec) -> tuple[str, Rule, str] | None:
    """(repository, rule, name) of a role's model; None for one that is local or another role's."""
    if spec.local() is not None or spec.weights.endswith(FILES):
        return None
    if spec.path:
        return spec.path, _rule(role, spec), ""
    if spec.name.startswith(loaders.HUB):
        return source_of(spec), some(*loaders.CLIP_PARTS), ""
    if spec.kind == "timm":
        repository = loaders.timm_repository(spec) if spec.weights == "pretrained" else ""
        rule = exactly("model.safetensors")
        return (repository, rule, source_of(spec)) if repository else None
    found = loaders.clip_repository(spec)
    return (found[0], exactly(found[1]), source_of(spec)) if found else None


def _rule(role: str, spec: ModelSpec) -> Rule:
    if role == "ip_adapter":
        folder = loaders.image_encoder_folder(spec)
        weights = f"{spec.subfolder}/{spec.weight_name}".lstrip("/")
        return exactly(weights, f"{folder}/config.json", f"{folder}/model.safetensors")
    if role in PIPELINES:
        return pipeline_files(spec)
    return network_files(spec.variant)


def exactly(*wanted: str) -> Rule:
    """These files and no others."""

    def rule(names: list[str]) -> set[str]:
        if missing := sorted(set(wanted) - set(names)):
            raise ValueError(f"the repository has no {', '.join(missing)}")
        return set(wanted)

    return rule


def some(*patterns: str) -> Rule:
    """The files at the top that match a pattern."""
    return lambda names: {
        n for n in names if "/" not in n and any(fnmatch.fnmatch(n, p) for p in patterns)
    }


def network_files(variant: str = "") -> Rule:
    """Weights, configuration and vocabularies of one network, at the top of its repository."""
    return lambda names: _weights_and_plain([n for n in names if "/" not in n], variant)


def pipeline_files(spec: ModelSpec) -> Rule:
    """The parts of a diffusers pipeline, without those that the loader leaves out or replaces."""
    without = {"safety_checker", *(["vae"] if spec.vae else [])}

    def rule(names: list[str]) -> set[str]:
        inner = [n for n in names if n.count("/") == 1 and n.split("/")[0] not in without]
        return exactly("model_index.json")(names) | _weights_and_plain(inner, spec.variant)

    return rule


def _weights_and_plain(names: list[str], variant: str) -> set[str]:
    """The weights that diffusers takes for a variant, and files that are no weights."""
    from diffusers.pipelines.pipeline_loading_utils import variant_compatible_siblings

    with loaders._quiet():
        weights, _ = variant_compatible_siblings(names, variant or None, OTHERS)
    chosen = {str(n) for n in weights if str(n).endswith((".safetensors", ".json"))}
    if not any(n.endswith(".safetensors") for n in chosen):
        raise ValueError("the repository has no safetensors where the study's loaders look")
    return {n for n in names if n.endswith(PLAIN) and ".index." not in n} | {
        n for n in chosen if ".bin." not in n
    }
