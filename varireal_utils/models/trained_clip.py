"""Whether a CLIP is built as its weights were trained, from open_clip's tables and local folders.

symbols   tag    open_clip's name of weights (openai, laion2b_s34b_b88k)
          row    open_clip's entry of a tag: mean, std, interpolation, resize_mode, quick_gelu, url

For local folders of unknown names open_clip is not imported, so that the plan of the micro models
needs no torch.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config_errors import nearest
from ..core.config_sections import ModelSpec

CONFIG = "open_clip_config.json"
FILES = (".json", ".safetensors", ".pt", ".bin", ".pth")
CLIP_WORDS, CLIP_LENGTH = 49408, 77  # open_clip's own tokenizer
PADDING = 256  # rows by which a vocabulary may be larger than the tokenizer's


@dataclass(frozen=True)
class Traits:
    """What training fixed. size: side of the input in pixels; tokenizer: "" is open_clip's own;
    vocabulary: rows of the token embedding; length: tokens of a sentence."""

    activation: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str
    interpolation: str
    tokenizer: str
    vocabulary: int
    length: int

    @classmethod
    def of(cls, config: dict[str, Any], preprocess: dict[str, Any]) -> Traits:
        """Traits of an open_clip model configuration and of its preprocessing, with open_clip's
        own defaults; mean and std have none here."""
        text = config.get("text_cfg", {})
        size = config.get("vision_cfg", {}).get("image_size", 224)
        return cls(
            activation="QuickGELU" if config.get("quick_gelu") else "GELU",
            size=size if isinstance(size, int) else max(size),
            mean=tuple(preprocess.get("mean") or ()),
            std=tuple(preprocess.get("std") or ()),
            resize_mode=preprocess.get("resize_mode") or "shortest",
            interpolation=preprocess.get("interpolation") or "bicubic",
            tokenizer=text.get("hf_tokenizer_name") or "",
            vocabulary=text.get("vocab_size", CLIP_WORDS),
            length=text.get("context_length", CLIP_LENGTH),
        )

    def differences(self, trained: Traits) -> list[str]:
        """What was built otherwise than trained, as "activation GELU, trained with QuickGELU"."""
        return [
            f"{f.name} {got or 'of open_clip'}, trained with {wanted or 'that of open_clip'}"
            for f in fields(self)
            if (got := getattr(self, f.name)) != (wanted := getattr(trained, f.name))
        ]


def clip_faults(spec: ModelSpec) -> list[str]:
    """A line for each way in which a CLIP would not be what its weights were trained as: key of the
    role, value, what is wanted."""
    schema = spec.name.partition(":")[0] if ":" in spec.name else ""
    if schema and spec.weights and not spec.config:
        return [
            f"weights: got {spec.weights!r}, which open_clip ignores beside {spec.name!r}; take it "
            "out: the weights lie beside that model's configuration"
        ]
    config = _config_file(spec)
    if config is not None and not config.is_file():
        return []  # the loader names it
    if config is not None and config.name == CONFIG:
        return _folder_faults(spec, config)
    if schema:
        return []
    from open_clip import constants, pretrained

    name = spec.name.replace("/", "-")
    own = json.loads(config.read_text(encoding="utf-8")) if config else _table_config(name)
    if own is None:
        return [f"name: got {spec.name!r}, no model of open_clip{nearest(name, _table_names())}"]
    stem = config.stem if config else name
    default = {"mean": constants.OPENAI_DATASET_MEAN, "std": constants.OPENAI_DATASET_STD}
    row = pretrained.get_pretrained_cfg(stem, spec.weights) or default
    return _compared(spec, stem, Traits.of(own, row), "config" if config else "name")


def _config_file(spec: ModelSpec) -> Path | None:
    """The configuration on this machine that the loader reads; None for open_clip's own."""
    if spec.config:
        return Path(spec.config)
    local = spec.name.startswith("local-dir:")
    return Path(spec.name.removeprefix("local-dir:")) / CONFIG if local else None


