"""GPU memory of a study by stage and role, said before anything is loaded.

    peaks(config)   a row for each phase of each stage: what it holds, and what it works with
    peak_gb(config) the largest of them

    peak = weights + SLACK x working + RESERVE

    weights   parameters of the networks that the phase holds, times bytes of a number
    working   bytes beside the weights at the worst moment, computed on fake tensors at the true
              size (bench/memory.py) and kept in memory.json
    RESERVE   the CUDA context and cuDNN's work space; SLACK: gaps of the allocator

Autoencoders of canvases from 512 pixels work on one picture at a time (models/loaders.py), so that
a batch is decoded in the memory of one picture and the finished pixels of the others.

symbols   GB      1e9 bytes, as sizes of downloads; a card of 24 GB has 25.8 of them (24 x 2^30)

Known are the architectures of architectures.yaml, by hub id; a role with another model says
"not known". Weights of a local folder are as large as its files; what they work with is not known,
but for micro models, where it is next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..core import storage
from ..core.attributes import ATTRIBUTES
from ..core.config import StudyConfig
from ..core.config_editing import VARIREAL
from ..core.config_sections import ADAPTED, ModelSpec
from ..training import recipes
from .completeness import refined, roles_of
from .cost import guided_rows, sizes

FOLDER = Path(__file__).parent
TABLE = FOLDER / "memory.json"
RESERVE, SLACK, GIB = 1.0, 1.1, 2**30 / 1e9
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
BITS = {"8bit": 1.0, "4bit": 0.56}  # bytes a quantised number, constants included
CLIP_GB, SMALL = 0.6, 1024  # CLIP ViT-B/16 in float32; side of the canvas where none is given
PICTURES = 8  # that a vision-language verifier reads at once (verification/vlm_asker.py)
MICRO_GB = 0.3  # weights of a local folder up to which its working memory does not count
MANY = 1_000  # classes of a data set whose number is not known before 01_data, as ImageNet has


@dataclass(frozen=True)
class Peak:
    """One phase of a stage. roles: what it holds; weights, working: GB, None where nobody knows."""

    stage: str
    phase: str
    roles: str
    weights: float | None
    working: float | None

    @property
    def gb(self) -> float | None:
        """GB at the worst moment."""
        if self.weights is None or self.working is None:
            return None
        return self.weights + SLACK * self.working + RESERVE


@cache
def architectures() -> dict[str, Any]:
    """architectures.yaml."""
    return yaml.safe_load((FOLDER / "architectures.yaml").read_text(encoding="utf-8"))


@cache
def _table() -> dict[str, Any]:
    return storage.read_json(TABLE)


def working(kind: str, network: str, size: int, batch: int) -> float | None:
    """GB of a pass beside its weights; of the next larger size in the table, None beyond it."""
    rows = [r for r in _table()["rows"] if (r["kind"], r["network"]) == (kind, network)]
    fit = min((r for r in rows if r["size"] >= size), key=lambda r: r["size"], default=None)
    return None if fit is None else fit["fixed_gb"] + batch * fit["image_gb"]


def decoding(decoder: str, size: int, count: int, dtype: str) -> float | None:
    """GB at work while an autoencoder decodes `count` pictures one by one: what one takes, and the
    pixels of all of them, twice, as the list of them is joined."""
    one = working("decode", decoder, size, 1)
    return None if one is None else one + 2 * count * 3 * size**2 * BYTES[dtype] / 1e9


def _unmeasured(spec: ModelSpec, held: float) -> float | None:
    """GB at work of a model that architectures.yaml does not have: none for a micro model."""
    return 0.0 if spec.local() and held < MICRO_GB else None


def parts_of(spec: ModelSpec) -> dict[str, Any] | None:
    """The networks of a hub id; None for one that architectures.yaml does not have."""
    return architectures()["pipelines"].get(spec.path)


def weights_gb(spec: ModelSpec, largest: bool = False) -> float | None:
    """GB of a role's weights in its own type. largest: of its largest network alone."""
    if local := spec.local():
        return sum(f.stat().st_size for f in local.rglob("*.safetensors")) / 1e9
    found = parts_of(spec)
    if found is None:
        return None
    named = [v for v in found.values() if isinstance(v, str)] + found.get("others", [])
    sizes = [_network_gb(name, spec) for name in named]
    sizes.append(found.get("extra_millions", 0) * BYTES[spec.dtype] / 1e3)
    return max(sizes) if largest else sum(sizes)


