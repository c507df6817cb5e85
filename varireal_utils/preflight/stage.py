"""Runs all checks of a study and writes what they found.

    <study>/preflight/preflight.json   the record: findings, versions, device, products
    <study>/preflight/checks.csv       the table
    <study>/preflight/contact_sheet.png, index.html
    <study>/preflight/log.txt          what libraries printed

The folder is made anew by each run, and is no part of the study: nothing in it is read later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core import storage
from ..core.config import StudyConfig, written
from ..core.seeds import seed_everything
from ..models import loaders, pictures
from ..workflow import run_record
from . import page
from .check import Check, Finding
from .registry import CHECKS
from .workspace import Workspace

RECORD = "preflight.json"
MEMORY = "out of memory"
LIGHT = (
    "set the role's dtype or precision to bfloat16 or float32, name a `vae` made for float16, or "
    "fetch the weights again"
)


@dataclass(frozen=True)
class Outcome:
    """findings: of all checks; seconds: check -> time it took; peaks: check -> largest memory of
    the GPU in 1e9 bytes, empty without one; folder: where the record lies."""

    findings: list[Finding]
    seconds: dict[str, float]
    peaks: dict[str, float]
    folder: Path

    @property
    def failures(self) -> list[Finding]:
        """What must be mended before a long run."""
        return [f for f in self.findings if f.status == "fail"]

    @property
    def verdict(self) -> str:
        """One sentence."""
        warned = sum(f.status == "warn" for f in self.findings)
        more = f"; {warned} warnings" if warned else ""
        if self.failures:
            names = ", ".join(dict.fromkeys(f.check for f in self.failures))
            return f"not ready: {len(self.failures)} failures ({names}){more}"
        return f"ready for a long run: {len(self.findings)} findings, no failure{more}"


def run(
    config: StudyConfig,
    said: Callable[[str], None] = lambda line: None,
    checks: tuple[Check, ...] = CHECKS,
) -> Outcome:
    """Run checks in their order. said: is told the name, result and time of each, one line."""
    folder = config.paths.root / "preflight"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    loaders.avoid_faulty_attention()
    seed_everything(config.seed, "preflight")
    gc.freeze()  # what is imported by now: each release of a model would look through it again
    bench = Workspace(config, folder)
    outcome = Outcome([], {}, {}, folder)
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        for check in checks:
            started = time.perf_counter()
            _reset_peak()
            found = _found(check, bench, outcome.findings, log)
            outcome.findings.extend(found)
            outcome.seconds[check.name] = round(time.perf_counter() - started, 2)
            outcome.peaks.update(_peak(check.name))
            said(f"{check.name:<13} {_counts(found):<28} {outcome.seconds[check.name]:6.1f} s")
    _write(bench, outcome)
    return outcome


def _found(check: Check, bench: Workspace, before: list[Finding], log: Any) -> list[Finding]:
    """The findings of a check; its error is one of them."""
    broken = {f.what.split(".")[0] for f in before if (f.check, f.status) == ("weights", "fail")}
    lacking = sorted(broken & set(check.roles(bench.config)))
    if lacking:
        what = f"models.{lacking[0]}"
        return [Finding(check.name, what, "skip", "its weights are not whole", "whole weights")]
    found: list[Finding] = []
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            for finding in check.run(bench):
                found.append(finding)
    except Exception as error:  # whatever it is, it would have ended the long run
        log.write(traceback.format_exc())
        found.append(_of_error(check, error))
    return found


def _of_error(check: Check, error: Exception) -> Finding:
    """An error as a finding: its kind, its words, what to do."""
    full = isinstance(error, torch.OutOfMemoryError) or MEMORY in str(error).lower()
    what = "memory of the device" if full else type(error).__name__
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, pictures.BlackPicture):
        return Finding(check.name, "a black picture", "fail", words[:400], check.asks, LIGHT)
    return Finding(check.name, what, "fail", words[:400], check.asks, check.remedy)


def _counts(found: list[Finding]) -> str:
    """ "6 pass, 1 fail"."""
    words = [f.status for f in found]
    return ", ".join(
        f"{words.count(w)} {w}" for w in ("pass", "warn", "fail", "skip") if w in words
    )


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak(name: str) -> Iterator[tuple[str, float]]:
    if torch.cuda.is_available():
        yield name, round(torch.cuda.max_memory_allocated() / 1e9, 2)


def _write(bench: Workspace, outcome: Outcome) -> None:
    """Table, contact sheet, page; the record last."""
    files = page.write(bench, outcome.findings, outcome.verdict)
    config = bench.config
    record = {
        "verdict": outcome.verdict,
        "ready": not outcome.failures,
        "findings": [dataclasses.asdict(f) for f in outcome.findings],
        "seconds": outcome.seconds,
        "gpu_peak_gb": outcome.peaks,
        "images_a_second": {" ".join(key): rate for key, rate in bench.rates.items()},
        "parameter_file": config.file,
        "parameters": written(config),
        "parameter_digest": config.digest,
        **run_record.git_state(),
        **run_record.environment(config),
        "products": {p.name: storage.sha256_file(p) for p in files},
    }
    storage.write_json(outcome.folder / RECORD, record)
