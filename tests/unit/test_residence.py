"""Which models are alive at each call: SDXL, Stable Diffusion 2.1 and a verifier never together."""

import multiprocessing
import os
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from tests.unit.test_paper_models import (  # noqa: F401
    CHANGES,
    bank,
    config,
    rows,
    settings_of,
    sources,
)
from varireal_utils.core.config import load_config
from varireal_utils.editing import passes, phases, roles
from varireal_utils.models import distributed, loaders
from varireal_utils.models.residence import Residence

CPU = torch.device("cpu")


class Model:
    """Stands for weights: weakly referred to, so that its end is seen."""


def test_a_role_is_released_before_one_of_another_group_is_loaded():
    home, alive = Residence(), weakref.WeakValueDictionary()

    def load(role):
        def made():
            seen.append((role, sorted(alive)))
            alive[role] = model = Model()
            return model

        return made

    seen: list = []
    for role, group in (("a", "one"), ("b", "one"), ("c", "")):
        home.add(role, load(role), group)
    first = home.get("a")
    assert home.get("a") is first and home.get("b") is not first
    del first
    home.get("c")
    assert home.held == ("c",) and sorted(alive) == ["c"]
    home.get("a")
    assert seen == [("a", []), ("b", ["a"]), ("c", []), ("a", [])]
    home.release()
    assert not alive and home.held == ()


@pytest.fixture
def recorder(monkeypatch):
    """(calls, alive): at each call of a pipeline or the verifier, the roles whose weights are in
    memory."""
    alive, calls = weakref.WeakValueDictionary(), []

    def call(what):
        calls.append((what, tuple(sorted(alive))))

    def recorded(load, name):
        def loaded(models, *others):
            pipe = load(models, *others)
            role = others[0] if isinstance(others[0], str) else name
            alive[role] = pipe.unet
            pipe.role = role
            return pipe

        return loaded

    def called(own):
        def of(pipe, *args, **more):
            call(pipe.role)
            return own(pipe, *args, **more)

        return of

    monkeypatch.setattr(loaders, "load_pipeline", recorded(loaders.load_pipeline, ""))
    monkeypatch.setattr(loaders, "load_refiner", recorded(loaders.load_refiner, "refine"))
    kinds = {type(p) for p in _pipelines()}
    for kind in kinds:
        monkeypatch.setattr(kind, "__call__", called(kind.__call__))
    return call, calls, alive


def _pipelines():
    """One object of each pipeline class that an edit calls, without weights."""
    import diffusers

    names = (
        "StableDiffusionPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
    )
    return [object.__new__(getattr(diffusers, n)) for n in names]


@pytest.mark.parametrize("own_base", [True, False])
def test_an_arm_holds_the_models_of_one_phase(config, bank, recorder, own_base):  # noqa: F811
    call, calls, alive = recorder
    if not own_base:  # the micro models, whose refinement has the inpainting model's weights
        files = load_config("params/micro.yaml", CHANGES).models
        config = config.model_copy(update={"models": files})
    settings = settings_of(config, "texture", pool=2, batch_size=1, max_attempts=2)
    home = Residence()
    pipes = roles.load(settings, CPU, torch.float32, home)

    def load_verifier():
        alive["verifier"] = model = Model()
        return model

    home.add("verifier", load_verifier)

    def verify(pictures, part, photographs):
        home.get("verifier")
        call("verify")
        return pd.DataFrame({"worst_margin": [0.0] * len(part), "accepted": False})

    these = dict(zip("ab", sources("texture"), strict=True))
    asked = [
        r | {"image_id": i, "edit_id": i} for r, i in zip(rows(bank, "texture"), "ab", strict=True)
    ]
    home.get("verifier")  # thresholds come first
    phrases = [r["phrase"] for r in asked]
    prior = passes.prior_bank(pipes, bank, phrases, settings, 32)
    done = list(
        phases.run(
            pipes,
            pd.DataFrame(asked),
            these.__getitem__,
            prior,
            bank,
            settings,
            verify,
            {0: None, 1: None},
        )
    )
    assert len(done) == 2
    shared = ("refine",) if own_base else ("inpaint", "refine")
    of = {
        "prior": ("prior",),
        "inpaint": ("inpaint",),
        "refine": shared,
        "verify": ("verifier",),
    }
    order = ["inpaint"] * 2 + ["refine"] * 2 + ["verify"] * 2
    assert [what for what, _ in calls if what != "prior"] == order * 2
    for what, there in calls:
        assert there == of[what], (what, there)
    assert ("prior", ("prior",)) in calls


def test_pools_change_no_picture(config, bank):  # noqa: F811
    def made(pool):
        settings = settings_of(config, "color", pool=pool, batch_size=1, max_attempts=2)
        pipes = roles.load(settings, CPU, torch.float32)
        these = dict(zip("ab", sources("color"), strict=True))
        asked = [
            r | {"image_id": i, "edit_id": i}
            for r, i in zip(rows(bank, "color"), "ab", strict=True)
        ]

        def verify(pictures, part, photographs):
            return pd.DataFrame({"worst_margin": [float(p.mean()) for p in pictures]}).assign(
                accepted=False
            )

        run = phases.run(
            pipes,
            pd.DataFrame(asked),
            these.__getitem__,
            {},
            bank,
            settings,
            verify,
            {0: None, 1: None},
        )
        return {number: pictures[0] for number, pictures, _ in run}

    one, two = made(1), made(2)
    assert sorted(one) == sorted(two) == [0, 1]
    for number, picture in one.items():
        np.testing.assert_array_equal(picture, two[number])


def _uneven(part, folder, seconds):
    """Write a file, the second process long after the first."""
    import time

    number, count = part
    time.sleep(seconds[number])
    assert not torch.distributed.is_initialized()
    (folder / f"{number}-of-{count}").write_text("made")


def _fails(part):
    if part[0] == 1:
        raise ValueError("no such photograph")


@pytest.mark.slow
def test_processes_share_files_without_a_process_group(tmp_path):
    distributed.share(_uneven, 2, CPU, tmp_path, (0.0, 1.5))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0-of-2", "1-of-2"]
    with pytest.raises(Exception, match="no such photograph"):
        distributed.share(_fails, 2, CPU)


def _late(task, seconds):
    """The task doubled; odd ones take long."""
    import time

    time.sleep(seconds * (task % 2))
    if task < 0:
        raise ValueError("no such photograph")
    return 2 * task, os.getpid()


@pytest.mark.slow
def test_tasks_side_by_side_come_in_order_and_leave_no_process():
    got = list(distributed.each(_late, [1, 2, 4, 3, 6], 2, CPU, 1.0))
    assert [value for value, _ in got] == [2, 4, 8, 6, 12]
    assert len({pid for _, pid in got}) == 2
    with pytest.raises(Exception, match="no such photograph"):
        list(distributed.each(_late, [2, -2, 4], 2, CPU, 0.0))
    for found in distributed.each(_late, [2, 3, 5, 7], 2, CPU, 30.0):  # a caller who stops early
        assert found[0] == 4
        break
    assert not multiprocessing.active_children()
