"""A registered study is run as it was registered, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from varireal_utils import __main__
from varireal_utils.core import storage
from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.workflow import registration, stages, study

BOOKS = ROOT / "notebooks"


@pytest.fixture
def drawn(tmp_path, monkeypatch) -> Path:
    """Parameter file of a study of replicates whose claims can be edited."""
    monkeypatch.chdir(ROOT)
    params = {
        "include": str(ROOT / "tests" / "tiny.yaml"),
        "study": "drawn",
        "seed": 991,
        "replicates": 4,
        "runs_dir": str(tmp_path / "runs"),
        "registration": str(tmp_path / "registered.json"),
        "prompts": "params/prompts/world.yaml",
        "attributes": ["color"],
        "classify": {"job": "dataset", "recipes": ["real", "perfect(color,familiar)"]},
    }
    path = tmp_path / "drawn.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def _registered(file: Path, **overrides) -> registration.State:
    registration.register(load_config(file, overrides), BOOKS)
    return json.loads((file.parent / "registered.json").read_text())


def test_a_registration_names_all_that_a_verdict_rests_on(drawn, tmp_path):
    found = _registered(drawn)
    assert (found["replicates"], found["seed"], found["reserved"]) == (4, 991, [0, 63])
    assert found["parameters"]["classify.recipes"] == ["real", "perfect(color,familiar)"]
    claims, weights = "claims.yaml", "models/micro/clip/open_clip_model.safetensors"
    assert found["sources"][claims] == storage.sha256_file(ROOT / claims)
    assert found["sources"][weights] == storage.sha256_file(ROOT / weights)
    assert "params/prompts/world.yaml" in found["sources"]
    assert set(found["notebooks"]) == {
        *("01_data", "02_attributes", "03_guidance", "04_edit", "06_classify", "07_claims")
    }
    code = found["code"]
    assert {"varireal_utils.analysis.verdict", "varireal_utils.training.train"} <= set(code)
    assert "microworld.feasibility" in code
    assert not [name for name in code if name.startswith("varireal_utils.reporting")]
    said = registration.hold(load_config(drawn), BOOKS)
    assert "4 replicates; as registered" in said
    assert registration.hold(load_config(drawn, {"registration": "none.json"}), BOOKS) == ""


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"replicates": 5}, "replicates: 4 -> 5"),
        ({"seed": 992}, "seed: 991 -> 992"),
        ({"classify.steps": 5}, "classify.steps: 4 -> 5"),
        ({"replicate": 2}, ""),
        ({"job_threads": 2}, ""),
    ],
)
def test_another_state_is_refused_by_name(drawn, overrides, words):
    _registered(drawn)
    config = load_config(drawn, overrides)
    if not words:
        assert registration.hold(config, BOOKS)
        return
    with pytest.raises(ParameterError, match=f"not as registered: .*{words}"):
        registration.hold(config, BOOKS)
    settings = [f"{k}={v}" for k, v in overrides.items()]
    with pytest.raises(ParameterError, match=words):  # before a job is begun
        study.drive(str(drawn), settings, notebooks=str(BOOKS))
    words_of_one = ["--params", str(drawn), "--set", "dataset=micro_pets", "--set", settings[0]]
    assert __main__.main(["run", "01_data", *words_of_one]) == 2


def test_other_claims_weights_notebooks_or_code_are_refused(drawn, tmp_path, monkeypatch):
    found = _registered(drawn)
    books = tmp_path / "notebooks"
    shutil.copytree(BOOKS, books)
    book = json.loads((books / "07_claims.ipynb").read_text())
    book["cells"][-2]["source"] = "print('another rule')"
    (books / "07_claims.ipynb").write_text(json.dumps(book))
    with pytest.raises(ParameterError, match="notebook 07_claims: changed"):
        registration.hold(load_config(drawn), books)
    for part, name in (
        ("sources", "claims.yaml"),
        ("sources", "models/micro/clip/open_clip_model.safetensors"),
        ("code", "varireal_utils.analysis.verdict"),
    ):
        other = {**found, part: {**found[part], name: "0"}}
        file = tmp_path / "registered.json"
        file.write_text(json.dumps(other))
        with pytest.raises(ParameterError, match=f"{part.removesuffix('s')} {name}: changed"):
            registration.hold(load_config(drawn), BOOKS)
    other = {**found, "code": {"varireal_utils.analysis.verdict": "0"}, "sources": {}}
    file.write_text(json.dumps(other))  # figures are drawn by later code, of the same parameters
    assert "as registered" in registration.hold(load_config(drawn), books, "08_figures")
    with pytest.raises(ParameterError, match="classify.steps: 4 -> 5"):
        registration.hold(load_config(drawn, {"classify.steps": 5}), books, "08_figures")
    file.write_text("[1]")
    with pytest.raises(ParameterError, match="take back its change"):
        registration.hold(load_config(drawn), BOOKS)


def test_reserved_replicates_are_drawn_by_no_other_study(drawn, tmp_path, monkeypatch):
    """Until the registered study is published; then its own file runs again under another name."""
    folder = tmp_path / "registrations"
    monkeypatch.setattr(registration, "FOLDER", folder)
    registration.register(load_config(drawn, {"registration": ""}), BOOKS)
    trial = {"study": "trial", "registration": ""}
    with pytest.raises(ParameterError, match="seed: got 991, whose indices 0 to 63 are reserved"):
        registration.hold(load_config(drawn, trial), BOOKS)
    assert registration.hold(load_config(drawn, trial | {"seed": 992}), BOOKS) == ""
    assert registration.hold(load_config(drawn, trial | {"replicates": 0}), BOOKS) == ""
    assert "as registered" in registration.hold(load_config(drawn, {"registration": ""}), BOOKS)
    there = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: path == Path("results/drawn") or there(path))
    assert registration.hold(load_config(drawn, trial), BOOKS) == ""


def test_a_classifiers_start_is_not_taken_for_the_studys_seed(drawn, capsys):
    words = ["run", "06_classify", "--params", str(drawn), "--set", "replicate=1"]
    words += ["--set", "dataset=micro_cars"]
    assert __main__.main([*words, "--set", "seed=77"]) != 0
    said = capsys.readouterr().err
    assert "wanted one of classify.seeds, [0]" in said and "overrides={seed: 77}" in said


def test_what_has_begun_or_is_no_study_of_replicates_is_not_registered(drawn, tmp_path):
    for count in (0, 65):
        with pytest.raises(ParameterError, match="replicates: got"):
            registration.register(load_config(drawn, {"replicates": count}), BOOKS)
    _registered(drawn)
    _registered(drawn, replicates=6)  # nothing was drawn yet: it may still be changed
    config = load_config(drawn, {"replicates": 6})
    job = next(j for j in stages.jobs(config) if j.stage.name == "01_data")
    storage.write_json(job.record, {"stage": "01_data", "outputs": {}})
    with pytest.raises(ParameterError, match="has begun .*run.json"):
        registration.register(config, BOOKS)
    # growth is another study: the same name with more replicates is refused
    with pytest.raises(ParameterError, match="replicates: 6 -> 8"):
        registration.hold(load_config(drawn, {"replicates": 8}), BOOKS)


def test_records_are_held_against_the_registration(drawn, tmp_path):
    found = _registered(drawn)
    config = load_config(drawn, {"replicate": 1})
    from varireal_utils.core.config import written

    def record(**changed):
        parameters = written(load_config(drawn, changed)) | {"replicate": 1}
        return {
            "stage": "06_classify",
            "started": "2999-01-01T00:00:00Z",
            "parameters": parameters,
            "parameter_digest": storage.sha256_json(parameters),
            "key": {
                "notebook": found["notebooks"]["06_classify"],
                "sources": dict(list(found["sources"].items())[:1]),
                "code": dict(list(found["code"].items())[:1]),
            },
        }

    path = registration.path_of(config)
    wrong, said = registration.compared(path, [record(), record()])
    assert not wrong and said.startswith("2 records against the registration of")
    early = record() | {"started": "2001-01-01T00:00:00Z"}
    assert "before the registration" in registration.compared(path, [early])[0][0]
    wrong, _ = registration.compared(path, [record(**{"classify.steps": 9})])
    assert wrong == [f"{path}: classify.steps: 4 -> 9"]
    other = record()
    other["key"]["code"] = {"varireal_utils.analysis.verdict": "0"}
    assert registration.compared(path, [other])[0] == [
        f"{path}: code varireal_utils.analysis.verdict: changed"
    ]
    assert registration.compared(tmp_path / "none.json", [record()]) == ([], "")
