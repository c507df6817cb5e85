"""The tiny study through a real SLURM: `make test-slurm`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster import local_slurm
from tests.faults import studies

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(local_slurm.lacking()), reason=local_slurm.lacking()),
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with local_slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def profile(folder: Path) -> Path:
    """profiles/slurm with the sizes of these small nodes; all else as it is."""
    settings = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    settings["latency-wait"], settings["slurm-init-seconds-before-status-checks"] = 10, 5
    settings["default-resources"] |= {"mem_mb": 1500, "runtime": 10}
    settings["set-threads"] = dict.fromkeys(settings["set-threads"], 1)
    for resources in settings["set-resources"].values():
        resources.update(mem_mb=1500, runtime=10)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def command(params: Path, folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "varireal_utils",
        "study",
        "--params",
        str(params),
        "--profile",
        str(folder),
    ]


def drive(params: Path, folder: Path) -> str:
    done = subprocess.run(
        command(params, folder), cwd=ROOT, text=True, capture_output=True, timeout=1100
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def study_of(tmp_path: Path, name: str, shards: int) -> Path:
    """A parameter file; its runs lie in tmp_path/runs."""
    params = tmp_path / f"{name}.yaml"
    params.write_text(
        f"include: {ROOT}/tests/faults/kills.yaml\nstudy: {name}\n"
        f"runs_dir: {tmp_path}/runs\nedit: {{shards: {shards}}}\n"
    )
    return params


def test_the_whole_graph_on_four_nodes(nodes, tmp_path):
    params = study_of(tmp_path, "cluster", 2)
    small = profile(tmp_path)
    drive(params, small)
    study = tmp_path / "runs/cluster"
    records = [json.loads(p.read_text()) for p in study.rglob("run.json")]
    assert {r["stage"] for r in records} >= {"01_data", "04_edit", "06_classify", "08_figures"}
    assert all(r["finished"] for r in records)
    assert (study / "figures/qualitative_grid.png").is_file()
    logs = list(ROOT.glob(".snakemake/slurm_logs/rule_edit/**/*.log"))
    assert logs  # named by rule and wildcards, where the README says
    assert len(list(study.glob("edits/*/*/*/shards/*/run.json"))) == 2 * 2
    before = {p: p.stat().st_mtime_ns for p in study.rglob("run.json")}
    drive(params, small)  # a second call does nothing
    assert before == {p: p.stat().st_mtime_ns for p in study.rglob("run.json")}


def test_a_killed_node_costs_time_and_no_byte(nodes, tmp_path, capsys):
    """The daemon of the only node with GPUs dies under an edit, whose orphan runs on; SLURM gives
    the job out again when the node is back, so that it may run twice."""
    params, small = study_of(tmp_path, "node", 1), profile(tmp_path)
    with open(tmp_path / "driver.log", "w") as log:
        driver = subprocess.Popen(command(params, small), cwd=ROOT, stdout=log, stderr=log)
        until = time.time() + 600
        while not list((tmp_path / "runs/node/edits").rglob("strip*")) and not list(
            (tmp_path / "runs/node/edits").rglob("parts")
        ):
            assert driver.poll() is None and time.time() < until, (
                tmp_path / "driver.log"
            ).read_text()[-3000:]
            time.sleep(0.3)
        gpu_node = f"node{local_slurm.NODES}"
        nodes[gpu_node].kill()
        time.sleep(15)  # SlurmdTimeout is 10: the node is down now
        nodes[gpu_node] = subprocess.Popen(
            ["slurmd", "-D", "-N", gpu_node],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        first = driver.wait(900)
    drive(params, small)  # what Snakemake gave up, if it did, is made now
    got = studies.digests(tmp_path / "runs/node")
    studies.finish(tmp_path / "plain")
    want = studies.digests(tmp_path / "plain/kills")
    assert got == want, sorted(n for n in got.keys() | want.keys() if got.get(n) != want.get(n))
    with capsys.disabled():
        print(
            f"\na killed node (first call ended with {first}): {len(got)} files equal to those "
            "of a run without SLURM"
        )
