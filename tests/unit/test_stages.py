"""The registry of stages: own folders, upstream jobs first, commands that name a target."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, tiny_config
from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.workflow import graph as graphs
from varireal_utils.workflow import stages
from varireal_utils.workflow.graph import Graph

RECIPES = ["zero_shot", "real", "edit(color,feasible)", "datadream(dset)"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def micro(**changes):
    return load_config("params/micro.yaml", {k.replace("__", "."): v for k, v in changes.items()})


@pytest.mark.parametrize("job", ["dataset", "seed", "recipe"])
@pytest.mark.parametrize("shards", [1, 3])
def test_no_folder_is_shared_and_upstream_comes_first(job: str, shards: int) -> None:
    config = micro(classify__job=job, edit__shards=shards)
    names: list[str] = []
    for one in stages.jobs(config):
        assert one.name not in names, one.name
        assert {up.name for up in (*one.upstream(), *one.parts())} <= set(names), one.name
        names.append(one.name)
    assert {one.stage.name for one in stages.jobs(config)} == set(stages.STAGES)


def test_a_notebook_for_each_stage_takes_its_targets() -> None:
    from varireal_utils.workflow.invocation import read_signature

    for stage in stages.STAGES.values():
        signature = read_signature(Path("notebooks", f"{stage.name}.ipynb"))
        for target in stage.targets(micro(edit__shards=2)):
            assert set(target) == set(signature) - {"params", "overrides"}, stage.name


def test_a_training_waits_for_the_images_of_its_recipe_alone() -> None:
    config = tiny_config(Path("runs"), classify__job="recipe", classify__recipes=RECIPES[:3])
    found = {job.name: [up.name for up in job.upstream()] for job in stages.jobs(config)}
    assert found["classify/micro_cars/real/seed0"] == ["data/micro_cars"]
    edits = [f"edits/micro_cars/color/{arm}" for arm in ("feasible", "infeasible")]
    slug = next(n for n in found if "edit" in n and n.startswith("classify"))
    assert found[slug] == ["data/micro_cars", *edits]


def test_recipes_without_their_images_are_refused() -> None:
    with pytest.raises(ParameterError, match="needs edits of 'texture'; attributes has"):
        stages.jobs(tiny_config(Path("r"), classify__recipes=["edit(texture,feasible)"]))
    with pytest.raises(ParameterError, match="recipes ask for datadream"):
        stages.jobs(tiny_config(Path("r"), classify__recipes=["datadream(dset)"]))


def test_commands_name_what_is_not_left_at_its_default() -> None:
    graph = Graph({"params": "params/micro.yaml", "settings": ["seed=5", "job_threads=3"]})
    words = shlex.split(graph.command("edits/micro_cars/color/feasible"))
    assert words[3:5] == ["run", "04_edit"] and graph.threads == 3
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert sets == [
        'overrides={"seed": 5, "job_threads": 3}',
        "dataset=micro_cars",
        "attribute=color",
        "feasibility=feasible",
    ]
    figures = shlex.split(graph.command("figures"))
    assert figures.count("--set") == 1  # the overrides alone


def test_where_snakemake_works_apart_files_are_named_from_the_study(monkeypatch, tmp_path) -> None:
    graph = Graph(
        {"params": ["params/micro.yaml"], "settings": ["runs_dir=x{y}"], "home": [str(ROOT)]}
    )
    monkeypatch.chdir(tmp_path)  # what reads files has done so
    assert "data/micro_cars/run.json" in graph.inputs("guidance/micro_cars")
    assert "figures/run.json" in graph.records() and graph.root == ""
    words = shlex.split(graph.command("data/micro_cars"))
    assert words[:4] == ["sh", "-c", 'cd "$0" && exec "$@"', str(ROOT)]
    assert words[4:8] == [sys.executable, "-m", "varireal_utils", "run"]
    assert graph.minutes("data/micro_cars") > 0


def test_snakemake_works_in_the_study_s_folder_where_it_must(monkeypatch) -> None:
    assert not graphs.apart(Path("runs/a b"))
    assert graphs.apart(Path("runs/a{b}"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a clone that is read-only
    assert graphs.apart(Path("/elsewhere/runs"))


def test_snakemake_plans_a_study_whose_path_has_every_character(tmp_path) -> None:
    code = "import sys; from varireal_utils.workflow import study\n"
    code += "sys.exit(study.drive(sys.argv[1], sys.argv[2:], dry=True))"
    runs = tmp_path / "{a} \"b' #é [x] $HOME"
    words = ["params/micro.yaml", f"runs_dir={runs}", "attributes=[]"]
    words += ["classify.recipes=[zero_shot, real]", "precision=float32"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0 and "claims" in done.stdout, done.stdout + done.stderr
    assert not runs.exists() or not list(runs.rglob("run.json"))


def test_seed_zero_is_named(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, classify__job="seed")
    job = next(j for j in stages.jobs(config) if j.stage.name == "06_classify")
    assert job.target["seed"] == 0 and job.what == "micro_cars 0" and job.rule == "classify_seed"
    assert "seed=0" in job.command("p.yaml", {}, "notebooks")
