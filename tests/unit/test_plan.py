"""The plan: printed without loading anything, and an incomplete file refused with what to do."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from varireal_utils.core import storage
from varireal_utils.core.config import ParameterError, StudyConfig, checked, load_config, merged
from varireal_utils.training import pixel_maps
from varireal_utils.workflow import completeness, cost, model_table, pixels, plan, rates

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(
    p.name
    for p in (ROOT / "params").glob("*.yaml")
    if p.name not in ("paper.yaml", "datadream.yaml", "weekend.yaml")
)  # not a study by itself


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


CARS = "params/paper_stanford_cars.yaml"


def cars(*without: str, **changes) -> StudyConfig:
    """The study of cars. without: dotted keys that its file does not give; changes: keys with __
    for dots."""
    values = merged(CARS)
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    for key in (*without, *changed):
        *above, last = key.split(".")
        node = values
        for part in above:
            node = node[part]
        node.pop(last, None)
        node |= {last: changed[key]} if key in changed else {}
    return checked(values, CARS)


def planned(params: str, *words: str) -> tuple[str, list]:
    """What the command prints, and [exit code, heavy packages that it imported]."""
    code = (
        "import sys, json; from varireal_utils.__main__ import main\n"
        f"code = main({['plan', '--params', params, *words]!r})\n"
        "print(json.dumps([code, sorted(m for m in ('torch', 'diffusers', 'open_clip') "
        "if m in sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    return done.stdout, json.loads(done.stdout.strip().splitlines()[-1])


def test_the_plan_of_local_models_imports_no_torch(tmp_path):
    """Of a study that has not begun: one that has is compared with its records."""
    assert planned("params/micro.yaml", "--set", f"runs_dir={tmp_path}")[1] == [0, []]


def test_a_study_that_is_current_is_compared_without_the_networks_packages():
    """Its slices import none of them: a second call would wait seconds for those."""
    heavy = ("torchvision", "torchmetrics", "open_clip", "transformers", "diffusers", "peft")
    code = (
        "import sys; from varireal_utils.workflow.stages import STAGES\n"
        "classes = [stage.slice_class() for stage in STAGES.values()]\n"
        f"print(len(classes), [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split(maxsplit=1) == ["9", "[]\n"], done.stderr


def test_the_command_prints_the_plan_and_loads_nothing():
    """Of open_clip it reads the tables alone (test_trained_with.py: nothing is built)."""
    out, ended = planned("params/paper_stanford_cars.yaml")
    assert ended == [0, ["open_clip", "torch"]]
    for spec in cars().models.present().values():
        line = next(x for x in out.splitlines() if (spec.path or spec.name) in x)
        assert spec.licence in line and str(spec.size_gb) in line
        assert "not pinned" in line or (spec.weights or "not pinned") in line
    assert "fallback" in out and "RMBG" not in out
    assert "edited images 195,450" in out and "GPU hours:" in out
    assert "results/bench_gpu.json" in out and " GB of weights" in out
    assert "GPU memory" in out and "fits on A100 80 GB" in out
    assert "classify_one" in out  # Snakemake's own table of what is left


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_plan(name):
    config = load_config(f"params/{name}")
    text = plan.report(config)
    assert all(role in text for role in config.models.present())
    assert "not stated" not in text or "local" in text  # the hub's models say what they are


def test_models_name_revision_size_and_licence():
    config = cars(
        models__prior={"path": "x/y", "revision": "0123abc"},
        models__inpaint={"path": "models/micro/inpaint"},
        models__detector__revision="fade",  # a branch, though all its letters are hex
    )
    rows = {r[0]: r for r in model_table.rows(config.models)}
    assert rows["detector"][2] == "fade (not pinned)"
    assert rows["prior"] == ["prior", "x/y", "0123abc", "not stated", "not stated"]
    assert rows["refine"][2:] == ["main (not pinned)", "7.3", "OpenRAIL++-M"]
    assert rows["refine.vae"][1] == "madebyollin/sdxl-vae-fp16-fix"
    assert rows["inpaint"][2] == "local" and 0 < float(rows["inpaint"][3]) < 1


def test_datadream_trains_float32_weights():
    assert load_config("params/datadream_dtd.yaml").models.datadream.dtype == "float32"
    half = cars(models__datadream={"path": "owner/name", "dtype": "float16"})
    with pytest.raises(ParameterError, match="models.datadream.dtype: got 'float16', wanted 'flo"):
        plan.report(half)
    prior = cars("models.datadream")  # the prior's, in float16
    with pytest.raises(ParameterError, match="models.prior.dtype.*give role datadream"):
        plan.report(prior)
    none = cars("models.datadream", classify__recipes=["zero_shot", "real"])
    assert "05_datadream" not in plan.report(none)


def test_numbers_of_images_and_jobs():
    config, jobs = cars(), cost.jobs(cars())
    assert cost.sizes(config, "stanford_cars")[:2] == (
        {"train": 6515, "val": 1629, "test": 8041},
        196,
    )
    edits = [j for j in jobs if j.stage == "04_edit"]
    assert len(edits) == 6 and all(j.images == 5 * 6515 for j in edits)
    recipes = config.classify.recipes
    assert sum(j.count for j in jobs if j.stage == "06_classify") == 3 * (len(recipes) - 1) + 1
    dreams = [j for j in jobs if j.stage == "05_datadream"]
    assert [j.images for j in dreams] == [196 * 500]
    values = merged("params/paper_oxford_pets.yaml")
    values["datasets"]["oxford_pets"]["train_per_class"] = 2
    few = checked(values, "few")
    assert cost.sizes(few, "oxford_pets")[0] == {"train": 74, "val": 736, "test": 3669}
    values["datasets"]["oxford_pets"]["split"] = "some/split.csv"
    few = checked(values, "few")
    assert cost.sizes(few, "oxford_pets")[0] is None
    assert "images unknown" in plan.report(few) and "edited images ?" in plan.report(few)


def test_a_table_that_is_there_counts_more_than_lists(tmp_path):
    config = cars(runs_dir=str(tmp_path))
    table = pd.DataFrame(
        {"split": ["train"] * 4 + ["val"] + ["test"] * 2, "label": [0, 1, 2, 0, 1, 1, 2]}
    )
    storage.write_table(config.paths.images_table("stanford_cars"), table)
    assert cost.sizes(config, "stanford_cars")[:2] == ({"train": 4, "val": 1, "test": 2}, 3)


def test_jobs_are_those_of_the_snakefile():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "varireal_utils",
            "plan",
            "--params",
            "params/micro.yaml",
            "--set",
            "runs_dir=nowhere",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (done.stdout + done.stderr).splitlines()
    total = next(int(x.split()[1]) for x in lines if x.startswith("total "))
    ours = next(int(x.split()[0]) for x in lines if " jobs; edited images" in x)
    assert total == ours + 1  # Snakemake counts its own "all"


def _section(own) -> dict:
    """The keys of an attribute's section that a file gives."""
    return {name: getattr(own, name) for name in own.model_fields_set}


