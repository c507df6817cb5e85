"""Which GPUs a study finds, how its jobs share them out, and nothing of it on a CPU."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.workflow import gpu_slots, gpus, stages, study
from varireal_utils.workflow.gpus import Gpus
from varireal_utils.workflow.graph import Graph

TWO = {"gpus": ["0", "GPU-5e"], "trainings": 2, "threads": 8}


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def machine(monkeypatch: pytest.MonkeyPatch, count: int, gb: float, given: str | None) -> None:
    """A machine with so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(gpus, "memory_gb", lambda name: gb)
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)


@pytest.mark.parametrize(
    ("given", "count", "names"),
    [
        (None, 0, ()),
        (None, 3, ("0", "1", "2")),
        ("2,0", 2, ("2", "0")),
        ("GPU-5e, GPU-7", 2, ("GPU-5e", "GPU-7")),
        ("1,7,0", 1, ("1",)),  # there is no 7: CUDA reads no further
        ("1,-1,0", 1, ("1",)),
        ("", 0, ()),
        ("MIG-a,MIG-b", 1, ("MIG-a", "MIG-b")),  # a process sees one of them at most
    ],
)
def test_devices_keep_the_names_that_they_were_given(monkeypatch, given, count, names) -> None:
    machine(monkeypatch, count, 80.0, given)
    config = load_config("params/micro.yaml", {"device": "cuda" if count else "auto"})
    assert gpus.found(config).names == names


def test_a_training_shares_a_gpu_where_its_peak_allows_it(monkeypatch) -> None:
    def found(gb: float, **changes) -> Gpus:
        machine(monkeypatch, 2, gb, None)
        settings = {k.replace("__", "."): v for k, v in changes.items()}
        return gpus.found(load_config("params/paper_oxford_pets.yaml", settings))

    peak = next(
        p.gb
        for p in gpus.memory.peaks(load_config("params/paper_oxford_pets.yaml"))
        if p.stage == "06_classify"
    )
    assert 4 < peak < 6
    for gb, wanted in ((80, 4), (3.4 * peak, 3), (2.3 * peak, 2), (2.1 * peak, 1), (1, 1), (0, 1)):
        assert found(gb).trainings == wanted, gb
    assert found(3.4 * peak, classify__batch_size=256).trainings == 1
    assert found(80, trainings_per_gpu=1).trainings == 1
    assert found(1, trainings_per_gpu=6).trainings == 6
    assert found(80, gpus=1).names == ("0",) and found(80, gpus=9).names == ("0", "1")
    unknown = {"kind": "timm", "name": "resnet50"}  # whose peak nobody computed
    assert found(80, models__classifier=unknown).trainings == 1
    with pytest.raises(
        ParameterError, match="trainings_per_gpu: got 13 .int., wanted an int, 0 to 12"
    ):
        found(80, trainings_per_gpu=13)