def _network_gb(name: str, spec: ModelSpec) -> float:
    own, whole = _table()["networks"][name], BYTES[spec.dtype]
    small = BITS.get(spec.quantization, whole)
    if "text" in name or name == "autoencoder":  # never quantised (models/quantize.py)
        small = whole
    rest = own["millions"] - own["linear_millions"]
    return (rest * whole + own["linear_millions"] * small) / 1e3


def _held(config: StudyConfig, *roles: str) -> float | None:
    """GB of the weights of roles that are in memory together, as they are offloaded."""
    total = 0.0
    for role in roles:
        spec = config.models.get(role)
        if spec is None:
            continue
        if role in ("controlnet", "ip_adapter"):  # in the type of the pipeline that they join
            base = config.models.get(roles[0]) or spec
            spec = spec.model_copy(update={"dtype": base.dtype})
        size = weights_gb(spec, largest=spec.offload == "model")
        if size is None:
            return None
        total += 0.0 if spec.offload == "sequential" else size
    return total


def peaks(config: StudyConfig) -> list[Peak]:
    """Every phase of every stage that uses a network."""
    return [*_guidance(config), *_edits(config), *_datadream(config), *_classify(config)]


def peak_gb(config: StudyConfig) -> float | None:
    """GB of the largest phase; None where one is not known."""
    found = [p.gb for p in peaks(config)]
    return None if None in found else max((g for g in found if g is not None), default=0.0)


def fits(gb: float, card_gb: float, margin: float = 0.1) -> bool:
    """Whether a peak fits on a card, with a share of it free. card_gb: as its makers count it, of
    which up to a twelfth is not to be had (a T4 of 16 GB has 14.75 of them)."""
    return gb <= (1 - margin) * card_gb * GIB


def _guidance(config: StudyConfig) -> Iterator[Peak]:
    if config.models.detector is None or config.models.segmenter is None:
        return
    held = _held(config, "detector", "segmenter")
    passes = [working("find", n, s, 1) for n, s in (("grounding_dino", 1333), ("sam2", 1024))]
    most = max((p for p in passes if p is not None), default=None)
    if held is not None and config.models.detector.local():
        most = _unmeasured(config.models.detector, held)
    yield Peak("03_guidance", "masks", "detector, segmenter", held, most)


def _edits(config: StudyConfig) -> Iterator[Peak]:
    """Prior, first stage, second stage and verification, each by itself (editing/phases.py)."""
    edit = config.edit
    for attribute in config.attributes:
        own, size = edit.attributes[attribute], edit.canvas or SMALL
        guided = guided_rows(own.guidance_scale)
        if edit.editor != VARIREAL:
            role = roles_of(config, attribute)[0]
            rows = 3 if edit.editor == "instruct" else guided
            yield _painted(config, attribute, "editing", (role,), edit.batch_size * rows, size)
            continue
        if ATTRIBUTES[attribute].generates_prior:
            drawn = own.prior_size or size
            rows = edit.batch_size * guided_rows(own.prior_guidance_scale)
            yield _painted(config, attribute, "prior", ("prior",), rows, drawn)
        rows = edit.batch_size * guided
        yield _painted(config, attribute, "first stage", ("inpaint",), rows, size)
        if refined(config, attribute):
            base = "refine" if config.models.refine else "inpaint"
            rows = edit.batch_size * guided_rows(own.refine_guidance_scale)
            roles = (base, "controlnet", "ip_adapter")
            yield _painted(config, attribute, "second stage", roles, rows, size)
    if config.attributes:
        yield _verifier(config)