def test_estimates_by_hand():
    config = cars()
    own, known = config.edit.attributes["background"], rates.rates(config)
    make = 2 * math.ceil(own.steps * own.strength) * 6.76
    assert cost.edit_tflop(config, "background", "feasible") == pytest.approx(make)
    # an edit read once, nine questions; three photographs read for ten edits, a question each
    once, always = 35 * (1 + 0.09 + 0.3 + 0.01), 35 * (3 * 1.09 + 0.3 + 0.01)
    assert cost.verify_tflop(config) == pytest.approx(once)
    assert cost.verify_tflop(config, 3) == pytest.approx(always)
    job = next(j for j in cost.jobs(config) if j.stage == "04_edit")
    paint, read = (known[kind].tflops for kind in ("paint", "read"))
    for hours, tries, check in zip(job.hours, (1, 3), (once, always), strict=True):
        least = 32575 * (tries * make / paint + check / read) / 3600
        assert least < hours < 1.05 * least
    assert job.source == "estimate" and job.kinds == ("paint", "read")
    stated = cars(plan={"tflops": 100.0, "source": "mine"})
    job = next(j for j in cost.jobs(stated) if j.stage == "04_edit")
    assert job.hours[0] == pytest.approx(32575 * (make + once) / 100 / 3600, rel=0.05)
    assert "100 TFLOP/s, mine" in plan.report(stated)
    plain = cars(edit__background={**_section(own), "guidance_scale": 1.0})
    assert cost.edit_tflop(plain, "background", "feasible") == pytest.approx(make / 2)
    color = config.edit.attributes["color"]
    assert cost.edit_tflop(config, "color", "feasible") == pytest.approx(
        2 * math.ceil(color.steps * color.strength) * 6.76
        + 2 * math.ceil(color.refine_steps * color.refine_strength) * (6.76 + 3.02)
    )
    own_arm = load_config("params/faithful_fgvc_aircraft.yaml")
    assert cost.edit_tflop(own_arm, "texture", "infeasible") < cost.edit_tflop(
        own_arm, "texture", "feasible"
    )


