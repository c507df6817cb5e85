"""verify: every byte that a record, a sum or an executed notebook vouches for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import study_folder
from varireal_utils.core import storage
from varireal_utils.workflow import provenance, verify


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return study_folder.make(tmp_path / "runs" / "mine")


def test_an_untouched_study_is_as_recorded(study: Path) -> None:
    check = verify.verify(study)
    assert not check.wrong and check.records == 4 and check.unnamed == [".driver"]
    assert check.lines()[-1].endswith("every file is as recorded")


def test_one_changed_byte_in_any_file_is_found_and_named(study: Path) -> None:
    files = sorted(p for p in study.rglob("*") if p.is_file() and p.name != ".driver")
    assert len(files) > 25
    for path in files:
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1}:
            broken = bytearray(whole)
            broken[at] ^= 1
            path.write_bytes(broken)
            wrong = verify.verify(study).wrong
            assert any(path.name in line or path.with_suffix("").name in line for line in wrong), (
                path,
                at,
            )
        path.write_bytes(whole)
    assert not verify.verify(study).wrong


def test_a_missing_file_is_named_wherever_it_was(study: Path) -> None:
    for path in sorted(p for p in study.rglob("*") if p.is_file() and p.name != ".driver"):
        whole = path.read_bytes()
        path.unlink()
        assert any(path.name in line for line in verify.verify(study).wrong), path
        path.write_bytes(whole)


def test_parameters_that_are_not_those_of_the_digest(study: Path) -> None:
    path = next(study.glob("classify/*/seed0/run.json"))
    storage.write_json(path, storage.read_json(path) | {"parameters": {"seed": 2}})
    provenance.seal(path)
    assert any("not those of its parameter_digest" in w for w in verify.verify(study).wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"outputs": 3}',
        '{"outputs": ["a"]}',
        "\xff",
        '{"outputs": {"../../etc/passwd": 1, "\\u0000": 2, "": 3}}',
    ],
)
def test_a_broken_record_is_named(study: Path, text: str) -> None:
    (study / "odd").mkdir()
    (study / "odd/run.json").write_bytes(text.encode("latin-1"))
    assert any("odd/run.json" in w for w in verify.verify(study).wrong)


def test_sums_are_those_of_sha256sum(study: Path) -> None:
    for sums in study.rglob(f"*{provenance.SUMS}"):
        subprocess.run(
            ["sha256sum", "--check", "--strict", sums.name],
            cwd=sums.parent,
            check=True,
            capture_output=True,
        )


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    assert "is it a study's folder" in verify.verify(tmp_path).wrong[0]


def test_a_changed_weight_is_a_fault_and_an_absent_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_text(tmp_path / "m/unet/w.safetensors", "unet")
    digest = storage.sha256_file(tmp_path / "m/unet/w.safetensors")
    study_folder.record(tmp_path, "edits", [], weights={"m/unet/w.safetensors": digest})
    assert not verify.verify(tmp_path).wrong
    storage.write_text(tmp_path / "m/unet/w.safetensors", "other")
    assert "m/unet/w.safetensors" in verify.verify(tmp_path).wrong[0]
    (tmp_path / "m/unet/w.safetensors").unlink()
    check = verify.verify(tmp_path)
    assert not check.wrong and "1 files that are not on this machine" in check.lines()[0]


def test_names_in_a_replicates_records_are_below_the_replicate(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "mine"
    for index in ("00", "01"):
        study_folder.make(study / "replicates" / index)
    check = verify.verify(study)
    assert not check.wrong and check.records == 8
    assert check.unnamed == [f"replicates/{i}/.driver" for i in ("00", "01")]
    assert any(line.startswith("28 pictures") for line in check.checked), check.checked
    changed = next((study / "replicates/01/edits").rglob("*.png"))
    changed.write_bytes(changed.read_bytes()[:-1])
    wrong = verify.verify(study).wrong
    assert wrong and all("replicates/01" in line for line in wrong)
    book = study / "replicates/00/notebooks/01_data.sha256"
    book.unlink()
    assert any(f"its sum {book.name} is missing" in w for w in verify.verify(study).wrong)
