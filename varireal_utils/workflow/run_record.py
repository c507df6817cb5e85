"""What a run was: checked and printed at its start, hashed and written at its end.

`begin` is the first call of every stage notebook and `finish` the last. The record, run.json, is
written last of all and atomically, so its presence means that everything it names was there.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..core import storage
from ..core.config import StudyConfig, load_config
from ..core.device import device_name, device_of, dtype_of, precision_name
from ..core.params import load_params
from ..core.seeds import seed_everything
from ..core.stage import StageSettings
from ..core.study_paths import StudyPaths
from ..models import loaders
from . import provenance

VERSIONS = (
    "torch",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "peft",
    "numpy",
    "pandas",
    "papermill",
)


@dataclass(frozen=True)
class Run:
    """A run in progress. out: the folder where run.json will be written; params: `config` as a
    dictionary, for code that does not take typed settings yet."""

    stage: str
    config: StudyConfig
    params: dict[str, Any]
    own: dict[str, Any]
    out: Path
    seed: int
    settings: Any = None  # the stage's slice
    started: float = field(default_factory=time.time)

    @property
    def target(self) -> dict[str, Any]:
        """What the run is of: data set, attribute, recipe, ..."""
        return self.own

    @property
    def device(self) -> torch.device:
        """The device of the configuration."""
        return device_of(self.config.device)

    @property
    def dtype(self) -> torch.dtype:
        """The compute type of the configuration."""
        return dtype_of(self.config.precision)

    @property
    def paths(self) -> StudyPaths:
        """Every path of the study."""
        return self.config.paths

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.paths.root


def find_root(start: Path | None = None) -> Path:
    """The repository's root: the nearest folder above with a pyproject.toml of this project."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "pyproject.toml").exists() and (folder / "varireal_utils").is_dir():
            return folder
    raise FileNotFoundError(
        f"no pyproject.toml with varireal_utils above {here}; open the "
        "notebook inside a clone of the repository"
    )


def begin(
    stage: str,
    params: str,
    overrides: dict | None = None,
    out: str = "",
    settings: type[StageSettings] | None = None,
    **own: Any,
) -> Run:
    """Check the parameters, seed everything, print what is about to run.

    out: the stage's folder below the study's, e.g. "edits/micro_cars/color/feasible". settings: the
    class of the stage's slice. own: the notebook's other parameters. Changes to the repository's
    root, so that paths mean the same in JupyterLab and in papermill.
    """
    os.chdir(find_root())
    config, loaded = load_config(params, overrides), load_params(params, overrides)
    study = config.paths.root
    folder = study / (out or stage)
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("run.json", "run.sha256"):
        (folder / old).unlink(missing_ok=True)  # from here on the old record is not true
    loaders.avoid_faulty_attention()
    seed = seed_everything(loaded["seed"], stage, *(str(v) for v in own.values()))
    target = ", ".join(f"{k}={v}" for k, v in own.items())
    print(
        f"{stage}  {target}\n  parameters {loaded['_file']} ({loaded['_digest'][:12]}), "
        f"protocol {loaded['protocol']}\n  study      {study}\n  device     "
        f"{device_name(loaded['device'])}, {precision_name(loaded['precision'])}"
    )
    declared = settings.of(config, **own) if settings else None
    return Run(stage, config, loaded, own, folder, seed, declared)


def finish(
    run: Run, outputs: list[Path], inputs: list[Path] | tuple = (), metrics: dict | None = None
) -> dict:
    """Check that every output is there, hash, and write run.json last. Returns the record.

    Raises FileNotFoundError that names each missing output; then no record is written.
    """
    missing = [str(p) for p in outputs if not Path(p).is_file()]
    if missing:
        raise FileNotFoundError(f"{run.stage}: promised but not written: {', '.join(missing)}")
    record = {
        "stage": run.stage,
        "run_id": os.environ.get("VARIREAL_RUN_ID", ""),
        "finished": True,
        "notebook": _notebook_digest(run.stage),
        "package": _version("varireal_utils"),
        **git_state(),
        "parameters": {k: v for k, v in run.params.items() if not k.startswith("_")},
        "parameter_file": run.params["_file"],
        "parameter_digest": run.params["_digest"],
        "own": run.own,
        "seed": run.seed,
        "inputs": digests(inputs, run.study),
        "outputs": digests(outputs, run.study),
        "weights": provenance.weights(run.stage, run.params),
        "metrics": metrics or {},
        "device": device_name(run.params.get("device", "auto")),
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
        "seconds": round(time.time() - run.started, 2),
        "peak_memory_mb": peak_memory_mb(),
    }
    path = run.out / "run.json"
    draft = run.out / ".run.json"
    storage.write_json(draft, record)
    storage.write_text(
        path.with_suffix(provenance.SUMS), f"{storage.sha256_file(draft)}  {path.name}\n"
    )
    draft.replace(path)
    pointer = os.environ.get("VARIREAL_RUN_POINTER")
    if pointer:
        storage.write_text(pointer, str(path.resolve()))
    print(
        f"{run.stage} done: {len(outputs)} files in {record['seconds']:.0f} s, "
        f"{record['peak_memory_mb']} MB at most; record {path}"
    )
    return record


def digests(paths: list[Path] | tuple, study: Path) -> dict[str, str]:
    """Path (relative to the study, where it lies in it) -> sha256, sorted."""
    out = {}
    for path in map(Path, paths):
        inside = path.resolve().is_relative_to(study.resolve())
        name = path.resolve().relative_to(study.resolve()) if inside else path
        out[name.as_posix()] = storage.sha256_file(path)
    return dict(sorted(out.items()))


def _notebook_digest(stage: str) -> str:
    path = Path("notebooks") / f"{stage}.ipynb"
    return storage.notebook_digest(path) if path.exists() else ""


def git_state() -> dict[str, Any]:
    """Commit and whether the tree differs from it; empty outside a git checkout."""

    def ask(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = ask("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain")) if commit else None}


def peak_memory_mb() -> int:
    """Largest resident size of this process so far, in MB (10**6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
