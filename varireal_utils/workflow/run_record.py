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
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch

from ..core import stage as core_stage
from ..core import storage, walk
from ..core.config import StudyConfig, checked, load_config, written
from ..core.cores import cores
from ..core.device import (
    device_name,
    device_of,
    dtype_of,
    precision_name,
    precision_reason,
)
from ..core.seeds import seed_everything
from ..core.stage import Key, S, SourceChanged, SourceDigests, StageSettings
from ..models import loaders
from . import provenance, registration, seal, stages, status

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


class NoSettings(StageSettings):
    """The slice of a notebook that is no stage of the study: it reads no setting."""

    @classmethod
    def of(cls, config: StudyConfig, **target: Any) -> Self:
        """Nothing of the configuration."""
        return cls()


@dataclass(frozen=True, kw_only=True)
class Run(core_stage.Run[S]):
    """A run in progress, with what its record will say of its start.

    upstream: job -> sha256 of its record; stamps: path -> size, time and inode of each source.
    """

    config: StudyConfig
    stamps: dict[str, list[int]] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)


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
    stage: str, params: str, overrides: dict | None = None, out: str = "", **target: Any
) -> Run[Any]:
    """Check the parameters, seed everything, print what is about to run.

    target: the notebook's other parameters. out: the folder below the study's of a notebook that is
    no stage; a stage's is its own. Changes to the repository's root, so that paths mean the same in
    JupyterLab and in papermill. The key and the upstream records are those of this moment.
    """
    os.chdir(find_root())
    config = _configuration(params, overrides)
    if "VARIREAL_CONFIG" not in os.environ:  # in JupyterLab; elsewhere the command line asks
        registration.hold(config, stage=stage)
    job = stages.find(stage, config, target)
    folder = job.folder if job else config.paths.root / (out or stage)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", f"run{provenance.SUMS}", status.ASIDE):
        (folder / name).unlink(missing_ok=True)  # from here on the old record is not true
    if job:
        seal.remove(config.whole.root)
        for old in folder.iterdir() if job.stage.clears else ():
            if old.is_file():  # a table or figure of earlier settings
                old.unlink()
    loaders.avoid_faulty_attention()
    digests = SourceDigests(Path(config.runs_dir) / status.DIGESTS)
    run = Run(
        stage=stage,
        settings=job.settings() if job else NoSettings(),
        paths=config.paths,
        out=folder,
        seed=seed_everything(config.draw_seed, stage, *(str(v) for v in target.values())),
        device=device_of(config.device),
        dtype=dtype_of(config.precision, config.device),
        target=target,
        config=config,
        key=job.key(_notebook(stage), digests) if job else None,
        stamps=_stamps(job.settings()) if job else {},
        upstream=status.upstream_digests(job) if job else {},
    )
    settings = ", ".join(f"{k}={v}" for k, v in target.items())
    print(
        f"{stage}  {settings}\n  parameters {config.file} ({config.digest[:12]}), "
        f"protocol {config.protocol}\n  study      {run.study}\n  device     "
        f"{device_name(config.device)}, {precision_name(config.precision, config.device)}"
    )
    return run


def _configuration(params: str, overrides: dict | None) -> StudyConfig:
    """The configuration as the runner read it when the run began; in JupyterLab that of the file.

    A parameter file that is edited while a study runs so changes none of its runs.
    """
    frozen = os.environ.get("VARIREAL_CONFIG")
    return checked(storage.read_json(frozen), params) if frozen else load_config(params, overrides)


def _stamps(settings: StageSettings) -> dict[str, list[int]]:
    """Path -> size, time and inode of each source: a file put back while a run went on shows."""
    stats = {str(path): path.stat() for path in settings.source_files()}
    return {name: [s.st_size, s.st_mtime_ns, s.st_ino] for name, s in stats.items()}


def _unchanged(run: Run) -> Key | None:
    """The key at the end of a run. Raises SourceChanged where it is not that of its beginning.

    Sources that the run itself fetched are added to the key.
    """
    job = stages.find(run.stage, run.config, run.target)
    if job is None or run.key is None:
        return None
    notebook = _notebook(run.stage)
    now = job.key(notebook, SourceDigests(Path(run.config.runs_dir) / status.DIGESTS))
    if "VARIREAL_NOTEBOOK" not in os.environ:  # JupyterLab saves a notebook while it runs
        now = replace(now, notebook=run.key.notebook)
    begun = run.key
    now = replace(now, code=begun.code)  # the modules that were loaded; status names newer ones
    if run.settings.fetches:
        begun = replace(begun, sources=now.sources | begun.sources)
    after = _stamps(run.settings)
    changes = now.changes(begun) or [
        f"source {name}: written while it ran"
        for name, stamp in run.stamps.items()
        if after.get(name) != stamp
    ]
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise SourceChanged(
            f"{run.stage}: its inputs changed while it ran: {changes[0]}{more}. Nothing is "
            "recorded; run the same command again"
        )
    return now


