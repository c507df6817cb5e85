"""Loads every neural network by its role, with the ecosystem's own loaders; nobody else loads one.

A role is a section of `models` in the parameter file (`ModelSpec`): `path` (a local folder or a hub
id) and, where needed, `revision`, `dtype`, `offload`. Micro and paper-size models load alike; only
the parameters differ. Weights are read as safetensors; nothing is unpickled, no remote code runs.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.config_sections import ModelRoles, ModelSpec
from . import hub_cache, quantize, trained_with

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
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# a safety checker returns black pictures for what it takes for unsafe, animals among them
NO_CHECKER = {"safety_checker": None, "requires_safety_checker": False}
HUB = "hf-hub:"  # before a model of the hub in open_clip's names
CLIP_PARTS = ("open_clip_model.safetensors", "*.json", "*.txt", "*.model")
SLICED_FROM = 512  # pixels of a model's own canvas from which its autoencoder works one by one
PREPROCESS = ("size", "mean", "std", "interpolation", "resize_mode")  # keys, as open_clip has them


def avoid_faulty_attention() -> None:
    """Attention on a GPU by its other kernels, not by cuDNN's, of this process from now on.

    The backward pass of cuDNN's gives NaN on Hopper chips with torch 2.11 and later where the last
    tile of 128 keys is half full, as over the 64 cells of a UNet's lowest resolution, and every
    logit of a row is below -88 (pytorch issue 196678). No number changes elsewhere but by rounding.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def short_attention(device: torch.device, side: int = 32) -> contextlib.AbstractContextManager:
    """Plain matrix products for the attention of latents of `side` cells on a CPU, if they are
    few: over 64 tokens a fifth faster than the fused kernel, whose backward pass is made for long
    rows."""
    few = device.type == "cpu" and side <= 32
    return sdpa_kernel(SDPBackend.MATH) if few else contextlib.nullcontext()


def required(models: ModelRoles, role: str) -> ModelSpec:
    """The model of a role. Raises ValueError where the role is not filled, FileNotFoundError where
    its local folder is not there."""
    spec = models.get(role)
    if spec is None:
        raise ValueError(
            f"parameters: models.{role} is missing; it names "
            f"the {ROLES.get(role, role)}: a local folder or a hub id under `path`"
        )
    if spec.path.startswith(("models/", "./", "/")) and not Path(spec.path).exists():
        raise FileNotFoundError(
            f"models.{role}.path: {spec.path!r} does not exist here; clone the "
            f"repository with its models/ folder or name a hub id"
        )
    return spec


def _revision(revision: str) -> dict[str, str]:
    return {"revision": revision} if revision else {}


def _kwargs(spec: ModelSpec) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"use_safetensors": True, "torch_dtype": DTYPES[spec.dtype]}
    if spec.variant:
        kwargs["variant"] = spec.variant
    return kwargs | _revision(spec.revision)


def _parts(spec: ModelSpec) -> dict[str, Any]:
    """Parts that a role takes from elsewhere, as SDXL its float16-safe autoencoder."""
    from diffusers import AutoencoderKL

    if not spec.vae:
        return {}
    vae = AutoencoderKL.from_pretrained(
        spec.vae,
        use_safetensors=True,
        torch_dtype=DTYPES[spec.dtype],
        **_revision(spec.vae_revision),
    )
    return {"vae": vae}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence diffusers, which warns of a tiny autoencoder that works all the same."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def _read(kind: Any, spec: ModelSpec, **more: Any) -> Any:
    """A diffusers pipeline from its path, or, without a network, from the hub's cache as it is:
    offline diffusers asks for every weight of a repository, those that nothing loads too."""
    try:
        return kind.from_pretrained(spec.path, **more)
    except OSError:
        folder = None if spec.local() else hub_cache.cached(spec.path, spec.revision)
        if folder is None:
            raise
        return kind.from_pretrained(folder, **more)


