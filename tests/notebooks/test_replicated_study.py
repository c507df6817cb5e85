"""A whole study of replicates, registered, killed and resumed, from photographs to verdicts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.workflow import chain, invocation, overview, runner, stages

pytestmark = pytest.mark.slow
TIME = 3000
EDITS = [f"{m}(color,{v})" for m in ("edit", "perfect") for v in ("familiar", "infeasible")]
RECIPES = [
    "zero_shot",
    "real",
    *EDITS,
    "perfect(color,unfamiliar)",
    "perfect(color,familiar,half=2)",
    "matched(color,familiar)",
    "matched(color,infeasible)",
    "unmatched(color,familiar)",
    "unmatched(color,infeasible)",
    "datadream(dset)",
    "real+datadream(dset)",
]


def params(folder: Path, **changed) -> Path:
    """Parameter file of four tiny replicates; seed 991 is no study's."""
    values = {
        "include": str(ROOT / "tests" / "tiny.yaml"),
        "study": "drawn",
        "seed": 991,
        "replicates": 4,
        "chain": True,
        "runs_dir": str(folder / "runs"),
        "registration": str(folder / "drawn.json"),
        "job_threads": 1,
        "prompts": "params/prompts/world.yaml",
        "attributes": ["color"],
        "datasets": {
            "micro_pets": {
                "source": "world",
                "family": "pets",
                **{"train_per_class": 2, "val_per_class": 1, "test_per_class": 2},
            }
        },
        "edit": {"distances": True, "max_attempts": 1},
        "classify": {"job": "dataset", "recipes": RECIPES},
    }
    path = folder / "drawn.yaml"
    path.write_text(yaml.safe_dump(values | changed))
    return path


def start(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "varireal_utils", *words],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def call(*words: str) -> tuple[int, str]:
    process = start(*words)
    text = process.communicate(timeout=TIME)[0]
    return process.returncode, text


