"""Loads every neural part by its role, with the ecosystem's own loaders. The only such place.

A role in the parameter file is a mapping with `path` (a local folder or a hub id) and, where
needed, `revision`, `dtype`, `offload`. Micro and paper-size models go the same way; only the
parameters differ. Weights are read as safetensors; nothing is unpickled, no remote code runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ROLES = {
    "inpaint": "diffusion pipeline that paints under a mask",
    "prior": "text-to-image pipeline that makes backgrounds and surfaces",
    "controlnet": "canny ControlNet for the refinement",
    "refine": "base of the refinement; without it, the inpainting pipeline",
    "ip_adapter": "IP-Adapter of the refinement (path, subfolder, weight_name, image_encoder)",
    "instruct": "pipeline that follows instructions, for edit.editor: instruct",
    "datadream": "text-to-image pipeline that DataDream adapts; without it, the prior's",
    "clip": "CLIP that is fine-tuned and, by default, verifies",
    "detector": "Grounding DINO, which finds the object by its name",
    "segmenter": "SAM 2, which cuts out what the detector found",
    "verifier": "judge of the edits: kind clip (without it, role clip) or vlm",
}
NEEDED = ("path", "name", "role")  # one of them says where a role's weights come from
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(params: dict) -> torch.device:
    """The device that the parameters name; `auto` takes cuda, then mps, then cpu."""
    wanted = params.get("device", "auto")
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def avoid_faulty_attention() -> None:
    """Attention on a GPU by its other kernels, not by cuDNN's, of this process from now on.

    The backward pass of cuDNN's gives NaN on Hopper chips with torch 2.11 and later where the last
    tile of 128 keys is half full, as over the 64 cells of a UNet's lowest resolution, and every
    logit of a row is below -88 (pytorch issue 196678). No number changes elsewhere but by rounding.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def precision_of(params: dict) -> torch.dtype:
    """Compute type; `auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    wanted = params.get("precision", "auto")
    if wanted != "auto":
        return DTYPES[wanted]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if native else torch.float32


def short_attention(device: torch.device, side: int = 32) -> contextlib.AbstractContextManager:
    """Plain matrix products for the attention of latents of `side` cells on a CPU, if they are
    few: over 64 tokens a fifth faster than the fused kernel, whose backward pass is made for long
    rows."""
    few = device.type == "cpu" and side <= 32
    return sdpa_kernel(SDPBackend.MATH) if few else contextlib.nullcontext()


def autocast(params: dict) -> contextlib.AbstractContextManager:
    """Autocast to the compute type of the parameters; does nothing for float32."""
    dtype = precision_of(params)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device_of(params).type, dtype)


def _spec(params: dict, role: str) -> dict:
    spec = params.get("models", {}).get(role)
    if not spec:
        raise ValueError(
            f"{params.get('_file', 'parameters')}: models.{role} is missing; it names "
            f"the {ROLES.get(role, role)}: a local folder or a hub id under `path`"
        )
    path = str(spec["path"])
    if path.startswith(("models/", "./", "/")) and not Path(path).exists():
        raise FileNotFoundError(
            f"models.{role}.path: {path!r} does not exist here; clone the "
            f"repository with its models/ folder or name a hub id"
        )
    return spec


def _kwargs(spec: dict) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        "use_safetensors": True,
        "torch_dtype": DTYPES[spec.get("dtype", "float32")],
    }
    if spec.get("variant"):
        kwargs["variant"] = spec["variant"]
    if spec.get("revision"):
        kwargs["revision"] = spec["revision"]
    return kwargs


def _parts(spec: dict) -> dict[str, Any]:
    """Parts that a role takes from elsewhere, as SDXL its float16-safe autoencoder."""
    from diffusers import AutoencoderKL

    if not spec.get("vae"):
        return {}
    return {
        "vae": AutoencoderKL.from_pretrained(
            spec["vae"], use_safetensors=True, torch_dtype=_kwargs(spec)["torch_dtype"]
        )
    }


@contextlib.contextmanager
def _quiet():
    """diffusers warns that a tiny autoencoder is not the one it knows; it works all the same."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def load_pipeline(params: dict, role: str) -> Any:
    """The diffusers pipeline of a role ("inpaint", "prior"), on its device and silent."""
    from diffusers import DiffusionPipeline

    spec = _spec(params, role)
    with _quiet():
        pipe = DiffusionPipeline.from_pretrained(spec["path"], **_parts(spec), **_kwargs(spec))
    return _placed(pipe, spec, params)