def test_who_asks_for_the_memory_does_not_hold_it(monkeypatch) -> None:
    """In a process that sees this device alone; 0 where there is none."""
    asked = []

    def run(words, env, **how):
        asked.append((env["CUDA_VISIBLE_DEVICES"], words[0], "total_memory" in words[2]))
        return subprocess.CompletedProcess(words, 0, "a warning\n85899345920\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert gpus.memory_gb("MIG-a") == pytest.approx(85.9, rel=0.01)
    assert asked == [("MIG-a", sys.executable, True)]

    def fails(words, **how):
        raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(subprocess, "run", fails)
    assert gpus.memory_gb("0") == 0.0


def graph(*settings: str, **told) -> Graph:
    return Graph({"params": "params/micro.yaml", "settings": list(settings), **told})


def test_jobs_take_what_they_compute_with() -> None:
    told = graph("job_threads=0", "classify.job=recipe", "edit.shards=2", **TWO)
    units = {}
    for job in told.jobs.values():
        units.setdefault(job.rule, set()).add(told.gpu_units(job.name))
        words = shlex.split(told.command(job.name))
        slots = words[1:3] == ["-m", "varireal_utils.workflow.gpu_slots"]
        assert slots == (told.gpu_units(job.name) > 0) and "run" in words
        if slots:
            assert words[words.index("--devices") + 1] == "0,GPU-5e"
    assert units == {
        **{rule: {0} for rule in ("data", "attributes", "guidance", "claims", "figures")},
        **{rule: {12} for rule in ("edit", "edit_shard", "datadream", "quality")},
        "classify_one": {6},
    }
    threads = {job.rule: told.job_threads(job) for job in told.jobs.values()}
    assert threads == {
        **{rule: 1 for rule in ("data", "attributes", "claims", "figures")},
        **{rule: 4 for rule in ("edit", "edit_shard", "datadream", "quality")},
        "guidance": 8,
        "classify_one": 2,
    }
    asked = graph("job_threads=3", **TWO)
    assert {asked.job_threads(j) for j in asked.jobs.values() if j.stage.parallel} == {3}


def test_a_job_of_several_processes_takes_as_many_devices() -> None:
    three = TWO | {"gpus": ["0", "1", "2"]}
    told = graph("edit.processes=2", "classify.processes=8", **three)
    units = {job.rule: told.gpu_units(job.name) for job in told.jobs.values()}
    assert (units["edit"], units["classify_seed"], units["quality"]) == (24, 36, 12)
    words = shlex.split(told.command("edits/micro_cars/color/feasible"))
    assert words[words.index("--count") + 1] == "2" and words[words.index("--units") + 1] == "12"


def test_masks_and_phrases_take_a_device_where_a_model_makes_them() -> None:
    paper = load_config("params/paper_oxford_pets.yaml")
    assert stages.STAGES["03_guidance"].gpu(paper) and not stages.STAGES["02_attributes"].gpu(paper)
    local = {"kind": "local", "path": "models/x", "revision": "main"}
    told = load_config("params/custom_llm.yaml", {"prompts.model": local})
    assert stages.STAGES["02_attributes"].gpu(told)
    assert not stages.STAGES["02_attributes"].gpu(load_config("params/custom_llm.yaml"))


def test_a_chain_has_its_device_alone() -> None:
    config = load_config("params/registered.yaml")
    assert config.chain and gpus.trainings(config, ("0",)) == 1


def words_of(monkeypatch, tmp_path, **given) -> list[str]:
    """What the driver tells Snakemake."""
    told: list[list[str]] = []
    monkeypatch.setattr(
        study, "_run", lambda config, notebooks, here, words: told.append(words) or 1
    )
    study.drive("params/micro.yaml", [f"runs_dir={tmp_path}"], **given)
    return told[0]


def test_on_a_cpu_and_on_a_cluster_nothing_changes(monkeypatch, tmp_path) -> None:
    """Without devices: no word more for Snakemake, the commands of a graph that knows of none."""
    machine(monkeypatch, 0, 0.0, None)
    here = words_of(monkeypatch, tmp_path)
    assert "--resources" not in here and not any("gpus" in word for word in here)
    plain = graph(threads=1)  # on two, a lone job of trainings is told of the idle one
    assert plain.gpus == Gpus()
    for job in plain.jobs.values():
        assert plain.gpu_units(job.name) == 0
        command = job.command(plain.params, plain.overrides, plain.notebooks, plain.frozen)
        assert plain.command(job.name) == command
    machine(monkeypatch, 4, 80.0, None)
    cluster = words_of(monkeypatch, tmp_path, profile="profiles/slurm")
    assert "--resources" not in cluster and not any("gpus=" in word for word in cluster)
    local = words_of(monkeypatch, tmp_path)
    assert 'gpus=["0", "1", "2", "3"]' in local and "gpu_units=48" in local


DRIVER = """import dataclasses, shlex, sys
from varireal_utils.workflow import gpus, stages, study
gpus.found = lambda config: gpus.Gpus(("0", "GPU-5e"), 2)
study._run = lambda config, notebooks, here, words: study._snakemake(words)
study.summary = lambda root: "all made"
last = dataclasses.replace(stages.STAGES["07_quality"], upstream=lambda config, target: [
    ("06_classify", training) for training in stages._trainings(config)])
stages.STAGES["07_quality"] = last
tiny = [sys.executable, sys.argv[1]]
stages.Job.command = lambda job, *_: shlex.join([*tiny, str(job.record), job.rule])
words = ["job_threads=0", "classify.job=recipe", "classify.seeds=[0, 1, 2, 3, 4]"]
words += ["classify.recipes=['mix(all,0.5)']"]
sys.exit(study.drive("params/micro.yaml", [f"runs_dir={sys.argv[2]}", *words], cores=8))
"""
JOB = """import json, os, sys, time
from pathlib import Path
seen = {"rule": sys.argv[2], "begin": time.monotonic()}
seen |= {"devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
seen |= {"threads": os.environ["OMP_NUM_THREADS"]}
together = {"edit": 2, "classify_one": 4}.get(sys.argv[2], 0)
Path(f"{sys.argv[0]}.{sys.argv[2]}.{os.getpid()}").touch()
while len(list(Path(sys.argv[0]).parent.glob(f"job.py.{sys.argv[2]}.*"))) < together:
    if time.monotonic() > seen["begin"] + 120:
        sys.exit(f"{sys.argv[2]}: fewer than {together} of them have begun")
    time.sleep(0.05)
time.sleep(0.2)
Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
Path(sys.argv[1]).write_text(json.dumps(seen | {"end": time.monotonic()}))
"""


def test_a_whole_graph_on_two_devices(tmp_path, monkeypatch) -> None:
    """Through Snakemake, with jobs that only say what they see: the first two edits wait for each
    other, and so do the first four trainings. The measurement of quality follows them here: beside
    them it would wait behind a door for a training that waits for others."""
    (tmp_path / "job.py").write_text(JOB)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = [sys.executable, "-c", DRIVER, str(tmp_path / "job.py"), str(tmp_path / "runs")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    seen = [json.loads(p.read_text()) for p in (tmp_path / "runs").rglob("run.json")]
    by_rule: dict[str, list[dict]] = {}
    for one in seen:
        by_rule.setdefault(one["rule"], []).append(one)
    alone = [*by_rule["edit"], *by_rule["quality"]]
    trainings = by_rule["classify_one"]
    assert len(alone) == 7 and len(trainings) == 5
    for rule in ("data", "attributes", "guidance", "claims", "figures"):
        assert {one["devices"] for one in by_rule[rule]} == {None}
    assert {one["threads"] for one in by_rule["edit"]} == {"4"}
    assert {one["threads"] for one in trainings} == {"2"}
    assert {one["devices"] for one in alone} == {one["devices"] for one in trainings}
    most = dict.fromkeys(("0", "GPU-5e"), 0)
    for device in most:
        own = [(one, 12) for one in alone if one["devices"] == device]
        own += [(one, 6) for one in trainings if one["devices"] == device]
        for instant in (one["begin"] for one, _ in own):
            there = [(o, u) for o, u in own if o["begin"] <= instant < o["end"]]
            assert sum(units for _, units in there) <= gpu_slots.UNITS
            most[device] = max(most[device], len(there))
    assert most == {"0": 2, "GPU-5e": 2}  # trainings side by side