def load_pipeline(models: ModelRoles, role: str, device: torch.device) -> Any:
    """Load the diffusers pipeline of a role ("inpaint", "prior"), without progress bars."""
    from diffusers import DiffusionPipeline

    spec = required(models, role)
    more = quantize.of_pipeline(role, spec, DTYPES[spec.dtype], device)
    with _quiet():
        more |= _parts(spec) | _kwargs(spec) | NO_CHECKER
        pipe = _read(DiffusionPipeline, spec, **more)
    return _placed(with_lora(with_scheduler(pipe, spec), spec), spec, device)


def with_lora(pipe: Any, spec: ModelSpec) -> Any:
    """The pipeline with its role's LoRA added to the weights; as it is where there is none."""
    if spec.lora:
        pipe.load_lora_weights(
            spec.lora, weight_name=spec.lora_file, **_revision(spec.lora_revision)
        )
        pipe.fuse_lora()
        pipe.unload_lora_weights()  # the adapter; what was added stays
    return pipe


def with_scheduler(pipe: Any, spec: ModelSpec) -> Any:
    """The pipeline with the scheduler that its role names, made from the checkpoint's own
    configuration; as it is where the role names none."""
    import diffusers

    if spec.scheduler is not None:
        kind = getattr(diffusers, spec.scheduler.name)
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **spec.scheduler.options())
    return pipe


def _of_base_dtype(spec: ModelSpec, base: ModelSpec, name: str) -> ModelSpec:
    """The ControlNet in the type of the pipeline that takes its outputs. Raises ValueError where
    the parameters name another."""
    if "dtype" in spec.model_fields_set and spec.dtype != base.dtype:
        raise ValueError(
            f"models.controlnet.dtype: got {spec.dtype!r}, wanted {base.dtype!r}, as models.{name} "
            "has, whose UNet takes its outputs; give both the same"
        )
    return spec.model_copy(update={"dtype": base.dtype})


def load_refiner(
    models: ModelRoles, inpaint: Any, device: torch.device, from_noise: bool = False
) -> Any:
    """Load a pipeline with the ControlNet of role "controlnet" beside its UNet.

    It inpaints, or, `from_noise`, draws from text and lines alone. Its base is role "refine" where
    there is one, else the inpainting pipeline itself; with role "ip_adapter" it also takes images.
    Raises ValueError for drawing from noise without role "refine": an inpainting UNet cannot.
    """
    from diffusers import AutoPipelineForInpainting, AutoPipelineForText2Image, ControlNetModel

    kind: Any = AutoPipelineForText2Image if from_noise else AutoPipelineForInpainting
    name = "refine" if models.refine or from_noise else "inpaint"
    spec, base = required(models, "controlnet"), None
    spec = _of_base_dtype(spec, required(models, name), name)
    with _quiet():
        more = quantize.of_network("controlnet", spec, DTYPES[spec.dtype], device)
        net = ControlNetModel.from_pretrained(spec.path, **_kwargs(spec), **more)
        if models.refine:
            base = required(models, "refine")
            more = quantize.of_pipeline("refine", base, DTYPES[base.dtype], device)
            more |= _parts(base) | _kwargs(base) | NO_CHECKER
            pipe = _read(kind, base, controlnet=net, **more)
        else:
            if spec.quantization == "none":
                net = net.to(inpaint.unet.device, memory_format=torch.channels_last)
            pipe = kind.from_pipe(inpaint, controlnet=net)
        if models.ip_adapter:
            _adapt_to_images(pipe, required(models, "ip_adapter"))
    if base:
        return _placed(with_lora(with_scheduler(pipe, base), base), base, device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image_encoder_folder(adapter: ModelSpec) -> str:
    """The folder of an IP-Adapter's image encoder in its repository: below `subfolder`, or, where
    its name has a slash, from the top, as diffusers reads it."""
    name = adapter.image_encoder
    return name if "/" in name else f"{adapter.subfolder}/{name}".lstrip("/")


def _adapt_to_images(pipe: Any, adapter: ModelSpec) -> None:
    """Let a pipeline take images by an IP-Adapter; the encoder is read here, since diffusers reads
    it at main whatever the revision."""
    from transformers import CLIPVisionModelWithProjection

    if getattr(pipe, "image_encoder", None) is None:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            adapter.path,
            subfolder=image_encoder_folder(adapter),
            dtype=pipe.dtype,
            use_safetensors=True,
            **_revision(adapter.revision),
        )
        pipe.register_modules(image_encoder=encoder.to(pipe.device))
    pipe.load_ip_adapter(
        adapter.path,
        subfolder=adapter.subfolder,
        weight_name=adapter.weight_name,
        image_encoder_folder=adapter.image_encoder,
        **_revision(adapter.revision),
    )


