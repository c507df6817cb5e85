"""A bad key or value is an error that names the file, the key, and what was wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.data import registry

ROOT = Path(__file__).resolve().parents[2]


def write(file: Path, **changes: Any) -> Path:
    """Change dotted keys of a parameter file ("claims__margin") without any check."""
    params = yaml.safe_load(file.read_text())
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        node = params
        for key in path:
            node = node[key]
        node[last] = value
    file.write_text(yaml.safe_dump(params))
    return file


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_file_is_good(path: Path) -> None:
    if path.name in (
        "paper.yaml",
        "datadream.yaml",
        "weekend.yaml",
    ):  # what the files of the three data sets share
        with pytest.raises(ParameterError, match="name at least one data set"):
            load_config(path)
        return
    config = load_config(path)
    assert config.study == path.stem and (ROOT / config.phrase_file).is_file()
    for name, spec in config.datasets.items():
        registry.parse(name, spec)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1e3", -1e3),
        ("1.", 1.0),
        (".5", 0.5),
        ("5.0e-4", 5e-4),
        ("3", 3),
    ],
)
def test_numbers_are_numbers(params_file: Path, text: str, wanted: float) -> None:
    file = write(params_file, guidance__canny_low="LOW")
    file.write_text(file.read_text().replace("canny_low: LOW", f"canny_low: {text}"))
    value = load_config(file).guidance.canny_low
    assert value == wanted and isinstance(value, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claim": 1}, "unknown key 'claim'; did you mean 'claims'"),
        ({"claims__margn": 1}, "unknown key 'claims.margn'; did you mean 'margin'"),
        ({"claims__margin": "a"}, r"claims.margin: got 'a' \(str\), wanted int or float"),
        ({"claims__margin": float("nan")}, "claims.margin: got nan, wanted a finite number"),
        ({"claims__margin": True}, "claims.margin: got True"),
        ({"datasets": {}}, "name at least one data set"),
        ({"datasets": {"a": {"x": float("nan")}}}, "a value is no text, finite number"),
        ({"protocol": "controled"}, "protocol: got 'controled', wanted one of"),
        ({"device": ["cpu"]}, "device: got"),
        ({"classify__dropout": 1.5}, "classify.dropout: got 1.5, wanted a number from 0 to 1"),
        ({"classify__seeds": [0, "1"]}, r"classify.seeds\[1\]: got '1' \(str\), wanted int"),
        ({"classify__seeds": []}, "classify.seeds: got .*, wanted a list with an item"),
        ({"classify__recipes": "real"}, "classify.recipes: got 'real', wanted a list"),
        ({"classify__towers": ["img"]}, r"classify.towers\[0\]: got 'img', wanted one of"),
        ({"edit__batch_size": 0}, "edit.batch_size: got 0 .*, wanted an int of at least 1"),
        ({"edit__batch_size": 2.0}, "edit.batch_size: got 2.0 .*, wanted an int"),
        ({"edit__batch_size": True}, "edit.batch_size: got True"),
        ({"attributes": ["colour"]}, "'colour' has no settings under edit; did you mean 'color'"),
        ({"attributes": ["batch_size"]}, "'batch_size' has no settings under edit"),
        ({"attributes": [["color"]]}, r"attributes\[0\]: got \['color'\] \(list\), wanted str"),
        ({"attributes": ["color", "color"]}, "attributes: got .*'color' is given twice"),
        (
            {"classify__recipes": ["edit(color,feasible)", "edit(color, feasible)"]},
            r"classify.recipes: got .*'edit\(color, feasible\)' is given twice",
        ),
        ({"classify__seeds": [0, 1, 0]}, "classify.seeds: got .*wanted each item once"),
        ({"classify__lr": 0.0}, "classify.lr: got 0.0, wanted a number above 0"),
        ({"edit__canvas": 500}, r"edit.canvas: got 500 \(int\), wanted an int, a multiple of 8"),
        ({"guidance__canny_blur": 4}, r"guidance.canny_blur: got 4 \(int\), wanted an odd int"),
        (
            {"include": ["a.yaml"]},
            r"include: got \['a.yaml'\] \(list\), wanted the name of one file",
        ),
        (
            {"datasets": {1: {"source": "world"}}},
            "datasets.1: the key is 1 .int., wanted str: quote",
        ),
        ({"edit__batch_sze": 1}, "unknown key 'edit.batch_sze'; did you mean 'batch_size'"),
        ({"edit__colour": {"steps": 1, "guidance_scale": 1}}, "unknown key 'edit.colour'; did you"),
        ({"edit__color__step": 1}, "unknown key 'edit.color.step'; did you mean 'steps'"),
        ({"edit__color": 3}, "edit.color: got 3, wanted keys and values"),
        ({"models__clip__tpath": "x"}, "unknown key 'models.clip.tpath'; did you mean 'path'"),
        (
            {"classify__augment": {"blurr": 0.1}},
            "unknown key 'classify.augment.blurr'; did you mean",
        ),
        ({"guidance": 3}, "guidance: got 3, wanted keys and values"),
    ],
)
def test_bad_value_is_named(params_file: Path, change: dict, message: str) -> None:
    file = write(params_file, **change)
    with pytest.raises(ParameterError, match=message) as error:
        load_config(file)
    assert str(file) in str(error.value)


def test_missing_key_is_named(params_file: Path) -> None:
    params_file.write_text(params_file.read_text().replace("protocol: controlled\n", ""))
    with pytest.raises(ParameterError, match="protocol is missing"):
        load_config(params_file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "must hold keys and values, got list"),
        ("", "got NoneType"),
        ("seed: 1\nseed: 2", "given twice: seed"),
        ("a: &a [1, *a]", "an alias refers to what holds it"),
        ("[" * 5000, "not valid YAML"),
        (
            "\n".join(
                [
                    "a0: &a0 [1, 1]",
                    *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)),
                ]
            ),
            "with its aliases written out",
        ),
    ],
)
def test_what_is_no_parameter_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ParameterError, match=message):
        load_config(tmp_path / "p.yaml")
    with pytest.raises(ParameterError, match=r"q.yaml: no such parameter file.*p.yaml"):
        load_config(tmp_path / "q.yaml")


def test_include_is_merged_relative_to_the_file(tmp_path: Path, params_file: Path) -> None:
    (tmp_path / "sub").mkdir()
    child = tmp_path / "sub/child.yaml"
    child.write_text(
        "include: ../tiny.yaml\nstudy: child\nclassify: {seeds: [0, 1]}\n"
        "datasets: {mine: {source: world}}\n"
    )
    config = load_config(child)
    assert config.study == "child" and config.seed == 7
    assert config.classify.seeds == [0, 1] and config.classify.rank == 2
    assert list(config.datasets) == ["mine"]  # a study names its own data sets
    child.write_text("include: child.yaml")
    with pytest.raises(ParameterError, match="includes itself"):
        load_config(child)


def test_overrides_name_existing_keys_and_keep_the_type(params_file: Path) -> None:
    config = load_config(params_file, {"edit.color.strength": 1, "classify.seeds": [3]})
    assert config.edit.attributes["color"].strength == 1.0 and config.classify.seeds == [3]
    for overrides, message in [
        ({"edit.colour.strength": 0.5}, "no key 'colour'; did you mean 'color'"),
        ({"edit.color.strength.x": 0.5}, "no key 'x'"),
        ({"edit.color.strength": "0.5"}, r"is float \(0.8\), cannot become str"),
        ({"edit.color.strength": 2.0}, "wanted a number from 0 to 1"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": True}, "cannot become bool"),
        ({"_file": "x"}, "no key '_file'"),
    ]:
        with pytest.raises(ParameterError, match=message):
            load_config(params_file, overrides)


def test_overrides_give_keys_left_at_their_default(params_file: Path) -> None:
    change = {
        "edit.canvas": 64,
        "edit.color.alpha": 0.5,
        "classify.mix.probability": 0.2,
        "models.prior.path": "x",
        "claims.against.b": "runs/b",
        "classify.augment.blur": 0.1,
    }
    config = load_config(params_file, change)
    assert (config.edit.canvas, config.edit.attributes["color"].alpha) == (64, 0.5)
    assert config.classify.mix.probability == 0.2 and config.models.prior.path == "x"
    assert config.claims.against == {"b": ["runs/b"]}
    for key, message in [
        ("edit.canvass", "no key 'canvass'; did you mean 'canvas'"),
        ("edit.attributes", "no key 'attributes'"),
        ("edit.<attributes>", "no key '<attributes>'"),
        ("prompts.model.url", "prompts is str"),
        ("classify.lr.x", "no key 'x'"),
        ("datadream.rank", "datadream.steps is missing"),
        ("edit.canvas", "edit.canvas: got 3"),
    ]:
        with pytest.raises(ParameterError, match=message):
            load_config(params_file, {key: 3})


ENDPOINT = {"kind": "endpoint", "url": "https://words.example/v1", "name": "m"}
WORDS = {
    "source": "llm",
    "base": "params/prompts/custom.yaml",
    "subject": "cars",
    "counts": {"color": 3},
    "model": ENDPOINT,
}


def test_a_language_model_under_prompts(params_file: Path) -> None:
    local = {"kind": "local", "path": "./model", "structured": "none", "dtype": "bfloat16"}
    near = ENDPOINT | {"url": "http://localhost:8000/v1", "api_key_env": "KEY"}
    for more in (
        {},
        {"judge": local},
        {"model": local},
        {"model": near},
        {"per_class": True, "attempts": 2, "disagreements": "drop"},
    ):
        config = load_config(write(params_file, prompts=WORDS | more))
        assert config.phrase_file == "params/prompts/custom.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "gpt"}, r"prompts.source: got 'gpt', wanted one of \['llm'\]"),
        ({"sorce": 1}, "unknown key 'prompts.sorce'; did you mean 'source'"),
        ({"counts": {"texture": 3}}, "prompts.counts: no number of phrases for 'color'"),
        ({"counts": {"color": 0}}, "prompts.counts.color: got 0"),
        ({"attempts": 0}, "prompts.attempts: got 0"),
        ({"disagreements": "x"}, "wanted one of"),
        ({"model": {"kind": "api"}}, r"prompts.model.kind: got 'api', wanted one of"),
        ({"model": {"kind": ["local"]}}, r"prompts.model.kind: got \['local'\]"),
        ({"judge": {"kind": "local"}}, "prompts.judge.path is missing"),
        (
            {"model": ENDPOINT | {"api_key": "x"}},
            "unknown key 'prompts.model.api_key'; did you mean",
        ),
        ({"model": ENDPOINT | {"structured": "yaml"}}, "prompts.model.structured: got 'yaml'"),
        ({"model": ENDPOINT | {"timeout": 0}}, "prompts.model.timeout: got 0, wanted at least 0.1"),
        ({"model": ENDPOINT | {"price_input": -1}}, "prompts.model.price_input: got -1"),
        ({"model": ENDPOINT | {"temperature": 3}}, "prompts.model.temperature: got 3"),
        ({"model": ENDPOINT | {"url": "words.example"}}, "prompts.model.url: got 'words.example'"),
        ({"model": ENDPOINT | {"url": "file:///etc/x"}}, "prompts.model.url: got 'file"),
        ({"model": ENDPOINT | {"url": "https://a:b/v1"}}, "prompts.model.url"),
        (
            {"model": ENDPOINT | {"url": "http://words.example", "api_key_env": "K"}},
            "in clear text",
        ),
    ],
)
def test_a_bad_block_of_a_language_model_is_named(
    params_file: Path, change: dict, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        load_config(write(params_file, prompts=WORDS | change))


@pytest.mark.parametrize(
    "change",
    [
        {"api_key_env": "sk-secret"},
        {"api_key_env": "secretsecret1"},
        {"url": "https://u:secret@words.example/v1"},
        {"url": "https://words.example/v1?key=secret"},
    ],
)
def test_a_key_put_into_the_file_is_not_shown(params_file: Path, change: dict) -> None:
    with pytest.raises(ParameterError, match="not shown") as error:
        load_config(write(params_file, prompts=WORDS | {"model": ENDPOINT | change}))
    assert "secret" not in str(error.value)
