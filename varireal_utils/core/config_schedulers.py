"""The scheduler of a diffusion pipeline: `models.<role>.scheduler` of a parameter file.

    prior: {path: owner/name, scheduler: {name: EulerDiscreteScheduler, use_karras_sigmas: true}}

It is made from the checkpoint's own scheduler configuration (noise schedule, what the UNet
predicts) by diffusers' `from_config`; what is given here is laid over it. Without the section the
checkpoint's own scheduler runs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from .config_base import Count, Number, Settings, Whole
from .config_errors import nearest

_NOISE = ("prediction_type", "steps_offset", "timestep_spacing")
_SIGMAS = (*_NOISE, "use_karras_sigmas", "use_exponential_sigmas")
_LCM = (*_NOISE, "clip_sample", "original_inference_steps", "rescale_betas_zero_snr")
_SOLVER = ("lower_order_final", "solver_order", "solver_type")
# diffusers' class -> options of SchedulerSettings that it takes (tests/unit/test_schedulers.py)
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "DDIMScheduler": (*_NOISE, "clip_sample", "rescale_betas_zero_snr"),
    "DDPMScheduler": (*_NOISE, "clip_sample", "rescale_betas_zero_snr"),
    "PNDMScheduler": _NOISE,
    "LMSDiscreteScheduler": _SIGMAS,
    "EulerDiscreteScheduler": (*_SIGMAS, "final_sigmas_type", "rescale_betas_zero_snr"),
    "EulerAncestralDiscreteScheduler": (*_NOISE, "rescale_betas_zero_snr"),
    "HeunDiscreteScheduler": (*_SIGMAS, "clip_sample"),
    "KDPM2DiscreteScheduler": _SIGMAS,
    "KDPM2AncestralDiscreteScheduler": _SIGMAS,
    "DPMSolverMultistepScheduler": (
        *_SIGMAS,
        *_SOLVER,
        "algorithm_type",
        "euler_at_final",
        "final_sigmas_type",
        "rescale_betas_zero_snr",
    ),
    "DPMSolverSinglestepScheduler": (
        *_SOLVER,
        "algorithm_type",
        "final_sigmas_type",
        "prediction_type",
        "use_exponential_sigmas",
        "use_karras_sigmas",
    ),
    "DEISMultistepScheduler": (*_SIGMAS, *_SOLVER, "algorithm_type"),
    "UniPCMultistepScheduler": (
        *_SIGMAS,
        *_SOLVER,
        "final_sigmas_type",
        "rescale_betas_zero_snr",
    ),
    "LCMScheduler": _LCM,
    "TCDScheduler": _LCM,
    "FlowMatchEulerDiscreteScheduler": ("shift", "use_exponential_sigmas", "use_karras_sigmas"),
}


def _known_scheduler(name: str) -> str:
    if name not in SCHEDULERS:
        raise PydanticCustomError(
            "wanted", "{wanted}", {"wanted": f"a scheduler of diffusers{nearest(name, SCHEDULERS)}"}
        )
    return name


class SchedulerSettings(Settings):
    """A scheduler by the name of its class in diffusers, and what it has otherwise than the
    checkpoint; None: as there. Raises for an option that the class does not take."""

    name: Annotated[str, AfterValidator(_known_scheduler)]
    timestep_spacing: Literal["linspace", "leading", "trailing"] | None = None
    steps_offset: Whole | None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    use_karras_sigmas: bool | None = None
    use_exponential_sigmas: bool | None = None
    algorithm_type: str | None = None
    solver_order: Count | None = None
    solver_type: str | None = None
    lower_order_final: bool | None = None
    euler_at_final: bool | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] | None = None
    rescale_betas_zero_snr: bool | None = None
    clip_sample: bool | None = None
    original_inference_steps: Count | None = None
    shift: Number | None = None

    def options(self) -> dict[str, bool | int | float | str]:
        """What is given, by diffusers' names."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return {name: value for name, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _taken(self) -> SchedulerSettings:
        for option in self.options():
            if option not in (known := SCHEDULERS[self.name]):
                text = f"{self.name} has no such option{nearest(option, known)}"
                raise PydanticCustomError("said_of", "{text}", {"key": option, "text": text})
        return self
