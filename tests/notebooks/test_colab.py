"""colab.ipynb as on Colab: a machine with torch alone, a notebook that lies in no clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
BROUGHT = ("torch", "torchvision", "numpy")  # what Colab brings along, and what runs a notebook
pytestmark = pytest.mark.slow


def pin(name: str) -> str:
    """name==version as in the lock."""
    return re.search(rf"^({name}==\S+)", (ROOT / "requirements.lock").read_text(), re.M)[1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Path:
    """A folder with an environment of its own, `env`, that has torch and a kernel alone."""
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env/bin/python"
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python]
    tool = (
        uv
        if shutil.which("uv")
        or not subprocess.run(
            [sys.executable, "-m", "uv", "--version"], capture_output=True
        ).returncode
        else [python, "-m", "pip", "install", "-q"]
    )
    subprocess.run([*tool, *map(pin, BROUGHT), pin("ipykernel"), pin("papermill")], check=True)
    return folder


def test_colab_from_nothing_but_an_address(machine):
    origin, away, python = machine / "origin", machine / "away", machine / "env/bin/python"
    subprocess.run(["git", "clone", "-q", ROOT, origin], check=True)
    away.mkdir()
    shutil.copy(origin / "notebooks/colab.ipynb", away)
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONPATH", "VIRTUAL_ENV", "JUPYTER_PATH")
    }
    done = subprocess.run(
        [
            python,
            "-m",
            "papermill",
            "colab.ipynb",
            "out.ipynb",
            "-p",
            "repository",
            f"file://{origin}",
            "-p",
            "photographs_per_class",
            "2",
            "-p",
            "classifier_steps",
            "4",
            "-p",
            "save_to",
            str(machine / "drive"),
        ],
        cwd=away,
        text=True,
        capture_output=True,
        timeout=1800,
        env=clean | {"PATH": f"{machine / 'env/bin'}:{clean['PATH']}"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    cells = nbformat.read(away / "out.ipynb", 4).cells
    shown = [o for c in cells for o in c.get("outputs", [])]
    assert not [o for o in shown if o.output_type == "error"]
    kept = "".join(o.get("text", "") for o in shown)
    assert all(f"'{pin(name)}'" in kept for name in ("torch", "torchvision"))  # as it was
    assert any("image/png" in o.get("data", {}) for o in shown)
    claims = pd.read_csv(machine / "drive/results/claims.csv")
    assert claims["verdict"].notna().all()
    assert (machine / "drive/figures/qualitative_grid.png").stat().st_size > 5000
