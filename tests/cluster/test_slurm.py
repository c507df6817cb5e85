"""The tiny study through a real SLURM: `make test-slurm`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster import local_slurm

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slurm,
              pytest.mark.skipif(bool(local_slurm.lacking()), reason=local_slurm.lacking())]


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


def drive(params: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "varireal_utils", "study", "--params", str(params), "--profile",
         str(folder)], cwd=ROOT, text=True, capture_output=True, timeout=1100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def test_the_whole_graph_on_four_nodes(nodes, tmp_path):
    params = tmp_path / "cluster.yaml"
    params.write_text(f"include: {ROOT}/tests/tiny.yaml\nstudy: cluster\n"
                      f"runs_dir: {tmp_path}/runs\nedit: {{shards: 2}}\n")
    small = profile(tmp_path)
    drive(params, small)
    study = tmp_path / "runs/cluster"
    records = [json.loads(p.read_text()) for p in study.rglob("run.json")]
    assert {r["stage"] for r in records} >= {"01_data", "04_edit", "06_classify", "08_figures"}
    assert all(r["finished"] for r in records)
    assert (study / "figures/qualitative_grid.png").is_file()
    logs = list(ROOT.glob(".snakemake/slurm_logs/rule_edit/**/*.log"))
    assert logs  # named by rule and wildcards, where the README says
    assert len(list(study.glob("edits/*/*/*/shards/*/run.json"))) == 2 * 6
    before = {p: p.stat().st_mtime_ns for p in study.rglob("run.json")}
    drive(params, small)  # a second call does nothing
    assert before == {p: p.stat().st_mtime_ns for p in study.rglob("run.json")}
