"""The command line: python -m varireal_utils COMMAND --help.

Exit codes: 0 done, 1 a run or a check failed, 2 a parameter was wrong and nothing was started.
"""

from __future__ import annotations

from .core import surroundings

surroundings.prepare(restart=__name__ == "__main__")  # before packages are looked for

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .core import storage
from .core.config import ParameterError, StudyConfig
from .workflow import chain, invocation, registration, runner, stages, status, study
from .workflow.lock import StudyBusy, end_with_driver

app = typer.Typer(
    name="python -m varireal_utils",
    help="Does feasibility matter in synthetic training data? Runs, checks and exports a study.",
    epilog="Exit codes: 0 done; 1 a run or a check failed; 2 a parameter was wrong and nothing "
    "was started.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """What `export` writes."""

    imagefolder = "imagefolder"
    webdataset = "webdataset"
    adapters = "adapters"


class Models(StrEnum):
    """What `new` edits and classifies with."""

    micro = "micro"
    real = "real"


Params = Annotated[str, typer.Option("--params", metavar="FILE", help="parameter file")]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="a parameter of the notebook, or a dotted key of the parameter file; the value is "
        "YAML; may be repeated",
    ),
]
Notebooks = Annotated[str, typer.Option(help="folder of the notebooks")]
Profile = Annotated[str, typer.Option(metavar="DIR", help="Snakemake profile; profiles/slurm")]
MICRO = "params/micro.yaml"


def main(words: list[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    try:
        app(words)
    except SystemExit as end:
        return int(end.code or 0)
    except ParameterError as error:
        return _failed(str(error), 2)
    except (runner.RunFailed, StudyBusy) as error:
        return _failed(str(error), 1)
    except OSError as error:
        return _failed(
            f"{error.filename or 'this machine'}: {error.strerror or error}. What was "
            "done stays; make room or give the right to write, and run again.",
            1,
        )
    return 0


def _failed(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


@contextmanager
def _said(*kinds: type[Exception]) -> Iterator[None]:
    """Exit with 1 and the message of an error of these kinds."""
    try:
        yield
    except kinds as error:
        raise typer.Exit(_failed(str(error), 1)) from error


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="04_edit, or a path to a notebook")],
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006 - typer's way to say: none
    notebooks: Notebooks = "notebooks",
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="limit for one cell")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="show what the cells print")] = False,
    frozen: Annotated[
        Path | None, typer.Option(metavar="FILE", help="configuration that `study` has read")
    ] = None,
    upstream: Annotated[
        bool,
        typer.Option("--upstream", help="first, in the same kernel, what it reads and lacks"),
    ] = False,
) -> None:
    """Run one notebook and print one line with its time."""
    job = invocation.prepare(stage, params, settings, Path(notebooks), frozen)
    if frozen is None and job.config:
        registration.hold(job.config, notebooks, job.stage)
    chained = chain.prepared(job, params, Path(notebooks), frozen) if upstream else [job]
    end_with_driver()
    started = time.monotonic()
    for one, record in zip(chained, runner.run_chain(chained, timeout, show), strict=True):
        words = [str(v) for k, v in one.arguments.items() if k not in ("params", "overrides")]
        print(
            f"{time.strftime('%H:%M:%S')}  {one.stage:<14} {' '.join(words):<36} "
            f"{time.monotonic() - started:7.1f} s  {record.get('peak_memory_mb', '-'):>5} MB",
            flush=True,
        )
        started = time.monotonic()


@app.command("study")
def run_study(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
    cores: Annotated[int | None, typer.Option(help="cores to use (all)")] = None,
    profile: Profile = study.LOCAL,
) -> None:
    """Run what is left of a study."""
    raise typer.Exit(study.drive(params, settings, cores, notebooks, profile=profile))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="of the study: lower-case letters, digits, _ and -")],
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="a folder a class")] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="or a list: columns path, label")
    ] = None,
    models: Annotated[Models, typer.Option(help="micro shows the way; real needs a GPU")] = (
        Models.micro
    ),
    gpu: Annotated[int, typer.Option(help="16, 24 or 80 GB, for real models")] = 24,
    llm: Annotated[
        str, typer.Option(metavar="FILE", help="parameter file whose language model writes phrases")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="over files of that name")] = False,
) -> None:
    """Begin a study of your own photographs: writes its parameter and phrase files."""
    from .workflow import new_study

    words = new_study.begin(name, images, csv, models.value, gpu, llm, force)
    print("\n".join(words.lines))
    raise typer.Exit(0 if words.written else 1)


@app.command()
def plan(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
) -> None:
    """Print models, jobs, images, hours and disk, and what is still to run; runs nothing."""
    raise typer.Exit(study.plan(params, settings, notebooks))


@app.command()
def preflight(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
) -> None:
    """Try each role of a study on a small, real piece of work, before a long run."""
    from .preflight import page, stage
    from .workflow.completeness import has_parts

    config = _config(params, settings)
    has_parts(config)
    outcome = stage.run(config, lambda line: print(line, flush=True))
    page.show(outcome.findings, outcome.verdict)
    print(f"{outcome.folder / page.PAGE}")
    raise typer.Exit(1 if outcome.failures else 0)


@app.command("fetch-models")
def fetch_models(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    yes: Annotated[
        bool, typer.Option("--yes", help="download; without it the table alone is printed")
    ] = False,
) -> None:
    """Download every model of a study from the hub and pin its commit in the study's lock."""
    from .core.config import load_config
    from .models import fetch

    _, overrides = invocation.configured(params, settings)
    config = load_config(params, overrides, locked=False)
    failed = fetch.fetch(config, yes, lambda text: print(text, flush=True))
    if failed:
        lines = [f"{len(failed)} not fetched; run the same command again when mended:", *failed]
        raise typer.Exit(_failed("\n".join(lines), 1))


@app.command("status")
def show_status(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
    profile: Profile = study.LOCAL,
    jobs: Annotated[bool, typer.Option("--jobs", help="every job with every reason")] = False,
) -> None:
    """Print which stages are current, and what changed for those that are not; runs nothing."""
    config, _ = invocation.configured(params, settings)
    found = status.states(config, notebooks, here=profile == study.LOCAL)
    if jobs:
        print("\n".join(status.details(found)) or "every job is current")
        return
    _print_rows(status.rows(found))
    if registered := registration.hold(config, notebooks):
        print(registered)


def _print_rows(rows: list[tuple[str, str, str]]) -> None:
    """A line a stage, its state in colour on a terminal; nothing is cut where it is piped."""
    colours = {"current": "green", "stale": "yellow", "missing": "red", "never run": "dim"}
    if not sys.stdout.isatty():
        print("\n".join(f"{name:<14} {words}" for name, _, words in rows))
        return
    table = Table.grid(padding=(0, 2))
    for name, word, words in rows:
        table.add_row(name, words, style=colours[word])
    Console(highlight=False, markup=False).print(table)


@app.command()
def register(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
) -> None:
    """Fix what a study of replicates is, before its first run."""
    path = registration.register(_config(params, settings), notebooks)
    print(f"{path}: commit it with its sum {path.with_suffix('.sha256').name}, then run `study`")


@app.command("accept-code")
def accept_code(
    stage: Annotated[str, typer.Argument(help="04_edit; every stage without it")] = "",
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="for the record")] = "",
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
) -> None:
    """Accept that a change of code alters no result: its jobs do not run again."""
    if not why.strip():
        raise ParameterError('--why: wanted a reason, as --why "a function was renamed"')
    if stage and stage not in stages.STAGES:
        raise ParameterError(f"{stage}: no such stage; known are {', '.join(stages.STAGES)}")
    config, _ = invocation.configured(params, settings)
    jobs = study.accept_code(config, notebooks, stage, why)
    print(f"accepted for {len(jobs)} jobs: {', '.join(jobs) or 'code alone made none stale'}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Start JupyterLab; what follows is its own, as --port 9999."""
    words = ["-m", "jupyter", "lab", *context.args]
    if os.getuid() == 0 and "--allow-root" not in words:
        words.append("--allow-root")
        print(
            "You are root, as in most containers, so JupyterLab gets --allow-root. It listens on "
            "this machine alone, for those who have its token.\nFrom a container: publish the "
            'port and call make lab LAB="--ip=0.0.0.0 --no-browser"',
            flush=True,
        )
    os.execv(sys.executable, [sys.executable, *words])


@app.command()
def report(params: Params = MICRO, settings: Sets = []) -> None:  # noqa: B006
    """Write one HTML page of a finished study."""
    from .reporting import report as reporting

    with _said(FileNotFoundError):
        page = reporting.build(_config(params, settings).paths.root)
    print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB)")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a study's folder")],
) -> None:
    """Compare files with the records that name them, and tables with the predictions that they
    are of."""
    from .workflow import recompute

    check = recompute.verify(folder)
    print("\n".join(check.lines()))
    raise typer.Exit(1 if check.wrong else 0)


