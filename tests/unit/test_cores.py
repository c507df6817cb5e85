"""Cores by affinity and by SLURM's allotment; threads of jobs, locally and on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from varireal_utils.core import cores
from varireal_utils.workflow import study
from varireal_utils.workflow.gpus import MOST
from varireal_utils.workflow.graph import JOB_THREADS, Graph

OWN = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*cores.ALLOTTED, "SLURM_JOB_ID", cores.THREADS, cores.SIDE_BY_SIDE):
        monkeypatch.delenv(name, raising=False)


def many(monkeypatch: pytest.MonkeyPatch, count: int = 64) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)


def test_the_affinity_counts_and_not_the_machine(monkeypatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert cores.cores() == OWN
    many(monkeypatch, 3)
    assert cores.cores() == 3 and cores.thread_limit() == {}
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.cores() == 96


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_bound_to_one_core_counts_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from varireal_utils.core.cores import cores; print(cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "64"}, 8),
        ({"SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),  # never more than the affinity
        ({}, 64),
        ({"SLURM_CPUS_PER_TASK": "0", "SLURM_CPUS_ON_NODE": "odd"}, 64),
    ],
)
def test_the_allotment_of_slurm_counts(monkeypatch, given: dict[str, str], wanted: int) -> None:
    many(monkeypatch)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cores.cores() == 64 and cores.allotted() is None  # no job: left over in a shell
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert cores.cores() == wanted


def test_threads_of_a_job_stay_within_the_allotment(monkeypatch) -> None:
    many(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    for asked, wanted in (("", "8"), ("1000", "8"), ("2", "2"), ("0", "8"), ("4,2", "8")):
        monkeypatch.setenv(cores.THREADS, asked)
        assert cores.thread_limit() == {cores.THREADS: wanted}, asked


def driven(
    monkeypatch: pytest.MonkeyPatch, tmp_path, *settings: str, **given
) -> tuple[list, Graph]:
    """The words that the driver gives to Snakemake, and the graph that the Snakefile makes."""
    words: list[str] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(study, "_snakemake", lambda told: words.extend(told) or 0)
    study.drive("params/micro.yaml", [f"runs_dir={tmp_path}", *settings], dry=True, **given)
    told = dict(word.split("=", 1) for word in words[words.index("--config") + 1 :] if "=" in word)
    return words, Graph({key: json.loads(value) for key, value in told.items()})


def test_the_driver_takes_the_cores_that_it_was_allotted(monkeypatch, tmp_path) -> None:
    many(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    words, graph = driven(monkeypatch, tmp_path, "job_threads=0")
    assert words[words.index("--cores") + 1] == "6" and graph.threads == 6
    words, graph = driven(monkeypatch, tmp_path, "job_threads=0", cores=3)
    assert words[words.index("--cores") + 1] == "3" and graph.threads == 3
    assert driven(monkeypatch, tmp_path)[1].threads == 1  # params/micro.yaml: job_threads


def test_a_lone_job_of_trainings_uses_the_cores_that_no_other_job_would(monkeypatch, tmp_path):
    def told(*settings: str, **given) -> int:
        _, graph = driven(monkeypatch, tmp_path, *settings, **given)
        name = next(n for n in graph.jobs if n.startswith("classify/"))
        count = graph.side_by_side(name)
        words = f"env {cores.SIDE_BY_SIDE}={count} "
        assert graph.command(name).startswith(words if count > 1 else sys.executable)
        assert all(graph.side_by_side(n) == 1 for n in graph.jobs if n != name)
        return count

    assert told(cores=2) == 2
    assert told(cores=1) == 1
    assert told(cores=16) == MOST == 4
    assert told("job_threads=3", cores=7) == 2
    assert told("job_threads=0", cores=8) == 1  # the job has every core as threads
    assert told("classify.seeds=[0,1]", "classify.job=dataset", cores=2) == 2
    assert told("classify.recipes=[zero_shot,real]", "attributes=[]", cores=8) == 2
    assert told("chain=true", "classify.job=dataset", cores=8) == 1
    assert told(cores=8, profile="profiles/slurm") == 1
    for job in ("recipe", "seed"):  # as many jobs as cores
        _, graph = driven(
            monkeypatch, tmp_path, f"classify.job={job}", "classify.seeds=[0,1]", cores=2
        )
        assert {graph.side_by_side(n) for n in graph.jobs} == {1}


def test_who_is_told_nothing_runs_one_at_a_time(monkeypatch) -> None:
    for asked, wanted in (("", 1), ("0", 1), ("x", 1), ("3", 3)):
        monkeypatch.setenv(cores.SIDE_BY_SIDE, asked)
        assert cores.side_by_side() == wanted


def test_jobs_of_a_cluster_take_neither_its_cores_nor_those_of_the_login_node(
    monkeypatch, tmp_path
) -> None:
    many(monkeypatch)
    words, graph = driven(monkeypatch, tmp_path, "job_threads=0", profile="profiles/slurm")
    assert "--cores" not in words and graph.threads == JOB_THREADS == 8
    assert "OMP_NUM_THREADS" not in graph.command("data/micro_cars")  # the Snakefile: {threads}
    assert 'shell: "OMP_NUM_THREADS={threads} {params.command}"' in (ROOT / "Snakefile").read_text()
