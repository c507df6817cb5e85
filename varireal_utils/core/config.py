"""The configuration of a study: a parameter file, read, merged, checked, as typed settings.

    config = load_config("params/micro.yaml", {"seed": 7})
    config.classify.lr, config.edit.attributes["color"].strength, config.models.clip

Bounds and defaults stand once: in config_sections.py, config_editing.py, config_prompts.py. A bad
key or value never reaches a kernel: errors name file, key, value, what was wanted, and the nearest
known key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, PrivateAttr, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from . import config_file, model_lock
from .attributes import ATTRIBUTES
from .config_base import (
    EXECUTION,
    PATH,
    SOURCE_FILE,
    Once,
    Settings,
    Slots,
    Whole,
    content,
    digest,
    reached,
    written,
)
from .config_editing import VARIREAL, EditSettings, GuidanceSettings
from .config_errors import ParameterError, explained, nearest
from .config_prompts import LlmPrompts
from .config_sections import (
    ClaimSettings,
    ClassifySettings,
    DataDreamSettings,
    ModelRoles,
    PlanSettings,
    VerifySettings,
)
from .seeds import seed_for
from .storage import slug
from .study_paths import StudyPaths

__all__ = ["ParameterError", "StudyConfig", "content", "digest", "load_config", "written"]
Prompts = Annotated[
    Annotated[str, PATH, Tag("<file>")] | Annotated[LlmPrompts, Tag("<model>")],
    Discriminator(lambda v: "<file>" if isinstance(v, str) else "<model>"),
]


class StudyConfig(Settings):
    """Everything that a parameter file says. `file` and `digest` are of it, not in it.

    replicates: draws of everything, each from its index; 0: one draw, whose seeds are classifier
    starts alone; replicate: which of them, given by the driver; prompts: a phrase file, or what a
    language model is asked for.
    """

    study: str
    replicates: Whole = 0
    replicate: Whole | None = None
    protocol: Literal["controlled", "faithful"]
    seed: int
    runs_dir: Annotated[str, EXECUTION]
    registration: Annotated[str, EXECUTION] = ""  # its file; registrations/<study>.json without one
    chain: Annotated[bool, EXECUTION] = False  # all stages of a data set in one kernel
    job_threads: Annotated[Whole, EXECUTION] = 0  # CPU threads of a job; 0: all cores
    gpus: Annotated[Whole, EXECUTION] = 0  # of this machine that jobs share out; 0: all
    trainings_per_gpu: Annotated[Slots, EXECUTION] = 0  # side by side; 0: what its memory holds
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    datasets: dict[str, dict[str, Any]]
    attributes: Annotated[list[str], Once]
    prompts: Annotated[Prompts, SOURCE_FILE]
    models: ModelRoles
    guidance: GuidanceSettings
    edit: EditSettings
    datadream: DataDreamSettings | None = None
    verify: VerifySettings
    plan: Annotated[PlanSettings | None, EXECUTION] = None
    classify: ClassifySettings
    claims: ClaimSettings
    _file: str = PrivateAttr("parameters")

    @property
    def file(self) -> str:
        """The parameter file, for messages."""
        return self._file

    @property
    def digest(self) -> str:
        """sha256 of what a result can depend on."""
        return digest(self)

    @property
    def whole(self) -> StudyPaths:
        """The study's folder: runs_dir / slug(study)."""
        return StudyPaths(Path(self.runs_dir) / slug(self.study))

    @property
    def paths(self) -> StudyPaths:
        """The study's folder, or that of the replicate."""
        return self.whole if self.replicate is None else self.whole.replicate(self.replicate)

    @property
    def draw_seed(self) -> int:
        """What phrases, noise, few-shot lists, adapters and starts are drawn from: the seed, or
        that of the replicate."""
        if self.replicate is None:
            return self.seed
        return seed_for(self.seed, "replicate", self.replicate)

    def draws(self) -> list[StudyConfig]:
        """The configuration of each replicate; itself where there is one draw."""
        if not self.replicates or self.replicate is not None:
            return [self]
        return [self.model_copy(update={"replicate": r}) for r in range(self.replicates)]

    @property
    def phrase_file(self) -> str:
        """The phrase file that the study starts from: `prompts` itself, or its `base`."""
        return self.prompts if isinstance(self.prompts, str) else self.prompts.base

    @model_validator(mode="after")
    def _sections_agree(self) -> StudyConfig:
        first = (self._data_sets, self._draws, self._chain, self._arms, self._rule, self._shots)
        last = (self._attributes, self._canvas, self._refinement)
        for check in (*first, *last):  # later ones rest on earlier ones
            if text := check():
                raise PydanticCustomError("said", "{text}", {"text": text})
        return self

    def _canvas(self) -> str:
        for key, there, wanted in (
            ("guidance.find_on", self.guidance.find_on, "photograph"),
            ("edit.compose_on", self.edit.compose_on, "photograph"),
        ):
            if there == "canvas" and not self.edit.canvas:
                return f"{key}: got 'canvas' without edit.canvas; give its pixels, or {wanted!r}"
        return ""

    def _refinement(self) -> str:
        for name in self.attributes if self.edit.editor == VARIREAL else []:
            own = self.edit.attributes[name]
            if own.refine_steps and own.refine_from == "noise" and not self.models.refine:
                return (
                    f"edit.{name}.refine_from: got 'noise' without models.refine; an inpainting "
                    "model cannot draw from noise alone; name a text-to-image model, or 'edit'"
                )
        return ""

    def _data_sets(self) -> str:
        return "" if self.datasets else "datasets: name at least one data set"

    def _draws(self) -> str:
        if self.replicate is not None and self.replicate >= self.replicates:
            return (
                f"replicate: got {self.replicate}, wanted a number below replicates "
                f"({self.replicates})"
            )
        if self.replicates and self.seed < 0:
            return f"seed: got {self.seed}, wanted 0 or more where there are replicates"
        return ""

    def _chain(self) -> str:
        if self.chain and (self.classify.job != "dataset" or self.edit.shards > 1):
            return (
                "chain: got true, wanted with it classify.job: dataset and edit.shards: 1, since "
                "one kernel makes all of a data set"
            )
        return ""

    def _arms(self) -> str:
        for name, settings in self.edit.attributes.items():
            if self.protocol == "controlled" and settings.own_arms():
                return (
                    f"edit.{name}.arms: arms with settings of their own belong to protocol "
                    "faithful; under controlled both arms are edited alike"
                )
        return ""

    def _rule(self) -> str:
        kind = self.models.verifier_kind()
        if self.verify.rule != "faithful" or (self.protocol, kind) == ("faithful", "vlm"):
            return ""
        return (
            f"verify.rule: got 'faithful' with protocol {self.protocol!r} and "
            f"models.verifier.kind {kind!r}; it tells a vlm the answers and belongs to "
            "protocol faithful; wanted 'strict' here"
        )

    def _shots(self) -> str:
        if self.classify.real == "train" or self.datadream is not None:
            return ""
        return (
            "classify.real: got 'shots' without datadream.shots, which says how many of a class; "
            "add section datadream, or wanted 'train'"
        )

    def _attributes(self) -> str:
        sections = self.edit.attributes
        for name in self.attributes:
            if name in sections and name not in ATTRIBUTES:
                return (
                    f"attributes: {name!r} is not registered{nearest(name, ATTRIBUTES)}; a new "
                    "one is a file and a line in core/attributes"
                )
            if name not in sections:
                return (
                    f"attributes: {name!r} has no settings under edit"
                    f"{nearest(name, {*sections, *ATTRIBUTES})}"
                )
            if not isinstance(self.prompts, str) and name not in self.prompts.counts:
                return (
                    f"prompts.counts: no number of phrases for {name!r}; attributes has "
                    f"{self.attributes}"
                )
            if missing := self._missing(name):
                return (
                    f"edit.{name}.{missing[0]} is missing; add it, or include a file that has it "
                    "(params/micro.yaml has all)"
                )
        for name in sections:
            if name not in (*self.attributes, *ATTRIBUTES):
                return f"unknown key 'edit.{name}'{nearest(name, [*self.attributes, *ATTRIBUTES])}"
        return ""

    def _missing(self, attribute: str) -> list[str]:
        """Settings of an attribute that VariReal's pipeline needs and that the file lacks."""
        if self.edit.editor != VARIREAL:
            return []
        own, prior = self.edit.attributes[attribute], ATTRIBUTES[attribute].prior
        return own.needed(prior, appearance=self.models.ip_adapter is not None)