def load_clip(spec: ModelSpec, device: str | torch.device = "cpu") -> tuple[Any, Callable, dict]:
    """(model in eval mode, tokenizer, preprocess) of an open_clip model.

    spec: name; optional config (an open_clip_config.json, whose folder holds the tokenizer, or a
    bare model configuration); optional weights (a file, or a tag that open_clip knows). Without
    config, `name` is open_clip's own name or "hf-hub:owner/model". Raises FileNotFoundError for
    files that are not there, ValueError for a model that its weights were not trained as.
    """
    import open_clip

    name, config, weights = spec.name, spec.config, spec.weights
    for key, path in (("config", config), ("weights", weights)):
        if path.endswith((".json", ".safetensors", ".pt", ".bin")) and not Path(path).is_file():
            raise FileNotFoundError(
                f"models.clip.{key}: {path!r} is not there; clone the "
                "repository with its models/ folder, or name another file."
            )
    trained_with.check("clip", spec)
    if config and Path(config).name == "open_clip_config.json":
        name = f"local-dir:{Path(config).parent}"
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # of missing weights, which are read next
        model = open_clip.create_model(name, load_weights=False)
        logging.disable(level)
        open_clip.load_checkpoint(model, weights)
    else:
        if config:
            open_clip.add_model_config(Path(config))
            name = Path(config).stem
        elif name.startswith(HUB) and spec.revision:
            name = f"local-dir:{_snapshot(name.removeprefix(HUB), spec.revision)}"
        model = open_clip.create_model(
            name, pretrained=_weights_file(spec) or None, require_pretrained=True
        )
    preprocess = {k: model.visual.preprocess_cfg[k] for k in PREPROCESS}
    return model.float().eval().to(device), open_clip.get_tokenizer(name), preprocess


def clip_repository(spec: ModelSpec) -> tuple[str, str] | None:
    """(repository, file) on the hub of a tag that open_clip knows; None for anything else."""
    import open_clip

    known = open_clip.get_pretrained_cfg(spec.name, spec.weights) if spec.weights else {}
    repository = (known or {}).get("hf_hub", "")
    owner, _, rest = repository.partition("/")
    name, _, file = rest.partition("/")
    return (f"{owner}/{name}", file or "open_clip_model.safetensors") if repository else None


def timm_repository(spec: ModelSpec) -> str:
    """The repository on the hub of timm's own weights of a network; "" where it has none there."""
    import timm

    return getattr(timm.get_pretrained_cfg(spec.name), "hf_hub_id", "") or ""


def _snapshot(repository: str, revision: str) -> str:
    """The folder of an open_clip model of the hub at a commit: open_clip takes no revision."""
    import huggingface_hub

    return huggingface_hub.snapshot_download(
        repository, revision=revision, allow_patterns=list(CLIP_PARTS)
    )


def _weights_file(spec: ModelSpec) -> str:
    """The weights that open_clip loads: the pinned commit's file where a revision is given."""
    found = clip_repository(spec) if spec.revision else None
    if not found:
        return spec.weights
    import huggingface_hub

    return huggingface_hub.hf_hub_download(*found, revision=spec.revision)


