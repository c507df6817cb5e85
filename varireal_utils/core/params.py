"""Parameter files: read, merged, checked. A bad key or value never reaches a kernel.

A file may `include` another one, relative to itself, and change keys of it. Overrides name keys by
dots ("edit.background.strength") and must exist and keep their type. Errors name file, key, what
was there, what was wanted, and the nearest known key.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

from .storage import sha256_json


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats: 1e-4 is a number, not a string. A key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"given twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?\d*([eE][-+]?\d+)|\d[\d_]*\.\d*|\.\d+([eE][-+]?\d+)?"
        r"|\.(inf|nan))$"
    ),
    list("-+0123456789."),
)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NUMBER = (int, float)
COUNT, WHOLE = range(1, 2**31), range(2**31)
_DIFFUSION = {
    "prior_steps": WHOLE,
    "prior_guidance_scale": NUMBER,
    "steps": COUNT,
    "guidance_scale": NUMBER,
    "strength": (0, 1),
    "dilate": WHOLE,
    "alpha": (0, 1),
    "refine_steps": WHOLE,
    "refine_strength": (0, 1),
    "refine_guidance_scale": NUMBER,
    "controlnet_scale": NUMBER,
    "ip_scale": NUMBER,
    "prior_size": COUNT,
    "prior_crop": COUNT,
    "prompt_weight": NUMBER,
    "image_guidance_scale": NUMBER,
}
_FACTS = ("licence", "vae_licence", "size_gb", "tflop", "tflop_text")  # no model is loaded by these
_DTYPES = {"float32", "bfloat16", "float16"}
_MODEL = {
    f"?{k}": str
    for k in (
        "path",
        "name",
        "weights",
        "config",
        "revision",
        "variant",
        "vae",
        "subfolder",
        "weight_name",
        "image_encoder",
        "role",
        "licence",
        "vae_licence",
    )
}
_MODEL |= {
    "?dtype": _DTYPES,
    "?offload": {"none", "model", "sequential"},
    "?kind": {"clip", "timm", "vlm"},
    "?quantization": {"none", "8bit"},
    "?size_gb": NUMBER,
    "?tflop": NUMBER,
    "?tflop_text": NUMBER,
}
_ROLES = (
    "inpaint",
    "prior",
    "controlnet",
    "refine",
    "ip_adapter",
    "instruct",
    "datadream",
    "clip",
    "classifier",
    "detector",
    "segmenter",
    "verifier",
)
_EDIT = {f"?{k}": v for k, v in _DIFFUSION.items()}
_EDIT |= {"?arms": {"?feasible": _EDIT, "?infeasible": _EDIT}}

# A type, a tuple of types, a set of choices, a (low, high) range of numbers, a range of integers,
# a list [shape of each item, of which there must be one], or a nested mapping.
# {"*": shape} takes any key. A key that starts with "?" may be absent.
SCHEMA: dict[str, Any] = {
    "study": str,
    "protocol": {"controlled", "faithful"},
    "seed": int,
    "runs_dir": str,
    "?job_threads": WHOLE,
    "device": {"auto", "cpu", "cuda", "mps"},
    "precision": {"auto", "float32", "bfloat16", "float16"},
    "datasets": {"*": dict},
    "attributes": list,
    "prompts": (str, dict),
    "models": {f"?{role}": _MODEL for role in _ROLES},
    "guidance": {
        "canny_low": NUMBER,
        "canny_high": NUMBER,
        "canny_blur": WHOLE,
        "?noun": str,
        "?box_threshold": (0, 1),
        "?compare": WHOLE,
    },
    "edit": {
        "images_per_real": COUNT,
        "batch_size": COUNT,
        "max_attempts": COUNT,
        "prior_variants": COUNT,
        "?canvas": COUNT,
        "?compose": bool,
        "?shards": COUNT,
        "?processes": COUNT,
        "?reuse": str,
        "?editor": {"varireal", "img2img", "instruct"},
        "?background": _EDIT,
        "?color": _EDIT,
        "?texture": _EDIT,
    },
    "?datadream": {
        "shots": COUNT,
        "images_per_class": COUNT,
        "template": str,
        "rank": COUNT,
        "lr": NUMBER,
        "weight_decay": NUMBER,
        "epochs": COUNT,
        "batch_size": COUNT,
        "warmup_steps": WHOLE,
        "text_encoder": bool,
        "checkpoint_every": COUNT,
        "steps": COUNT,
        "guidance_scale": NUMBER,
        "?candidates": COUNT,
        "?img2img_strength": (0, 1),
    },
    "verify": {
        "false_accept": (0, 1),
        "false_identity": (0, 1),
        "keep": {"all", "accepted", "paired"},
        "?rule": {"strict", "faithful"},
        "?p_yes": (0, 1),
        "?margin": (0, 1),
        "?controls": COUNT,
        "?calibration": COUNT,
        "?max_size": COUNT,
    },
    "?plan": {"tflops": NUMBER, "source": str},
    "classify": {
        "job": {"dataset", "seed", "recipe"},
        "seeds": [int],
        "recipes": [str],
        "rank": COUNT,
        "alpha": NUMBER,
        "dropout": (0, 1),
        "lr": NUMBER,
        "weight_decay": NUMBER,
        "warmup": (0, 1),
        "batch_size": COUNT,
        "eval_batch_size": COUNT,
        "steps": WHOLE,
        "eval_every": COUNT,
        "checkpoint_every": WHOLE,
        "lambda_real": (0, 1),
        "towers": [{"image", "text"}],
        "templates": [str],
        "augment": dict,
        "?accumulate": COUNT,
        "?processes": COUNT,
        "?patience": COUNT,
        "?noise": {"prefix", "caption"},
        "?mix": {"probability": (0, 1), "?mixup_alpha": NUMBER, "?cutmix_alpha": NUMBER},
    },
    "claims": {
        "margin": NUMBER,
        "bootstrap": COUNT,
        "confidence": (0, 1),
        "?against": {"*": (str, list)},
    },
}

# `prompts` as a mapping: a language model writes the phrases (prompts/llm_phrases.py).
_ANSWER = {"?temperature": (0, 2), "?max_tokens": COUNT, "?seed": WHOLE}
LANGUAGE: dict[str, dict] = {
    "endpoint": {
        "kind": {"endpoint"},
        "url": str,
        "name": str,
        "?api_key_env": str,
        "?structured": {"json_schema", "json_object", "none"},
        "?max_tokens_field": {"max_tokens", "max_completion_tokens"},
        "?timeout": NUMBER,
        "?retries": WHOLE,
        "?price_input": NUMBER,
        "?price_output": NUMBER,
        **_ANSWER,
    },
    "local": {
        "kind": {"local"},
        "path": str,
        "?revision": str,
        "?dtype": {"float32", "bfloat16", "float16"},
        "?structured": {"constrained", "none"},
        **_ANSWER,
    },
}
PROMPTS = {
    "source": {"llm"},
    "base": str,
    "subject": str,
    "counts": {"*": COUNT},
    "model": dict,
    "?judge": dict,
    "?per_class": bool,
    "?attempts": COUNT,
    "?disagreements": {"keep", "drop"},
}


class ParameterError(ValueError):
    """A parameter file, key or value that cannot be used; the message says which and what to do."""


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read, merge, override and check a parameter file. Raises ParameterError."""
    params = _read(Path(path), ())
    for key, value in (overrides or {}).items():
        override(params, key, value, str(path))
    check(params, str(path))
    try:
        digest = sha256_json(params)
    except (TypeError, ValueError) as error:  # a date, or NaN under a key without a shape
        raise ParameterError(
            f"{path}: a value is no text, finite number, list or mapping: {error}"
        ) from error
    return params | {"_file": str(path), "_digest": digest}


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ParameterError(f"{path}: includes itself by way of {above[-1]}")
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ParameterError(f"{path}: no such parameter file; there are {near or 'none'} here")
    try:
        data = yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ParameterError(f"{path}: must hold keys and values, got {type(data).__name__}")
    base = data.pop("include", None)
    if base is None:
        return data
    return merge(_read(path.parent / base, (*above, path.resolve())), data)


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` over it; mappings are merged, everything else is replaced.

    A mapping under the key "datasets" is replaced whole: a study names its own data sets.
    """
    out = copy.deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both and key != "datasets" else copy.deepcopy(value)
    return out


def override(params: dict, dotted: str, value: Any, where: str) -> None:
    """Set one existing key, named by dots, keeping its type."""
    node, path = params, dotted.split(".")
    for i, key in enumerate(path):
        if not isinstance(node, dict) or key not in node:
            known = list(node) if isinstance(node, dict) else []
            raise ParameterError(
                f"{where}: cannot set {dotted!r}: no key {key!r}{_nearest(key, known)}"
            )
        if i == len(path) - 1:
            old = node[key]
            if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if (
                old is not None
                and type(value) is not type(old)
                and not (isinstance(old, int) and isinstance(value, float))
            ):
                raise ParameterError(
                    f"{where}: {dotted} is {type(old).__name__} ({old!r}), "
                    f"cannot become {type(value).__name__} ({value!r})"
                )
            node[key] = value
        node = node[key]


def check(params: dict, where: str) -> None:
    """Every key known, every needed key there, every value of its kind. Raises ParameterError."""
    _check(params, SCHEMA, where, "")
    if not params["datasets"]:
        raise ParameterError(f"{where}: datasets: name at least one data set")
    for attribute, settings in params["edit"].items():
        if params["protocol"] == "controlled" and isinstance(settings, dict) and "arms" in settings:
            raise ParameterError(
                f"{where}: edit.{attribute}.arms: arms with settings of their own "
                "belong to protocol faithful; under controlled both arms are "
                "edited alike"
            )
    if params["verify"].get("rule") == "faithful":
        kind = params["models"].get("verifier", {}).get("kind", "clip")
        if params["protocol"] != "faithful" or kind != "vlm":
            raise ParameterError(
                f"{where}: verify.rule: got 'faithful' with protocol "
                f"{params['protocol']!r} and models.verifier.kind {kind!r}; it "
                "tells a vlm the answers and belongs to protocol faithful; wanted "
                "'strict' here"
            )
    for attribute in params["attributes"]:
        if not isinstance(params["edit"].get(str(attribute)), dict):
            raise ParameterError(
                f"{where}: attributes: {attribute!r} has no settings under edit"
                f"{_nearest(str(attribute), ['background', 'color', 'texture'])}"
            )
    if isinstance(params["prompts"], dict):
        check_prompts(params["prompts"], params["attributes"], where)


def check_prompts(prompts: dict, attributes: list[str], where: str) -> None:
    """Check `prompts` where a language model writes them. Raises ParameterError.

    A message never shows what stands under api_key_env: it may be a key put there by mistake.
    """
    _check(prompts, PROMPTS, where, "prompts")
    for attribute in attributes:
        if attribute not in prompts["counts"]:
            raise ParameterError(
                f"{where}: prompts.counts: no number of phrases for "
                f"{attribute!r}; attributes has {attributes}"
            )
    for role in ("model", "judge"):
        if role not in prompts:
            continue
        key, spec = f"prompts.{role}", prompts[role]
        kind = spec.get("kind")
        if not isinstance(kind, str) or kind not in LANGUAGE:
            raise ParameterError(
                f"{where}: {key}.kind: got {kind!r}, wanted one of {sorted(LANGUAGE)}"
            )
        _check(spec, LANGUAGE[kind], where, key)
        for name, least in (("timeout", 0.1), ("price_input", 0), ("price_output", 0)):
            if spec.get(name, least) < least:
                raise ParameterError(
                    f"{where}: {key}.{name}: got {spec[name]!r}, wanted at least {least}"
                )
        if kind == "endpoint":
            _check_endpoint(spec, where, key)


def _check_endpoint(spec: dict, where: str, key: str) -> None:
    variable = spec.get("api_key_env", "KEY")
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", variable):
        raise ParameterError(
            f"{where}: {key}.api_key_env: wanted the name of an environment "
            "variable in capitals such as LLM_API_KEY, got something else (not "
            "shown). The key itself belongs in that variable, never in a file"
        )
    try:
        url = urllib.parse.urlsplit(spec["url"])
        host, extra = url.hostname, url.username or url.password or url.query or url.fragment
        _ = url.port  # raises ValueError where it is no number
    except ValueError:
        host, extra, url = None, None, urllib.parse.SplitResult("", "", "", "", "")
    if extra:
        raise ParameterError(
            f"{where}: {key}.url: wanted an address without user, password, "
            f"? or # (not shown); the key belongs in api_key_env's variable"
        )
    if url.scheme not in ("http", "https") or not host:
        raise ParameterError(
            f"{where}: {key}.url: got {spec['url']!r}, wanted the base address "
            "of the interface, e.g. http://localhost:8000/v1"
        )
    if url.scheme == "http" and "api_key_env" in spec and host not in LOOPBACK:
        raise ParameterError(
            f"{where}: {key}.url: {spec['url']!r} would send the key in clear "
            "text; use https, or leave api_key_env out"
        )


def phrase_file(params: dict) -> str:
    """The phrase file that a study starts from: `prompts` itself, or its `base`."""
    prompts = params["prompts"]
    return prompts if isinstance(prompts, str) else prompts["base"]


def _check(value: Any, shape: Any, where: str, key: str) -> None:
    name = key or "the file"
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ParameterError(f"{where}: {name}: wanted keys and values, got {value!r}")
        if "*" in shape:
            for k, v in value.items():
                _check(v, shape["*"], where, f"{key}.{k}".lstrip("."))
            return
        known = {k.lstrip("?"): v for k, v in shape.items()}
        for k in value:
            if k not in known:
                raise ParameterError(
                    f"{where}: unknown key {f'{key}.{k}'.lstrip('.')!r}"
                    f"{_nearest(str(k), list(known))}"
                )
        for k, inner in shape.items():
            if k.lstrip("?") in value:
                _check(value[k.lstrip("?")], inner, where, f"{key}.{k.lstrip('?')}".lstrip("."))
            elif not k.startswith("?"):
                raise ParameterError(
                    f"{where}: {f'{key}.{k}'.lstrip('.')} is missing; add it, or "
                    "include a file that has it (params/micro.yaml has all)"
                )
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            raise ParameterError(f"{where}: {name}: got {value!r}, wanted a list with an item")
        for i, item in enumerate(value):
            _check(item, shape[0], where, f"{key}[{i}]")
    elif isinstance(shape, range):
        if type(value) is not int or value not in shape:
            raise ParameterError(
                f"{where}: {name}: got {value!r} ({type(value).__name__}), "
                f"wanted an int of at least {shape.start}"
            )
    elif isinstance(shape, set):
        if not isinstance(value, str) or value not in shape:
            raise ParameterError(f"{where}: {name}: got {value!r}, wanted one of {sorted(shape)}")
    elif isinstance(shape, tuple) and not isinstance(shape[0], type):
        good = isinstance(value, NUMBER) and not isinstance(value, bool)
        if not good or not shape[0] <= value <= shape[1]:
            raise ParameterError(
                f"{where}: {name}: got {value!r}, wanted a number from {shape[0]} to {shape[1]}"
            )
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        wanted = " or ".join(t.__name__ for t in (shape if isinstance(shape, tuple) else (shape,)))
        raise ParameterError(
            f"{where}: {name}: got {value!r} ({type(value).__name__}), wanted {wanted}"
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"{where}: {name}: got {value!r}, wanted a finite number")


def loaded_parts(models: dict[str, dict]) -> dict[str, dict]:
    """The models of a parameter file without what is only said of them: what a result rests on."""
    return {
        role: {k: v for k, v in spec.items() if k not in _FACTS} for role, spec in models.items()
    }


def editing(models: dict[str, dict]) -> dict[str, dict]:
    """The models that an edit can rest on: neither DataDream's nor another classifier."""
    return {role: spec for role, spec in models.items() if role not in ("datadream", "classifier")}


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {sorted(known)}"
