"""Models, verifier, trainings and claims: sections of a parameter file, with bounds and defaults.

symbols   share   a number from 0 to 1
          role    what a model is for: inpaint, prior, clip, ... (models/loaders.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from .config_base import (
    EXECUTION,
    LATER,
    SOURCE_FILE,
    WEIGHTS,
    Count,
    Filled,
    Number,
    Once,
    Positive,
    Settings,
    Share,
    Whole,
    folder_files,
)
from .config_prompts import Dtype
from .config_schedulers import SchedulerSettings

# kind of a classifier that a study can fine-tune -> its class below varireal_utils.models
CLASSIFIERS = {
    "clip": "clip_classifier.ClipClassifier",
    "timm": "timm_classifier.TimmClassifier",
}


def _known_kind(kind: str) -> str:
    if kind not in (known := (*CLASSIFIERS, "vlm")):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": f"one of {sorted(known)}"})
    return kind


class ModelSpec(Settings):
    """Where the weights of a role come from, and how they are loaded. "" means: not given.

    path: a local folder or a hub id; name: of open_clip or timm; role: another role's model;
    scheduler: of a diffusion pipeline, None for the checkpoint's own; lora: a few-step LoRA that is
    fused into it (folder or hub id, with lora_file); *_revision: of the parts that come from
    elsewhere; offload: model moves parts to the GPU as they are called, sequential layers.
    """

    path: Annotated[str, WEIGHTS] = ""
    name: Annotated[str, WEIGHTS] = ""
    role: str = ""
    weights: Annotated[str, SOURCE_FILE, WEIGHTS] = ""
    config: Annotated[str, SOURCE_FILE, WEIGHTS] = ""
    revision: str = ""
    variant: str = ""
    vae: Annotated[str, WEIGHTS] = ""
    vae_revision: str = ""
    lora: Annotated[str, WEIGHTS] = ""
    lora_file: str = "pytorch_lora_weights.safetensors"
    lora_revision: str = ""
    subfolder: str = ""
    weight_name: str = ""
    image_encoder: str = "image_encoder"
    dtype: Dtype = "float32"
    offload: Literal["none", "model", "sequential"] = "none"
    kind: Annotated[str, AfterValidator(_known_kind)] = "clip"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    scheduler: SchedulerSettings | None = None
    licence: Annotated[str, EXECUTION] = ""  # stated in plans, archives and records
    vae_licence: Annotated[str, EXECUTION] = ""
    lora_licence: Annotated[str, EXECUTION] = ""
    size_gb: Annotated[Number | None, EXECUTION] = None
    tflop: Annotated[Number | None, EXECUTION] = None
    tflop_text: Annotated[Number | None, EXECUTION] = None

    def local(self) -> Path | None:
        """The folder of the model on this machine; None for one of the hub."""
        path = (self.path or self.name).removeprefix("local-dir:")
        known = path.startswith(("models/", "./", "/")) or self.name.startswith("local")
        return Path(path) if path and (known or Path(path).is_dir()) else None

    def source_files(self) -> list[Path]:
        """Weights and configuration on this machine; a hub's model is named by its revision."""
        folders = [self.local(), *(Path(p) for p in (self.vae, self.lora) if p)]
        inner = {f for folder in folders if folder is not None for f in folder_files(folder)}
        return sorted({*super().source_files(), *inner})


PIPELINES = ("inpaint", "prior", "refine", "instruct", "datadream")  # roles that have a scheduler
QUANTISED = ("inpaint", "prior", "refine", "instruct", "controlnet", "verifier")  # may be


