"""What `precision: auto` is on a CPU: measured once, kept, and the same for every process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from varireal_utils.core import cpu_precision, device
from varireal_utils.core.cpu_precision import VARIABLE, Choice


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv(VARIABLE, "")
    (tmp_path / "tmp").mkdir()
    return tmp_path / "cache"


def plant(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list[str]:
    """A processor that takes so long; returns the list of what is timed."""
    timed: list[str] = []

    def once(name: str) -> float:
        timed.append(name)
        slowed = 3 if len(timed) % 4 == 1 else 1  # another process at work
        return seconds[name] * slowed

    monkeypatch.setattr(cpu_precision, "_work", lambda: once)
    monkeypatch.setattr(cpu_precision, "BUDGET", 0.01)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True)
    return timed


@pytest.mark.parametrize(
    ("float32", "bfloat16", "wanted"),
    [
        (0.040, 0.015, "bfloat16"),  # a matrix unit
        (0.0111, 0.0146, "float32"),  # avx512_bf16 without one
        (0.0114, 0.0100, "float32"),  # 1.14 times as fast: not worth the rounding
        (0.0116, 0.0100, "bfloat16"),
    ],
)
def test_the_faster_type_is_taken_by_a_margin(monkeypatch, float32, bfloat16, wanted):
    timed = plant(monkeypatch, float32=float32, bfloat16=bfloat16)
    threads = torch.get_num_threads()
    found = cpu_precision.choice()
    assert (found.precision, found.gain) == (wanted, pytest.approx(float32 / bfloat16, rel=1e-3))
    assert timed[:4] == ["float32", "bfloat16"] * 2 and torch.get_num_threads() == threads
    assert wanted in found.words() and f"{found.gain:.2f} times" in found.words()
    assert device.precision_name("auto", "cpu") == wanted


def test_once_per_machine(monkeypatch, cache):
    timed = plant(monkeypatch, float32=2.0, bfloat16=1.0)
    first = cpu_precision.choice()
    count = len(timed)
    assert cpu_precision.choice() == first  # from the environment, as in a process started later
    assert json.loads(os.environ[VARIABLE])["precision"] == "bfloat16"
    monkeypatch.setenv(VARIABLE, "")
    assert cpu_precision.choice() == first and len(timed) == count  # from the cache
    (file,) = (cache / "varireal").iterdir()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(cpu_precision, "_machine", lambda: "another processor")
    plant(monkeypatch, float32=1.0, bfloat16=2.0)
    assert cpu_precision.choice().precision == "float32"
    assert len(list((cache / "varireal").iterdir())) == 2 and file.exists()


def test_the_first_of_two_processes_is_right(monkeypatch):
    """One measured in a noisy moment; the file was there when it came to keep its answer."""
    kind, mine = cpu_precision._machine(), Choice("float32", 1.0, 1.0)
    theirs = cpu_precision._kept(Choice("bfloat16", 2.0, 1.0), kind)
    assert cpu_precision._kept(mine, kind) == theirs == cpu_precision.choice()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": "x"}', "\xff"])
def test_a_damaged_cache_is_measured_anew(monkeypatch, cache, text):
    plant(monkeypatch, float32=2.0, bfloat16=1.0)
    file = cpu_precision._files(cpu_precision._machine())[0]
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    assert cpu_precision.choice().precision == "bfloat16"
    assert json.loads(file.read_text())["precision"] == "bfloat16"


@pytest.mark.parametrize("home", ["", "/", "/proc/none"])
def test_without_a_home(monkeypatch, tmp_path, home):
    """A container's user without a passwd entry, or a home that cannot be written."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)
    plant(monkeypatch, float32=2.0, bfloat16=1.0)
    assert cpu_precision.choice().precision == "bfloat16"
    kept = list((tmp_path / "tmp").glob("varireal-*/*"))
    assert [p.name[:10] for p in kept] == ["precision-"]
    (tmp_path / "tmp").rename(tmp_path / "gone")
    (tmp_path / "tmp").touch()  # nothing can be written anywhere
    monkeypatch.setenv(VARIABLE, "")
    assert cpu_precision.choice().precision == "bfloat16"


def test_a_processor_without_bfloat16_is_not_timed(monkeypatch):
    timed = plant(monkeypatch, float32=2.0, bfloat16=1.0)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    assert cpu_precision.choice().precision == "float32" and timed == []
    assert "no bfloat16" in cpu_precision.choice().words()


def test_the_real_measurement(monkeypatch):
    """Both types are timed, alike but for the type, and the answer follows from the times."""
    monkeypatch.setattr(cpu_precision, "BUDGET", 0.05)
    work = cpu_precision._work()
    assert all(0 < work(name) < 60 for name in ("float32", "bfloat16"))
    found = cpu_precision._measured()
    if found.bfloat16_ms:
        assert (found.precision == "bfloat16") == (found.gain >= cpu_precision.GAIN)
    else:
        assert found.precision == "float32"


def test_emulated_bfloat16_is_not_taken_on_a_gpu(monkeypatch):
    """T4 and V100: is_bf16_supported() counts emulation."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for native, wanted in ((True, "bfloat16"), (False, "float16")):

        def supported(including_emulation: bool = True, native: bool = native) -> bool:
            return native or including_emulation

        monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
        assert device.precision_name("auto") == wanted
        assert device.dtype_of("auto") == getattr(torch, wanted)


def test_the_device_that_computes_decides(monkeypatch):
    """`device: cpu` on a machine with a GPU, and mps."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    plant(monkeypatch, float32=1.0, bfloat16=1.0)
    assert device.precision_name("auto", "cpu") == "float32"
    assert "measured" in device.precision_reason("auto", "cpu")
    assert device.precision_name("auto", "mps") == "float32"
    assert device.precision_reason("float16") == "float16: set in the parameters"
