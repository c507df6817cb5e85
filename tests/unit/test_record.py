"""The record names everything of a run, is written last, and only when every output is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import tiny_params
from varireal_utils.analysis.stage import ClaimsStage
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_errors import ParameterError
from varireal_utils.core.stage import SourceChanged
from varireal_utils.data import registry
from varireal_utils.data.stage import DataStage
from varireal_utils.reporting.stage import FiguresStage
from varireal_utils.workflow import invocation, run_record, status, study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(params_file: Path) -> run_record.Run:
    return run_record.begin("01_data", str(params_file), {"seed": 9}, dataset="micro_cars")


def test_begin_checks_prints_and_makes_the_folder(
    run: run_record.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run_record.begin("01_data", run.config.file, {"seed": 9}, dataset="micro_cars")
    text = capsys.readouterr().out
    assert "01_data  dataset=micro_cars" in text and run.config.digest[:12] in text
    assert run.out == run.study / "data/micro_cars" and run.out.is_dir()
    assert run.config.seed == 9 and run.target == {"dataset": "micro_cars"}
    with pytest.raises(ParameterError, match="did you mean 'seed'"):
        run_record.begin("explore", run.config.file, {"sed": 9})


def test_begin_keeps_off_the_attention_that_gives_nan(params_file: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    run_record.begin("explore", str(params_file))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_begin_finds_the_root_from_the_notebooks_folder(
    params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    run_record.begin("explore", str(params_file))
    assert Path.cwd() == ROOT


def test_begin_seeds_by_stage_and_arguments(params_file: Path) -> None:
    import torch

    def draw(stage: str, **own: str) -> float:
        run_record.begin(stage, str(params_file), **own)
        return float(torch.rand(()))

    assert draw("a", dataset="x") == draw("a", dataset="x")
    assert len({draw("a", dataset="x"), draw("a", dataset="y"), draw("b", dataset="x")}) == 3


def test_finish_writes_everything_that_was_asked(
    run: run_record.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = run.study / "pointer"
    monkeypatch.setenv("VARIREAL_RUN_ID", "id of this run")
    monkeypatch.setenv("VARIREAL_RUN_POINTER", str(pointer))
    table, source = run.out / "images.csv", run.study.parent / "outside.txt"
    storage.write_text(table, "a\n1\n")
    storage.write_text(source, "source")
    run_record.finish(run, [table], [source], {"images": 1})
    kept = storage.read_json(run.out / "run.json")
    assert pointer.read_text() == str((run.out / "run.json").resolve())
    assert kept["finished"] is True and kept["run_id"] == "id of this run"
    assert kept["outputs"] == {"data/micro_cars/images.csv": storage.sha256_file(table)}
    assert list(kept["inputs"].values()) == [storage.sha256_file(source)]
    assert kept["parameters"]["seed"] == 9 and kept["own"] == {"dataset": "micro_cars"}
    assert kept["metrics"] == {"images": 1} and kept["device"] == "cpu"
    assert kept["seconds"] >= 0 and kept["peak_memory_mb"] > 50 and kept["versions"]["torch"]
    assert kept["notebook"] == storage.notebook_digest(ROOT / "notebooks/01_data.ipynb")
    assert {"package", "commit", "dirty", "seed", "started", "python"} <= set(kept)


def test_missing_output_is_named_and_leaves_no_record(run: run_record.Run) -> None:
    there = run.out / "there.txt"
    storage.write_text(there, "x")
    with pytest.raises(FileNotFoundError, match="promised but not written: .*absent.txt"):
        run_record.finish(run, [there, run.out / "absent.txt"])
    with pytest.raises(FileNotFoundError):
        run_record.finish(run, [there], inputs=[run.out / "no_input.txt"])
    assert not (run.out / "run.json").exists()


def test_root_is_named_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "__file__", str(tmp_path / "record.py"))
    with pytest.raises(FileNotFoundError, match="no pyproject.toml"):
        run_record.find_root(tmp_path)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A parameter file of a folder of photographs, and that folder."""
    monkeypatch.chdir(ROOT)
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        storage.write_image(tmp_path / "in" / name, np.zeros((9, 9, 3), np.uint8))
    values = tiny_params(tmp_path / "runs")
    values["datasets"] = {"micro_cars": {"source": "imagefolder", "root": str(tmp_path / "in")}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def put_back(path: Path) -> None:
    kept = path.read_bytes()
    path.write_bytes(b"other")
    path.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "in/a/1.png").write_bytes(b"other"), "in/a/1.png: changed"),
        (lambda f: (f / "in/a/1.png").unlink(), "in/a/1.png: removed"),
        (lambda f: storage.write_text(f / "in/a/2.png", "x"), "in/a/2.png: added"),
        (lambda f: put_back(f / "in/a/1.png"), "in/a/1.png: written while it ran"),
    ],
)
def test_a_photograph_that_changes_while_a_stage_runs_leaves_no_record(
    photographs: Path, change: Callable[[Path], Any], words: str
) -> None:
    run = run_record.begin("01_data", str(photographs / "own.yaml"), dataset="micro_cars")
    storage.write_text(run.out / "made.txt", "x")
    change(photographs)
    with pytest.raises(SourceChanged, match=f"its inputs changed while it ran: source .*{words}"):
        run_record.finish(run, [run.out / "made.txt"])
    assert not (run.out / "run.json").exists()


def test_photographs_that_a_run_fetches_itself_are_in_its_key(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataStage, "fetches", True)
    file = str(photographs / "own.yaml")
    run = run_record.begin("01_data", file, dataset="micro_cars")
    storage.write_image(photographs / "in/b/1.png", np.zeros((9, 9, 3), np.uint8))
    storage.write_text(run.out / "made.txt", "x")
    record = run_record.finish(run, [run.out / "made.txt"])
    assert any(name.endswith("in/b/1.png") for name in record["key"]["sources"])
    found = {s.job.name: s for s in status.states(run.config)}
    assert found["data/micro_cars"].word == "current", found["data/micro_cars"].reasons


def test_a_data_set_that_is_fetched_says_so() -> None:
    for fetches in (True, False):
        spec = registry.parse("d", {"source": "oxford_pets", "root": "r", "download": fetches})
        assert DataStage(dataset="d", spec=spec, seed=1).fetches is fetches


def test_an_edit_of_the_parameter_file_reaches_no_run_that_was_begun(
    params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = invocation.prepare("01_data", str(params_file), ["dataset=micro_cars"])
    frozen = invocation.freeze(job.config, params_file.with_name("frozen.json"))
    good = params_file.read_text()
    params_file.write_text(good.replace("steps: 2", "steps: 9999"))
    monkeypatch.setenv("VARIREAL_CONFIG", str(frozen))
    run = run_record.begin("01_data", str(params_file), dataset="micro_cars")
    assert run.config.classify.steps == 2 and run.config.file == str(params_file)
    again = invocation.prepare("01_data", str(params_file), ["dataset=micro_cars"], frozen=frozen)
    assert again.config == job.config
    assert study._edited(job.config, str(params_file), []).startswith(f"{params_file} was edited")
    params_file.write_text(good)
    assert study._edited(job.config, str(params_file), []) == ""


def test_the_order_of_data_sets_makes_no_record_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen configuration has its keys sorted; the driver compares with the file's order."""
    monkeypatch.chdir(ROOT)
    config = load_config("params/registered.yaml")
    frozen = invocation.thawed(invocation.freeze(config, tmp_path / "f.json"), config.file)
    assert list(config.datasets) != list(frozen.datasets)
    for stage in (ClaimsStage, FiguresStage):
        assert stage.of(config) == stage.of(frozen)
