"""Which compute type is faster on this processor, by a short measurement, once per machine.

What trainings and UNet passes do is timed in float32 and under bfloat16 autocast: a two-layer
perceptron with its gradients, and a normalised convolution. Processors that know bfloat16 but have
no matrix unit for it are slower in it, so what the processor knows does not decide.

symbols   gain    seconds in float32 / seconds in bfloat16

The first answer stands: it is kept in a cache file by processor and torch version, and in the
environment for the processes that this one starts. Invariants (tests/unit/test_cpu_precision.py):
a second call measures nothing; two processes that measure at once end with one answer; a cache that
cannot be read or written costs a measurement, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import storage

GAIN = 1.15  # bfloat16 is taken from this gain on: below it, rounding is not worth what it saves
BUDGET = 1.2  # seconds of measuring
LEAST = 3  # repeats in each type, whatever the budget
VARIABLE = "VARIREAL_CPU_PRECISION"  # for processes that this one starts


@dataclass(frozen=True)
class Choice:
    """The type that `precision: auto` stands for on a CPU, and the best times that say so."""

    precision: str
    float32_ms: float
    bfloat16_ms: float

    @property
    def gain(self) -> float:
        """How many times faster bfloat16 is; 0 where it was not timed."""
        return self.float32_ms / self.bfloat16_ms if self.bfloat16_ms else 0.0

    def words(self) -> str:
        """The choice in words, for records and messages."""
        if not self.bfloat16_ms:
            return f"{self.precision}: torch has no bfloat16 products for this processor"
        return (
            f"{self.precision}: measured {self.float32_ms:.2f} ms in float32 and "
            f"{self.bfloat16_ms:.2f} ms in bfloat16 ({self.gain:.2f} times as fast; bfloat16 is "
            f"taken from {GAIN} on)"
        )


def choice() -> Choice:
    """The choice for this machine: from the environment, from the cache, or measured now."""
    kind = _machine()
    found = _parsed(os.environ.get(VARIABLE, ""), kind)
    for file in _files(kind) if found is None else []:
        if (found := _read(file, kind)) is not None:
            break
    if found is None:
        found = _kept(_measured(), kind)
    os.environ[VARIABLE] = storage.to_json(_record(found, kind))
    return found


def _measured() -> Choice:
    """Time both types by turns, so that what else the machine does slows both."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return Choice("float32", 0.0, 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = _work()
        best = {"float32": float("inf"), "bfloat16": float("inf")}
        start, repeats = time.perf_counter(), 0
        while repeats < LEAST or time.perf_counter() - start < BUDGET:
            for name in best:
                best[name] = min(best[name], work(name))
            repeats += 1
    finally:
        torch.set_num_threads(threads)
    gain = best["float32"] / best["bfloat16"]
    name = "bfloat16" if gain >= GAIN else "float32"
    return Choice(name, *(round(1000 * best[n], 3) for n in ("float32", "bfloat16")))


def _work() -> Callable[[str], float]:
    """Seconds of one round of the work in a type; warm, so that no compilation is timed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        perceptron = torch.nn.Sequential(
            torch.nn.Linear(192, 576), torch.nn.GELU(), torch.nn.Linear(576, 192)
        )
        convolution = torch.nn.Sequential(
            torch.nn.GroupNorm(8, 64), torch.nn.SiLU(), torch.nn.Conv2d(64, 64, 3, padding=1)
        ).to(memory_format=torch.channels_last)
        tokens, cells = torch.randn(1024, 192), torch.randn(8, 64, 16, 16)
    cells = cells.to(memory_format=torch.channels_last)

    def once(name: str) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            with torch.enable_grad():
                loss = perceptron(tokens).square().mean()
            with torch.no_grad():
                convolution(cells)
        loss.backward()
        return time.perf_counter() - start

    for name in ("float32", "bfloat16"):
        once(name)
    return once


@cache
def _machine() -> str:
    """The processor's model and torch's version: what the answer depends on."""
    from importlib.metadata import version

    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model na")), model
        )
    return f"{platform.machine()} {model}, torch {version('torch')}"


def _files(kind: str) -> list[Path]:
    """Where the answer may be kept: the user's cache; else, without a home of one's own, the
    folder of temporary files, below the user's number."""
    name = f"precision-{storage.sha256_bytes(kind.encode())[:16]}.json"
    folders = [Path(tempfile.gettempdir()) / f"varireal-{os.getuid()}"]
    if (given := os.environ.get("XDG_CACHE_HOME", "")).startswith("/"):
        folders.insert(0, Path(given) / "varireal")
    elif (home := os.environ.get("HOME", "")) not in ("", "/"):
        folders.insert(0, Path(home) / ".cache/varireal")
    return [folder / name for folder in folders]


def _record(found: Choice, kind: str) -> dict[str, Any]:
    return {"machine": kind, **asdict(found)}


def _parsed(text: str, kind: str) -> Choice | None:
    """A choice as it is kept; None for that of another machine, or for anything else."""
    try:
        record = json.loads(text)
        found = Choice(*(record[k] for k in ("precision", "float32_ms", "bfloat16_ms")))
        times = (found.float32_ms, found.bfloat16_ms)
        good = record["machine"] == kind and found.precision in ("float32", "bfloat16")
        return found if good and all(isinstance(t, float) for t in times) else None
    except (ValueError, KeyError, TypeError):
        return None


def _read(file: Path, kind: str) -> Choice | None:
    try:
        if file.stat().st_uid != os.getuid():
            return None  # another user's, in the folder of temporary files
        return _parsed(file.read_text(encoding="utf-8"), kind)
    except (OSError, ValueError):
        return None


def _kept(found: Choice, kind: str) -> Choice:
    """Keep a choice in the first place that can be written; what another process kept there in the
    meantime stands."""
    for file in _files(kind):
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(storage.to_json(_record(found, kind)), encoding="utf-8")
            _place(draft, file, kind)
            return _read(file, kind) or found
        except OSError:
            continue  # a home that cannot be written
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
    return found


def _place(draft: Path, file: Path, kind: str) -> None:
    """Give a finished file its name, unless a good one has it already."""
    try:
        os.link(draft, file)  # fails where the name is taken, unlike a replacement
        return
    except FileExistsError:
        if _read(file, kind) is not None:
            return
    except OSError:
        pass  # a file system without links
    os.replace(draft, file)