class ModelRoles(Settings):
    """A model for each role that the study fills."""

    inpaint: ModelSpec | None = None
    prior: ModelSpec | None = None
    controlnet: ModelSpec | None = None
    refine: ModelSpec | None = None
    ip_adapter: ModelSpec | None = None
    instruct: ModelSpec | None = None
    datadream: ModelSpec | None = None
    clip: ModelSpec | None = None
    classifier: ModelSpec | None = None
    detector: ModelSpec | None = None
    segmenter: ModelSpec | None = None
    verifier: ModelSpec | None = None

    @model_validator(mode="after")
    def _quantised(self) -> ModelRoles:
        for role, spec in self.present().items():
            able = role in QUANTISED and (role != "verifier" or spec.kind == "vlm")
            if spec.quantization != "none" and not able:
                text = (
                    f"got {spec.quantization!r}, wanted 'none': this model is not quantised; a "
                    f"verifier of kind vlm may be, and {', '.join(QUANTISED[:-1])}"
                )
                key = f"{role}.quantization"
                raise PydanticCustomError("said_of", "{text}", {"key": key, "text": text})
            if spec.lora and role not in PIPELINES:
                text = f"got {spec.lora!r}, wanted nothing: a LoRA joins one of {sorted(PIPELINES)}"
                raise PydanticCustomError(
                    "said_of", "{text}", {"key": f"{role}.lora", "text": text}
                )
        return self

    @model_validator(mode="after")
    def _schedulers(self) -> ModelRoles:
        for role, spec in self.present().items():
            if spec.scheduler is not None and role not in PIPELINES:
                text = f"has no scheduler of its own; wanted under one of {sorted(PIPELINES)}"
                key = f"{role}.scheduler"
                raise PydanticCustomError("said_of", "{text}", {"key": key, "text": text})
        return self

    def present(self) -> dict[str, ModelSpec]:
        """role -> model, of the roles that are filled."""
        return {
            role: spec
            for role in type(self).model_fields
            if (spec := getattr(self, role)) is not None
        }

    def get(self, role: str) -> ModelSpec | None:
        """The model of a role, or None."""
        return self.present().get(role)

    def verifier_kind(self) -> str:
        """clip, or vlm where role verifier says so."""
        return self.verifier.kind if self.verifier else "clip"

    def clip_role(self) -> str:
        """The role whose CLIP embeds images and sentences: verifier where it names one, else the
        role that it refers to, else clip."""
        if self.verifier and self.verifier.name:
            return "verifier"
        return (self.verifier.role if self.verifier else "") or "clip"

    def generator_role(self) -> str:
        """The role of the text-to-image model: datadream where it is filled, else prior."""
        return "datadream" if self.datadream else "prior"

    def verifier_roles(self) -> tuple[str, ...]:
        """The roles that a verdict rests on."""
        if self.verifier_kind() == "vlm":
            return ("verifier",)
        return ("verifier", self.clip_role())

    def only(self, *roles: str) -> ModelRoles:
        """These roles alone, as far as they are filled: what a stage's slice holds."""
        return ModelRoles(**{r: spec for r, spec in self.present().items() if r in roles})


ADAPTED, BASELINES = ("cls", "dset"), ("untuned", "img2img")  # variants of 05_datadream


class DrawSettings(Settings):
    """Drawing from a text-to-image model. img2img_strength: how far a starting image is noised."""

    steps: Count
    guidance_scale: Number
    img2img_strength: Share = 0.7


class DataDreamSettings(DrawSettings):
    """DataDream (docs/protocol.md, C3). shots: photographs of a class; candidates: images drawn for
    each one kept (untuned); template: has {class}."""

    shots: Count
    images_per_class: Count
    template: str
    rank: Count
    lr: Positive
    weight_decay: Number
    epochs: Count
    batch_size: Count
    warmup_steps: Whole
    text_encoder: bool
    checkpoint_every: Annotated[Count, EXECUTION]
    candidates: Count = 2


class ClipVerifierSettings(Settings):
    """Shares of unedited validation photographs that may pass, for another phrase (false_accept)
    and for another class (false_identity)."""

    false_accept: Share
    false_identity: Share


