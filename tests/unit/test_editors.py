"""Other editors by parameter, on random weights of the real classes."""

import numpy as np
import pytest
import torch

from tests import checkpoints
from tests.unit.test_paper_models import (  # noqa: F401
    CHANGES,
    STEPS,
    bank,
    config_of,
    pipes_of,
    rows,
    settings_of,
    sources,
)
from varireal_utils.core.config import ParameterError, StudyConfig, checked, load_config, merged
from varireal_utils.editing import conditioning, editors, passes, pipeline
from varireal_utils.prompts import phrase_bank
from varireal_utils.workflow import completeness, cost


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> StudyConfig:
    folder = tmp_path_factory.mktemp("weights")
    out = merged("params/micro.yaml", CHANGES)
    out["models"] = out["models"] | {
        "instruct": {"path": str(checkpoints.instruct(folder / "instruct"))},
        "prior": {"path": str(checkpoints.sd21(folder / "prior"))},
        "inpaint": {"path": str(checkpoints.flux_fill(folder / "inpaint"))},
    }
    own = {
        a: STEPS
        | {
            "dilate": 2,
            "alpha": 0.5,
            "prior_steps": 1,
            "prior_guidance_scale": 2.0,
            "prompt_weight": 1.0,
        }
        for a in ("background", "color", "texture")
    }
    out["edit"] = out["edit"] | {"canvas": 32, "prior_variants": 1, **own}
    return config_of(out)


def slice_of(config, attribute, own=None, **changes):
    """The slice of 04_edit under other settings of section edit, or of the attribute (own)."""
    section = config.edit.attributes[attribute].model_copy(update=own or {})
    sections = config.edit.attributes | {attribute: section}
    edit = config.edit.model_copy(update={"attributes": sections, **changes})
    return settings_of(config.model_copy(update={"edit": edit}), attribute)


def made(config, bank, attribute, own=None, **changes):  # noqa: F811
    settings = slice_of(config, attribute, own, **changes)
    pipes, asked = pipes_of(settings), rows(bank, attribute)
    prior = passes.prior_bank(pipes, bank, [r["phrase"] for r in asked], settings, 120)
    return pipeline.edit_batch(pipes, sources(attribute), asked, prior, bank, settings, 0)


@pytest.mark.parametrize("editor", sorted(n for n, e in editors.EDITORS.items() if e.paint))
def test_another_editor_paints_all_over_or_only_where_it_may(config, bank, editor):  # noqa: F811
    free = made(config, bank, "color", editor=editor, compose=False)
    held = made(config, bank, "color", editor=editor)
    for source, all_over, within in zip(sources("color"), free, held, strict=True):
        outside = source.editable == 0
        assert all_over.shape == source.image.shape == within.shape
        assert (all_over[outside] != source.image[outside]).any()
        assert (within[outside] == source.image[outside]).all()
        assert (within[~outside] == all_over[~outside]).all()
    again = made(config, bank, "color", editor=editor, compose=False)
    assert all((a == b).all() for a, b in zip(free, again, strict=True))


def test_instruct_is_asked_by_an_instruction(bank):  # noqa: F811
    import pandas as pd

    images = pd.DataFrame([{"image_id": "a", "label": 0, "class_name": "alvera"}])
    settings = settings_of(load_config("params/micro.yaml", CHANGES), "color", editor="instruct")
    row = pipeline.plan(images, bank, settings).iloc[0]
    assert row["prompt"] == f"make the alvera {row['phrase']}"
    own = {**bank, "templates": {"color": {"instruct": "paint the {class} {phrase}"}}}
    assert (
        phrase_bank.edit_prompt(own, "color", "red", "alvera", "instruct") == "paint the alvera red"
    )


@pytest.mark.parametrize("attribute", ["background", "color", "texture"])
def test_flux_fill_in_the_place_of_the_inpainting_model(config, bank, attribute):  # noqa: F811
    results = made(config, bank, attribute, {"refine_steps": 0, "strength": 1.0})
    for source, result in zip(sources(attribute), results, strict=True):
        inside = source.editable > 0
        assert (result[~inside] == source.image[~inside]).all()
        assert (result[inside] != source.image[inside]).any()


def test_flux_embeds_once_and_refuses_weights(config):
    pipe = pipes_of(slice_of(config, "color", {"refine_steps": 0})).inpaint
    one = conditioning.encode(pipe, "a red car")
    both = conditioning.arguments([one, one], conditioning.unconditional(pipe))
    assert set(both) == {"prompt_embeds", "pooled_prompt_embeds"}
    assert torch.equal(both["prompt_embeds"][0], both["prompt_embeds"][1])
    with pytest.raises(ValueError, match="prompt_weight to 1"):
        conditioning.encode(pipe, (("a ", 1.0), ("red", 1.3)))


def test_parameter_files_of_other_editors_are_complete():
    for name in ("baseline_instruct_pets", "flux_fill_pets"):
        completeness.complete(load_config(f"params/{name}.yaml"))
    file = "params/baseline_instruct_pets.yaml"
    config = load_config(file)
    assert completeness.roles_of(config, "texture") == ("instruct",)
    assert not completeness.refined(config, "texture")
    assert np.isclose(cost.edit_tflop(config, "color", "feasible"), 2 * 75 * 0.80)
    values = merged(file)
    del values["models"]["instruct"]
    with pytest.raises(ParameterError, match="models.instruct.*hub id"):
        completeness.complete(checked(values, file))
    with pytest.raises(ParameterError, match="edit.editor"):
        load_config("params/micro.yaml", {"edit.editor": "photoshop"})
