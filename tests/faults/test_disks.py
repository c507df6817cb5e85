"""A full disk and a read-only folder under the real first stages: named, and made good afterwards.

Each runs in a mount namespace of its own, so nothing is mounted on the machine itself; where the
system allows no namespaces the tests say so and are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from varireal_utils.workflow import verify

SPACE = ["unshare", "--mount", "--map-root-user"]
STAGE = (
    f"{sys.executable} -m varireal_utils run 01_data --params tests/faults/kills.yaml "
    "--set dataset=micro_pets"
)


def allowed() -> bool:
    try:
        return (
            subprocess.run(
                [*SPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
            ).returncode
            == 0
        )
    except OSError:
        return False


pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        not allowed(), reason="this system allows no mount namespaces (unshare --mount)"
    ),
]


def script(text: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*SPACE, "bash", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def test_a_full_disk_is_named_and_costs_no_more_than_time(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    disk, out, plain = tmp_path / "disk", tmp_path / "out", tmp_path / "plain"
    for folder in (disk, out, plain):
        folder.mkdir()
    subprocess.run(
        f"{STAGE} --set runs_dir={plain}",
        shell=True,
        cwd=ROOT,
        check=True,  # noqa: S602
        capture_output=True,
    )
    done = script(f"""
        mount -t tmpfs -o size=300k none {disk}
        {STAGE} --set runs_dir={disk} > {out}/first.log 2>&1; echo $? > {out}/first.rc
        find {disk} -name run.json > {out}/records; find {disk} -name '.draft-*' > {out}/drafts
        find {disk} -name '*.png' -size 0 > {out}/empty
        mount -o remount,size=200m {disk}
        {STAGE} --set runs_dir={disk} > {out}/second.log 2>&1; echo $? > {out}/second.rc
        cp -r {disk} {out}/disk
    """)
    first = (out / "first.log").read_text()
    assert (out / "first.rc").read_text() == "1\n", first + done.stderr
    assert "No space left on device" in first and "01_data failed" in first, first
    assert [(out / n).read_text() for n in ("records", "drafts", "empty")] == ["", "", ""]
    assert (out / "second.rc").read_text() == "0\n", (out / "second.log").read_text()
    files = {
        p.relative_to(plain).as_posix(): p
        for p in plain.rglob("*")
        if p.suffix in (".png", ".parquet", ".csv")
    }
    assert len(files) > 40
    for name, path in files.items():
        assert (out / "disk" / name).read_bytes() == path.read_bytes(), name
    assert not verify.verify(out / "disk/kills").wrong
    with capsys.disabled():
        print(f"\na full disk: named, then {len(files)} files equal")


def test_a_read_only_folder_is_named_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    out.mkdir()
    (runs / "kills").mkdir(parents=True)
    (runs / "kills/mine.txt").write_text("mine")
    for number, command in enumerate(
        (
            f"{STAGE} --set runs_dir={runs}",
            f"{sys.executable} -m varireal_utils study --params tests/faults/kills.yaml "
            f"--set runs_dir={runs}",
        )
    ):
        script(f"""
            mount --bind {runs} {runs}; mount -o remount,ro,bind {runs}
            {command} > {out}/{number}.log 2>&1; echo $? > {out}/{number}.rc
        """)
        said = (out / f"{number}.log").read_text()
        assert (out / f"{number}.rc").read_text() == "1\n", said
        assert "Read-only file system" in said and str(runs) in said, said
        assert "Traceback" not in said, said
    assert [p.name for p in (runs / "kills").iterdir()] == ["mine.txt"]
    shutil.rmtree(runs)
    with capsys.disabled():
        print("\na read-only folder: named, nothing written")