def load_config(
    path: str | Path, overrides: dict[str, Any] | None = None, locked: bool = True
) -> StudyConfig:
    """Read, merge, override and check a parameter file. Raises ParameterError.

    overrides: dotted key -> value, as {"edit.color.strength": 0.5}; locked: with the commits of the
    study's models.lock.json in place of the revisions that the file asks for, where there is one.
    """
    config = checked(merged(path, overrides), str(path))
    lock = model_lock.read(config.whole.models_lock) if locked else {}
    if not lock:
        return config
    return config.model_copy(
        update={
            "models": model_lock.pinned_roles(config.models, lock),
            "prompts": model_lock.pinned_prompts(config.prompts, lock),
        }
    )


def merged(path: str | Path, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The keys and values of a parameter file, of those that it includes, and of `overrides`.

    An override changes a key of the file and keeps its type, or gives one left at its default.
    """
    values = config_file.read(Path(path))
    for key, value in (overrides or {}).items():
        there, known = reached(StudyConfig, key.split("."), values)
        if there and not config_file.has(values, key):
            config_file.put(values, key, value, str(path))
        else:
            config_file.override(values, key, value, str(path), known)
    return values


def checked(values: dict[str, Any], where: str) -> StudyConfig:
    """Typed settings of the keys and values of a file. Raises ParameterError naming `where`."""
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise explained(error, where) from None
    config._file = where
    try:
        digest(config)
    except (TypeError, ValueError) as error:  # a date, or NaN, in the settings of a data set
        raise ParameterError(
            f"{where}: a value is no text, finite number, list or mapping: {error}"
        ) from error
    return config
