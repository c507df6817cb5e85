"""Keys of 01_data and 02_attributes: what changes them, by name, and what does not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varireal_utils.core.config import StudyConfig, load_config
from varireal_utils.core.config_errors import ParameterError
from varireal_utils.core.stage import Key, SourceDigests, StageSettings
from varireal_utils.data.stage import DataStage
from varireal_utils.prompts.stage import AttributesStage

PARAMS = "params/micro.yaml"


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    monkeypatch.chdir(pytestconfig.rootpath)


def config(dataset: dict | None = None, **changes) -> StudyConfig:
    found = load_config(PARAMS, {key.replace("__", "."): v for key, v in changes.items()})
    return found.model_copy(update={"datasets": {"mine": dataset}}) if dataset else found


def key(stage: type[StageSettings], found: StudyConfig, tmp_path: Path, dataset="mine") -> Key:
    digests = SourceDigests(tmp_path / "digests.json")
    return Key.of(stage.of(found, dataset=dataset), found, Path("none.ipynb"), digests)


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two photographs, one with a mask."""
    for n, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        picture(tmp_path / "in" / name, n)
    picture(tmp_path / "masks/a/1.png", 255)
    return tmp_path


def folder_key(folder: Path, **more) -> Key:
    spec = {"source": "imagefolder", "root": f"{folder}/in", "masks": f"{folder}/masks"}
    return key(DataStage, config(spec | more), folder)


def test_photographs_and_masks_added_replaced_and_deleted_change_the_key(folder: Path) -> None:
    first = folder_key(folder)
    assert folder_key(folder).digest == first.digest and len(first.sources) == 5
    picture(folder / "in/a/3.png", 9)
    picture(folder / "in/a/2.png", 99)
    (folder / "in/b/2.png").unlink()
    picture(folder / "masks/a/1.png", 254)
    assert [
        text.removeprefix(f"source {folder}/") for text in folder_key(folder).changes(first)
    ] == [
        "in/a/2.png: changed",
        "in/a/3.png: added",
        "in/b/2.png: removed",
        "masks/a/1.png: changed",
    ]


def test_settings_of_the_data_set_and_the_seed_change_the_key(folder: Path) -> None:
    first = folder_key(folder)
    assert folder_key(folder, max_size=512).changes(first) == ["spec.max_size: 1024 -> 512"]
    assert folder_key(folder, max_size=1024).changes(first) == []  # a default, written out
    spec = {"source": "imagefolder", "root": f"{folder}/in", "masks": f"{folder}/masks"}
    later = key(DataStage, config(spec, seed=5), folder)
    assert [text.split(":")[0] for text in later.changes(first)] == ["seed"]
    other = key(DataStage, config(spec, classify__lr=0.5, edit__color__strength=0.1), folder)
    assert other.digest == first.digest


def test_a_changed_csv_and_what_it_lists_change_the_key(folder: Path) -> None:
    csv = folder / "list.csv"
    csv.write_text("path,label,mask\nin/a/1.png,a,masks/a/1.png\nin/b/1.png,b,\n")
    found = config({"source": "csv", "path": str(csv)})
    first = key(DataStage, found, folder)
    assert {Path(p).name for p in first.sources} == {"1.png", "list.csv"}
    picture(folder / "in/a/2.png", 77)  # not listed
    assert key(DataStage, found, folder).digest == first.digest
    csv.write_text(csv.read_text() + "in/a/2.png,a,\n")
    assert key(DataStage, found, folder).changes(first) == [
        f"source {folder}/in/a/2.png: added",
        f"source {csv}: changed",
    ]


def test_the_rendered_world_reads_no_file(tmp_path: Path) -> None:
    found = key(DataStage, config(), tmp_path, "micro_cars")
    assert found.sources == {} and (found.precision, found.device) == ("", "")
    assert found.settings["spec.family"] == "cars"
    with pytest.raises(ParameterError, match="no data set 'micro_car'; did you mean 'micro_cars'"):
        DataStage.of(config(), dataset="micro_car")


def test_phrases_depend_on_the_file_the_words_and_the_seed(tmp_path: Path) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text("a: 1")
    counts = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1}
    spec = {"source": "world", "family": "cars", **counts}

    def of(**changes) -> Key:
        found = config(spec, **changes).model_copy(update={"prompts": str(file)})
        return key(AttributesStage, found, tmp_path)

    first = of()
    assert list(first.sources) == [str(file)] and first.settings["family"] == "cars"
    assert (first.precision, first.device) == ("", "")
    assert of(classify__lr=0.5, edit__color__strength=0.1, precision="bfloat16").digest == (
        first.digest
    )
    assert [c.split(":")[0] for c in of(seed=5).changes(first)] == ["seed"]
    spec |= {"train_per_class": 3}  # the photographs are read from 01_data's table
    assert of().digest == first.digest
    spec |= {"family": "pets"}
    assert of().changes(first) == ["family: cars -> pets"]
    spec |= {"family": "cars"}
    file.write_text("a: 2")
    assert of().changes(first) == [f"source {file}: changed"]


def test_a_language_model_is_part_of_the_key_and_its_base_a_source(tmp_path: Path) -> None:
    found = load_config("params/custom_llm.yaml")
    name = next(iter(found.datasets))
    first = key(AttributesStage, found, tmp_path, name)
    assert found.phrase_file in first.sources
    assert not any("price" in k or "api_key" in k or "timeout" in k for k in first.settings)
    assert any(k.startswith("prompts.model.") for k in first.settings)
