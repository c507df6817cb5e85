"""A role computes in the type of its weights; autocast is for float32 weights alone.

error   relative rms of the guided prediction u + s (c - u) of the first step, against float32
old     float16 weights under bfloat16 autocast, whose latents are bfloat16
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from microworld import render
from tests.unit.test_edit import row, source
from tests.unit.test_paper_models import bank, config, rows, settings_of, sources  # noqa: F401
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.datadream import sampling
from varireal_utils.editing import passes, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.models import loaders
from varireal_utils.prompts import phrase_bank

CPU, HALF, BRAIN = torch.device("cpu"), torch.float16, torch.bfloat16
FIRST_STEP = {"steps": 1, "strength": 1.0, "refine_steps": 0}


class Listener:
    """What a UNet was given and returned, call by call, and whether autocast was on."""

    def __init__(self, unet: torch.nn.Module):
        self.unet = unet
        self.given: list[tuple[tuple, dict]] = []
        self.cast: list[bool] = []
        self.out: list[torch.Tensor] = []
        unet.register_forward_pre_hook(self._before, with_kwargs=True)
        unet.register_forward_hook(self._after)

    def _before(self, unet: Any, args: tuple, kwargs: dict) -> None:
        self.given.append((args, kwargs))
        self.cast.append(torch.is_autocast_enabled("cpu"))

    def _after(self, unet: Any, args: tuple, out: Any) -> None:
        self.out.append((out[0] if isinstance(out, tuple) else out.sample).detach())

    @property
    def types(self) -> set[torch.dtype]:
        return {args[0].dtype for args, _ in self.given} | {out.dtype for out in self.out}


def heard_edit(dtype: str, working: torch.dtype, scale: float) -> Listener:
    """The first diffusion stage of two colour edits with the micro models, weights in `dtype`."""
    changes = {f"edit.color.{k}": v for k, v in FIRST_STEP.items()}
    changes |= {"device": "cpu", "models.inpaint.dtype": dtype, "edit.color.guidance_scale": scale}
    study = load_config("params/micro.yaml", changes)
    settings = EditStage.of(study, attribute="color", feasibility="feasible")
    words = phrase_bank.load_bank(study.phrase_file, "cars", list(render.class_names("cars")))
    pipes = roles.load(settings, CPU, working)
    heard, seen = Listener(pipes.inpaint.unet), [source(i) for i in range(2)]
    texts = [row(words, i, phrase)["prompt"] for i, phrase in enumerate(("red", "teal"))]
    starts, masks = [s.image for s in seen], [s.editable for s in seen]
    passes.inpaint(pipes, starts, masks, texts, [1, 2], settings.own)
    return heard


def old_way(exact: Listener) -> torch.Tensor:
    """The first prediction with float16 weights under bfloat16 autocast. A CPU's layer norm refuses
    the mixture, so weights are rounded to float16 and latents to bfloat16, as a GPU has them."""
    unet, ((latents, *others), kwargs) = copy.deepcopy(exact.unet), exact.given[0]
    unet.half().float()
    with torch.no_grad(), torch.autocast("cpu", BRAIN):
        return unet(latents.to(BRAIN), *others, **kwargs)[0]


def guided(out: torch.Tensor, scale: float) -> torch.Tensor:
    """The guided prediction, computed in the type of the predictions."""
    unconditional, conditional = out.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


@pytest.mark.parametrize("scale", [pytest.param(12.0, marks=pytest.mark.slow), 40.0])
def test_error_of_the_guided_prediction_in_a_roles_own_type(scale):
    """Measured at guidance 12 and 40: 0.006 and 0.007 in float16; 0.040 and 0.049 the old way."""
    exact = heard_edit("float32", torch.float32, scale)
    wanted = guided(exact.out[0], scale)
    half = heard_edit("float16", BRAIN, scale)
    assert half.types == {HALF} and not any(half.cast)
    new, old = (error(guided(p, scale), wanted) for p in (half.out[0], old_way(exact)))
    assert new < 0.012 and 4 * new < old, (new, old)


def test_float32_weights_run_under_autocast_to_the_compute_type():
    heard = heard_edit("float32", BRAIN, 3.0)
    assert all(heard.cast) and heard.given[0][0][0].dtype == torch.float32
    assert not any(heard_edit("float32", torch.float32, 3.0).cast)


def test_every_stage_of_the_papers_classes_runs_in_its_own_type(
    config,  # noqa: F811
    bank,  # noqa: F811
    monkeypatch,
):
    """SDXL inpainting, the prior, the refinement with ControlNet and IP-Adapter: float16 all
    through, though the study computes in bfloat16."""
    half = {
        role: spec.model_copy(update={"dtype": "float16"})
        for role, spec in config.models.present().items()
        if role in ("inpaint", "prior", "refine", "controlnet", "ip_adapter")
    }
    settings = settings_of(config, "texture")
    settings = settings.model_copy(update={"models": settings.models.model_copy(update=half)})
    pipes, nets, heard = roles.load(settings, CPU, BRAIN), [], []
    for name in ("load_pipeline", "load_refiner"):
        monkeypatch.setattr(loaders, name, listening(getattr(loaders, name), nets, heard))
    these, asked = sources("texture"), rows(bank, "texture")
    prior = passes.prior_bank(pipes, bank, [r["phrase"] for r in asked], settings, 32)
    made = pipeline.edit_batch(pipes, these, asked, prior, bank, settings, 0)
    assert len(made) == 2 and len(nets) == 4
    assert {p.dtype for net in nets for p in net.parameters()} == {HALF}
    assert all(h.types == {HALF} and h.given and not any(h.cast) for h in heard)


def listening(load: Any, nets: list, heard: list[Listener]) -> Any:
    """A loader that keeps the networks of what it loads, and listens to each UNet."""

    def loaded(*args: Any) -> Any:
        pipe = load(*args)
        nets.extend([pipe.unet, *([pipe.controlnet] if hasattr(pipe, "controlnet") else [])])
        heard.append(Listener(pipe.unet))
        return pipe

    return loaded


def test_datadream_draws_in_the_generators_own_type():
    study = load_config("params/micro.yaml", {"models.datadream.dtype": "bfloat16"})
    pipe = sampling.load(study.models, CPU)
    heard = Listener(pipe.unet)
    settings = study.datadream.model_copy(update={"steps": 1})
    sampling.draw(pipe, ["a photo of a alvera"], [1], settings, HALF)
    assert heard.types == {BRAIN} and not any(heard.cast)


def test_a_controlnet_takes_the_type_of_its_pipeline():
    folder = {"path": "models/micro/controlnet"}
    inpaint = ModelSpec(path="models/micro/inpaint", dtype="bfloat16")
    models = ModelRoles(inpaint=inpaint, controlnet=ModelSpec(**folder))
    pipe = loaders.load_pipeline(models, "inpaint", CPU)
    assert loaders.load_refiner(models, pipe, CPU).controlnet.dtype == BRAIN
    models = ModelRoles(inpaint=inpaint, controlnet=ModelSpec(**folder, dtype="float16"))
    with pytest.raises(ValueError, match="controlnet.dtype: got 'float16', wanted 'bfloat16'"):
        loaders.load_refiner(models, pipe, CPU)
