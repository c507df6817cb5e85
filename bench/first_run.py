"""What a newcomer's first run costs: seconds, download and disk of set-up and of a first study.

    python -m bench.first_run [--study] [--params FILE] [--out results/first_run.json]

Clones the repository's HEAD into a temporary folder, runs `make setup` there with an empty package
cache, weighs `.venv`, and weighs the packages of requirements.lock as they are downloaded. With
--study it then runs `make study`, twice, and weighs what it leaves under runs/. Times are wall
times; run it on an otherwise idle machine. What an earlier call measured and this one does not is
kept. README's commands show these numbers.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from varireal_utils.core import storage

ROOT = Path(__file__).resolve().parents[1]
GB = 1e9


def weigh(folder: Path) -> float:
    """Bytes of the files below a folder, in GB; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            about = path.stat()
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values()) / GB


def timed(command: list[str], folder: Path, cache: Path) -> float:
    """Seconds of a command that must succeed; its output is shown."""
    began = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"UV_CACHE_DIR": str(cache)})
    return time.monotonic() - began


def measure_setup(clone: Path, cache: Path, wheels: Path) -> dict[str, float]:
    """Set-up of a fresh clone: seconds, GB of the environment, GB of the packages to download."""
    seconds = timed(["make", "setup"], clone, cache)
    found = {"setup_seconds": seconds, "environment_gb": weigh(clone / ".venv")}
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    timed([*pip, "-r", "requirements.lock", "-d", str(wheels)], clone, cache)
    return found | {"download_gb": weigh(wheels)}


def measure_study(clone: Path, cache: Path, params: str) -> dict[str, float | str]:
    """A first study: seconds, seconds of a second call, GB below runs/."""
    command = ["make", "study", f"PARAMS={params}"]
    first = timed(command, clone, cache)
    again = timed(command, clone, cache)
    disk = weigh(clone / "runs")
    return {"study": params, "study_seconds": first, "again_seconds": again, "study_gb": disk}


def main() -> None:
    """Measure, print, and write what was measured beside what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", action="store_true", help="run the study, too")
    parser.add_argument("--params", default="params/micro.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "results/first_run.json")
    args = parser.parse_args()
    facts = storage.read_json(args.out) if args.out.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        clone, cache = home / "clone", home / "cache"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        facts |= measure_setup(clone, cache, home / "wheels")
        if args.study:
            facts |= measure_study(clone, cache, args.params)
    facts |= {
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "started": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    storage.write_json(args.out, facts)
    print("\n".join(f"{key:<15} {value}" for key, value in facts.items()))


if __name__ == "__main__":
    main()
