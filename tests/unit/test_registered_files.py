"""The registered studies train what their claims contrast, and nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from varireal_utils.analysis import claim_file
from varireal_utils.analysis.contrasts import canonical
from varireal_utils.core.config import load_config
from varireal_utils.training import recipes
from varireal_utils.workflow import plan, registration, stages

FILES = {
    "registered": "A1 A2 A3 A4 A5 E1 E2 E3 E4 P0",
    "registered_parts": "F1 F2 F3 F4 P0",
    "registered_datadream": "D1 D2 P0",
    "registered_datadream_again": "D3 D4 D5 P0",
}
GATED = {"zero_shot", "real"}  # of the gate head_room


def _claims(names: str) -> list[claim_file.Claim]:
    return [c for c in claim_file.load(ROOT / "claims.yaml") if c.id in names.split()]


@pytest.fixture(params=FILES)
def study(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_config(f"params/{request.param}.yaml"), _claims(FILES[request.param])


def test_every_arm_of_a_claim_is_trained_and_every_training_is_of_a_claim(study):
    config, listed = study
    trained = set(config.classify.recipes)
    assert len(trained) == len(config.classify.recipes)
    assert claim_file.lacking(listed, trained) == {}
    asked = {n.replace(",feasible", ",familiar") for c in listed for n in c.recipe_names()}
    if "D" in {c.id[0] for c in listed}:
        asked = {n for n in asked if "unfamiliar" not in n}
    assert {canonical(n) for n in trained} == asked | GATED


def test_every_edit_and_generated_set_is_read_by_a_training(study):
    config, _ = study
    one = config.model_copy(update={"replicate": 0})
    made = [j for j in stages.jobs(one) if j.stage.name in ("04_edit", "05_datadream")]
    read = {
        up.name
        for job in stages.jobs(one)
        if job.stage.name == "06_classify"
        for up in job.upstream()
    }
    assert {job.name for job in made} <= read
    assert [j.target["variant"] for j in made if j.stage.name == "05_datadream"] == (
        ["dset"] * 3 * ("datadream" in config.study)
    )


def test_arms_that_are_compared_are_of_equal_size(study):
    """D2 excludes arms of unequal size: as many pictures as edits."""
    config, listed = study
    unequal = [c for c in listed if c.exclusions.unequal]
    for spec in config.datasets.values() if unequal else ():
        assert config.datadream.images_per_class == spec["train_per_class"]
        assert config.datadream.shots <= spec["train_per_class"]
    assert config.replicates % 3 == 0 and config.replicates <= registration.RESERVED
    assert config.device == "cpu" and config.precision != "auto"
    assert recipes.three_values(config.classify.recipes) and config.chain


def test_the_plan_names_the_arms_that_a_claim_lacks(monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = _claims("E1 E2 E3 E4")
    assert claim_file.lacking(listed, ["edit(color,familiar)"])["E4"][0].startswith("matched(")
    config = load_config("params/registered.yaml")
    names = [n for n in config.classify.recipes if n != "perfect(color,unfamiliar)"]
    less = config.model_copy(
        update={"classify": config.classify.model_copy(update={"recipes": names})}
    )
    text = "\n".join(plan._claims(less))
    assert "E1: perfect(color,unfamiliar)" in text and "E2: perfect(color,unfamiliar)" in text
    assert "D1: datadream(dset)" in text and "A1:" not in text
    assert "8 of 12 have all" in text  # those that ask again are not asked


def test_a_study_asks_what_it_was_made_for(study):
    config, listed = study
    every = claim_file.load(ROOT / "claims.yaml")
    asked = {c.id for c in claim_file.chosen(every, config.claims.only)}
    later = {c.id for c in every if c.again or c.by_name}
    if config.claims.only:
        assert asked == {c.id for c in listed} and asked - later == {"P0"}
    else:
        assert asked == {c.id for c in every} - later


def test_a_claim_that_asks_again_asks_the_same_of_the_same_arms(monkeypatch):
    """F2 to F4 take other arms, as docs/registration.md says; the rest is equal word for word."""
    monkeypatch.chdir(ROOT)
    every = {c.id: c for c in claim_file.load()}
    for name in ("F1", "D3", "D4"):
        asked, first = every[name], every[every[name].again]
        for key in ("estimand", "contrast", "over", "between", "test", "margin", "gates"):
            assert getattr(asked, key) == getattr(first, key), (name, key)
        assert asked.exclusions == first.exclusions
    first, again = (load_config(f"params/registered_datadream{e}.yaml") for e in ("", "_again"))
    same = {"study", "seed", "replicates", "claims", "file"}
    assert first.model_dump(exclude=same) == again.model_dump(exclude=same)


def test_a_key_that_came_later_changes_no_registered_digest(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config("params/registered.yaml")
    assert "claims.only" not in registration._parameters(config)
    kept = registration.read(registration.path_of(config))
    assert kept["parameters"] == registration._parameters(config)
    other = load_config("params/registered_parts.yaml")
    assert registration._parameters(other)["claims.only"] == ["F1", "F2", "F3", "F4", "P0"]


def test_infeasible_means_something_to_the_clip(study):
    """It was trained on web-like pictures, mostly feasible ones."""
    config, _ = study
    assert config.models.clip.name == "local-dir:models/micro/web_clip"
