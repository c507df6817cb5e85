"""A photograph changes under a finished study: what runs again gives what a fresh study gives."""

from __future__ import annotations

import pytest

from tests.faults import rendered_photographs as rendered
from tests.faults import studies
from varireal_utils.core.config import load_config
from varireal_utils.workflow import status

pytestmark = pytest.mark.slow


def test_a_changed_photograph_gives_the_results_of_a_fresh_study(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(studies.ROOT)
    settings = [f"datasets={{cars: {{source: csv, path: {rendered.photographs(tmp_path)}}}}}"]
    studies.finish(tmp_path / "runs", *settings)
    study = tmp_path / "runs/kills"
    before = studies.digests(study)
    rendered.replace_photograph(tmp_path)
    rendered.replace_mask(tmp_path)
    overrides = {
        "datasets": {"cars": {"source": "csv", "path": str(tmp_path / "cars.csv")}},
        "runs_dir": str(tmp_path / "runs"),
    }
    found = status.states(load_config("tests/faults/kills.yaml", overrides))
    assert {s.word for s in found} == {"stale"}  # all of it comes from the photographs
    reasons = next(s for s in found if s.job.stage.name == "01_data").reasons
    assert [r.split("/")[-2:] for r in reasons] == [
        ["masks", "train0.png: changed"],
        ["photos", "train0.png: changed"],
    ]
    studies.finish(tmp_path / "runs", *settings)
    studies.finish(tmp_path / "fresh", *settings)
    after, fresh = studies.digests(study), studies.digests(tmp_path / "fresh/kills")
    assert after != before
    assert after == fresh, sorted(n for n in {*after, *fresh} if after.get(n) != fresh.get(n))
