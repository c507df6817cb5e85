"""The command line.

    python -m varireal_utils run STAGE [--params FILE] [--set key=value ...]
    python -m varireal_utils study [--params FILE] [--set key=value ...] [--cores N] [--profile DIR]
    python -m varireal_utils plan [--params FILE] [--set key=value ...]
    python -m varireal_utils report [--params FILE] [--set key=value ...]
    python -m varireal_utils verify DIR
    python -m varireal_utils pack [--params FILE] [--set key=value ...] [--to FILE.zip]
    python -m varireal_utils unpack FILE.zip [DIR]
    python -m varireal_utils export FORMAT DIR [--params FILE] [--set key=value ...]
    python -m varireal_utils digest STAGE

Exit codes: 0 done, 1 a run or a check failed, 2 a parameter was wrong and nothing was started.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from .core import storage
from .core.params import ParameterError, load_params
from .workflow import runner, study

DEFAULT = "params/micro.yaml"
FORMATS = ("imagefolder", "webdataset", "adapters")


def main(words: list[str] | None = None) -> int:
    """Parse a command line and run it; returns the exit code."""
    args = parser().parse_args(words)
    try:
        return args.call(args)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (runner.RunFailed, study.StudyBusy) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: {error.filename or 'this machine'}: {error.strerror or error}. What was "
            "done stays; make room or give the right to write, and run again.",
            file=sys.stderr,
        )
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser of the command line above."""
    out = argparse.ArgumentParser(
        prog="python -m varireal_utils",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = out.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--notebooks", default="notebooks", help="folder of the notebooks")
    settings = argparse.ArgumentParser(add_help=False, parents=[shared])
    settings.add_argument("--params", default=DEFAULT, help=f"parameter file ({DEFAULT})")
    settings.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the notebook, or a dotted key "
        "of the parameter file; the value is YAML; may be repeated",
    )
    one = commands.add_parser("run", parents=[settings], help="run one notebook")
    one.add_argument("stage", help="04_edit, or a path to a notebook")
    one.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for one cell")
    one.add_argument("--show", action="store_true", help="show what the cells print")
    one.set_defaults(call=run)
    whole = commands.add_parser("study", parents=[settings], help="run what is left of a study")
    whole.add_argument("--cores", type=int, help="cores to use (all)")
    whole.add_argument("--profile", default=study.LOCAL, help="Snakemake profile; profiles/slurm")
    whole.set_defaults(
        call=lambda a: study.drive(a.params, a.settings, a.cores, a.notebooks, profile=a.profile)
    )
    todo = commands.add_parser("plan", parents=[settings], help="jobs and images, running nothing")
    todo.set_defaults(call=lambda a: study.plan(a.params, a.settings, a.notebooks))
    page = commands.add_parser("report", parents=[settings], help="one HTML page of a study")
    page.set_defaults(call=write_report)
    check = commands.add_parser(
        "verify",
        help="compare files with the records that name "
        "them, and tables with the answers that they are of",
    )
    check.add_argument("folder", type=Path)
    check.set_defaults(call=verify)
    whole = commands.add_parser("pack", parents=[settings], help="a study as one archive")
    whole.add_argument("--to", type=Path, help="the archive (runs/<study>.zip)")
    whole.set_defaults(call=pack)
    whole = commands.add_parser("unpack", help="an archive as a folder, every byte checked")
    whole.add_argument("archive", type=Path)
    whole.add_argument("folder", type=Path, nargs="?", help="(the archive's name without .zip)")
    whole.set_defaults(call=unpack)
    images = commands.add_parser(
        "export", parents=[settings], help="images and adapters in the formats that others read"
    )
    images.add_argument("format", choices=FORMATS)
    images.add_argument("folder", type=Path)
    images.set_defaults(call=export)
    digest = commands.add_parser("digest", parents=[shared], help="sha256 of a notebook's cells")
    digest.add_argument("stage")
    digest.set_defaults(call=print_digest)
    return out


def run(args: argparse.Namespace) -> int:
    """Run one notebook and print one line with its time."""
    job = runner.prepare(args.stage, args.params, args.settings, Path(args.notebooks))
    end_with_driver()
    started = time.monotonic()
    record = runner.run(job, args.timeout, args.show)
    words = " ".join(str(v) for k, v in job.arguments.items() if k not in ("params", "overrides"))
    print(
        f"{time.strftime('%H:%M:%S')}  {job.stage:<14} {words:<36} "
        f"{time.monotonic() - started:7.1f} s  {record.get('peak_memory_mb', '-'):>5} MB",
        flush=True,
    )
    return 0


def end_with_driver() -> None:
    """End when the study's driver has gone, so that a killed study leaves nothing at work.

    A driver on another machine cannot be watched; SLURM looks after its jobs itself.
    SIGTERM becomes SystemExit, so that the kernel is shut down and the notebook kept.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    host, _, driver = os.environ.get("VARIREAL_DRIVER", "").rpartition(" ")
    if not driver or host != socket.gethostname() or "SLURM_JOB_ID" in os.environ:
        return

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                os.kill(int(driver), 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGKILL)  # the kernel watches this process likewise

    threading.Thread(target=watch, daemon=True).start()


def verify(args: argparse.Namespace) -> int:
    """Print what differs from the records below a folder, and from its tables recomputed."""
    from .workflow import recompute

    check = recompute.verify(args.folder)
    print("\n".join(check.lines()))
    return 1 if check.wrong else 0


def pack(args: argparse.Namespace) -> int:
    """Write a study's archive and say where it is."""
    from .workflow import archive

    try:
        path = archive.pack(chosen(args), args.to)
    except archive.ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def unpack(args: argparse.Namespace) -> int:
    """Unpack an archive and check what was in it."""
    from .workflow import archive

    try:
        folder, check = archive.unpack(args.archive, args.folder)
    except archive.ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join([str(folder), *check.lines()]))
    return 1 if check.wrong else 0


def export(args: argparse.Namespace) -> int:
    """Write images or adapters for other programs."""
    from .reporting import export as exporting

    try:
        count = exporting.export(storage.study_dir(chosen(args)), args.format, args.folder)
    except exporting.ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.folder}  ({count:,} {'adapters' if args.format == 'adapters' else 'images'})")
    return 0


def chosen(args: argparse.Namespace) -> dict:
    """The parameters that a command line names."""
    _, overrides = runner.split_settings(args.settings, {}, load_params(args.params), args.params)
    return load_params(args.params, overrides)


def write_report(args: argparse.Namespace) -> int:
    """Write a finished study's page and say where it is."""
    from .reporting import report

    try:
        page = report.build(storage.study_dir(chosen(args)))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def print_digest(args: argparse.Namespace) -> int:
    """Print the digest of a notebook's cells."""
    print(storage.notebook_digest(runner.find_notebook(args.stage, Path(args.notebooks))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