def _table_config(name: str) -> dict[str, Any] | None:
    """open_clip's own configuration of a model, whatever this process added to its registry."""
    import open_clip

    path = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table_names() -> list[str]:
    import open_clip

    return [p.stem for p in (Path(open_clip.__file__).parent / "model_configs").glob("*.json")]


def _compared(spec: ModelSpec, name: str, built: Traits, key: str) -> list[str]:
    """Faults of what would be built against what open_clip's tables say of its weights."""
    rows = _rows(spec)
    if not rows:
        tag = spec.weights and not spec.weights.endswith(FILES)
        return [_unknown_tag(spec, name)] if tag else []
    right = _right_model(rows, name)
    config = _table_config(right)
    if config is None:
        return []
    differing = built.differences(Traits.of(config, rows[right]))
    if not differing and key == "name" and name not in rows:
        differing = ["another architecture"]
    if not differing:
        return []
    given = {"name": spec.name, "config": spec.config}[key] or spec.name
    what = f"{key}: got {given!r} with weights {(spec.weights or _folder(spec))!r}"
    return [f"{what}: {'; '.join(differing)}; wanted the model {right!r}"]


def _folder(spec: ModelSpec) -> str:
    config = _config_file(spec)
    return config.parent.as_posix() if config else ""


@cache
def _table_text() -> str:
    """The source of open_clip's table, found without importing it."""
    found = importlib.util.find_spec("open_clip")
    folder = Path(found.origin).parent if found and found.origin else Path()
    return (folder / "pretrained.py").read_text(encoding="utf-8")


def _in_table(part: str) -> bool:
    """Whether a file or folder is named as a source in the table, perhaps; far cheaper than it."""
    name = re.escape(part.removeprefix("models--").replace("--", "/").rpartition("/")[2])
    if not re.search("[-_.]", name):
        return False  # a word such as clip; no source has so short a name
    return bool(re.search(rf"""["'][\w.-]+/{name}/|/{name}["']""", _table_text()))


def _rows(spec: ModelSpec) -> dict[str, dict]:
    """Model -> row of the weights that a role names, by tag, or by the name of their file or
    folder as open_clip's sources have it (ViT-B-16.pt, models--timm--vit_base_patch16_...)."""
    if spec.weights and not spec.weights.endswith(FILES):
        from open_clip import pretrained

        models = pretrained.list_pretrained_models_by_tag(spec.weights)
        return {m: pretrained.get_pretrained_cfg(m, spec.weights) for m in models}
    parts = {p for p in Path(spec.weights or _folder(spec)).parts if _in_table(p)}
    return {} if not parts else {m: row for m, row in _table_rows() if parts & _sources(row)}


def _table_rows() -> Iterator[tuple[str, dict]]:
    from open_clip import pretrained

    for model, tag in pretrained.list_pretrained():
        yield model, pretrained.get_pretrained_cfg(model, tag)


def _sources(row: dict) -> set[str]:
    """Names of files and folders under which a row's weights lie after a download."""
    repository = "/".join(row.get("hf_hub", "").split("/")[:2]).rstrip("/")
    cached = f"models--{repository.replace('/', '--')}"
    url = row.get("url", "")
    return {repository.rpartition("/")[2], cached if repository else "", Path(url).name} - {""}


def _right_model(rows: dict[str, dict], name: str) -> str:
    """The model whose configuration has the activation of its row; of several for the same weights,
    the one most like `name`. Where none has (roberta-ViT-B-32), the table's only model stands."""

    def fits(model: str) -> bool:
        config = _table_config(model) or {}
        return bool(config.get("quick_gelu")) == bool(rows[model].get("quick_gelu"))

    same = [m for m in rows if name in rows and _sources(rows[m]) == _sources(rows[name])]
    fitting = [m for m in same or rows if fits(m)] or same or list(rows)
    return max(fitting, key=lambda m: difflib.SequenceMatcher(None, m, name).ratio())


