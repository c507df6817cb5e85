"""Weights there and whole: headers, sizes, shards of an index, digests, type; nothing is loaded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...core import model_lock
from ...core.config_sections import ModelSpec
from ...core.stage import CACHE, SourceDigests
from ...models import hub_cache, hub_parts, loaders
from ...models.hub_parts import Part
from ...workflow import provenance
from ..check import Check, Finding
from ..workspace import Workspace

SUMS = "SHA256SUMS"
TYPES = {"F64", "F32", "F16", "BF16"}
HEX = re.compile(r"[0-9a-f]{64}")
FETCH = "fetch them (python -m varireal_utils fetch-models --params FILE, or hf download)"
AGAIN = "remove the file and fetch it again"


def run(bench: Workspace) -> Iterator[Finding]:
    """A finding for each part of each role."""
    digests = SourceDigests(Path(bench.config.runs_dir) / CACHE)
    known = recorded(bench)
    hub = {p.part: p for p in hub_parts.parts(bench.config)}
    lock = model_lock.read(bench.config.whole.models_lock)
    for role, spec in bench.config.models.present().items():
        for part, place in places(role, spec):
            if place is None or not place.exists():
                yield Finding(
                    "weights",
                    part,
                    "fail",
                    _elsewhere(hub.get(part)) or "not on this machine",
                    "a whole copy",
                    f"{part}: {FETCH}",
                )
                continue
            files = weight_files(place, spec)
            faults = [*structure_faults(place, spec, files)]
            faults += [f for file in files for f in header_faults(file)]
            faults += digest_faults(files, digests)
            faults += lock_faults(hub.get(part), lock)
            size = sum(f.stat().st_size for f in files) / 1e9
            value = faults[0] if faults else f"{len(files)} files, {size:.3f} GB, {_types(files)}"
            yield Finding(
                "weights",
                part,
                "fail" if faults else "pass",
                value,
                "every header, size, shard and digest right",
                f"{part}: {AGAIN}" if faults else "",
            )
            changed = [f for f in files if known.get(f.as_posix(), "") not in ("", _of(f, digests))]
            if changed:
                yield Finding(
                    "weights",
                    f"{part} against the study's records",
                    "warn",
                    f"{changed[0]} is not what the study ran with so far",
                    "the same bytes in all stages",
                    "put the old weights back, or let `study` run the stale stages again",
                )


def _elsewhere(part: Part | None) -> str:
    """That the cache has a repository at other commits alone than the one asked for."""
    found = hub_cache.cached_commits(part.repository) if part else []
    if part is None or not found:
        return ""
    here = ", ".join(commit[:12] for commit in found)
    asked = part.revision or model_lock.MAIN
    return f"{part.repository} is here at commit {here}, wanted {asked}"


def lock_faults(part: Part | None, lock: model_lock.Lock) -> Iterator[str]:
    """Files that the study's lock has of a part's commit, and the cache lacks."""
    if part is None or (folder := hub_cache.cached(part.repository, part.revision)) is None:
        return
    own = (e for k, e in lock.items() if k.partition("@")[0] == part.repository)
    entries = (e for e in own if e.commit == part.revision)
    for name in (name for entry in entries for name in entry.files):
        if not (folder / name).is_file():
            yield f"{part.repository}: {name} of the study's lock is not in {folder}"


def places(role: str, spec: ModelSpec) -> Iterator[tuple[str, Path | None]]:
    """(part, folder or file, None where it is not on this machine) of a role's weights."""
    if spec.role and not (spec.path or spec.name):
        return
    if spec.weights.endswith((".safetensors", ".pt", ".bin")):
        yield role, Path(spec.weights)
    elif spec.local() is not None:
        yield role, spec.local()
    elif spec.path or spec.name.startswith("hf-hub:"):
        yield role, hub_cache.cached(spec.path or spec.name.removeprefix("hf-hub:"), spec.revision)
    else:
        yield role, _named(spec)
    if spec.vae:
        yield f"{role}.vae", _folder(spec.vae, spec.vae_revision)
    if spec.lora:
        folder = _folder(spec.lora, spec.lora_revision)
        yield f"{role}.lora", None if folder is None else folder / spec.lora_file


def _folder(name: str, revision: str) -> Path | None:
    """A part's folder: local, or in the hub's cache."""
    return Path(name) if Path(name).is_dir() else hub_cache.cached(name, revision)


def _named(spec: ModelSpec) -> Path | None:
    """The file of a model that open_clip or timm know by name."""
    from huggingface_hub import try_to_load_from_cache

    if spec.kind == "timm":
        hub = loaders.timm_repository(spec)
        found = (hub, "model.safetensors") if hub else None
    else:
        found = loaders.clip_repository(spec)
    path = try_to_load_from_cache(*found, revision=spec.revision or None) if found else None
    return Path(path) if isinstance(path, str) else None