@app.command()
def pack(
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="the archive (runs/<study>.zip)")
    ] = None,
) -> None:
    """Write a finished study as one archive with its cards."""
    from .workflow import archive

    with _said(archive.ArchiveError):
        path = archive.pack(_config(params, settings), to)
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")


@app.command()
def unpack(
    archive_file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="an archive of `pack`")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="(the archive's name without .zip)")
    ] = None,
) -> None:
    """Unpack an archive as a folder, every byte checked."""
    from .workflow import archive

    with _said(archive.ArchiveError):
        made, check = archive.unpack(archive_file, folder)
    print("\n".join([str(made), *check.lines()]))
    raise typer.Exit(1 if check.wrong else 0)


@app.command()
def save(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where to write")],
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
    notebooks: Notebooks = "notebooks",
) -> None:
    """Keep what is done of a study of replicates, without pictures, for another machine."""
    from .workflow import saved

    config = _config(params, settings)
    written = saved.save(config, folder, notebooks)
    done, size = saved.kept(config, folder)
    print(
        f"{folder}: {done} of {len(saved.units(config))} data sets of replicates 1 and on "
        f"({size / 1e6:.1f} MB), {len(written)} of them new"
    )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="what `save` wrote")],
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
) -> None:
    """Bring what `save` kept into a study here; `study` then makes the rest."""
    from .workflow import saved

    brought, others = saved.restore(_config(params, settings), folder)
    print("\n".join([*others, f"{len(brought)} data sets of replicates brought; now run `study`"]))
    raise typer.Exit(1 if others and not brought else 0)


@app.command()
def export(
    kind: Annotated[Format, typer.Argument(metavar="FORMAT", help=", ".join(Format))],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where to write")],
    params: Params = MICRO,
    settings: Sets = [],  # noqa: B006
) -> None:
    """Write images or adapters in the formats that other programs read."""
    from .reporting import export as exporting
    from .workflow import expected

    config = _config(params, settings)
    with _said(exporting.ExportError):
        wanted = expected.folders(config)
        count = exporting.export(config.paths.root, kind.value, folder, wanted)
    print(f"{folder}  ({count:,} {'adapters' if kind is Format.adapters else 'images'})")


@app.command()
def digest(
    stage: Annotated[str, typer.Argument(help="04_edit, or a path to a notebook")],
    notebooks: Notebooks = "notebooks",
) -> None:
    """Print the sha256 of a notebook's cells."""
    print(storage.notebook_digest(invocation.find_notebook(stage, Path(notebooks))))


def _config(params: str, settings: list[str]) -> StudyConfig:
    """The configuration that a command line names."""
    return invocation.configured(params, settings)[0]


if __name__ == "__main__":
    sys.exit(main())
