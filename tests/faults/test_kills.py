"""Fifty SIGKILLs at random instants, each followed by a resume: the bytes of an undisturbed run.

`make test-faults`; the seed of the instants is printed and may be set with VARIREAL_FAULT_SEED.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import studies

pytestmark = pytest.mark.faults
KILLS = int(os.environ.get("VARIREAL_KILLS", "50"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float, Path]:
    """Digests of a study that nobody disturbed, the seconds that it took, and its runs."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    began = time.monotonic()
    studies.finish(runs)
    return studies.digests(runs / "kills"), time.monotonic() - began, runs


def test_kills_cost_time_and_never_a_byte(
    undisturbed: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    want, seconds, _ = undisturbed
    seed = int(os.environ.get("VARIREAL_FAULT_SEED", time.time_ns() % 10**6))
    rng, runs, struck, compared, whole = random.Random(seed), tmp_path / "runs", Counter(), 0, 0
    while sum(struck.values()) < KILLS:
        driver = studies.start(runs)
        until = time.monotonic() + rng.uniform(0.03, 0.15) * seconds
        while driver.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if driver.poll() is None:
            role = studies.strike(driver, rng.choice(["driver", "runner", "kernel"]), rng)
            studies.settle(driver, runs)
            struck[role] += bool(role)
        elif driver.returncode == 0:  # it got through between two kills: compare, begin again
            got = studies.digests(runs / "kills")
            assert got == want, differing(got, want)
            compared, whole = compared + len(got), whole + 1
            shutil.rmtree(runs)
        else:
            raise AssertionError((runs / "driver.log").read_text(errors="replace")[-4000:])
    studies.finish(runs)
    got = studies.digests(runs / "kills")
    assert got == want, differing(got, want)
    drafts = [p for p in (runs / "kills").rglob("*") if ".draft-" in p.name]
    with capsys.disabled():
        print(
            f"\n{sum(struck.values())} kills ({dict(struck)}, seed {seed}); {whole + 1} studies "
            f"through them to the end, {compared + len(got)} files compared with an undisturbed "
            f"run of {seconds:.0f} s: all equal; {len(drafts)} drafts left behind"
        )


def differing(got: dict[str, str], want: dict[str, str]) -> str:
    odd = sorted(n for n in got.keys() | want.keys() if got.get(n) != want.get(n))
    return f"{len(odd)} files differ from the undisturbed run: {odd[:10]}"


def test_a_folder_deleted_under_a_run_is_made_again(
    undisturbed: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    want, _, _ = undisturbed
    runs = tmp_path / "runs"
    driver = studies.start(runs)
    arm = runs / "kills/edits/micro_pets/color/feasible"
    until = time.time() + 300
    while not arm.exists() and time.time() < until and driver.poll() is None:
        time.sleep(0.2)
    shutil.rmtree(runs / "kills/edits", ignore_errors=True)
    shutil.rmtree(runs / "kills/data/micro_pets/images", ignore_errors=True)
    driver.wait(600)
    log = (runs / "driver.log").read_text(errors="replace")
    assert driver.returncode != 0 and ("No such file" in log or "not there" in log), log[-3000:]
    studies.finish(runs)
    got = studies.digests(runs / "kills")
    assert got == want, differing(got, want)
    with capsys.disabled():
        print(f"\na deleted folder: named, made again, {len(got)} files equal")


def test_clocks_that_jump_cost_no_byte_and_no_endless_work(
    undisturbed: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    want, _, done = undisturbed
    runs = shutil.copytree(done, tmp_path / "runs")
    rng = random.Random(5)
    for path in sorted((runs / "kills").rglob("*")):
        moment = time.time() + rng.choice([-1, 1]) * rng.uniform(3600, 4e7)
        os.utime(path, (moment, moment))
    studies.finish(runs)
    got = studies.digests(runs / "kills")
    assert got == want, differing(got, want)
    began = time.monotonic()
    studies.finish(runs)
    idle = time.monotonic() - began
    assert (
        "Nothing to be done" in (runs / "driver.log").read_text(errors="replace")[-3000:]
        or idle < 30
    )
    with capsys.disabled():
        print(f"\nclocks an hour to a year off: {len(got)} files equal, the next call {idle:.0f} s")
