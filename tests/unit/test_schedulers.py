"""A role's scheduler: by name, from the checkpoint's own noise schedule, part of every key."""

from __future__ import annotations

import inspect
import re

import diffusers
import pytest
import torch

from tests.conftest import ROOT
from varireal_utils.core.config import ParameterError, checked, content, digest, load_config, merged
from varireal_utils.core.config_schedulers import SCHEDULERS, SchedulerSettings
from varireal_utils.core.config_sections import PIPELINES
from varireal_utils.datadream import sampling
from varireal_utils.editing.slices import EditStage
from varireal_utils.models import loaders

CPU = torch.device("cpu")
OPTIONS = {name for name in SchedulerSettings.model_fields if name != "name"}


def study(role: str = "prior", **scheduler):
    values = merged(ROOT / "params/micro.yaml")
    values["models"][role] = values["models"][role] | {"scheduler": scheduler}
    return checked(values, "p.yaml")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_table_is_diffusers_own(name):
    taken = set(inspect.signature(getattr(diffusers, name).__init__).parameters)
    assert set(SCHEDULERS[name]) == taken & OPTIONS


def test_it_keeps_the_checkpoints_noise_schedule_and_draws_other_pictures(monkeypatch):
    monkeypatch.chdir(ROOT)
    plain = loaders.load_pipeline(load_config("params/micro.yaml").models, "prior", CPU)
    config = study(name="DDIMScheduler", timestep_spacing="leading")
    pipe = loaders.load_pipeline(config.models, "prior", CPU)
    assert type(pipe.scheduler) is diffusers.DDIMScheduler
    assert pipe.scheduler.config.timestep_spacing == "leading"
    for key in ("beta_schedule", "beta_start", "beta_end", "prediction_type"):
        assert pipe.scheduler.config[key] == plain.scheduler.config[key]
    draw = config.datadream.model_copy(update={"steps": 3})
    a, b = (sampling.draw(p, ["a photo of ice"], [1], draw)[0] for p in (plain, pipe))
    assert (a != b).any()


def test_the_refinement_has_the_scheduler_of_its_base(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = study("inpaint", name="EulerDiscreteScheduler", use_karras_sigmas=True)
    pipe = loaders.load_pipeline(config.models, "inpaint", CPU)
    refiner = loaders.load_refiner(config.models, pipe, CPU)
    assert type(refiner.scheduler) is diffusers.EulerDiscreteScheduler
    assert refiner.scheduler.config.use_karras_sigmas


def test_it_is_part_of_the_slice():
    plain = load_config(ROOT / "params/micro.yaml")
    other = study(name="DDIMScheduler")
    third = study(name="DDIMScheduler", timestep_spacing="trailing")
    assert len({digest(c) for c in (plain, other, third)}) == 3
    target = {"attribute": "texture", "feasibility": "feasible"}
    slices = [content(EditStage.of(c, **target)) for c in (plain, other, third)]
    assert slices[1]["models"]["prior"]["scheduler"]["name"] == "DDIMScheduler"
    assert slices[0] != slices[1] != slices[2]
    color = [content(EditStage.of(c, **target | {"attribute": "color"})) for c in (plain, other)]
    assert color[0] == color[1]  # colour edits draw no prior


@pytest.mark.parametrize(
    ("role", "scheduler", "message"),
    [
        (
            "prior",
            {"name": "DPMSolverMultistep"},
            "prior.scheduler.name: got 'DPMSolverMultistep'.*did you mean 'DPMSolverMultistepS",
        ),
        ("prior", {}, "models.prior.scheduler.name is missing"),
        (
            "prior",
            {"name": "DDIMScheduler", "use_karras_sigmas": True},
            "prior.scheduler.use_karras_sigmas: DDIMScheduler has no such option",
        ),
        (
            "prior",
            {"name": "DDIMScheduler", "karras": True},
            "unknown key 'models.prior.scheduler.karras'",
        ),
        (
            "prior",
            {"name": "DDIMScheduler", "timestep_spacing": "trail"},
            "timestep_spacing: got 'trail', wanted one of",
        ),
        ("clip", {"name": "DDIMScheduler"}, "models.clip.scheduler: has no scheduler of its own"),
        ("controlnet", {"name": "DDIMScheduler"}, "controlnet.scheduler: has no scheduler"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest(role, scheduler, message):
    with pytest.raises(ParameterError, match=f"p.yaml: .*{message}"):
        study(role, **scheduler)


def test_paper_size_files_have_the_references_prior():
    """docs/protocol.md, C1: DPMSolverMultistep for the prior, the checkpoints' own elsewhere."""
    found = 0
    for path in sorted((ROOT / "params").glob("*.yaml")):
        if re.search(r"^(paper|faithful)_", path.stem):
            models, found = load_config(path).models, found + 1
            named = {r: s.scheduler for r in PIPELINES if (s := models.get(r)) and s.scheduler}
            assert named == {"prior": SchedulerSettings(name="DPMSolverMultistepScheduler")}
    assert found >= 6
