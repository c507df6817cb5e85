"""Shared fixtures: a complete, tiny parameter file whose study lies in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from varireal_utils.core.code import CodeDigests
from varireal_utils.core.config import StudyConfig, checked

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _read_once() -> Iterator[None]:
    """Each module of the repository is parsed once in a process, not in each temporary study.

    A study keeps the digests of its code in its own folder; that of most tests is new. Copies of
    the code, as tests/unit/test_code.py changes them, are read as ever. The memory is here, not in
    core/code.py, which is in the code of every stage: a change there would end the registered runs.
    """
    read, known = CodeDigests._of_file, {}

    def once(self: CodeDigests, name: str, path: Path) -> tuple[str, list[str]]:
        if self.root != ROOT:
            return read(self, name, path)
        stat = path.stat()
        state = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if state not in known:
            known[state] = read(self, name, path)
        return known[state]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeDigests, "_of_file", once)
        yield


def tiny_params(runs_dir: Path) -> dict[str, Any]:
    """Every key that a parameter file must have, at the smallest size that means something."""
    return {
        "study": "tiny",
        "protocol": "controlled",
        "seed": 7,
        "runs_dir": str(runs_dir),
        "device": "cpu",
        "precision": "float32",
        "datasets": {
            "micro_cars": {
                "source": "world",
                "family": "cars",
                "train_per_class": 2,
                "val_per_class": 2,
                "test_per_class": 2,
            }
        },
        "attributes": ["color"],
        "prompts": "params/prompts/micro.yaml",
        "models": {
            "inpaint": {"path": "models/micro/inpaint"},
            "clip": {"name": "local-dir:models/micro/clip"},
            "verifier": {"kind": "clip", "role": "clip"},
        },
        "guidance": {"canny_low": 100, "canny_high": 200, "canny_blur": 5},
        "edit": {
            "images_per_real": 1,
            "batch_size": 2,
            "max_attempts": 1,
            "prior_variants": 1,
            "color": {"steps": 2, "guidance_scale": 2.0, "strength": 0.8, "alpha": 1.0},
        },
        "verify": {"false_accept": 0.1, "false_identity": 0.1, "keep": "all"},
        "classify": {
            "job": "dataset",
            "seeds": [0],
            "recipes": ["zero_shot", "real"],
            "rank": 2,
            "alpha": 4,
            "dropout": 0.0,
            "lr": 1.0e-3,
            "weight_decay": 1.0e-4,
            "warmup": 0.1,
            "batch_size": 4,
            "eval_batch_size": 8,
            "steps": 2,
            "eval_every": 1,
            "checkpoint_every": 1,
            "lambda_real": 0.5,
            "towers": ["image"],
            "templates": ["a {class}"],
            "augment": {},
        },
        "claims": {"margin": 0.3, "bootstrap": 50, "confidence": 0.95},
    }


def tiny_config(runs_dir: Path, /, **changes: Any) -> StudyConfig:
    """The typed settings of the tiny study; changes: keys with __ for dots (classify__lr=0.1)."""
    values = tiny_params(runs_dir)
    for key, value in changes.items():
        *above, last = key.split("__")
        node = values
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return checked(values, "tiny")


@pytest.fixture
def params_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A parameter file in a temporary folder; the working directory is the repository's root."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_params(tmp_path / "runs")))
    return path


@pytest.fixture
def server():
    """A local language model; see tests/wordserver.py."""
    from tests import wordserver

    with wordserver.serve() as own:
        yield own
