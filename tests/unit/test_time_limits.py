"""Threads, GPUs and time limits of jobs on a cluster, for every shipped file that needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from varireal_utils.core.config import load_config, merged
from varireal_utils.workflow import cost, stages, time_limits
from varireal_utils.workflow.graph import Graph

FILES = [
    file
    for file in sorted(ROOT.glob("params/*.yaml"))
    if merged(file).get("plan") and merged(file)["datasets"]
]
LONGEST = 48  # hours that a job of editing or training may ask for


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def profile() -> dict:
    return yaml.safe_load(Path("profiles/slurm/config.yaml").read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_limit_is_at_least_twice_the_hours_of_the_plan(file: Path) -> None:
    """Summed over its jobs, each line of the plan has twice its most hours."""
    config = load_config(file)
    graph = Graph({"params": str(file)})
    for line in cost.jobs(config):
        if not line.hours:
            continue
        words = set(line.what.replace(" seeds", "").split())
        own = [
            job
            for job in graph.jobs.values()
            if job.stage.name == line.stage
            and set(job.what.split()) - words <= {job.target.get("shard")}
            and (job.target.get("shard") or not job.parts())
        ]
        assert len(own) == line.count * (config.edit.shards if line.stage == "04_edit" else 1)
        limits = [graph.minutes(job.name) / 60 for job in own]
        assert min(limits) >= 2 * line.hours[1] / len(own), line
        if line.stage in ("04_edit", "06_classify"):
            assert max(limits) <= LONGEST, (line, "set edit.shards, or fewer steps a job")


def test_jobs_that_the_plan_does_not_know_get_a_day() -> None:
    config = load_config("params/custom.yaml", {"datasets.my_images.root": "nowhere"})
    assert set(time_limits.minutes(config).values()) == {time_limits.UNKNOWN}
    assert time_limits.UNKNOWN == 24 * 60


def test_the_profile_has_a_gpu_and_threads_for_whatever_runs_networks() -> None:
    settings = profile()
    names = {
        job.rule
        for kind in ("dataset", "seed", "recipe")
        for shards in (1, 2)
        for job in stages.jobs(
            load_config("params/micro.yaml", {"classify.job": kind, "edit.shards": shards})
        )
        if job.stage.slice_class().computes and job.stage.name != "02_attributes"
    }  # 02_attributes asks an endpoint, as a rule; with `kind: local` it wants a GPU of its own
    own = settings["set-resources"]
    assert names == set(own) == set(settings["set-threads"])
    assert all(resources["gres"] == "'gpu:1'" for resources in own.values())
    assert all("runtime" not in resources for resources in own.values())  # the plan's
    assert "runtime" not in settings["default-resources"]
    assert max(settings["set-threads"].values()) <= 16
    parallel = {stage.rule for stage in stages.STAGES.values() if stage.parallel}
    assert {name.split("_")[0] for name in names} == parallel
