"""What a notebook is asked to do: its job, from the words of a command line, before it runs.

    parameters   checked against the cell tagged "parameters", or the parameter file
    frozen       the configuration as a study's driver read it, whatever becomes of the file

Invariant (tests/unit/test_runner.py): a misspelt key or a value of the wrong type is refused here,
before any kernel starts.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import storage
from ..core.config import ParameterError, StudyConfig, checked, load_config, written
from ..core.config_file import Loader

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class Job:
    """One notebook with checked arguments. executed: where the notebook goes when it has run.

    is_stage: it has a `params` parameter, so it must write a record; config: as it was read, which
    the notebook's kernel takes, whatever becomes of the file.
    """

    stage: str
    notebook: Path
    arguments: dict[str, Any]
    executed: Path
    is_stage: bool
    config: StudyConfig | None = None


def find_notebook(stage: str, folder: Path = Path("notebooks")) -> Path:
    """The file of a stage ("04_edit", or a path). Raises ParameterError with the nearest name."""
    path = Path(stage) if stage.endswith(".ipynb") else folder / f"{stage}.ipynb"
    if path.is_file():
        try:
            storage.notebook_cells(path)
        except ValueError as error:
            raise ParameterError(str(error)) from error
        return path
    known = sorted(p.stem for p in path.parent.glob("*.ipynb"))
    raise ParameterError(f"{path}: no such notebook{_nearest(path.stem, known)}")


def read_signature(notebook: Path) -> dict[str, str]:
    """Parameter name -> annotation, from the cell tagged "parameters", without running it."""
    tagged = [
        c
        for c in storage.notebook_cells(notebook)
        if "parameters" in c.get("metadata", {}).get("tags", [])
    ]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook}: wanted one cell tagged 'parameters', got {len(tagged)}")
    try:
        lines = ast.parse("".join(tagged[0]["source"])).body
    except SyntaxError as error:
        raise ParameterError(f"{notebook}: its parameters cell is not Python: {error}") from error
    out = {}
    for line in lines:
        if not (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and line.value is not None
        ):
            raise ParameterError(
                f"{notebook}: parameters cell, line {line.lineno}: wanted "
                f"`name: type = literal`, got {ast.unparse(line)!r}"
            )
        kind = ast.unparse(line.annotation)
        if kind.split("[")[0] not in TYPES:
            raise ParameterError(
                f"{notebook}: parameter {line.target.id}: type {kind!r}, wanted "
                f"one of {', '.join(TYPES)}"
            )
        out[line.target.id] = kind.split("[")[0]
    return out


def yaml_value(text: str) -> Any:
    """A value as a YAML parameter file would read it, with 1e-4 a number."""
    import yaml

    try:
        value = yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ParameterError(f"{text!r} is not YAML: {error}") from error
    return value


def split_settings(
    settings: list[str], signature: Mapping[str, str], known: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Texts "key=value" -> (the notebook's own parameters, overrides of the parameter file).

    A key is the notebook's if its signature has it; otherwise it is a (dotted) key of the
    parameter file, whose top-level keys are `known`. Raises ParameterError with the nearest key.
    """
    own: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set {setting}: wanted key=value")
        if key in signature:
            own[key] = _typed(key, text, signature[key], where)
        elif key.split(".")[0] in known and not key.startswith("_"):
            overrides[key] = yaml_value(text)
        else:
            raise ParameterError(
                f"{where}: no parameter {key!r}{_nearest(key, [*signature, *known])}"
            )
    return own, overrides


def configured(params: str, settings: list[str]) -> tuple[StudyConfig, dict[str, Any]]:
    """The configuration of a parameter file with texts "key=value" over it, and these as overrides
    by dotted key. Raises ParameterError."""
    load_config(params)  # an error of the file comes before one of the command line
    _, overrides = split_settings(settings, {}, StudyConfig.model_fields, params)
    return load_config(params, overrides), overrides


def _typed(key: str, text: str, kind: str, where: str) -> Any:
    if kind == "str" and text[:1] not in ("'", '"'):
        return text  # a name is no YAML: "no", "2012", "cars #2", "@x", "a: b" stay what they are
    value = yaml_value(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, TYPES[kind]) or (kind == "int" and isinstance(value, bool)):
        raise ParameterError(f"{where}: {key} is {kind}, got {text!r} ({type(value).__name__})")
    return value


def prepare(
    stage: str,
    params: str | None,
    settings: list[str],
    notebooks: Path = Path("notebooks"),
    frozen: Path | None = None,
) -> Job:
    """Everything that can be checked before a kernel starts. Raises ParameterError.

    frozen: the configuration as a study's driver read it; without it the parameter file is read.
    """
    notebook = find_notebook(stage, notebooks)
    signature = read_signature(notebook)
    is_stage = "params" in signature
    if not is_stage:
        own, _ = split_settings(settings, signature, {}, str(notebook))
        folder = Path("runs") / "notebooks"
        return Job(
            notebook.stem, notebook, own, folder / executed_name(notebook.stem, own), is_stage
        )
    params = params or "params/micro.yaml"
    if frozen is None:
        load_config(params)  # an error of the file comes before one of the command line
    own, overrides = split_settings(settings, signature, StudyConfig.model_fields, str(notebook))
    overrides = own.pop("overrides", {}) | overrides
    if frozen:
        config = thawed(frozen, params, overrides.get("replicate"))
    else:
        config = load_config(params, overrides)
    _check_start(config, own, params)
    executed = config.paths.notebooks / executed_name(notebook.stem, own)
    return Job(
        notebook.stem,
        notebook,
        {"params": params, "overrides": overrides, **own},
        executed,
        is_stage,
        config,
    )


def _check_start(config: StudyConfig, own: Mapping[str, Any], params: str) -> None:
    """In a study of replicates the notebook's `seed` is one of classify.seeds. Raises
    ParameterError: another one is meant for the study, which would draw its own replicates."""
    start, known = own.get("seed", -1), config.classify.seeds
    if config.replicates and start >= 0 and start not in known:
        raise ParameterError(
            f"seed: got {start}, wanted one of classify.seeds, {known}: here it is a classifier's "
            f"start; for another seed of the study write --set 'overrides={{seed: {start}}}', or a "
            f"file that includes {params}"
        )


def freeze(config: StudyConfig, path: Path) -> Path:
    """Write a configuration as it is now, for the runs of a study."""
    storage.write_json(path, written(config))
    return path


def thawed(path: Path, file: str, replicate: int | None = None) -> StudyConfig:
    """A configuration that `freeze` wrote, or that of one of its replicates. file: the parameter
    file that it is of."""
    values = storage.read_json(path)
    return checked(values if replicate is None else values | {"replicate": replicate}, file)


def executed_name(stage: str, own: Mapping[str, Any]) -> str:
    """The file name of the executed notebook of a stage with these parameters of its own."""
    words = ["+".join(map(str, v)) if isinstance(v, list) else str(v) for v in own.values()]
    return f"{storage.slug('-'.join([stage, *(w for w in words if w)]))}.ipynb"


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {sorted(known)}"
