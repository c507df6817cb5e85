"""A batch size that fitted is known to the next job of the study."""

import warnings
from pathlib import Path

import pytest
import torch

from varireal_utils.core import oom_retry, storage
from varireal_utils.core.config import load_config
from varireal_utils.core.stage import Run
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.editing import fits
from varireal_utils.editing.slices import EditStage


def run_of(tmp_path: Path, arm: str = "feasible", device: str = "cpu", **changes) -> Run:
    settings = {k.replace("__", "."): v for k, v in changes.items()}
    config = load_config("params/micro.yaml", settings)
    own = EditStage.of(config, attribute="color", feasibility=arm)
    where, kind = StudyPaths(tmp_path), torch.device(device)
    return Run("04_edit", own, where, tmp_path, 0, kind, torch.float32, {})


def test_the_next_job_begins_with_the_size_that_fitted(tmp_path: Path) -> None:
    asked: list[int] = []

    def tight(items: list[int]) -> list[int]:
        asked.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return items

    def job(run: Run) -> None:
        """As 04_edit: read at its beginning, kept after each batch."""
        known = fits.read(fits.file_of(run))
        for _ in range(2):
            fit = known.setdefault("first", oom_retry.Fit())
            oom_retry.retry_in_halves(tight, list(range(4)), fit=fit)
            fits.write(fits.file_of(run), known)

    with pytest.warns(UserWarning, match="batch of 4 did not fit"):
        job(run_of(tmp_path))
    assert asked == [4, 2, 2, 2, 2]
    asked.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job(run_of(tmp_path, "infeasible"))  # the other arm, another process
    assert asked == [2, 2, 2, 2]
    assert not list((tmp_path / ".fits").glob("*draft*"))


def test_sizes_are_of_these_settings_and_this_device(tmp_path: Path, monkeypatch) -> None:
    base = fits.file_of(run_of(tmp_path))
    assert fits.file_of(run_of(tmp_path, edit__pool=3)) == base  # of no result
    assert fits.file_of(run_of(tmp_path, edit__batch_size=4)) != base
    assert fits.file_of(run_of(tmp_path, edit__color__steps=9)) != base
    gb = torch.cuda
    files = set()
    for total in (24, 80):

        class Device:
            name, total_memory = "card", total

        monkeypatch.setattr(gb, "get_device_properties", lambda device, own=Device: own)
        files.add(fits.file_of(run_of(tmp_path, device="cuda")))
    assert len(files | {base}) == 3


def test_the_smaller_size_stays_and_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    assert fits.read(file) == {}
    fits.write(file, {"first": oom_retry.Fit(), "second": oom_retry.Fit(4)})
    assert storage.read_json(file) == {"second": 4}
    fits.write(file, {"first": oom_retry.Fit(6), "second": oom_retry.Fit(8)})
    assert storage.read_json(file) == {"first": 6, "second": 4}
    for text in ("", "[1]", '{"first": "x"}'):
        file.write_text(text)
        assert fits.read(file) == {}


def test_a_run_that_never_ran_out_of_memory_writes_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    fits.write(fits.file_of(run), {"first": oom_retry.Fit()})
    assert not (tmp_path / ".fits").exists()
