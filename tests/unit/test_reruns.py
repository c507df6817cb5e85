"""What changes makes exactly the right jobs run again: settings, sources, notebooks, machine.

Every key of the configuration is taken from the typed settings and changed, one at a time; RULES
says which jobs may notice it. A new key that no rule names fails. Records stand in for runs, so
that no model is needed; one whole tiny study is in tests/notebooks/test_study.py.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from varireal_utils.core import cpu_precision, storage
from varireal_utils.core.config import ParameterError, StudyConfig, checked, merged, written
from varireal_utils.core.config_base import flattened
from varireal_utils.core.config_schedulers import SCHEDULERS
from varireal_utils.core.config_sections import PIPELINES, QUANTISED
from varireal_utils.core.stage import Key, SourceDigests
from varireal_utils.data import registry
from varireal_utils.data.sets.csv_file import CsvSpec
from varireal_utils.workflow import provenance, stages, status, verify

MACHINE = "guidance edits datadream classify quality"
RULES = [  # (keys, folders of the jobs whose key they change); the first that matches counts
    (r"study|runs_dir|job_threads|gpus|trainings_per_gpu|registration|chain|plan\..*", ""),
    (r"protocol", "attributes results"),
    (r"seed", "data attributes edits datadream classify"),
    (r"device|precision", MACHINE),
    (r"datasets\..*", "data"),
    (r"attributes", "attributes classify quality results figures"),
    (r"prompts", "attributes"),
    (r"models\.\w+\.(licence|vae_licence|lora_licence|size_gb|tflop|tflop_text)", ""),
    (r"models\.inpaint\..*", "edits"),
    (r"models\.prior\..*", "edits/mine/background edits/mine/texture"),  # datadream has its own
    (r"models\.(controlnet|refine|ip_adapter)\..*", "edits/mine/color edits/mine/texture"),
    (r"models\.instruct", ""),  # no arm of this study is edited by it
    (r"models\.datadream(\..*)?", "datadream"),
    (r"models\.clip\..*", "datadream classify quality"),
    (r"models\.classifier", "classify"),
    (r"models\.(detector|segmenter)\..*", "guidance"),
    (r"models\.verifier\..*", "edits datadream quality"),
    (r"guidance\..*", "guidance"),
    (r"edit\.(shards|processes|pool|reuse)", ""),
    (r"edit\.(canvas|canvas_shape|resize)", "guidance edits"),  # lines are drawn on the canvas
    (r"edit\.(\w+)\.arms\.(\w+)\..*", r"edits/mine/\1/\2"),
    (r"edit\.(background|color|texture)\..*", r"edits/mine/\1"),
    (r"edit\..*", "edits"),
    (r"verify\.keep", "classify results"),
    (r"verify\..*", "edits"),
    (r"datadream\.checkpoint_every", ""),
    (r"datadream\..*", "datadream"),
    (r"classify\.edited_test", ""),  # of rendered data sets alone
    (r"classify\.(job|processes|checkpoint_every)", ""),
    (r"classify\.(recipes|seeds)", "classify results"),
    (r"classify\.templates", "classify quality"),
    (r"classify\..*", "classify"),
    (r"claims\.margin", "results figures"),
    (r"claims\..*", "results"),
]
OTHER: list[Any] = [
    "other",
    2,
    0.37,
    "float16",
    "float32",
    "sequential",
    "timm",
    "8bit",
    "faithful",
]
OTHER += ["controlled", "prefix", "img2img", "shortest", "all", "seed", "cuda"]
OTHER += ["picture", "found", "photograph", "canvas", "lanczos4", "random", "cubic", "own"]
OTHER += ["shots", "square", "noise", "edit", "given", "lanczos", "middle", "disc", "object"]
OTHER += [{"path": "owner/other"}, {"probability": 0.5}, {"a": ["runs/a"]}]
OTHER += [True, {"name": "DDIMScheduler"}, "DDIMScheduler", "trailing", "v_prediction", "zero"]
PRIOR_SCHEDULER = {"name", *SCHEDULERS["DPMSolverMultistepScheduler"]}


def base(folder: Path) -> dict[str, Any]:
    """Every key of a parameter file, of a study of one data set that fills every section."""
    values = merged(ROOT / "params/paper_stanford_cars.yaml")
    recipes = ["zero_shot", "real", "datadream(dset)", "real+mix(all,0.5)"]
    values |= {
        "study": "s",
        "protocol": "faithful",
        "runs_dir": str(folder / "runs"),
        "device": "cpu",
        "precision": "float32",
        "prompts": str(folder / "phrases.yaml"),
        "datasets": {"mine": written(CsvSpec(source="csv", path=str(folder / "mine.csv")))},
    }
    values["edit"] |= {"shards": 1}
    values["classify"] |= {"job": "dataset", "seeds": [0, 1]}
    values["classify"]["recipes"] = [*recipes, "edit(color,feasible)", "edit(color,infeasible)"]
    return written(checked(values, "base"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with photographs, masks, their list, phrases, claims and notebooks."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,mask"]
    for number in range(3):
        pixels = np.full((8, 8, 3), number, np.uint8)
        storage.write_image(tmp_path / f"photos/{number}.png", pixels)
        storage.write_image(tmp_path / f"masks/{number}.png", pixels)
        lines.append(f"photos/{number}.png,a,masks/{number}.png")
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    Path("phrases.yaml").write_text("a: 1\n")
    for name in ("claims.yaml", "known.yaml"):
        shutil.copy(ROOT / name, name)
    shutil.copytree(ROOT / "notebooks", "notebooks")
    return tmp_path


def keys(config: StudyConfig) -> dict[str, Key]:
    """Job -> key."""
    digests = SourceDigests(Path("digests.json"))
    return {
        job.name: job.key(Path("notebooks", f"{job.stage.name}.ipynb"), digests)
        for job in stages.jobs(config)
    }


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of the values with another one at a dotted key."""
    out = copy.deepcopy(values)
    *above, last = key.split(".")
    node = out
    for part in above:
        node = node[part]
    node[last] = value
    return out


