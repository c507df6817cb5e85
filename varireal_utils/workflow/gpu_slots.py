"""Runs a command on GPUs of this machine that it has alone, or shares with few others.

    python -m varireal_utils.workflow.gpu_slots --devices 0,1 --count 1 --units 12 -- COMMAND ...

The command sees its devices alone (CUDA_VISIBLE_DEVICES). The Snakefile puts this before the jobs
that compute on a GPU: Snakemake counts how many may run, this decides which device each gets.

symbols   unit   a twelfth of a device; a job that takes all of them has it alone
          door   of a device: is held while units of it are taken, and by a job that has it alone,
                 also while that waits for others to end, so that no new one gets in before it

Doors and units are files of this user and machine, so that several studies share out the same
devices. Their locks are the operating system's. They belong to open files that the command and its
kernel inherit, so that they end with the last of these, however that ends.

Nobody waits with units in hand but a job behind its door, and no two jobs gather several doors at
once, so no two wait for each other.

Invariant (tests/unit/test_gpu_slots.py): two jobs never have units in common; a killed job's are
free again.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .lock import end_with_driver

UNITS = 12  # of a device: 1, 2, 3, 4, 6 or 12 jobs share it evenly
WAIT = 0.2  # seconds between two looks
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = "VARIREAL_GPU_LOCKS"  # descriptors of open files that children keep
BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@dataclass
class Offer:
    """A device whose door this process holds. door, units: descriptors of locked files."""

    device: str
    door: int
    units: list[int]

    def keep(self, count: int) -> None:
        """Give back units beyond `count`."""
        while len(self.units) > count:
            os.close(self.units.pop())

    def leave(self) -> None:
        """Give back everything."""
        self.keep(0)
        os.close(self.door)


def folder() -> Path:
    """Where the files lie. Raises PermissionError where another user owns the place."""
    path = Path(tempfile.gettempdir(), f"varireal-gpus-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} is not yours; set TMPDIR to a folder of your own")
    return path


def _locked(path: Path) -> int | None:
    """An open, locked file; None where another process holds it. No core.file_lock: that ends with
    a context, and this must outlive this program."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(number)
        if error.errno in BUSY:
            return None
        raise OSError(
            error.errno, "no locks on this file system; set TMPDIR to a local folder", str(path)
        ) from error
    return number


def _free(home: Path, device: str) -> list[int]:
    """The units of a device that nobody has, now this process's."""
    name = device.replace("/", "_")
    found = (_locked(home / f"{name}.{n}") for n in range(UNITS))
    return [number for number in found if number is not None]


def _offers(home: Path, devices: Sequence[str]) -> list[Offer]:
    """The devices whose door is free, with all of their free units; the emptiest first."""
    out = []
    for device in devices:
        door = _locked(home / f"{device.replace('/', '_')}.door")
        if door is not None:
            out.append(Offer(device, door, _free(home, device)))
    return sorted(out, key=lambda offer: -len(offer.units))


def share(home: Path, devices: Sequence[str], units: int) -> Offer:
    """Wait for `units` of one device."""
    while True:
        offers = _offers(home, devices)
        best = offers[0] if offers and len(offers[0].units) >= units else None
        for offer in offers:
            if offer is not best:
                offer.leave()
        if best is not None:
            best.keep(units)
            os.close(best.door)
            return best
        time.sleep(WAIT)


def alone(home: Path, devices: Sequence[str], count: int) -> list[Offer]:
    """Wait for whole devices, in their order."""
    held: list[Offer] = []
    with _turn(home) if count > 1 else contextlib.nullcontext():
        while len(held) < count:
            left = [d for d in devices if d not in {offer.device for offer in held}]
            offers, more = _offers(home, left), count - len(held)
            held += offers[:more]
            for offer in offers[more:]:
                offer.leave()
            if len(held) < count:
                time.sleep(WAIT)
    for offer in held:  # behind its door nobody new gets in
        while len(offer.units) < UNITS:
            time.sleep(WAIT)
            offer.units += _free(home, offer.device)
    return sorted(held, key=lambda offer: list(devices).index(offer.device))


@contextlib.contextmanager
def _turn(home: Path) -> Iterator[None]:
    """One process at a time."""
    while (number := _locked(home / "turn")) is None:
        time.sleep(WAIT)
    try:
        yield
    finally:
        os.close(number)


def inherited() -> tuple[int, ...]:
    """Descriptors of the locks of this job, for children that must end before others take its
    devices."""
    return tuple(int(n) for n in os.environ.get(LOCKS, "").split(",") if n)


def main(words: list[str] | None = None) -> None:
    """Wait for devices, then become the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", required=True, help="names as in CUDA_VISIBLE_DEVICES")
    parser.add_argument("--count", type=int, default=1, help="devices that the command gets")
    parser.add_argument("--units", type=int, default=UNITS, help=f"of a device, 1 to {UNITS}")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args(words)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    devices, home = args.devices.split(","), folder()
    if not command or not 1 <= args.units <= UNITS or not 1 <= args.count <= len(devices):
        parser.error("wanted a command, 1 to 12 units, and no more devices than there are")
    end_with_driver()
    whole = args.units == UNITS or args.count > 1
    held = alone(home, devices, args.count) if whole else [share(home, devices, args.units)]
    open_files = [n for offer in held for n in (*offer.units, *([offer.door] if whole else []))]
    for number in open_files:
        os.set_inheritable(number, True)
    os.environ[VISIBLE] = ",".join(offer.device for offer in held)
    os.environ[LOCKS] = ",".join(map(str, open_files))
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
