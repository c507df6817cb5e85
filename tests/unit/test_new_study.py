import os

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from varireal_utils.__main__ import main
from varireal_utils.core.config import load_config
from varireal_utils.data import datasets, enough
from varireal_utils.data.image_record import DatasetError
from varireal_utils.prompts import phrase_bank

SHIPPED = os.path.abspath("params")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the shipped parameter files, as a clone has them."""
    (tmp_path / "params").mkdir()
    for name in ("micro.yaml", "paper.yaml", "weekend.yaml", "custom.yaml", "custom_llm.yaml"):
        if os.path.exists(f"{SHIPPED}/{name}"):
            os.symlink(f"{SHIPPED}/{name}", tmp_path / "params" / name)
    (tmp_path / "params/prompts").mkdir()
    for name in os.listdir(f"{SHIPPED}/prompts"):
        os.symlink(f"{SHIPPED}/prompts/{name}", tmp_path / "params/prompts" / name)
    os.symlink(os.path.abspath("models"), tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photographs(folder, classes, count, size=(40, 32)):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_a_folder_becomes_a_study_that_loads(here, capsys):
    photographs(here / "pets", ["beagle", "pug"], 4)
    assert main(["new", "mine", "--images", "pets"]) == 0
    said = capsys.readouterr().out
    assert "2 classes, 8 photographs (4 a class)" in said
    assert said.splitlines()[-1].split() == ["make", "study", "PARAMS=params/mine.yaml"]
    config = load_config("params/mine.yaml")
    assert config.study == "mine" and config.datasets["mine"]["root"] == "pets"
    bank = phrase_bank.load_bank("params/prompts/mine.yaml", "mine", ["beagle", "pug"])
    assert len(phrase_bank.check_bank(bank)) == 6
    assert main(["new", "mine", "--images", "pets"]) == 2  # never over what is there
    assert "there already" in capsys.readouterr().err
    assert main(["new", "mine", "--images", "pets", "--force"]) == 0


@pytest.mark.parametrize("gpu", [16, 24, 80])
def test_with_real_models_phrases_are_places_that_02_refuses(here, capsys, gpu):
    photographs(here / "pets", ["beagle", "pug"], 4)
    words = ["new", "mine", "--images", "pets", "--models", "real", "--gpu", str(gpu)]
    assert main(words) == 0
    said = capsys.readouterr().out
    steps = [line.split()[0] for line in said.split("next:\n")[1].splitlines()]
    assert steps == ["vi", "python", "python", "make"]
    assert "fetch-models" in said and "preflight" in said
    config = load_config("params/mine.yaml")
    assert config.models.inpaint.path.startswith("diffusers/stable-diffusion-xl")
    bank = phrase_bank.load_bank("params/prompts/mine.yaml", "mine", ["beagle", "pug"])
    with pytest.raises(phrase_bank.PhraseError, match="is a place to fill in"):
        phrase_bank.check_bank(bank)


def test_a_language_model_may_write_the_phrases(here):
    photographs(here / "pets", ["beagle", "pug"], 4)
    assert main(["new", "mine", "--images", "pets", "--llm", "params/custom_llm.yaml"]) == 0
    prompts = load_config("params/mine.yaml").prompts
    assert prompts.source == "llm" and prompts.base == "params/prompts/mine.yaml"
    assert main(["new", "other", "--images", "pets", "--llm", "params/custom.yaml"]) == 2


def test_a_list_of_files_becomes_a_study(here):
    photographs(here / "pets", ["beagle", "pug"], 4)
    rows = [f"{c}/{i}.png,{c}" for c in ("beagle", "pug") for i in range(4)]
    (here / "pets/list.csv").write_text("\n".join(["path,label", *rows]))
    assert main(["new", "mine", "--csv", "pets/list.csv"]) == 0
    assert load_config("params/mine.yaml").datasets["mine"]["source"] == "csv"


def test_what_a_mac_packs_is_read_past(here, capsys):
    photographs(here / "unpacked/my_dogs", ["beagle", "pug"], 3)
    (here / "unpacked/__MACOSX/my_dogs/beagle").mkdir(parents=True)
    (here / "unpacked/__MACOSX/my_dogs/beagle/._0.png").write_bytes(b"x")
    (here / "unpacked/.DS_Store").write_bytes(b"x")
    assert main(["new", "mine", "--images", "unpacked"]) == 0
    assert "classes are taken from unpacked/my_dogs" in capsys.readouterr().out
    assert load_config("params/mine.yaml").datasets["mine"]["root"] == "unpacked/my_dogs"


def test_class_names_survive_the_files(here):
    names = ["NA", "A$AP$ dog", "cash $5_$10", "true", "Zoë's"]
    photographs(here / "odd", names, 3)
    assert main(["new", "odd", "--images", "odd"]) == 0
    assert yaml.safe_load(open("params/odd.yaml"))["datasets"]["odd"]["source"] == "imagefolder"


def written(here):
    return sorted(p.name for p in (here / "params").iterdir() if not p.is_symlink())


@pytest.mark.parametrize(
    ("classes", "count", "says"),
    [
        (["beagle"], 8, "a second class; there is 'beagle' alone"),
        (["beagle", "pug"], 2, "class 'beagle': 2 photographs, wanted at least 3"),
    ],
)
def test_too_few_photographs_are_named_and_nothing_is_written(here, capsys, classes, count, says):
    photographs(here / "few", classes, count)
    assert main(["new", "few", "--images", "few"]) == 1
    said = capsys.readouterr().out
    assert says in said and "Nothing was written." in said
    assert written(here) == ["prompts"]


def test_files_that_are_no_photographs_are_named(here, capsys):
    photographs(here / "pets", ["beagle", "pug"], 3)
    photographs(here / "thin", ["x"], 1, size=(200, 1))
    os.replace(here / "thin/x/0.png", here / "pets/pug/rule.png")
    (here / "pets/pug/broken.jpg").write_bytes(b"no picture")
    (here / "pets/pug/gone.jpg").symlink_to(here / "nowhere.jpg")
    (here / "pets/pug/list.zip").write_bytes(b"PK")
    assert main(["new", "pets", "--images", "pets"]) == 0
    said = capsys.readouterr().out
    assert "pug/rule.png: 200 x 1 pixels, wanted 8 a side" in said
    assert "pug/broken.jpg: cannot be read as an image" in said
    assert "2 classes, 6 photographs (3 a class)" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Mine", "--images", "pets"], "lower-case letters"),
        (["../mine", "--images", "pets"], "lower-case letters"),
        (["mine", "--images", "nowhere"], "no such folder"),
        (["mine", "--images", "pets.zip"], "unpack it first"),
        (["mine"], "wanted --images DIR or --csv FILE"),
        (["mine", "--images", "pets", "--gpu", "12"], "wanted one of [16, 24, 80]"),
        (["mine", "--csv", "nowhere.csv"], "no such file"),
    ],
)
def test_what_cannot_be_a_study_is_one_sentence(here, capsys, words, says):
    photographs(here / "pets", ["beagle", "pug"], 3)
    (here / "pets.zip").write_bytes(b"PK")
    assert main(["new", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1
    assert written(here) == ["prompts"]


@pytest.mark.parametrize(("count", "splits"), [(2, [2, 0, 0]), (3, [1, 1, 1]), (4, [2, 1, 1])])
def test_three_photographs_of_a_class_fill_three_splits(tmp_path, count, splits):
    root = photographs(tmp_path / "pets", ["beagle", "pug"], count)
    spec = {"source": "imagefolder", "root": str(root)}
    found, _ = datasets.load("pets", spec, tmp_path / "study")
    for name in ("beagle", "pug"):
        own = found[found["class_name"] == name]["split"]
        assert [int((own == s).sum()) for s in ("train", "val", "test")] == splits


def table(**classes):
    rows = [(name, split) for name, splits in classes.items() for split in splits]
    return pd.DataFrame(rows, columns=["class_name", "split"])


def test_01_data_says_at_once_what_is_missing():
    enough.require_enough("pets", table(a=["train", "val", "test"], b=["train"]))
    with pytest.raises(
        DatasetError, match="one class alone .'a'.; a classifier needs at least two"
    ):
        enough.require_enough("pets", table(a=["train", "val", "test"]))
    with pytest.raises(DatasetError, match="to choose the best step by.*class 'a': 2 photographs"):
        enough.require_enough("pets", table(a=["train", "test"], b=["train", "test"]))