def weight_files(place: Path, spec: ModelSpec) -> list[Path]:
    """The safetensors below a folder that the role's variant loads; a file itself."""
    if place.is_file():
        return [place]
    found = sorted(place.rglob("*.safetensors"))
    if spec.weight_name:
        folders = (spec.subfolder, spec.image_encoder)
        return [f for f in found if f.name == spec.weight_name or _below(f, place, folders)]
    own = [f for f in found if spec.variant and f".{spec.variant}." in f.name]
    parents = {f.parent for f in own}
    return (
        sorted([*own, *(f for f in found if f.parent not in parents and f.parent != place)])
        or found
    )


def _below(file: Path, place: Path, folders: tuple[str, ...]) -> bool:
    return any(f and file.parent == place / f for f in folders[1:])


def structure_faults(place: Path, spec: ModelSpec, files: list[Path]) -> Iterator[str]:
    """Shards of an index and parts of a pipeline that lack their file."""
    if not files:
        yield f"{place} holds no safetensors"
    if place.is_file():
        return
    for index in sorted(place.rglob("*.safetensors.index*.json")):
        names = set(_json(index).get("weight_map", {}).values())
        for name in sorted(n for n in names if not (index.parent / n).is_file()):
            yield f"{index.name} names {name}, which is not there"
    for name, part in _json(place / "model_index.json").items():
        if not isinstance(part, list) or not part[0] or (name == "vae" and spec.vae):
            continue
        folder = place / name
        if not folder.is_dir():
            yield f"model_index.json names {name}, whose folder is not there"
        elif (folder / "config.json").is_file() and not any(folder.glob("*.safetensors")):
            yield f"{name}/ has a config.json and no safetensors"


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def header(path: Path) -> tuple[dict, int]:
    """(header of a safetensors file, bytes that the whole file must have). Raises ValueError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("its header is cut off")
        found = json.loads(file.read(length))
    ends = [v["data_offsets"][1] for k, v in found.items() if k != "__metadata__"]
    return found, 8 + length + max(ends, default=0)


def header_faults(path: Path) -> list[str]:
    """What is wrong with the form of a file."""
    if path.suffix != ".safetensors":
        return []
    try:
        found, wanted = header(path)
    except (ValueError, KeyError, TypeError, OSError) as error:
        return [f"{path} cannot be read: {error}"]
    size = path.stat().st_size
    if size != wanted:
        word = "truncated" if size < wanted else "longer than its header says"
        return [f"{path} is {word}: {size:,} bytes of {wanted:,}"]
    return [] if len(found) > ("__metadata__" in found) else [f"{path} holds no tensor"]


def _types(files: list[Path]) -> str:
    """The types of the tensors, the commonest first."""
    count: Counter[str] = Counter()
    for path in files:
        if path.suffix == ".safetensors":
            found, _ = header(path)
            count.update(v["dtype"] for k, v in found.items() if k != "__metadata__")
    return ", ".join(t for t, _ in count.most_common() if t in TYPES) or "other types"


def _of(path: Path, digests: SourceDigests) -> str:
    return next(iter(digests.of([path]).values()), "")


def digest_faults(files: list[Path], digests: SourceDigests) -> list[str]:
    """Files whose bytes are not those that the hub's cache or a SHA256SUMS beside them promises."""
    out = []
    for path in files:
        wanted = _promised(path)
        if wanted and (got := _of(path, digests)) != wanted:
            out.append(f"{path} is stale or damaged: sha256 {got[:12]}, promised {wanted[:12]}")
    return out


def _promised(path: Path) -> str:
    """The sha256 of a file by its name in the hub's cache, or by SHA256SUMS of a folder above."""
    if HEX.fullmatch(path.resolve().name):
        return path.resolve().name
    for folder in list(path.parents)[:3]:
        if (sums := folder / SUMS).is_file():
            text = sums.read_text(encoding="utf-8")
            lines = [line.split(maxsplit=1) for line in text.splitlines()]
            name = path.relative_to(folder).as_posix()
            return next((s for s, n in (x for x in lines if len(x) == 2) if n == name), "")
    return ""


def recorded(bench: Workspace) -> dict[str, str]:
    """File -> sha256 of the weights in the study's latest records."""
    out: dict[str, str] = {}
    records = [provenance.read(p) for p in bench.config.paths.records()]
    for record in sorted(records, key=lambda r: r.get("started", "")):
        out |= record.get("weights", {})
    return out


CHECK = Check(
    "weights",
    "Are the weights of every role here and whole?",
    run,
    "name a folder or a hub id that holds safetensors",
)
