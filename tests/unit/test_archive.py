"""pack and unpack: equal bytes, every fault refused, cards inside, nothing outside."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests import study_folder
from tests.conftest import tiny_params
from varireal_utils.core import storage
from varireal_utils.core.config import StudyConfig, checked
from varireal_utils.workflow import archive


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.chdir(tmp_path)
    study_folder.make(tmp_path / "runs/mine")
    storage.write_text(tmp_path / "params/mine.yaml", "study: mine\n")
    storage.write_text(tmp_path / "claims.yaml", "A1: {}\n")
    study_folder.record(tmp_path / "runs/mine", "results", [])
    path = tmp_path / "runs/mine/results/run.json"
    storage.write_json(
        path,
        storage.read_json(path) | {"inputs": {"claims.yaml": storage.sha256_file("claims.yaml")}},
    )
    from varireal_utils.workflow import provenance

    provenance.seal(path)
    values = tiny_params(Path("runs")) | {
        "study": "mine",
        "datasets": {"Mine / yours": {"source": "imagefolder"}, "pets": {"source": "oxford_pets"}},
        "models": {"clip": {"name": "ViT-B-16", "weights": "openai", "licence": "MIT"}},
    }
    return checked(values, "params/mine.yaml")


def test_packed_twice_is_equal_and_unpacked_elsewhere_is_checked(
    config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = archive.pack(config)
    assert first == Path("runs/mine.zip")
    second = archive.pack(config, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    (tmp_path / "claims.yaml").unlink()
    folder, check = archive.unpack(second)
    assert folder == tmp_path / "b" and not check.wrong and check.records == 5
    card = (folder / "DATA_CARD.md").read_text()
    assert "CC BY-SA 4.0" in card and "yours: state them" in card and "| 4 | 0.50 |" in card
    assert "licence MIT" in (folder / "models/clip.md").read_text()
    (folder / "sources/claims.yaml").write_text("A1: other\n")
    from varireal_utils.workflow import verify

    assert "claims.yaml" in verify.verify(folder / "study").wrong[0]
    with pytest.raises(archive.ArchiveError, match="exists already"):
        archive.unpack(second)


def test_a_study_with_a_fault_is_not_packed(config: StudyConfig) -> None:
    picture = next(Path("runs/mine/edits").rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(archive.ArchiveError, match=rf"not packed[\s\S]*{picture.name}: sha256"):
        archive.pack(config)
    assert not Path("runs/mine.zip").exists()


def test_no_part_of_an_unfinished_arm_is_packed(config: StudyConfig) -> None:
    arm = next(Path("runs/mine/edits").rglob("images")).parent
    storage.write_text(arm / "parts/0000.bin", "half")
    storage.write_text("runs/mine/.draft-1.png", "half")
    storage.write_text("runs/mine/notebooks/04_edit.failed.ipynb", "{}")
    names = zipfile.ZipFile(archive.pack(config)).namelist()
    assert not [n for n in names if "parts" in n or "draft" in n or "failed" in n or ".driver" in n]
    assert sum(n.endswith(".png") for n in names) == 14


def rewrite(path: Path, change: dict[str, bytes | None]) -> Path:
    """A copy of an archive with members added, changed or (None) left out."""
    out = path.with_name("bad.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            if entry.filename not in change:
                new.writestr(entry, old.read(entry))
        for name, data in change.items():
            if data is not None:
                new.writestr(name, data)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DATA_CARD.md": b"other"}, "DATA_CARD.md is not what SHA256SUMS says"),
        ({"DATA_CARD.md": None}, "DATA_CARD.md is not in the archive"),
        ({"more.txt": b"x"}, "more.txt is in the archive and not in SHA256SUMS"),
        ({"SHA256SUMS": None}, "not a whole archive"),
        ({"SHA256SUMS": b"\xff\xfe"}, "not a whole archive"),
    ],
)
def test_a_changed_archive_unpacks_to_nothing(
    config: StudyConfig, tmp_path: Path, change: dict, message: str
) -> None:
    bad = rewrite(archive.pack(config), change)
    with pytest.raises(archive.ArchiveError, match=re.escape(message)):
        archive.unpack(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".draft-*"))


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "study/../../escaped", "C:/escaped", "a\\..\\..\\escaped"]
)
def test_no_member_leaves_the_folder(config: StudyConfig, tmp_path: Path, name: str) -> None:
    whole = archive.pack(config)
    sums = zipfile.ZipFile(whole).read("SHA256SUMS").decode()
    bad = rewrite(
        whole,
        {name: b"x", "SHA256SUMS": (sums + f"{storage.sha256_bytes(b'x')}  {name}\n").encode()},
    )
    with pytest.raises(archive.ArchiveError, match="would leave the folder|not in the archive"):
        archive.unpack(bad, tmp_path / "deep/er/out")
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_cut_or_flipped_archive_unpacks_to_nothing_or_to_the_same(
    config: StudyConfig, tmp_path: Path, at: float
) -> None:
    whole = archive.pack(config).read_bytes()
    flipped = bytearray(whole)
    flipped[int(at * (len(whole) - 1))] ^= 64
    for data in (whole[: int(at * len(whole))], bytes(flipped)):
        (tmp_path / "bad.zip").write_bytes(data)
        try:
            folder, check = archive.unpack(tmp_path / "bad.zip", tmp_path / "out")
        except archive.ArchiveError as error:
            assert "bad.zip" in str(error) and not (tmp_path / "out").exists()
        else:  # a byte that no member's content depends on, such as a date
            assert not check.wrong
            import shutil

            shutil.rmtree(folder)


def test_an_archive_is_not_written_into_its_study(config: StudyConfig) -> None:
    with pytest.raises(archive.ArchiveError, match="lies in the study itself"):
        archive.pack(config, Path("runs/mine/a.zip"))
