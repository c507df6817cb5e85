"""A study of replicates goes on on another machine: what is brought, and what is refused."""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.conftest import ROOT
from varireal_utils.__main__ import app
from varireal_utils.core import storage
from varireal_utils.core.config import ParameterError, StudyConfig, load_config, written
from varireal_utils.core.stage import SourceDigests
from varireal_utils.workflow import elsewhere, provenance, saved, stages, status, verify
from varireal_utils.workflow.lock import StudyBusy, lock

RECIPES = ["zero_shot", "real", "edit(color,familiar)", "edit(color,infeasible)"]
PARAMS = {
    "include": str(ROOT / "tests" / "tiny.yaml"),
    "study": "drawn",
    "seed": 991,
    "replicates": 3,
    "prompts": "params/prompts/world.yaml",
    "attributes": ["color"],
    "classify": {"job": "dataset", "recipes": RECIPES},
}
ARM = "replicates/01/edits/micro_pets/color/familiar"
TABLE, PICTURE = f"{ARM}/table.csv", f"{ARM}/images/a.png"
ONE = "01_micro_pets.tar.xz"


def study(folder: Path, **changed) -> StudyConfig:
    """A study of three replicates whose folder lies below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "drawn.yaml"
    file.write_text(yaml.safe_dump(PARAMS | {"runs_dir": str(folder / "runs")} | changed))
    return load_config(str(file))


def make(job: stages.Job) -> None:
    """What a run leaves: a picture, a table and the record."""
    root, outputs, runs = job.config.paths.root, {}, Path(job.config.runs_dir)
    for name, text in (("images/a.png", f"pixels of {job.name}"), ("table.csv", job.name)):
        storage.write_text(job.folder / name, text)
        place = job.folder / name
        outputs[place.relative_to(root).as_posix()] = storage.sha256_file(place)
    record = {
        "stage": job.stage.name,
        "outputs": outputs,
        "key": job.key(
            Path("notebooks", f"{job.stage.name}.ipynb"), SourceDigests(runs / status.DIGESTS)
        ).record(),
        "upstream": status.upstream_digests(job),
        "parameters": written(job.config),
        "parameter_digest": storage.sha256_json(written(job.config)),
        "started": "2026-01-01T00:00:00Z",
    }
    storage.write_json(job.record, record)
    provenance.seal(job.record)


def words(config: StudyConfig) -> dict[str, str]:
    return {s.job.name: s.word for s in status.states(config)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """Replicates 0 and 1 are done, of replicate 2 the data."""
    monkeypatch.chdir(ROOT)
    config = study(tmp_path / "here")
    for job in stages.jobs(config):
        done = job.config.replicate in (0, 1) or job.name == "replicates/02/data/micro_pets"
        if done and not job.stage.whole:
            make(job)
    return config


@pytest.fixture
def kept(here: StudyConfig, tmp_path: Path) -> Path:
    """What `save` writes of it."""
    saved.save(here, tmp_path / "kept")
    return tmp_path / "kept"


def test_a_finished_data_set_goes_on_elsewhere_without_its_pictures(here, kept, tmp_path):
    assert [p.name for p in kept.iterdir()] == [ONE]
    there = study(tmp_path / "there")
    assert saved.restore(there, kept) == ([ONE], [])
    root, states = there.paths.root, words(there)
    ours = {name for name in states if name.startswith("replicates/01/")}
    assert len(ours) == 6 and {n for n, word in states.items() if word == "current"} == ours
    for name in ours:
        record, other = root / name / "run.json", here.paths.root / name / "run.json"
        assert record.read_bytes() == other.read_bytes()
        assert record.with_suffix(".sha256").is_file() and (root / name / "table.csv").is_file()
    assert not list(root.rglob("*.png")) and not list(root.glob(".restored-*"))
    check = verify.verify(root)
    assert not check.wrong and PICTURE in check.absent and len(check.absent) == 6
    assert not [n for n in check.unnamed if not n.startswith(".")]


def test_equal_units_give_equal_bytes_and_stay_as_they_are(here, kept, tmp_path):
    assert saved.save(here, kept) == []
    again = saved.save(here, tmp_path / "again")
    assert [p.read_bytes() for p in again] == [(kept / ONE).read_bytes()]
    there = study(tmp_path / "there")
    saved.restore(there, kept)
    assert saved.save(there, kept) == []  # saved there, it is the same
    (onward,) = saved.save(there, tmp_path / "onward")
    assert onward.read_bytes() == (kept / ONE).read_bytes()
    assert saved.kept(there, kept) == (1, (kept / ONE).stat().st_size)


def test_a_unit_that_ran_again_is_saved_again(here, kept):
    before = (kept / ONE).read_bytes()
    job = next(j for j in stages.jobs(here) if j.name == "replicates/01/classify/micro_pets")
    storage.write_json(job.record, storage.read_json(job.record) | {"run_id": "again"})
    provenance.seal(job.record)
    assert [p.name for p in saved.save(here, kept)] == [ONE]
    assert (kept / ONE).read_bytes() != before


@pytest.mark.parametrize("word", ["missing", "stale"])
def test_a_unit_with_a_job_that_is_not_current_is_not_saved(here, tmp_path, word):
    if word == "missing":
        (here.paths.root / PICTURE).unlink()
    else:
        record = here.paths.root / ARM / "run.json"
        old = storage.read_json(record)
        old["key"]["settings"]["seed"] = 5
        storage.write_json(record, old)
    assert words(here)[ARM] == word and saved.save(here, tmp_path / "none") == []


def test_what_reads_pictures_that_are_not_here_makes_them_again(kept, tmp_path):
    """A change of 06 alone: on the machine that has the pictures only 06 would run."""
    there = study(tmp_path / "there")
    saved.restore(there, kept)
    changed = study(tmp_path / "there", classify=PARAMS["classify"] | {"steps": 3})
    states = {s.job.name: s for s in status.states(changed)}
    assert not [
        n for n, s in states.items() if n.startswith("replicates/01") and s.word == "current"
    ]
    assert states["replicates/01/data/micro_pets"].reasons == [
        "its pictures lie on another machine, and replicates/01/classify/micro_pets is to run here"
    ]
    status.settle(states.values())
    assert not (there.paths.root / "replicates/01/data/micro_pets/run.json").exists()


def test_a_lost_table_of_a_restored_job_is_made_again_and_a_changed_one_is_named(kept, tmp_path):
    there = study(tmp_path / "there")
    saved.restore(there, kept)
    table = there.paths.root / TABLE
    table.write_text("other")
    assert any(TABLE in line for line in verify.verify(there.paths.root).wrong)
    table.unlink()
    assert words(there)[ARM] == "missing"
    assert words(there)["replicates/01/data/micro_pets"] == "missing"  # its pictures are read


def test_a_job_that_ran_again_here_must_have_its_pictures(here, kept, tmp_path):
    there = study(tmp_path / "there")
    saved.restore(there, kept)
    job = next(j for j in stages.jobs(there) if j.name == ARM)
    storage.write_json(job.record, storage.read_json(job.record) | {"run_id": "again"})
    provenance.seal(job.record)
    assert words(there)[ARM] == "missing"
    assert any("a.png" in line for line in verify.verify(there.paths.root).wrong)


def test_what_has_begun_here_is_left_alone(here, kept, tmp_path):
    there = study(tmp_path / "there")
    job = next(j for j in stages.jobs(there) if j.name == "replicates/01/data/micro_pets")
    make(job)
    before = job.record.read_bytes()
    brought, others = saved.restore(there, kept)
    assert brought == [] and "replicates/01/data/micro_pets has begun here" in others[0]
    assert job.record.read_bytes() == before and not (there.paths.root / ARM).exists()


def test_another_study_and_an_odd_file_are_named_and_the_rest_is_brought(kept, tmp_path):
    (kept / "07_micro_pets.tar.xz").write_bytes((kept / ONE).read_bytes())
    (kept / "02_micro_pets.tar.xz").write_bytes((kept / ONE).read_bytes())
    there = study(tmp_path / "there")
    brought, others = saved.restore(there, kept)
    assert brought == [ONE] and len(others) == 2
    assert "02_micro_pets.tar.xz: of other jobs than this study's" in others[0]
    assert "07_micro_pets.tar.xz: no data set of a replicate of study drawn" in others[1]
    assert not (there.paths.root / "replicates/02").exists()


def test_a_restored_unit_of_other_settings_is_stale_by_name(kept, tmp_path):
    there = study(tmp_path / "there", seed=992)
    saved.restore(there, kept)
    found = next(s for s in status.states(there) if s.job.name == ARM)
    assert found.word == "stale" and any("seed" in reason for reason in found.reasons)


def repacked(path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    """Write an archive again with other members."""
    with lzma.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}
    with lzma.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in change(members).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def forged(members: dict[str, bytes], **outputs: str) -> dict[str, bytes]:
    """The same with other outputs of a record, and with all digests repaired."""
    record = json.loads(members[f"{ARM}/run.json"])
    record["outputs"] |= outputs
    text = storage.to_json(record).encode()
    digest = storage.sha256_bytes(text)
    index = json.loads(members["saved.json"]) | {ARM: digest}
    return members | {
        "saved.json": storage.to_json(index).encode(),
        f"{ARM}/run.json": text,
        f"{ARM}/run.sha256": f"{digest}  run.json\n".encode(),
    }


SHA = storage.sha256_bytes(b"x")
FAULTS = {
    "a changed table": (lambda m: m | {TABLE: b"other"}, "not as its record says"),
    "a missing table": (lambda m: {n: c for n, c in m.items() if n != TABLE}, "missing"),
    "a file of no record": (lambda m: m | {f"{ARM}/x.csv": b"x"}, "x.csv is not as"),
    "a changed record": (lambda m: m | {f"{ARM}/run.json": m[f"{ARM}/run.json"] + b" "}, "not as"),
    "a changed sum": (lambda m: m | {f"{ARM}/run.sha256": b"x"}, "run.sha256 is not as"),
    "no index": (lambda m: {n: c for n, c in m.items() if n != "saved.json"}, "saved.json"),
    "an index of nothing": (lambda m: m | {"saved.json": b"[]"}, "no list of records"),
    "a deep index": (lambda m: m | {"saved.json": b"[" * 100_000}, "saved.json"),
    "a record of nothing": (
        lambda m: forged(m) | {f"{ARM}/run.json": b"[]"},
        "is no record",
    ),
    "a name above": (
        lambda m: forged(m, **{"../../../x.csv": SHA}) | {"replicates/01/../../../x.csv": b"x"},
        "outside the study",
    ),
    "a name from the root": (
        lambda m: forged(m, **{"/x.csv": SHA}) | {"/x.csv": b"x"},
        "outside the study",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_of_a_forged_archive_is_brought(kept, tmp_path, fault):
    change, said = FAULTS[fault]
    repacked(kept / ONE, change)
    there = study(tmp_path / "there")
    brought, others = saved.restore(there, kept)
    assert brought == [] and said in others[0] and str(kept / ONE) in others[0]
    assert not [p for p in there.paths.root.rglob("*") if p.name != ".driver"]
    assert not (tmp_path / "x.csv").exists()


def test_a_link_in_an_archive_is_refused(kept, tmp_path):
    with lzma.open(kept / ONE, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("saved.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    brought, others = saved.restore(study(tmp_path / "there"), kept)
    assert brought == [] and "'saved.json' is no file that `save` writes" in others[0]


def test_a_cut_or_damaged_archive_is_named_and_saved_again(here, kept, tmp_path):
    whole = (kept / ONE).read_bytes()
    there = study(tmp_path / "there")
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1], b"x" + whole[1:]):
        (kept / ONE).write_bytes(damaged)
        brought, others = saved.restore(there, kept)
        assert brought == [] and "no whole archive of `save`" in others[0], others
    (kept / ONE).write_bytes(whole[:30])
    assert [p.name for p in saved.save(here, kept)] == [ONE]
    assert (kept / ONE).read_bytes() == whole


def test_a_stop_between_the_list_and_the_records_costs_nothing(kept, tmp_path, monkeypatch):
    there = study(tmp_path / "there")
    monkeypatch.setattr(saved.os, "replace", _stopped_at("run.json", saved.os.replace))
    with pytest.raises(KeyboardInterrupt):
        saved.restore(there, kept)
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert "current" not in words(there).values()
    assert saved.restore(there, kept) == ([ONE], [])
    assert words(there)[ARM] == "current"


def _stopped_at(name: str, real: Callable) -> Callable:
    def replace(source, target):
        if Path(target).name == name and "replicates" in str(target):
            raise KeyboardInterrupt
        real(source, target)

    return replace


def test_a_study_at_work_is_not_touched(kept, tmp_path):
    there = study(tmp_path / "there")
    with lock(there.paths.root), pytest.raises(StudyBusy):
        saved.restore(there, kept)


def test_a_study_of_one_draw_and_an_empty_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    one = load_config("tests/tiny.yaml")
    with pytest.raises(ParameterError, match="tiny.yaml: replicates: got 0, wanted more"):
        saved.save(one, tmp_path / "kept")
    with pytest.raises(ParameterError, match="no \\*.tar.xz there; wanted a folder that `save`"):
        saved.restore(study(tmp_path / "there"), tmp_path / "absent")


def test_a_damaged_list_is_named(kept, tmp_path):
    there = study(tmp_path / "there")
    saved.restore(there, kept)
    path = there.paths.root / elsewhere.LIST
    path.write_text("[1]")
    with pytest.raises(ParameterError, match="elsewhere.json: no list of records; take its change"):
        words(there)
    assert any("elsewhere.json" in line for line in verify.verify(there.paths.root).wrong)


def test_both_commands(here, kept, tmp_path):
    shutil.rmtree(kept)
    call = CliRunner().invoke
    done = call(app, ["save", str(kept), "--params", str(tmp_path / "here/drawn.yaml")])
    assert done.exit_code == 0 and "1 of 2 data sets of replicates 1 and on" in done.output
    study(tmp_path / "there")
    done = call(app, ["restore", str(kept), "--params", str(tmp_path / "there/drawn.yaml")])
    assert done.exit_code == 0 and "1 data sets of replicates brought" in done.output
    done = call(app, ["restore", str(kept), "--params", str(tmp_path / "there/drawn.yaml")])
    assert done.exit_code == 1 and "has begun here; left alone" in done.output
