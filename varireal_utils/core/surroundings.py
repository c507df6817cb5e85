"""What a process needs around it, put right where a machine does not give it.

    prepare()   first of all in the command line; child processes inherit what it sets

    PYTHONPATH   folders that hold packages which this environment has too, as modules of a cluster
                 do: they would come before its own, so they are left out
    home         none, "/", or one that cannot be written, as in a container with a user's number:
                 caches go to a folder of one's own among the temporary files
    user name    none in passwd: the user's number stands for it
    locale       names of files are UTF-8 whatever it says, so that a class has one name everywhere
    output       a character that the locale cannot print becomes an escape

Imports nothing but the standard library: packages are looked for once it has run.
"""

from __future__ import annotations

import getpass
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {"__pycache__", "bin", "share", "include", "README.txt"}


def prepare(restart: bool = False) -> list[str]:
    """Put this process's surroundings right; says what was changed, a line each, on stderr.

    restart: whether this process may begin anew, in Python's UTF-8 mode, where the locale is
    another; without it, child processes alone are in that mode.
    """
    if sys.getfilesystemencoding().lower() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        if restart:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    said = [*_own_packages(), *_home()]
    _name()
    for line in said:
        print(f"note: {line}", file=sys.stderr)
    return said


def _own_packages() -> Iterator[str]:
    """Leave out of PYTHONPATH what would come before this environment's packages."""
    entries = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    places = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    foreign = {entry: name for entry in entries if (name := _shadowed(Path(entry), places))}
    if not foreign:
        return
    resolved = {os.path.realpath(entry) for entry in foreign}
    sys.path[:] = [p for p in sys.path if not p or os.path.realpath(p) not in resolved]
    kept = [entry for entry in entries if entry not in foreign]
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    if not kept:
        del os.environ["PYTHONPATH"]
    for entry, name in foreign.items():
        yield f"PYTHONPATH: {entry} is left out; its {name} would come before this environment's"


def _shadowed(entry: Path, places: set[Path]) -> str:
    """A package of a folder that this environment has too; "" where there is none."""
    if not entry.is_dir() or entry.resolve() in {ROOT, *(p.resolve() for p in places)}:
        return ""
    shared = (
        name
        for name in sorted(os.listdir(entry))
        if name not in BESIDE and any((place / name).exists() for place in places)
    )
    return next((name.partition(".")[0] for name in shared), "")


def _home() -> Iterator[str]:
    """A home that caches can be written to."""
    old = Path(os.path.expanduser("~"))
    if old.is_absolute() and old != Path("/") and old.is_dir() and os.access(old, os.W_OK):
        return
    new = own_folder() / "home"
    new.mkdir(mode=0o700, exist_ok=True)
    os.environ["HOME"] = str(new)
    weights = old / ".cache/huggingface"
    if old.is_absolute() and weights.is_dir():
        os.environ.setdefault("HF_HOME", str(weights))
    yield f"the home {str(old)!r} cannot be written; caches go to {new}"


def own_folder() -> Path:
    """A folder among the temporary files that is this user's alone, made where it is not there."""
    folder = Path(tempfile.gettempdir()) / f"varireal-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        stat = os.lstat(folder)
        if stat.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink():
            return folder
    except OSError:
        pass  # a file of that name, or no right to write there
    return Path(tempfile.mkdtemp(prefix="varireal-"))


def _name() -> None:
    """A name for a user who has none: libraries ask for it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user{os.getuid()}"