def others(value: Any) -> list[Any]:
    """Values that a setting could have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 8, value / 2 + 0.13, value + 9]
    if isinstance(value, list):
        less = [value[:-1]] if value else []
        return [*less, ["other {class}"], [v for v in ("image", "text") if v not in value]]
    return [other for other in OTHER if other != value]


def elsewhere(values: dict[str, Any], key: str, value: Any) -> StudyConfig:
    """The configuration with the first other value that the key may have."""
    for other in others(value):
        try:
            config = checked(put(values, key, other), key)
            registry.of_study(config, "mine")
            return config
        except (ParameterError, registry.DatasetError):
            continue
    raise AssertionError(f"{key}: no other value than {value!r} was found")


def refused(key: str) -> bool:
    """Whether a key can have no value here: a scheduler or a LoRA where no pipeline is, an option
    of another scheduler, quantisation of a model that has none."""
    section, role, part, option = [*key.split("."), "", "", ""][:4]
    if (section, part) == ("models", "quantization"):
        return role not in QUANTISED
    if section != "models" or part not in ("scheduler", "lora"):
        return False
    return role not in PIPELINES or bool(option) and option not in PRIOR_SCHEDULER


def noticing(key: str, jobs: list[str]) -> set[str]:
    """The jobs that may notice a change of a key, by RULES."""
    for pattern, folders in RULES:
        if found := re.fullmatch(pattern, key):
            named = [found.expand(folder) for folder in folders.split()]
            return {job for job in jobs for f in named if f"{job}/".startswith(f"{f}/")}
    raise AssertionError(f"{key}: a new key; say in RULES which jobs depend on it")


def test_every_key_changes_the_keys_of_exactly_the_jobs_that_depend_on_it(home: Path) -> None:
    values = base(home)
    before, wrong, count = keys(checked(values, "base")), [], 0
    for key, value in flattened(values).items():
        if key in ("replicates", "replicate"):
            continue  # they change which jobs there are (test_replicates.py)
        if re.fullmatch(r"datasets\.mine\.source|claims\.against", key) or refused(key):
            continue  # another source takes other keys; another study: see the next test
        after = keys(elsewhere(values, key, value))
        both = [name for name in before if name in after]
        got = {name for name in both if before[name].digest != after[name].digest}
        count += 1
        if got != (want := noticing(key, both)):
            wrong.append(f"{key}: missing {sorted(want - got)}, too many {sorted(got - want)}")
    assert not wrong, "\n".join(wrong)
    assert count > 200


def test_every_section_is_among_the_keys(home: Path) -> None:
    names = set(flattened(base(home)))
    for section in StudyConfig.model_fields:
        assert any(n == section or n.startswith(f"{section}.") for n in names), section


def replace_photograph(home: Path) -> None:
    storage.write_image(home / "photos/1.png", np.full((8, 8, 3), 9, np.uint8))


def add_photograph(home: Path) -> None:
    shutil.copy(home / "photos/1.png", home / "photos/3.png")
    with open(home / "mine.csv", "a") as file:
        file.write("photos/3.png,a,\n")


def change_mask(home: Path) -> None:
    storage.write_image(home / "masks/2.png", np.full((8, 8, 3), 9, np.uint8))


def append(name: str) -> Any:
    def change(home: Path) -> None:
        with open(home / name, "a") as file:
            file.write("\n")

    return change


@pytest.mark.parametrize(
    ("change", "folders", "line"),
    [
        (replace_photograph, "data", "source photos/1.png: changed"),
        (add_photograph, "data", "source photos/3.png: added"),
        (lambda home: (home / "photos/0.png").unlink(), "data", "source photos/0.png: removed"),
        (change_mask, "data", "source masks/2.png: changed"),
        (append("mine.csv"), "data", "source mine.csv: changed"),
        (append("phrases.yaml"), "attributes", "source phrases.yaml: changed"),
        (append("claims.yaml"), "results", "source claims.yaml: changed"),
        (append("known.yaml"), "results", "source known.yaml: changed"),
        (append("clip/model.safetensors"), "classify", "source clip/model.safetensors: changed"),
        (append("unet/unet/config.json"), "edits", "source unet/unet/config.json: changed"),
        (append("other/answers.parquet"), "results", "source other/answers.parquet: changed"),
    ],
)
def test_a_changed_source_changes_the_keys_of_those_who_read_it(
    home: Path, change: Any, folders: str, line: str
) -> None:
    for name in ("clip/model.safetensors", "unet/unet/config.json", "other/answers.parquet"):
        storage.write_text(home / name, "1")
    values = base(Path()) | {"runs_dir": "runs"}
    values["models"]["clip"] |= {"name": "local-dir:clip", "weights": ""}
    values["models"]["inpaint"]["path"] = "./unet"
    values["claims"]["against"] = {"first": ["other"]}
    config = checked(values, "base")
    before = keys(config)
    change(home)
    after = keys(config)
    got = {name for name in before if before[name].digest != after[name].digest}
    if folders == "classify":  # CLIP measures the other images too
        folders = "classify datadream quality"
    assert {name.split("/")[0] for name in got} == set(folders.split())
    assert all(line in after[name].changes(before[name]) for name in got)


@pytest.mark.parametrize("stage", list(stages.STAGES))
def test_a_changed_cell_changes_the_keys_of_its_stage(home: Path, stage: str) -> None:
    config = checked(base(home), "base")
    before, path = keys(config), Path("notebooks", f"{stage}.ipynb")
    book = json.loads(path.read_text())
    book["cells"][-1]["execution_count"], book["metadata"]["x"] = 3, "y"  # saved after a look
    path.write_text(json.dumps(book))
    assert keys(config) == before
    book["cells"][-1]["source"] = ["1"]
    path.write_text(json.dumps(book))
    changed = {name for name, key in keys(config).items() if key != before[name]}
    assert changed == {j.name for j in stages.jobs(config) if j.stage.name == stage}


# Records in place of runs
SECOND = itertools.count()


def make(job: stages.Job, text: str = "x") -> None:
    """What a run leaves: one file and the record."""
    storage.write_text(job.folder / "made.txt", text)
    name = f"{job.name}/made.txt"
    notebook = Path("notebooks", f"{job.stage.name}.ipynb")
    record = {
        "stage": job.stage.name,
        "run_id": f"{job.name} {text}",
        "outputs": {name: storage.sha256_file(job.folder / "made.txt")},
        "key": job.key(notebook, SourceDigests(Path("digests.json"))).record(),
        "upstream": status.upstream_digests(job),
        "own": job.target,
        "parameters": written(job.config),
        "parameter_digest": storage.sha256_json(written(job.config)),
        "started": f"{next(SECOND):012d}",
    }
    storage.write_json(job.record, record)
    provenance.seal(job.record)


def stale(config: StudyConfig) -> set[str]:
    return {s.job.name for s in status.states(config) if s.word != "current"}


def downstream(config: StudyConfig, changed: set[str]) -> set[str]:
    """The jobs that read files of these, and these, by the graph alone."""
    found = set(changed)
    for job in stages.jobs(config):
        if found & {up.name for up in job.upstream()}:
            found.add(job.name)
    return found


@pytest.fixture
def study(home: Path) -> StudyConfig:
    """A finished study of records."""
    config = checked(base(home), "base")
    for job in stages.jobs(config):
        make(job)
    assert stale(config) == set()
    return config


@pytest.mark.parametrize(
    ("key", "value", "direct"),
    [
        ("claims.margin", 0.5, "results figures"),
        ("edit.color.arms.feasible.strength", 0.3, "edits/mine/color/feasible"),
        ("guidance.canny_low", 0.5, "guidance/mine"),
        ("classify.lr", 0.5, "classify/mine"),
        ("verify.keep", "all", "classify/mine results"),
        ("edit.shards", 4, ""),
        ("job_threads", 3, ""),
    ],
)
def test_a_change_makes_what_depends_on_it_stale_and_its_runs_make_it_current(
    home: Path, study: StudyConfig, key: str, value: Any, direct: str
) -> None:
    config = checked(put(base(home), key, value), "changed")
    want = downstream(config, set(direct.split()))
    assert stale(config) == want
    status.settle(status.states(config))
    parts = {part.name for job in stages.jobs(config) for part in job.parts()}
    absent = {j.name for j in stages.jobs(config) if not j.record.exists()}
    assert absent - parts == want
    for job in stages.jobs(config):
        if job.name in want:
            make(job, "again")
    assert stale(config) == set()


def test_a_change_taken_back_brings_the_records_back(home: Path, study: StudyConfig) -> None:
    changed = checked(put(base(home), "classify.lr", 0.5), "changed")
    before = {j.name: j.record.read_bytes() for j in stages.jobs(study)}
    status.settle(status.states(changed))
    assert not (study.paths.classify("mine") / "run.json").exists()
    assert verify.verify(study.paths.root).wrong == []
    status.settle(status.states(study))
    assert {j.name: j.record.read_bytes() for j in stages.jobs(study)} == before
    assert stale(study) == set() and verify.verify(study.paths.root).wrong == []


def test_a_job_that_ran_again_makes_those_that_read_it_stale(study: StudyConfig) -> None:
    guidance = next(j for j in stages.jobs(study) if j.name == "guidance/mine")
    make(guidance, "by hand")
    assert stale(study) == downstream(study, {"guidance/mine"}) - {"guidance/mine"}
    found = {s.job.name: s for s in status.states(study)}
    assert "upstream guidance/mine: ran again" in found["edits/mine/color/feasible"].reasons


def test_a_stage_run_by_hand_with_other_settings_is_not_built_upon(
    home: Path, study: StudyConfig
) -> None:
    other = checked(put(base(home), "guidance.canny_low", 0.1), "other")
    make(next(j for j in stages.jobs(other) if j.name == "guidance/mine"))
    assert stale(study) == downstream(study, {"guidance/mine"})
    line = next(x for x in status.lines(status.states(study)) if x.startswith("03_guidance"))
    assert line == "03_guidance    stale: guidance.canny_low: 0.1 -> 0.7"


def test_a_copied_folder_stays_current_whatever_the_times(home: Path, study: StudyConfig) -> None:
    shutil.copytree(study.paths.root, home / "runs/copy", copy_function=shutil.copyfile)
    assert stale(checked(base(home) | {"study": "copy"}, "copy")) == set()


def test_lost_files_and_damaged_records_are_named_and_run_again(study: StudyConfig) -> None:
    paths = study.paths
    (paths.guidance("mine") / "made.txt").unlink()
    (paths.results / "run.json").write_text("cut in hal")
    found = {s.job.name: s for s in status.states(study)}
    assert found["guidance/mine"].word == "missing"
    assert found["guidance/mine"].reasons == [
        "1 of its files are gone or changed, as guidance/mine/made.txt"
    ]
    assert found["results"].word == "missing" and "cannot be read" in found["results"].reasons[0]
    status.settle(list(found.values()))
    assert not (paths.guidance("mine") / "run.json").exists()
    assert not (paths.results / "run.json").exists()
    assert (paths.data("mine") / "run.json").exists()
    assert stale(study) == downstream(study, {"guidance/mine", "results"})


@pytest.mark.parametrize("text", ["", "other"])
def test_an_output_that_is_empty_or_was_changed_since_is_made_again(
    study: StudyConfig, text: str
) -> None:
    made = study.paths.guidance("mine") / "made.txt"
    made.write_text(text)
    line = next(x for x in status.lines(status.states(study)) if x.startswith("03_guidance"))
    assert "1 of its files are gone or changed, as guidance/mine/made.txt" in line
    assert stale(study) == downstream(study, {"guidance/mine"})
    made.write_text("x")  # put back: as recorded, though its time is another
    assert stale(study) == set()


def test_a_cut_notebook_is_named_with_how_to_get_it_back(study: StudyConfig) -> None:
    path = Path("notebooks/03_guidance.ipynb")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ParameterError, match="git checkout -- notebooks/03_guidance.ipynb"):
        status.states(study)


def test_votes_are_a_source_of_the_phrases_also_in_a_copied_study(
    home: Path, study: StudyConfig
) -> None:
    storage.write_text(study.paths.votes("mine") / "votes-ann.json", "{}")
    assert stale(study) == downstream(study, {"attributes/mine"})
    found = {s.job.name: s for s in status.states(study)}
    line = "source attributes/mine/votes/votes-ann.json: added"
    assert found["attributes/mine"].reasons == [line]
    for job in stages.jobs(study):
        make(job)
    shutil.copytree(study.paths.root, home / "runs/copy")
    assert stale(checked(base(home) | {"study": "copy"}, "copy")) == set()


def test_a_record_without_a_key_is_stale(study: StudyConfig) -> None:
    path = study.paths.data("mine") / "run.json"
    record = storage.read_json(path)
    del record["key"]
    storage.write_json(path, record)
    found = next(s for s in status.states(study) if s.job.name == "data/mine")
    assert (found.word, found.reasons) == ("stale", [status.NO_KEY])


def test_auto_that_means_another_type_here_is_stale_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study resumed on a processor without a matrix unit: its jobs would compute otherwise."""
    config = checked(base(home) | {"device": "cpu", "precision": "auto"}, "auto")

    def here(name: str) -> None:
        found = cpu_precision.Choice(name, 2.0, 1.0)
        monkeypatch.setattr(cpu_precision, "choice", lambda: found)

    here("bfloat16")
    for job in stages.jobs(config):
        make(job)
    assert stale(config) == set()
    here("float32")
    found = {s.job.name: s for s in status.states(config)}
    assert found["datadream/mine/dset"].reasons[0] == "precision: bfloat16 -> float32"
    assert found["data/mine"].word == "current"  # computes with no network