def load_language(
    path: str, device: torch.device, revision: str = "main", dtype: str = "float32"
) -> tuple[Any, Any]:
    """(causal language model, tokenizer) of a local folder or a hub id.

    Raises FileNotFoundError for a local folder that is not there, ValueError for one that
    transformers cannot load as safetensors without code of its own.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if path.startswith(("models/", "./", "../", "/")) and not Path(path).is_dir():
        raise FileNotFoundError(
            f"prompts: the language model's path {path!r} is no folder here; "
            "name a folder with config.json, or a hub id"
        )
    kwargs: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **kwargs)
        model = AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, dtype=DTYPES[dtype], **kwargs
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"prompts: the language model {path!r} cannot be loaded; it must be a "
            "causal model of a class that transformers knows, with weights as "
            f"safetensors: {error}"
        ) from error
    return model.eval().to(device), tokenizer


def _slice_autoencoder(pipe: Any) -> None:
    """Let the autoencoder of a large canvas take one picture at a time: decoding 8 of 1024 pixels
    at once needs some 20 GB more than the UNet's pass, and is no faster."""
    unet = getattr(pipe, "unet", None)
    cells = unet.config.sample_size if unet is not None else pipe.default_sample_size
    if cells * pipe.vae_scale_factor >= SLICED_FROM:
        pipe.vae.enable_slicing()


def _placed(pipe: Any, spec: ModelSpec, device: torch.device) -> Any:
    pipe.set_progress_bar_config(disable=True)
    _slice_autoencoder(pipe)
    if spec.offload == "model":
        pipe.enable_model_cpu_offload()
    elif spec.offload == "sequential":
        pipe.enable_sequential_cpu_offload()
    else:
        pipe = pipe.to(device)
        if getattr(pipe, "unet", None) is not None:  # a transformer has no images in its layout
            pipe.unet.to(memory_format=torch.channels_last)
    return pipe


def load_detector(models: ModelRoles, device: torch.device) -> tuple[Any, Any]:
    """(model, processor) of role "detector": Grounding DINO, or another of its task."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    return _vision_model(
        models, "detector", device, AutoModelForZeroShotObjectDetection, AutoProcessor
    )


def load_segmenter(models: ModelRoles, device: torch.device) -> tuple[Any, Any]:
    """(model, processor) of role "segmenter": SAM 2, which takes boxes."""
    from transformers import Sam2Model, Sam2Processor

    return _vision_model(models, "segmenter", device, Sam2Model, Sam2Processor)


def load_vlm(models: ModelRoles, device: torch.device, role: str = "verifier") -> tuple[Any, Any]:
    """(model, processor) of a vision-language model: LLaVA-1.6, Qwen-VL, InternVL (its -hf kind).

    Quantised and offloaded as the role says. Raises ValueError where a quantization cannot be had
    here, or for a model without a chat template.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    spec = required(models, role)
    more = quantize.of_transformers(role, spec, DTYPES[spec.dtype], device)
    model, processor = _vision_model(
        models, role, device, AutoModelForImageTextToText, AutoProcessor, more
    )
    if not getattr(processor, "chat_template", None):
        raise ValueError(
            f"models.{role}.path: {spec.path!r} has no chat "
            "template, so nobody knows how to ask it; name an instruction-tuned one"
        )
    return model, processor


def _vision_model(
    models: ModelRoles,
    role: str,
    device: torch.device,
    model_class: Any,
    processor_class: Any,
    more: dict | None = None,
) -> tuple[Any, Any]:
    """(model, processor) by transformers; more: arguments that place the model themselves."""
    spec = required(models, role)
    kwargs = _kwargs(spec) | (more or {}) | {"trust_remote_code": False}
    kwargs["dtype"] = kwargs.pop("torch_dtype")  # transformers' new name
    processor = processor_class.from_pretrained(
        spec.path, trust_remote_code=False, **_revision(spec.revision)
    )
    model = model_class.from_pretrained(spec.path, **kwargs).eval()
    return (model if more else _offloaded(model, spec, device)), processor


def _offloaded(model: Any, spec: ModelSpec, device: torch.device) -> Any:
    """A model of transformers on its device, or with its weights on the host until they are used:
    all of them at a call (model), or a layer's (sequential)."""
    import accelerate

    if spec.offload == "model":
        return accelerate.cpu_offload_with_hook(model, device)[0]
    if spec.offload == "sequential":
        return accelerate.cpu_offload(model, device)
    return model.to(device)


def describe(models: ModelRoles) -> dict[str, str]:
    """role -> "path@revision", for records."""
    return {
        role: f"{spec.path or spec.name}@{spec.revision or 'local'}"
        for role, spec in models.present().items()
        if spec.path or spec.name
    }
