"""One holder of a file at a time, on file systems with locks and on those without.

    exclusive(path)             a context that one process at a time is in; raises Held
    exclusive(path, wait=True)  the same; a second process waits

The lock is the operating system's (flock), so that it ends with its holder, however that ends.
Lustre without `-o flock`, NFS without its lock service and some FUSE file systems have none. There
a file beside the lock names the holder, who touches it every BEAT seconds. A holder counts as gone
when its process is, if it was of this machine, or when the file has not been touched for STALE
seconds by the file system's own clock. A holder that finds another one's name there ends.

Invariant (tests/unit/test_file_lock.py): of two processes one is refused, and a killed holder's
place is free again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
BEAT, STALE = 5.0, 60.0  # seconds
SETTLE = 0.3  # seconds between writing one's name and reading whose name is there


class Held(RuntimeError):
    """Another process holds the file; `by` says which."""

    def __init__(self, path: Path, by: str):
        super().__init__(f"{path}: held by {by}")
        self.path, self.by = path, by


@contextlib.contextmanager
def exclusive(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a file. Raises Held where another process does and `wait` is not given; OSError where
    the file cannot be written."""
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in BUSY:
                raise Held(path, _text(file)) from error
            if error.errno not in NO_LOCKS:
                raise
            with _named(path.with_name(f"{path.name}.holder"), wait):
                yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        file.truncate(0)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown process"


@dataclass(frozen=True)
class _Holder:
    """Who is named in a holder's file. age: seconds since it was touched."""

    token: str
    pid: int
    host: str
    age: float

    @property
    def text(self) -> str:
        return f"process {self.pid} on {self.host}"

    def here(self) -> bool:
        """Whether it still holds."""
        return self.age < STALE and not (self.host == socket.gethostname() and _gone(self.pid))


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


@contextlib.contextmanager
def _named(path: Path, wait: bool) -> Iterator[None]:
    """Hold a file by one's name in it."""
    token = uuid.uuid4().hex
    while (other := _take(path, token)) is not None:
        if not wait:
            raise Held(path, f"{other.text}, which touched {path} {other.age:.0f} s ago")
        time.sleep(BEAT)
    done = threading.Event()
    threading.Thread(target=_beat, args=(path, token, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        holder = _read(path)
        if holder is not None and holder.token == token:
            path.unlink(missing_ok=True)


def _take(path: Path, token: str) -> _Holder | None:
    """Write one's name; the holder where another one is there, or was quicker."""
    holder = _read(path)
    if holder is not None and holder.here():
        return holder
    value = {"token": token, "pid": os.getpid(), "host": socket.gethostname()}
    draft = path.with_name(f"{path.name}.{token}")
    draft.write_text(json.dumps(value), encoding="utf-8")
    os.replace(draft, path)
    time.sleep(SETTLE)
    holder = _read(path)
    return None if holder is None or holder.token == token else holder


def _beat(path: Path, token: str, done: threading.Event) -> None:
    """Touch the file until done; end the process where another one has taken the place."""
    while not done.wait(BEAT):
        holder = _read(path)
        if holder is not None and holder.token != token and not done.is_set():
            print(f"error: {path} was taken over by {holder.text}; this process ends", flush=True)
            sys.stdout.flush()
            os._exit(1)
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(path: Path) -> _Holder | None:
    """Who is named in a file; None where nobody is."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        age = _now(path.parent) - path.stat().st_mtime
        return _Holder(str(value["token"]), int(value["pid"]), str(value["host"]), age)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _now(folder: Path) -> float:
    """The time of the file system: that of a file written now."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
        file.write(b"0")
        file.flush()
        return os.stat(file.name).st_mtime