def _unknown_tag(spec: ModelSpec, name: str) -> str:
    from open_clip import pretrained

    tags = pretrained.list_pretrained_tags_by_model(name)
    near = nearest(spec.weights, tags or {t for _, t in pretrained.list_pretrained()})
    return f"weights: got {spec.weights!r}, no weights of open_clip for {spec.name!r}{near}"


def _folder_faults(spec: ModelSpec, path: Path) -> list[str]:
    """Faults of a folder with an open_clip_config.json: against the tables, where its name or that
    of its weights is known, and of its parts against each other."""
    try:
        whole = storage.read_json(path)
        config, preprocess = whole["model_cfg"], whole.get("preprocess_cfg") or {}
    except (ValueError, KeyError, TypeError) as error:
        return [f"config: {path} is no configuration of open_clip: {error!r}"]
    built, out = Traits.of(config, preprocess), []
    if lacking := [k for k in ("mean", "std") if not preprocess.get(k)]:
        out.append(
            f"config: {path} lacks preprocess_cfg.{lacking[0]}: wanted the channels' values that "
            "the weights were trained with"
        )
    size = preprocess.get("size") or built.size
    if (size if isinstance(size, int) else max(size)) != built.size:
        out.append(
            f"config: {path} has preprocess_cfg.size {size} and vision_cfg.image_size {built.size};"
            " wanted one size, the one trained with"
        )
    shapes = _shapes(Path(spec.weights) if spec.weights else path.parent)
    out += _tokenizer_faults(path, config, built)
    out += _shape_faults(path, config, built, shapes)
    return out or _compared(spec, "", built, "config")


def _tokenizer_faults(path: Path, config: dict[str, Any], built: Traits) -> list[str]:
    """The tokenizer of a folder against the rows of the token embedding."""
    words, file = CLIP_WORDS, path.parent / "tokenizer.json"
    if built.tokenizer:
        if not file.is_file():
            return []  # another form of tokenizer, or none: the loader says so
        read = storage.read_json(file)
        words = 1 + max(
            [
                *read.get("model", {}).get("vocab", {}).values(),
                *(t["id"] for t in read.get("added_tokens", [])),
            ]
        )
    if config.get("text_cfg", {}).get("hf_model_name"):
        return []  # the text model brings its own vocabulary
    if words <= built.vocabulary < words + min(PADDING, 1 + words // 20):
        return []
    whose = file if built.tokenizer else "open_clip's own tokenizer"
    return [
        f"config: {path} has text_cfg.vocab_size {built.vocabulary}, and {whose} has {words} "
        "tokens; wanted the tokenizer that the weights were trained with (hf_tokenizer_name, "
        "with its files in the folder)"
    ]


def _shapes(where: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in a safetensors file, or in that of a folder; by its header."""
    path = where / "open_clip_model.safetensors" if where.is_dir() else where
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
        except (ValueError, MemoryError, OverflowError):
            return {}  # damaged: the loader says so
    return {k: v["shape"] for k, v in header.items() if k != "__metadata__"}


def _shape_faults(
    path: Path, config: dict[str, Any], built: Traits, shapes: dict[str, list[int]]
) -> list[str]:
    """Positions and words that the stored weights have, against the configuration's. open_clip
    interpolates positions of another size without an error."""
    out, patch = [], config.get("vision_cfg", {}).get("patch_size")
    cells = next((shapes[k][0] for k in ("visual.positional_embedding",) if k in shapes), 0)
    if cells and isinstance(patch, int) and cells != (built.size // patch) ** 2 + 1:
        side = round((cells - 1) ** 0.5) * patch
        out.append(
            f"config: {path} has vision_cfg.image_size {built.size}, but its weights were trained "
            f"with {side}; wanted image_size {side}"
        )
    for name, rows, key in (
        ("token_embedding.weight", built.vocabulary, "vocab_size"),
        ("positional_embedding", built.length, "context_length"),
    ):
        stored = shapes.get(name) or shapes.get(f"text.{name}")
        if stored and stored[0] != rows:
            out.append(
                f"config: {path} has text_cfg.{key} {rows}, but its weights were trained with "
                f"{stored[0]}; wanted {key} {stored[0]}"
            )
    return out