def called(folder: Path, *words: str) -> str:
    """What a Python module prints that is run in a folder, where it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True, timeout=TIME
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path, dict[Path, bytes]]:
    """(folder of the study, its parameter file, records that were there before it was killed)."""
    folder = tmp_path_factory.mktemp("drawn")
    file = params(folder)
    code, text = call("register", "--params", str(file))
    assert code == 0, text
    study = folder / "runs" / "drawn"
    driver = start("study", "--params", str(file), "--cores", "1")
    deadline = time.monotonic() + TIME
    while len(list(study.glob("replicates/*/classify/*/run.json"))) < 1:  # within the second one
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()[0]
        time.sleep(0.3)
    while len(list(study.glob("replicates/*/guidance/*/run.json"))) < 2:
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()[0]
        time.sleep(0.3)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = {p: p.read_bytes() for p in study.glob("replicates/*/*/**/run.json")}
    code, text = call("study", "--params", str(file), "--cores", "1")
    assert code == 0, text[-4000:]
    return study, file, before


def test_a_killed_study_goes_on_where_it_stopped(finished):
    study, file, before = finished
    assert 8 <= len(before) < 40
    assert all(path.read_bytes() == data for path, data in before.items())
    names = {job.name for job in stages.jobs(load_config(file))}
    found = {p.parent.relative_to(study).as_posix() for p in study.rglob("run.json")}
    assert names == found


def test_four_replicates_have_verdicts_and_three_have_none(finished):
    study, file, _ = finished
    found = pd.read_csv(study / "results/claims.csv").set_index("claim")
    run = found[found["verdict"] != "not run"]
    assert {"P0", "E1", "E3", "E4", "D1"} <= set(run.index)
    assert (run["units"].dropna() == 4).all() and (run["unit"].dropna() == "replicates").all()
    assert not run["because"].fillna("").str.contains("one draw|planned").any()
    learned = pd.read_csv(study / "results/learned.csv")
    assert set(learned["model"]) == {"unadapted", "adapted", "photographs"}
    assert set(learned["replicate"]) == set(range(4))
    gate = found.loc["D1", "because"]  # the shipped model draws no classes
    assert found.loc["D1", "verdict"] == "not valid" and "of unadapted dset images" in gate
    sizes = pd.read_csv(study / "results/trainings.csv")
    assert {"replicate", "gap", "distance"} <= set(sizes)
    for name in ("claim_forest", "decomposition"):
        assert (study / f"figures/{name}.png").stat().st_size > 5000


def test_every_view_knows_replicates(finished):
    study, file, _ = finished
    code, text = call("status", "--params", str(file))
    assert code == 0 and "current (4 jobs)" in text and "4 replicates; as registered" in text
    code, text = call("verify", str(study))
    assert code == 0, text
    assert "records against the registration of" in text and "tables recomputed" in text
    code, text = call("report", "--params", str(file))
    assert code == 0, text
    page = (study / "report/index.html").read_text()
    assert "replicate" in page and "E4" in page
    rows = overview.runs(study)
    assert set(rows["replicate"].dropna()) == set(range(4))
    each = rows.groupby("replicate")["stage"].nunique()
    assert (each == 6).all()


def test_it_ends_on_another_machine_with_the_same_tables(finished, tmp_path):
    study, file, _ = finished
    code, text = call("save", str(tmp_path / "kept"), "--params", str(file))
    assert code == 0 and "3 of 3 data sets of replicates 1 and on" in text
    assert sum(p.stat().st_size for p in (tmp_path / "kept").iterdir()) < 3e6
    there = ["--params", str(file), "--set", f"runs_dir={tmp_path / 'runs'}"]
    code, text = call("restore", str(tmp_path / "kept"), *there)
    assert code == 0, text
    code, text = call("study", *there, "--cores", "1")
    assert code == 0, text[-4000:]
    other = tmp_path / "runs/drawn"
    tables = [p.name for p in (study / "results").glob("*.parquet")]
    tables += [p.name for p in (study / "results").glob("*.csv") if p.name != "runs.csv"]
    assert "answers.parquet" in tables and "claims.csv" in tables and "learned.csv" in tables
    for name in tables:
        assert (other / "results" / name).read_bytes() == (study / "results" / name).read_bytes()
    assert {p.name for p in (other / "figures").glob("*.png")} == {
        p.name for p in (study / "figures").glob("*.png")
    }
    code, text = call("verify", str(other))
    assert code == 0 and "files that are not on this machine, as replicates/01" in text
    assert "as registered" in call("status", *there)[1]
    code, text = call("report", *there)
    assert code == 0, text


def test_it_can_be_published_in_the_place_of_an_older_one(finished, tmp_path):
    """As docs/registration.md says, in a copy of the repository that shows another study."""
    _, file, _ = finished
    for path in ROOT.iterdir():
        if path.name in ("docs", "figures", "results"):
            shutil.copytree(path, tmp_path / path.name)
        elif path.name == "README.md":
            shutil.copy(path, tmp_path)
        elif not path.name.startswith(".") and path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    storage.write_text(tmp_path / "results/shown.txt", "drawn\n")
    drawing = ["varireal_utils", "run", "08_figures", "--params", str(file)]
    called(tmp_path, *drawing, "--set", "publish=true")
    names = {p.stem for p in (tmp_path / "figures").glob("*.png")}
    assert {"decomposition", "claim_forest", "true_effects"} <= names
    assert not {"effect_by_protocol", "learning_curves_micro_cars"} & names  # of the older one
    assert "every file is as recorded" in called(
        tmp_path, "varireal_utils", "verify", "results/drawn"
    )
    before = {p: p.read_bytes() for p in (tmp_path / "results/drawn").rglob("*.csv")}
    again = called(tmp_path, "varireal_utils.workflow.recompute", "results/drawn")
    assert "as it should be" in again and all(p.read_bytes() == b for p, b in before.items())
    called(tmp_path, "varireal_utils.reporting.readme")
    page = (tmp_path / "README.md").read_text()
    assert "4 replicates" in page and "It is the sum of" in page and "one draw" not in page
    called(tmp_path, *drawing, "--set", "source=results/drawn", "--set", "publish=true")
    assert {p.stem for p in (tmp_path / "figures").glob("*.png")} == names


def test_a_registered_study_grows_by_another_one_alone(finished):
    study, file, _ = finished
    code, text = call("study", "--params", str(file), "--set", "replicates=5")
    assert code == 2 and "replicates: 4 -> 5" in text and "another `study`" in text
    code, text = call("register", "--params", str(file), "--set", "replicates=5")
    assert code == 2 and "has begun" in text


def test_a_chain_writes_the_bytes_of_separate_runs(finished, tmp_path):
    """Two photographs' arms of the first replicate, each stage in a kernel of its own."""
    study, _, _ = finished
    recipes = ["real", "edit(color,familiar)"]
    alone = params(tmp_path, chain=False, classify={"job": "dataset", "recipes": recipes})
    config = load_config(alone, {"replicate": 0})
    last = [job for job in stages.jobs(config) if job.stage.name == chain.LAST]
    for job in chain.links(last[0]):
        settings = ["replicate=0", *(f"{k}={v}" for k, v in job.given().items())]
        runner.run(invocation.prepare(job.stage.name, str(alone), settings, ROOT / "notebooks"))
    own, other = config.paths.root, study / "replicates/00"
    for made in (
        "data/micro_pets/images.parquet",
        "guidance/micro_pets/guidance.parquet",
        "edits/micro_pets/color/familiar/edits.parquet",
        *(f"classify/micro_pets/{storage.slug(r)}/seed0/predictions.parquet" for r in recipes),
        *(f"classify/micro_pets/{storage.slug(r)}/seed0/metrics.json" for r in recipes),
    ):
        one, two = own / made, other / made
        assert one.read_bytes() == two.read_bytes(), made
