"""params/datadream_*.yaml against the facts of docs/protocol.md, C3, number by number."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT
from varireal_utils.core.config import StudyConfig, load_config, merged
from varireal_utils.data import registry
from varireal_utils.data.coop import CoopLayout
from varireal_utils.models.loaders import required
from varireal_utils.training import train_step

FILES = sorted(ROOT.glob("params/datadream_*.yaml"))
WORDS = {  # the word of a data set in "a {word }photo of a {class}"
    "oxford_pets": "pet ",
    "fgvc_aircraft": "aircraft ",
    "stanford_cars": "car ",
    "eurosat": "satellite ",
    "dtd": "texture ",
    "flowers102": "flower ",
    "food101": "food ",
    "sun397": "scene ",
    "imagenet": "",
    "caltech101": "",
}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def config(request, monkeypatch) -> StudyConfig:
    monkeypatch.chdir(ROOT)
    return load_config(request.param)


def test_every_data_set_of_the_paper_has_a_file() -> None:
    assert {f.stem.removeprefix("datadream_") for f in FILES} == set(WORDS)


def test_the_adapter_and_its_images_are_those_of_c3(config: StudyConfig) -> None:
    own = config.datadream
    assert own is not None and config.attributes == []
    assert (own.shots, own.rank, own.text_encoder) == (16, 16, True)
    assert (own.lr, own.weight_decay, own.batch_size) == (1e-4, 1e-2, 8)
    assert (own.epochs, own.warmup_steps) == (200, 100)  # 400 steps a class: 200 x 16 / 8
    assert (own.steps, own.guidance_scale, own.images_per_class) == (50, 2.0, 500)
    model = required(config.models, "datadream" if config.models.datadream else "prior")
    assert model.path.endswith("/stable-diffusion-2-1-base")


def test_the_docs_say_what_each_root_holds(config: StudyConfig) -> None:
    """As the first line of each file refers to."""
    (name,) = config.datasets
    spec = registry.of_study(config, name)
    layout = import_module(f"varireal_utils.data.sets.{name}").LAYOUT
    assert "docs/paper_scale.md, Data sets" in Path(config.file).read_text().splitlines()[0]
    if isinstance(layout, CoopLayout):
        lines = (ROOT / "docs/paper_scale.md").read_text().splitlines()
        (row,) = [line for line in lines if f"`{spec.root}`" in line and line.startswith("|")]
        assert f"`{layout.pictures}/`" in row and f"`{layout.listed}`" in row


def test_the_sentences_are_those_of_c3(config: StudyConfig) -> None:
    (name,) = config.datasets
    sentence = f"a {WORDS[name]}photo of a {{class}}"
    assert config.datadream and config.datadream.template == sentence
    assert config.classify.templates == [sentence]
    assert registry.of_study(config, name).split == "official"


def test_the_classifier_is_that_of_c3(config: StudyConfig) -> None:
    own = config.classify
    assert config.models.clip and config.models.clip.name.startswith("ViT-B-16")
    assert (own.rank, own.alpha, own.dropout) == (16, 32, 0.1)
    assert set(own.towers) == {"image", "text"}
    assert (own.lr, own.weight_decay, train_step.MIN_LR) == (1e-4, 1e-4, 1e-8)
    assert own.mix and own.mix.probability == 0.2
    assert (own.mix.mixup_alpha, own.mix.cutmix_alpha) == (1.0, 1.0)
    assert own.lambda_real == 0.8  # half of each batch is real: 16 x 31 = 496 beside 500 images
    # of the re-release, for the paper's are not published: 60 epochs of 312 steps of 256 images
    assert (own.batch_size, own.steps, own.eval_every) == (256, 60 * 312, 312)
    assert own.warmup == 6 / 60 and own.eval_batch_size == 1024
    assert own.real == "shots"
    recipes = {"datadream(cls)", "datadream(dset)"}
    assert set(own.recipes) == {"zero_shot", "real", *recipes, *(f"real+{r}" for r in recipes)}


def test_one_root_for_a_data_set_in_all_files(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    roots: dict[str, dict[str, list[str]]] = {}
    for file in sorted(Path("params").glob("*.yaml")):
        for name, settings in merged(file)["datasets"].items():
            if "root" in settings:
                roots.setdefault(name, {}).setdefault(settings["root"], []).append(file.name)
    assert roots and all(len(found) == 1 for found in roots.values()), roots