def _notebook(stage: str) -> Path:
    """The notebook that runs: the runner says which, JupyterLab has the repository's."""
    return Path(os.environ.get("VARIREAL_NOTEBOOK") or Path("notebooks") / f"{stage}.ipynb")


def finish(
    run: Run, outputs: list[Path], inputs: list[Path] | tuple = (), metrics: dict | None = None
) -> dict:
    """Check that every output is there, hash, and write run.json last. Returns the record.

    Raises FileNotFoundError that names each missing output, SourceChanged where an input of the
    run is not as it was at its beginning; then no record is written.
    """
    missing = [str(p) for p in outputs if not Path(p).is_file()]
    if missing:
        raise FileNotFoundError(f"{run.stage}: promised but not written: {', '.join(missing)}")
    key = _unchanged(run)
    record = {
        "stage": run.stage,
        "run_id": os.environ.get("VARIREAL_RUN_ID", ""),
        "finished": True,
        "notebook": key.notebook if key else "",
        "key": key.record() if key else None,
        "upstream": run.upstream,
        "package": _version("varireal_utils"),
        **git_state(),
        "parameters": written(run.config),
        "parameter_file": run.config.file,
        "parameter_digest": storage.sha256_json(written(run.config)),
        "own": run.target,
        "seed": run.seed,
        "inputs": digests(inputs, run.study),
        "outputs": digests(outputs, run.study),
        "weights": _weights(key),
        "metrics": metrics or {},
        **environment(run.config),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
        "seconds": round(time.time() - run.started, 2),
        "peak_memory_mb": peak_memory_mb(),
    }
    _take_back_above(run, record["outputs"])
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


def environment(config: StudyConfig) -> dict[str, Any]:
    """Device, precision, machine, threads and versions, for a record."""
    return {
        "device": device_name(config.device),
        "precision": precision_name(config.precision, config.device),
        "precision_reason": precision_reason(config.precision, config.device),
        "machine": f"{platform.machine()} {platform.system()}, {cores()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
    }


def digests(paths: list[Path] | tuple, study: Path) -> dict[str, str]:
    """Path (relative to the study, where it lies in it) -> sha256, sorted."""
    out = {}
    for path in map(Path, paths):
        out[walk.inside(path, study) or path.as_posix()] = storage.sha256_file(path)
    return dict(sorted(out.items()))


def _weights(key: Key | None) -> dict[str, str]:
    """Weights on this machine that a stage may load; the hub's are named by their revision."""
    sources = key.sources if key else {}
    return {name: digest for name, digest in sources.items() if name.endswith(".safetensors")}


def _take_back_above(run: Run[Any], outputs: dict[str, str]) -> None:
    """Remove records of folders above whose files this run has made otherwise: run by hand for one
    training with other settings, it must not pass for a part of the study."""
    for folder in run.out.parents:
        if folder == run.study or not folder.is_relative_to(run.study):
            return
        record = folder / "run.json"
        if record.is_file():
            named = provenance.read(record).get("outputs", {})
            if any(named.get(name, digest) != digest for name, digest in outputs.items()):
                record.unlink()
                record.with_suffix(provenance.SUMS).unlink(missing_ok=True)


def git_state() -> dict[str, Any]:
    """Commit and whether the tree differs from it; null where git does not say, with the reason.

    A clone without .git, as a downloaded zip, has none, whatever repository it was unpacked in.
    """

    here = find_root()

    def ask(*words: str) -> tuple[str | None, str]:
        try:
            done = subprocess.run(
                ["git", *words],
                cwd=here,
                capture_output=True,
                timeout=20,
                encoding="utf-8",
                errors="backslashreplace",
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, f"git {words[0]}: {error}"
        if done.returncode:
            return None, f"git {words[0]}: {done.stderr.strip() or f'exit {done.returncode}'}"
        return done.stdout.strip(), ""

    top, fault = ask("rev-parse", "--show-toplevel")
    if top is not None and Path(top).resolve() != here:
        top, fault = None, f"{here} has no .git of its own; {top} is another repository"
    commit, fault = ask("rev-parse", "HEAD") if top is not None else (None, fault)
    if commit is None:
        return {"commit": None, "dirty": None, "git": fault}
    changes, fault = ask("status", "--porcelain")
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        **({"git": fault} if fault else {}),
    }


def peak_memory_mb() -> int:
    """Largest resident size of this process so far, in MB (10**6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