def load_refiner(params: dict, inpaint: Any) -> Any:
    """An inpainting pipeline with the ControlNet of role "controlnet" beside its UNet.

    Its base is role "refine" where there is one, else the inpainting pipeline itself; with role
    "ip_adapter" it also sees pictures.
    """
    from diffusers import AutoPipelineForInpainting, ControlNetModel

    spec, own = _spec(params, "controlnet"), params["models"].get("refine")
    with _quiet():
        net = ControlNetModel.from_pretrained(spec["path"], **_kwargs(spec))
        if own:
            base = _spec(params, "refine")
            pipe = AutoPipelineForInpainting.from_pretrained(
                base["path"], controlnet=net, **_parts(base), **_kwargs(base)
            )
        else:
            net = net.to(inpaint.unet.device, memory_format=torch.channels_last)
            pipe = AutoPipelineForInpainting.from_pipe(inpaint, controlnet=net)
        if params["models"].get("ip_adapter"):
            look = _spec(params, "ip_adapter")
            pipe.load_ip_adapter(
                look["path"],
                subfolder=look.get("subfolder", ""),
                weight_name=look["weight_name"],
                image_encoder_folder=look.get("image_encoder", "image_encoder"),
            )
    if own:
        return _placed(pipe, base, params)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_language(spec: dict, params: dict) -> tuple[Any, Any]:
    """(causal language model, tokenizer) of a block of kind local (`path`, `revision`, `dtype`).

    Raises FileNotFoundError for a local folder that is not there, ValueError for one that
    transformers cannot load as safetensors without code of its own.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = str(spec["path"])
    if path.startswith(("models/", "./", "../", "/")) and not Path(path).is_dir():
        raise FileNotFoundError(
            f"prompts: the language model's path {path!r} is no folder here; "
            "name a folder with config.json, or a hub id"
        )
    kwargs = {"revision": spec.get("revision", "main"), "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **kwargs)
        model = AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, dtype=DTYPES[spec.get("dtype", "float32")], **kwargs
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"prompts: the language model {path!r} cannot be loaded; it must be a "
            "causal model of a class that transformers knows, with weights as "
            f"safetensors: {error}"
        ) from error
    return model.eval().to(device_of(params)), tokenizer


def _placed(pipe: Any, spec: dict, params: dict) -> Any:
    pipe.set_progress_bar_config(disable=True)
    offload = spec.get("offload", "none")
    if offload == "model":
        pipe.enable_model_cpu_offload()
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload()
    else:
        pipe = pipe.to(device_of(params))
        if getattr(pipe, "unet", None) is not None:  # a transformer has no images in its layout
            pipe.unet.to(memory_format=torch.channels_last)
    return pipe


def load_detector(params: dict) -> tuple[Any, Any]:
    """(model, processor) of role "detector": Grounding DINO, or another of its task."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    return _seer(params, "detector", AutoModelForZeroShotObjectDetection, AutoProcessor)


def load_segmenter(params: dict) -> tuple[Any, Any]:
    """(model, processor) of role "segmenter": SAM 2, which takes boxes."""
    from transformers import Sam2Model, Sam2Processor

    return _seer(params, "segmenter", Sam2Model, Sam2Processor)


def load_vlm(params: dict, role: str = "verifier") -> tuple[Any, Any]:
    """(model, processor) of a vision-language model: LLaVA-1.6, Qwen-VL, InternVL (its -hf kind).

    `quantization: 8bit` needs bitsandbytes and a CUDA device; it is refused where they are not.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    more = {}
    if _spec(params, role).get("quantization", "none") != "none":
        more = _eight_bit(params, role)
    model, processor = _seer(params, role, AutoModelForImageTextToText, AutoProcessor, more)
    if not getattr(processor, "chat_template", None):
        raise ValueError(
            f"models.{role}.path: {_spec(params, role)['path']!r} has no chat "
            "template, so nobody knows how to ask it; name an instruction-tuned one"
        )
    return model, processor


def _eight_bit(params: dict, role: str) -> dict[str, Any]:
    remedy = f"set models.{role}.quantization: none and dtype: bfloat16"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"models.{role}.quantization: 8bit needs bitsandbytes, which is not "
            f"installed and not in requirements.lock; install it, or {remedy}"
        )
    if device_of(params).type != "cuda":
        raise ValueError(
            f"models.{role}.quantization: 8bit needs a CUDA device, this is "
            f"{device_of(params)}; {remedy}"
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(load_in_8bit=True),
        "device_map": {"": device_of(params)},
    }


def _seer(
    params: dict, role: str, kind: Any, processing: Any, more: dict | None = None
) -> tuple[Any, Any]:
    spec = _spec(params, role)
    kwargs = _kwargs(spec) | (more or {}) | {"trust_remote_code": False}
    kwargs["dtype"] = kwargs.pop("torch_dtype")  # transformers' new name
    revision = {"revision": spec["revision"]} if spec.get("revision") else {}
    processor = processing.from_pretrained(spec["path"], trust_remote_code=False, **revision)
    model = kind.from_pretrained(spec["path"], **kwargs).eval()
    return (model if more else model.to(device_of(params))), processor


def describe(params: dict) -> dict[str, str]:
    """role -> "path@revision", for records."""
    return {
        role: f"{spec.get('path') or spec.get('name')}@{spec.get('revision', 'local')}"
        for role, spec in params["models"].items()
        if isinstance(spec, dict) and (spec.get("path") or spec.get("name"))
    }