class VlmVerifierSettings(ClipVerifierSettings):
    """Of a vision-language verifier. p_yes, margin: in probability; controls: other phrases asked
    about; calibration: validation photographs; max_size: pixels."""

    rule: Literal["strict", "faithful"] = "strict"
    p_yes: Share = 0.5
    margin: Share = 0.1
    controls: Count = 3
    calibration: Count = 200
    max_size: Count = 672


class VerifySettings(VlmVerifierSettings):
    """The verifier, and which edits enter a training set (keep)."""

    keep: Literal["all", "accepted", "paired"]

    def of_kind(self, kind: str) -> ClipVerifierSettings:
        """The settings that a verifier of a kind reads: clip or vlm."""
        own = VlmVerifierSettings if kind == "vlm" else ClipVerifierSettings
        return own(**{name: getattr(self, name) for name in own.model_fields})


class PlanSettings(Settings):
    """The card that a study is for. card: by NVIDIA's name; card_gb: its memory, as NVIDIA counts
    it; tflops, source: a speed of its own in place of the measured rates, and where it is from."""

    card: str = ""
    card_gb: Positive | None = None
    tflops: Positive | None = None
    source: str = ""


class AugmentSettings(Settings):
    """Random changes of training pixels. scale_min: least share of the area in a crop; color:
    false leaves out whatever changes colours; blur: its probability."""

    scale_min: Share = 0.25
    flip: bool = True
    rand_augment: bool = True
    color: bool = True
    blur: Share = 0.2


class MixSettings(Settings):
    """Mixup or CutMix, by a coin; alpha: of their Beta distributions."""

    probability: Share
    mixup_alpha: Positive = 0.8
    cutmix_alpha: Positive = 1.0


class TrainSettings(Settings):
    """Training of one classifier. rank, alpha, dropout: of LoRA; warmup: share of the steps;
    lambda_real: weight of a real image, 1 - lambda_real of an edited one; accumulate: parts of a
    batch; patience: evaluations without a better one, None for no early stop; checkpoint_every: 0
    for never.
    """

    rank: Count
    alpha: Number
    dropout: Share
    lr: Positive
    weight_decay: Number
    warmup: Share
    batch_size: Count
    eval_batch_size: Count
    steps: Whole
    eval_every: Count
    checkpoint_every: Annotated[Whole, EXECUTION]
    lambda_real: Share
    towers: Annotated[list[Literal["image", "text"]], Filled, Once]
    templates: Annotated[list[str], Filled]
    augment: AugmentSettings
    accumulate: Count = 1
    processes: Annotated[Count, EXECUTION] = 1
    patience: Count | None = None
    noise: Literal["prefix", "caption"] = "caption"
    mix: MixSettings | None = None


class ClassifySettings(TrainSettings):
    """Which classifiers are trained, and how. job: what one run of 06_classify covers; real: which
    photographs recipes without @ take: those for training, or the few shots that 05_datadream saw
    (datadream.shots of a class); edited_test: test photographs of a class that the world edits and
    the classifier of recipe real is shown, in studies of three values."""

    job: Annotated[Literal["dataset", "seed", "recipe"], EXECUTION]
    real: Literal["train", "shots"] = "train"
    seeds: Annotated[list[int], Filled, Once]
    recipes: Annotated[list[str], Filled, Once]
    edited_test: Whole = 0

    def training(self) -> TrainSettings:
        """The settings of one training, without which recipes and seeds there are."""
        return TrainSettings(**{k: getattr(self, k) for k in TrainSettings.model_fields})


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ClaimSettings(Settings):
    """Claims. margin: percentage points; bootstrap: resamples; against: name -> folders of another
    study, of which the first that is there counts; only: ids of the claims that the study asks,
    none for all but those that ask another one again (claim_file.chosen)."""

    margin: Number
    bootstrap: Count
    confidence: Share
    against: dict[str, Annotated[list[str], BeforeValidator(_listed)]] = {}
    only: Annotated[list[str], Once, LATER] = []