def test_photographs_are_read_once_for_their_edits_of_a_batch():
    for edits, batch in ((1, 8), (5, 8), (5, 1), (4, 16), (5, 3)):
        rows, size = 7 * edits * batch, batch  # whole photographs and whole batches
        read = sum(
            len({row // edits for row in range(start, start + size)})
            for start in range(0, rows, size)
        )
        assert cost.photographs_read(edits, batch) == pytest.approx(read / rows)
    faithful = load_config("params/faithful_oxford_pets.yaml")
    assert cost.verify_tflop(faithful, 2) == pytest.approx(2 * 35 * 1.04)  # edits alone
    weekend = load_config("params/weekend_oxford_pets.yaml")
    assert cost.verify_tflop(weekend, 2) == pytest.approx(2 * 3 * 0.035)  # CLIP


def test_what_nobody_measured_is_not_made_up():
    config = cars("plan")
    assert all(j.hours is None for j in cost.jobs(config))
    assert "GPU hours: not measured" in plan.report(config)
    by_what = {j.what: j for j in cost.jobs(cars("models.refine.tflop"))}
    assert by_what["color stanford_cars feasible"].source == "not measured"
    assert by_what["background stanford_cars feasible"].source == "estimate"


def test_measured_hours_come_before_estimates(tmp_path, monkeypatch):
    config = cars()
    (tmp_path / "params").symlink_to(ROOT / "params")
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "claims.yaml").symlink_to(ROOT / "claims.yaml")  # whose arms the plan compares
    (tmp_path / "results").mkdir()
    (tmp_path / "results/bench_gpu.json").symlink_to(ROOT / "results/bench_gpu.json")
    storage.write_text(
        tmp_path / "results/paper_stanford_cars/runs.csv",
        "stage,what,seconds\n04_edit,color stanford_cars feasible,7200\n",
    )
    monkeypatch.chdir(tmp_path)
    found = {j.what: j for j in cost.jobs(config)}
    assert found["color stanford_cars feasible"].hours == (2.0, 2.0)
    assert found["color stanford_cars feasible"].source == "measured"
    assert found["color stanford_cars infeasible"].source == "estimate"
    assert "measured: results/paper_stanford_cars/runs.csv" in plan.report(config)


def changed(tmp_path: Path, change: dict) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(
        yaml.safe_dump({"include": str(ROOT / "params/paper_stanford_cars.yaml")} | change)
    )
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"models": {"inpaint": {"path": ""}}},
            r"models.inpaint.path: got nothing, wanted a local",
        ),
        (
            {"models": {"prior": {"path": "./nowhere"}}},
            r"models.prior.path: got 'nowhere', which is not"
            " here; clone",
        ),
        ({"models": {"inpaintt": {"path": "x"}}}, "unknown key 'models.inpaintt'; did you mean"),
        ({"models": {"clip": {"licnce": "MIT"}}}, "unknown key 'models.clip.licnce'.*'licence'"),
        (
            {"models": {"verifier": {"dtype": "int4"}}},
            "models.verifier.dtype: got 'int4', wanted one",
        ),
        (
            {"models": {"verifier": {"quantization": "3bit"}}},
            "quantization: got '3bit', wanted one of",
        ),
        (
            {"models": {"verifier": {"kind": "vlm", "path": ""}}},
            "models.verifier.path: got nothing",
        ),
        (
            {"models": {"verifier": {"role": "eye"}}},
            "models.verifier.role: got 'eye', wanted a role",
        ),
        ({"prompts": "nowhere.yaml"}, "prompts: got 'nowhere.yaml', which is not there; wanted"),
        ({"datasets": {"x": {"source": "stanford_car", "root": "r"}}}, "datasets.x.*stanford_cars"),
        ({"datasets": {"x": {"source": "stanford_cars"}}}, r"datasets.x: .*needs \['root'\]"),
        (
            {"datasets": {"x": {"source": "imagefolder", "root": "r"}}},
            "stanford_cars.yaml has no phrases of background for 'x'; add them under families",
        ),
        ({"classify": {"recipes": ["reel"]}}, "classify.recipes: recipe 'reel' is not known. Wan"),
        ({"plan": {"tflops": 0}}, "plan.tflops: got 0, wanted a number above 0"),
        (
            {"verify": {"rule": "faithful"}},
            "verify.rule: got 'faithful' with protocol 'controlled'",
        ),
        ({"verify": {"p_yes": 2}}, "verify.p_yes: got 2, wanted a number from 0 to 1"),
        ({"guidance": {"box_treshold": 0.4}}, "unknown key 'guidance.box_treshold'.*box_threshold"),
        (
            {"classify": {"recipes": ["edit(shape,feasible)"]}},
            "recipes: .*attribute is 'shape', want",
        ),
        (
            {"classify": {"recipes": ["mix(color,0.5)", "mix(color,0.50)"]}},
            r"classify.recipes: 'mix\(color,0.50\)' is 'mix\(color,0.5\)' again; take one out",
        ),
        ({"classify": {"recipes": ["mix(color,1.5)"]}}, "recipes: .*'1.5', wanted a number from 0"),
        (
            {"attributes": ["color"], "classify": {"recipes": ["edit(texture,feasible)"]}},
            "needs edits of 'texture'; attributes has",
        ),
    ],
)
def test_a_bad_file_is_refused_with_key_value_and_remedy(tmp_path, capsys, change, message):
    import re

    from varireal_utils.__main__ import main

    file = changed(tmp_path, change)
    assert main(["plan", "--params", str(file)]) == 2
    said = capsys.readouterr().err
    assert str(file) in said and re.search(message, said), said


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("inpaint", "edits of"),
        ("prior", "edits of texture"),
        ("controlnet", "refine_steps"),
        ("clip", "06_classify"),
        ("detector", "models.segmenter is there; name both"),
    ],
)
def test_an_incomplete_file_is_refused(role, why):
    with pytest.raises(ParameterError, match=f"models.{role}: got nothing, wanted.*{why}"):
        completeness.complete(cars(f"models.{role}"))
    with pytest.raises(ParameterError, match="datadream: got nothing"):
        completeness.complete(cars("datadream"))


