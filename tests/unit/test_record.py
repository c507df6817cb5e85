"""The record names everything of a run, is written last, and only when every output is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from varireal_utils.core import storage
from varireal_utils.core.config_errors import ParameterError
from varireal_utils.workflow import run_record

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
