"""Each way in which a run can go wrong, through the real runner: seen, named, never a success."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
import pytest

from varireal_utils.core import storage
from varireal_utils.core.config_errors import ParameterError
from varireal_utils.workflow import invocation, runner

HERE = Path(__file__).parent


def run(stage: str, params: Path, *settings: str, timeout: float | None = None) -> dict:
    job = invocation.prepare(stage, str(params), list(settings), HERE)
    return runner.run(job, timeout=timeout)


def notebooks(params: Path) -> set[str]:
    return {p.name for p in (params.parent / "runs" / "tiny" / "notebooks").iterdir()}


def test_good_run_gives_its_record(params_file: Path) -> None:
    record = run(
        "good",
        params_file,
        "dataset=micro pets",
        "rate=1e-4",
        "flag=false",
        "seeds=[1, 2]",
        "claims.bootstrap=60",
    )
    assert record["finished"] and record["parameters"]["claims"]["bootstrap"] == 60
    text = (params_file.parent / "runs/tiny/good/answer.txt").read_text()
    assert text == "micro pets 0.0001 False [1, 2]"
    name = "good-micro~pets-0.0001-^false-1+2"
    assert notebooks(params_file) == {f"{name}.ipynb", f"{name}.sha256"}


def test_raise_is_named_and_notebook_kept(params_file: Path) -> None:
    with pytest.raises(runner.RunFailed, match="ValueError: the fixture raises"):
        run("raises", params_file)
    assert notebooks(params_file) == {"raises.failed.ipynb"}
    assert not Path(f"{params_file}.reached").exists()
    book = nbformat.read(params_file.parent / "runs/tiny/notebooks/raises.failed.ipynb", 4)
    assert "before" in str(book.cells)


def test_killed_kernel_is_named_quickly(params_file: Path) -> None:
    started = time.monotonic()
    with pytest.raises(runner.RunFailed, match="out of memory"):
        run("killed", params_file)
    assert time.monotonic() - started < 60
    assert notebooks(params_file) == {"killed.failed.ipynb"}


def test_time_out_is_named(params_file: Path) -> None:
    with pytest.raises(runner.RunFailed, match="longer than the time-out of 2 s"):
        run("times_out", params_file, timeout=2)
    assert notebooks(params_file) == {"times_out.failed.ipynb"}


@pytest.mark.parametrize("stage", ["exits_zero", "no_record"])
def test_no_record_is_no_success(params_file: Path, stage: str) -> None:
    with pytest.raises(runner.RunFailed, match="no record"):
        run(stage, params_file)
    assert notebooks(params_file) == {f"{stage}.failed.ipynb"}


def test_record_of_another_run_is_no_success(params_file: Path) -> None:
    with pytest.raises(runner.RunFailed, match="not this run's record"):
        run("old_record", params_file)


def test_unknown_kernel_runs_in_this_interpreter(params_file: Path) -> None:
    import sys

    assert run("unknown_kernel", params_file)["python"] == sys.executable


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("datset=a", "did you mean 'dataset'"),
        ("claims.bootstrp=3", "did you mean 'bootstrap'"),
        ("claims.bootstrap=many", "cannot become str"),
        ("steps=1.5", "steps is int, got '1.5'"),
        ("steps=true", "steps is int"),
        ("flag=0", "flag is bool"),
        ("rate=fast", "rate is float"),
        ("seeds=3", "seeds is list"),
        ("dataset", "wanted key=value"),
    ],
)
def test_bad_parameter_starts_no_kernel(
    params_file: Path, monkeypatch: pytest.MonkeyPatch, setting: str, message: str
) -> None:
    monkeypatch.setattr(runner, "run", None)
    with pytest.raises(ParameterError, match=message):
        invocation.prepare("good", str(params_file), [setting], HERE)
    assert not (params_file.parent / "runs").exists()


def test_failure_after_a_success_keeps_the_good_notebook(params_file: Path) -> None:
    good = params_file.parent / "runs/tiny/notebooks/raises.ipynb"
    storage.write_text(good, "the one that worked")
    with pytest.raises(runner.RunFailed):
        run("raises", params_file)
    assert good.read_text() == "the one that worked"
