"""06_classify: its slice, and which of the study's files it reads."""

import pandas as pd
import pytest

from tests.conftest import tiny_params
from varireal_utils.core import storage
from varireal_utils.core.config import ParameterError, checked
from varireal_utils.core.config_base import content
from varireal_utils.core.stage import Run
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.data.shots import few_shot
from varireal_utils.training import result
from varireal_utils.training.slices import ClassifyStage
from varireal_utils.training.stage import (
    StudyImages,
    _finished_result,
    load_images,
    training_set,
)

DATADREAM = {
    "shots": 16,
    "images_per_class": 2,
    "template": "a {class}",
    "rank": 2,
    "lr": 1e-3,
    "weight_decay": 0.01,
    "epochs": 1,
    "batch_size": 2,
    "warmup_steps": 1,
    "text_encoder": True,
    "checkpoint_every": 5,
    "steps": 2,
    "guidance_scale": 2.0,
}
RECIPES = ["zero_shot", "real", "real+edit(color,feasible)", "datadream(cls)"]


def config(**changes):
    """The tiny study with recipes of every kind; changes: dotted with __."""
    values = tiny_params("runs") | {"attributes": ["color", "texture"]}
    values["edit"]["texture"] = values["edit"]["color"] | {
        "prior_steps": 2,
        "prior_guidance_scale": 2.0,
    }
    values["classify"] |= {"recipes": RECIPES, "seeds": [3, 1]}
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        node = values
        for part in path:
            node = node[part]
        node[last] = value
    return checked(values, "f")


def test_a_run_of_all_recipes_and_seeds():
    settings = ClassifyStage.of(config(), dataset="a", recipe="", seed=-1)
    assert settings.trainings() == [
        ("zero_shot", 3),
        *((r, k) for r in RECIPES[1:] for k in (3, 1)),
    ]
    assert settings.attributes == ["color"] and settings.variants == ["cls"]
    every = ClassifyStage.of(config(classify__recipes=["real+mix(all,0.5)"]))
    assert every.attributes == ["color", "texture"] and every.variants == []


def test_a_run_of_one_seed_or_recipe():
    assert ("zero_shot", 3) in ClassifyStage.of(config(), seed=3).trainings()
    assert "zero_shot" not in ClassifyStage.of(config(), seed=1).recipes
    one = ClassifyStage.of(config(), recipe="real", seed=1)
    assert one.trainings() == [("real", 1)]
    assert one.attributes == one.variants == []


def test_the_slice_holds_what_another_job_changes_not():
    one = content(ClassifyStage.of(config(), recipe="real", seed=1))
    same = config(classify__recipes=["real", "zero_shot"], classify__seeds=[3, 1, 2])
    assert content(ClassifyStage.of(same, recipe="real", seed=1)) == one
    for key, value in {
        "classify__lr": 0.5,
        "classify__templates": ["b {class}"],
        "verify__keep": "paired",
        "models__clip": {"name": "other"},
        "seed": 8,
    }.items():
        assert content(ClassifyStage.of(config(**{key: value}), recipe="real", seed=1)) != one, key
    for key in ("classify__processes", "classify__checkpoint_every"):
        assert content(ClassifyStage.of(config(**{key: 9}), recipe="real", seed=1)) == one, key


def test_a_recipe_of_an_attribute_that_the_study_has_not_is_refused():
    with pytest.raises(ValueError, match="needs edits of 'background'; attributes has"):
        ClassifyStage.of(config(), recipe="edit(background,feasible)", seed=1)


@pytest.mark.parametrize("keep", ["paired", "accepted", "all"])
def test_keep_is_one_word_from_file_to_training_set(keep):
    assert ClassifyStage.of(config(verify__keep=keep)).keep == keep