def test_another_machine_is_asked_where_jobs_run_elsewhere(
    home: Path, study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node without a GPU must not set aside what its nodes made with one."""
    config = checked(base(home) | {"device": "auto", "precision": "auto"}, "auto")
    monkeypatch.setattr("varireal_utils.core.stage.device_name", lambda wanted: "cuda")
    monkeypatch.setattr("varireal_utils.core.stage.precision_name", lambda *wanted: "bfloat16")
    for job in stages.jobs(config):
        make(job)
    monkeypatch.setattr("varireal_utils.core.stage.device_name", lambda wanted: "cpu")
    assert [s for s in status.states(config, here=False) if s.word != "current"] == []
    assert len(stale(config)) > 8


def test_status_prints_what_changed_and_touches_nothing(
    home: Path, study: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    from varireal_utils.__main__ import main

    file = home / "study.yaml"
    file.write_text(yaml.safe_dump(base(home)))
    before = {p: p.stat().st_mtime_ns for p in study.paths.root.rglob("*")}
    words = ["status", "--params", str(file), "--set", "classify.lr=0.5"]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(stages.STAGES)
    assert "06_classify    stale: training.lr: 0.0001 -> 0.5" in out
    assert "04_edit        current (6 jobs)" in out
    assert main([*words, "--jobs"]) == 0
    out = capsys.readouterr().out
    assert "07_claims: stale" in out and "upstream classify/mine: stale" in out
    assert {p: p.stat().st_mtime_ns for p in study.paths.root.rglob("*")} == before