def _painted(
    config: StudyConfig,
    attribute: str,
    phase: str,
    roles: tuple[str, ...],
    rows: int,
    size: int,
) -> Peak:
    """A diffusion phase: the larger of its denoising passes and of decoding the batch."""
    spec = config.models.get(roles[0])
    held = _held(config, *roles)
    text = ", ".join(r for r in roles if config.models.get(r))
    stage = f"04_edit {attribute}"
    if spec is None or held is None:
        return Peak(stage, phase, text, None, None)
    found = parts_of(spec)
    if found is None:
        return Peak(stage, phase, text, held, _unmeasured(spec, held))
    flux = found["denoiser"].startswith("flux")
    count = config.edit.batch_size
    rows = count if flux else rows
    kind = "control" if "controlnet" in roles else "denoise"
    passes = [
        working(kind, found["denoiser"], size, rows),
        decoding(found["decoder"], size, count, spec.dtype),
    ]
    known = [p for p in passes if p is not None]
    return Peak(stage, phase, text, held, max(known) if len(known) == 2 else None)


def _verifier(config: StudyConfig) -> Peak:
    spec, kind = config.models.verifier, config.models.verifier_kind()
    if kind == "clip" or spec is None:
        return Peak("04_edit", "verification", config.models.clip_role(), CLIP_GB, 0.5)
    held = _held(config, "verifier")
    found = parts_of(spec)
    if held is None or not found:
        most = None if held is None else _unmeasured(spec, held)
    else:
        most = working("prefill", found["language"], 672, PICTURES)
    return Peak("04_edit", "verification", "verifier", held, most)


def _datadream(config: StudyConfig) -> Iterator[Peak]:
    own, variants = config.datadream, recipes.generators(config.classify.recipes)
    if own is None or not variants:
        return
    role = "datadream" if config.models.datadream else "prior"
    spec, held = config.models.get(role), _held(config, role)
    found = parts_of(spec) if spec else None
    small = None if spec is None or held is None else _unmeasured(spec, held)
    if set(variants) & set(ADAPTED):
        learns = working("adapt", found["denoiser"], 512, own.batch_size) if found else small
        yield Peak("05_datadream", "training", role, held, learns)
    draws = small
    if found:
        guided = own.batch_size * guided_rows(own.guidance_scale)
        passes = [
            working("denoise", found["denoiser"], 512, guided),
            decoding(found["decoder"], 512, own.batch_size, "float16"),
        ]
        known = [p for p in passes if p is not None]
        draws = max(known) if len(known) == 2 else None
        if draws is not None and spec is not None and spec.dtype == "float32":
            draws *= 2  # norms and residuals of autocast stay in float32
    yield Peak("05_datadream", "drawing", role, held, draws)


def _classify(config: StudyConfig) -> Iterator[Peak]:
    """CLIP ViT-B/16's training step (weights within); other classifiers are not known."""
    clip, own = config.models.clip, config.classify
    for dataset in config.datasets:
        classes = sizes(config, dataset)[1]
        known = clip is not None and clip.name.startswith("ViT-B-16")
        if clip is not None and clip.local():
            held = weights_gb(clip) or 0.0
            yield Peak("06_classify", dataset, "clip", held, _unmeasured(clip, held))
            continue
        most = _training(classes or MANY, -(-own.batch_size // own.accumulate)) if known else None
        if config.models.classifier is not None:
            most = None
        yield Peak("06_classify", dataset, "clip", 0.0, most)


def _training(classes: int, batch: int) -> float | None:
    """GB of a training step: a line in the batch, and one in the classes."""
    one, two = (working("train", "clip_b16", c, batch) for c in (37, 196))
    if one is None or two is None:
        return None
    return one + (two - one) * (classes - 37) / (196 - 37)
