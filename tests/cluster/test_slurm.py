"""The tiny study through a real SLURM: `make test-slurm`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import local_slurm

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slurm,
              pytest.mark.skipif(bool(local_slurm.lacking()), reason=local_slurm.lacking())]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with local_slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def snakemake(params: Path, *words: str, profile: str = "profiles/slurm") -> str:
    small = ["default-resources", "slurm_partition=main", "mem_mb=1500", "runtime=10", "tasks=1"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", profile, "--config",
         f"params={json.dumps(str(params))}", *words, f"--{small[0]}", *small[1:]],
        cwd=ROOT, text=True, capture_output=True, timeout=1100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def test_the_whole_graph_on_four_nodes(nodes, tmp_path):
    params = tmp_path / "cluster.yaml"
    params.write_text(f"include: {ROOT}/tests/tiny.yaml\nstudy: cluster\n"
                      f"runs_dir: {tmp_path}/runs\n")
    one_gpu = "mem_mb=1500", "runtime=10", "gres='gpu:1'"
    rules = ("edit", "datadream", "classify", "classify_seed", "classify_one")
    snakemake(params, "--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "5",
              "--set-threads", *(f"{r}=1" for r in rules), "--set-resources",
              *(f"{r}:{x}" for r in rules for x in one_gpu))
    study = tmp_path / "runs/cluster"
    records = [json.loads(p.read_text()) for p in study.rglob("run.json")]
    assert {r["stage"] for r in records} >= {"01_data", "04_edit", "06_classify", "08_figures"}
    assert all(r["finished"] for r in records)
    assert (study / "figures/qualitative_grid.png").is_file()
    logs = list(ROOT.glob(".snakemake/slurm_logs/rule_edit/**/*.log"))
    assert logs  # named by rule and wildcards, where the README says
    again = snakemake(params, "--latency-wait", "10")
    assert "Nothing to be done" in again