def test_only_what_the_configuration_names_is_read(tmp_path):
    """Edits of an attribute that was taken out of the file, and another variant, stay unread."""
    paths = StudyPaths(tmp_path)
    storage.write_table(paths.images_table("a"), pd.DataFrame({"image_id": ["i"]}))
    for attribute in ("color", "texture"):
        for arm in ("feasible", "infeasible"):
            rows = pd.DataFrame({"attribute": [attribute], "feasibility": [arm]})
            storage.write_table(paths.edits_table("a", attribute, arm), rows)
    for variant in ("cls", "dset"):
        storage.write_table(paths.samples_table("a", variant), pd.DataFrame({"v": [variant]}))

    def read(recipe: str) -> StudyImages:
        settings = ClassifyStage.of(config(), recipe=recipe, seed=1)
        return load_images(Run("06", settings, paths, tmp_path, 0, None, None, {"dataset": "a"}))

    found = read("edit(color,feasible)")
    assert list(found.edits["feasibility"]) == ["feasible", "infeasible"]
    assert set(found.edits["attribute"]) == {"color"} and found.samples is None
    assert found.files == [
        paths.images_table("a"),
        *(paths.edits_table("a", "color", arm) for arm in ("feasible", "infeasible")),
    ]
    found = read("real+datadream(cls)")
    assert found.edits is None and list(found.samples["v"]) == ["cls"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "predictions.parquet", "files.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "changed"])
def test_a_training_that_lost_a_file_is_trained_again(tmp_path, name, damage):
    for file in ("adapter_model.safetensors", "predictions.parquet"):
        storage.write_text(tmp_path / file, file)
    result.write_sums(tmp_path)
    metrics = {"fingerprint": "f", "top1": 0.5}
    storage.write_json(tmp_path / "metrics.json", metrics)
    assert _finished_result(tmp_path, "f") == metrics
    path = tmp_path / name
    path.unlink() if damage == "gone" else path.write_text(
        "" if damage == "empty" else '{"a": "b"}'
    )
    assert _finished_result(tmp_path, "f") is None
    assert not (tmp_path / "metrics.json").exists()


def photographs(per_class: int) -> pd.DataFrame:
    """images.parquet of two classes: `per_class` photographs for training, one of each else."""
    rows = [
        {"image_id": f"{name}{i}", "path": f"{name}{i}.png", "label": label, "class_name": name}
        | {"split": "train" if i < per_class else "val" if i == per_class else "test"}
        for label, name in enumerate("ab")
        for i in range(per_class + 2)
    ]
    return pd.DataFrame(rows)


def test_real_photographs_are_the_shots_that_datadream_saw() -> None:
    """Both sides of DataDream's comparison take the same list, with generated images and alone."""
    few = config(classify__real="shots", datadream=DATADREAM | {"shots": 3})
    images = photographs(20)
    seen = few_shot(images, 3, few.seed)  # as 05_datadream writes into few_shot.csv
    samples = pd.DataFrame(
        {"image_id": [f"s{i}" for i in range(4)], "path": "s.png", "label": [0, 0, 1, 1]}
        | {"class_name": [*"aabb"], "variant": "cls", "k": [0, 1, 0, 1], "prompt": "p"}
    )
    data = StudyImages(images, None, samples, [])
    settings = ClassifyStage.of(few, dataset="a", recipe="", seed=-1)
    for recipe, generated in (("real", 0), ("real+datadream(cls)", 4)):
        rows = training_set(settings, recipe, data)
        real = rows[rows["is_real"]]
        assert set(real["image_id"]) == set(seen["image_id"]) and len(real) == 6
        assert len(rows) == 6 + generated
    assert len(training_set(settings, "real@2", data)) == 4  # a recipe's own number counts
    every = ClassifyStage.of(config(datadream=DATADREAM), dataset="a", recipe="", seed=-1)
    assert every.shots is None and len(training_set(every, "real", data)) == 40
    assert content(every) != content(settings)


def test_shots_without_their_number_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"classify\.real: got 'shots' without datadream\.sh"):
        config(classify__real="shots", classify__recipes=["real"])
