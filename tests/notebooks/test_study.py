"""Every notebook through the real runner, and the whole graph, at the smallest size there is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
TIME = 600


def call(*words: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "varireal_utils", *words],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=TIME,
        **kwargs,
    )


def tiny(folder: Path, name: str, chain: bool = True) -> Path:
    """tests/tiny.yaml with its runs in a temporary folder; chain: one kernel a data set."""
    path = folder / f"{name}.yaml"
    path.write_text(
        f"include: {ROOT}/tests/tiny.yaml\nstudy: {name}\nruns_dir: {folder}/runs\n"
        f"chain: {str(chain).lower()}\n"
    )
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Path]:
    """(folder of a finished tiny study, its parameter file)."""
    folder = tmp_path_factory.mktemp("whole")
    params = tiny(folder, "whole")
    done = call("study", "--params", str(params), "--cores", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "qualitative_grid" in done.stdout + done.stderr
    return folder / "runs/whole", params


def test_the_whole_graph(study):
    folder, _ = study
    records = [json.loads(p.read_text()) for p in folder.rglob("run.json")]
    assert {r["stage"] for r in records} == {
        "01_data",
        "02_attributes",
        "03_guidance",
        "04_edit",
        "05_datadream",
        "06_classify",
        "07_quality",
        "07_claims",
        "08_figures",
    }
    assert sum(r["stage"] == "04_edit" for r in records) == 6
    assert all(r["finished"] and r["outputs"] for r in records)
    edits = [r["metrics"] for r in records if r["stage"] == "04_edit"]
    assert all(m["changed_outside"] == 0 and m["edits"] == 8 for m in edits)
    main = pd.read_csv(folder / "results/main_table.csv")
    assert set(main["arm"]) >= {
        "zero-shot",
        "real",
        "feasible",
        "infeasible",
        "mixed",
        "datadream dset",
    }
    assert main["mean"].between(0, 100).all() and (main["low"] <= main["high"]).all()
    for name in ("qualitative_grid", "pipeline_strip", "accuracy_by_arm", "effect_forest"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5000
    cells = json.loads((folder / "notebooks/08_figures.ipynb").read_text())["cells"]
    shown = [o for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(shown) == len(list((folder / "figures").glob("*.png")))


@pytest.mark.slow
def test_a_kernel_for_each_job_makes_the_same_results(study, tmp_path):
    """As `make study` runs: the fixture's chain starts fewer kernels, so it is quicker to test."""
    params = tiny(tmp_path, "whole", chain=False)
    done = call("study", "--params", str(params), "--cores", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kinds = ("edits/**/*.png", "edits/**/*.parquet", "classify/**/*.parquet", "results/claims.csv")

    def made(folder: Path) -> list[dict[Path, bytes]]:
        return [{p.relative_to(folder): p.read_bytes() for p in folder.glob(k)} for k in kinds]

    assert all(made(study[0])) and made(tmp_path / "runs/whole") == made(study[0])


def test_a_second_call_does_nothing(study):
    folder, params = study
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("run.json")}
    start = time.time()
    done = call("study", "--params", str(params), "--cores", "2")
    assert done.returncode == 0 and time.time() - start < 30
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("run.json")}


def test_verify_finds_one_changed_byte(study):
    folder, _ = study
    assert call("verify", str(folder)).returncode == 0
    victim = sorted((folder / "edits").rglob("images/*.png"))[0]
    good = victim.read_bytes()
    victim.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    found = call("verify", str(folder))
    victim.write_bytes(good)
    assert found.returncode != 0 and victim.name in found.stdout + found.stderr


@pytest.mark.parametrize("stage", ["00_overview", "explore"])
def test_notebooks_outside_the_graph(study, stage):
    done = call("run", stage, "--params", str(study[1]))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_figures_are_redrawn_from_results_alone(study, tmp_path):
    folder, params = study
    shutil.copytree(folder / "results", tmp_path / "results")
    lone = tiny(tmp_path, "lone")
    done = call("run", "08_figures", "--params", str(lone), "--set", f"source={tmp_path}/results")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in ("qualitative_grid", "pipeline_strip", "accuracy_by_arm", "effect_forest"):
        again = tmp_path / f"runs/lone/redrawn/{name}.png"
        assert again.read_bytes() == (folder / f"figures/{name}.png").read_bytes()


def test_a_killed_arm_resumes_to_the_same_bytes(study):
    folder, params = study
    arm = folder / "edits/micro_pets/color/feasible"
    wanted = {p.name: p.read_bytes() for p in (arm / "images").iterdir()}
    table = (arm / "edits.parquet").read_bytes()
    for path in [*(arm / "images").iterdir(), arm / "edits.parquet"]:
        path.unlink()
    shutil.rmtree(arm / "parts")
    words = [
        sys.executable,
        "-m",
        "varireal_utils",
        "run",
        "04_edit",
        "--params",
        str(params),
        "--set",
        "dataset=micro_pets",
        "--set",
        "attribute=color",
    ]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.time() + TIME
    while not list((arm / "parts").rglob("batch*.parquet")) and time.time() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list((arm / "parts").rglob("batch*.parquet"))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TIME)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {p.name: p.read_bytes() for p in (arm / "images").iterdir()} == wanted
    assert (arm / "edits.parquet").read_bytes() == table


@pytest.mark.slow
def test_shards_make_the_arm_that_one_job_makes(study):
    folder, params = study
    arm = folder / "edits/micro_pets/color/feasible"
    wanted = {p.name: p.read_bytes() for p in (arm / "images").iterdir()}
    table = (arm / "edits.parquet").read_bytes()
    shutil.rmtree(arm)
    shutil.move(arm.with_name("infeasible"), folder / "aside")  # no arm is there yet
    words = (
        "run",
        "04_edit",
        "--params",
        str(params),
        "--set",
        "dataset=micro_pets",
        "--set",
        "attribute=color",
    )
    counts = []
    for shard in ("2/2", ""):  # what no shard has made, the collecting run makes
        done = call(*words, "--set", f"shard={shard}")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        counts.append(len(list((arm / "images").iterdir())))
    shutil.move(folder / "aside", arm.with_name("infeasible"))
    assert 0 < counts[0] < counts[1] == len(wanted)
    assert (arm / "shards/2of2/run.json").exists()
    assert {p.name: p.read_bytes() for p in (arm / "images").iterdir()} == wanted
    assert (arm / "edits.parquet").read_bytes() == table


@pytest.mark.slow
def test_processes_make_the_arm_that_one_makes(study, tmp_path):
    """As several GPUs would, each with its share of the batches (`accelerate`)."""
    folder, params = study
    two = tmp_path / "two.yaml"
    two.write_text(f"include: {params}\nedit: {{processes: 2}}\n")
    arm = folder / "edits/micro_pets/color/feasible"
    wanted = {p.name: p.read_bytes() for p in (arm / "images").iterdir()}
    table = (arm / "edits.parquet").read_bytes()
    assert len(list(arm.rglob("parts/*/batch*.parquet"))) > 1
    shutil.rmtree(arm)
    done = call(
        "run",
        "04_edit",
        "--params",
        str(two),
        "--set",
        "dataset=micro_pets",
        "--set",
        "attribute=color",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert {p.name: p.read_bytes() for p in (arm / "images").iterdir()} == wanted
    assert (arm / "edits.parquet").read_bytes() == table