def test_shards_are_jobs_of_the_snakefile(tmp_path):
    path = tmp_path / "shards.yaml"
    path.write_text(f"include: {ROOT}/params/micro.yaml\nruns_dir: nowhere\nedit: {{shards: 3}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "varireal_utils", "plan", "--params", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    jobs = [x.split() for x in (done.stdout + done.stderr).splitlines()]
    assert ["edit_shard", "18"] in jobs and ["edit", "6"] in jobs


def test_what_if_halves_edits_and_scales_with_the_gpu():
    config = cars()
    text = plan.report(config)
    assert "half the edits" in text and "16 GPUs at once" in text
    todo = cost.jobs(config)
    total = sum(j.hours[0] for j in todo if j.hours)
    edits = sum(j.hours[0] for j in todo if j.hours and j.stage == "04_edit")
    assert edits > 0.5 * total
    rows = [" ".join(r.split()) for r in plan.what_if(config, todo)]
    half = next(r for r in rows if r.startswith("half"))
    assert f"{total - edits / 2:,.0f} to " in half
    h100 = next(r for r in rows if r.startswith("H100"))
    faster = cost.jobs(cars(plan={"card": "H100"}))
    there = sum(j.hours[0] for j in faster if j.source == "estimate")
    assert f"{there:,.0f} to " in h100 and there < total
    without = cars("plan")
    assert plan.what_if(without, cost.jobs(without)) == []


def test_the_plan_says_where_decoded_pictures_are_held(monkeypatch):
    config = cars(runs_dir="elsewhere")
    todo = cost.jobs(config)
    photographs = cost.sizes(config, "stanford_cars")[0]["train"]
    made = sum(j.images or 0 for j in todo if j.stage in ("04_edit", "05_datadream"))
    for room, words in ((True, "elsewhere/.pixels, shared"), (False, "NOWHERE")):
        monkeypatch.setattr(pixel_maps, "enough", lambda folder, need, room=room: room)
        monkeypatch.setattr(pixel_maps, "free_memory", lambda: 1e9)
        (row,) = [line for line in pixels.lines(config, todo) if "stanford_cars" in line]
        assert f"{photographs + made:,}" in row and words in row
    small = load_config("params/micro.yaml", {"runs_dir": "elsewhere"})
    assert all("memory" in line for line in pixels.lines(small, cost.jobs(small))[2:-1])
