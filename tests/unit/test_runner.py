"""The runner's checks before a kernel starts, and the study's driver on stub notebooks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from varireal_utils import __main__
from varireal_utils.core import storage
from varireal_utils.core.config_errors import ParameterError
from varireal_utils.workflow import invocation, lock, runner, study

ROOT = Path(__file__).resolve().parents[2]
OWN = {
    "01_data": ["dataset"],
    "02_attributes": ["dataset"],
    "03_guidance": ["dataset"],
    "04_edit": ["dataset", "attribute", "feasibility"],
    "06_classify": ["dataset", "recipe", "seed"],
    "07_quality": ["dataset"],
    "07_claims": [],
    "08_figures": [],
}
# A stage without torch: it waits as long as it is told and writes its record.
STUB = """
import os, time
from pathlib import Path
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.stage import SourceDigests
from varireal_utils.workflow import stages, status
config = load_config(params, overrides)
job = stages.find("{STAGE}", config, {{TARGET}})
book = Path(os.environ["VARIREAL_NOTEBOOK"])
key = job.key(book, SourceDigests(Path(config.runs_dir, status.DIGESTS))).record()
upstream = status.upstream_digests(job)
time.sleep(float(os.environ.get("STUB_SECONDS", 0)))
out = job.folder
storage.write_text(out / "made.csv", "claim,verdict\\nfeasible = infeasible,open\\n")
if "{STAGE}" == "07_claims":
    storage.write_text(out / "claims.csv", "claim,verdict\\nfeasible = infeasible,open\\n")
made = str((out / "made.csv").relative_to(config.paths.root))
record = {"run_id": os.environ["VARIREAL_RUN_ID"], "finished": True, "key": key,
          "upstream": upstream, "outputs": {made: storage.sha256_file(out / "made.csv")}}
storage.write_json(out / "run.json", record)
storage.write_text(os.environ["VARIREAL_RUN_POINTER"], str((out / "run.json").resolve()))
"""


def write_notebook(path: Path, *sources: str) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    book.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(book, path)


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder with a stub of every stage."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_stubs(folder)
    return folder


def write_stubs(folder: Path) -> None:
    for stage, own in OWN.items():
        head = 'params: str = ""\noverrides: dict = {}\n'
        head += "".join(f'{n}: str = ""\n' for n in own if n != "seed")
        head += "seed: int = -1\n" * ("seed" in own)
        write_notebook(
            folder / f"{stage}.ipynb",
            head,
            STUB.replace("{TARGET}", ", ".join(f'"{n}": {n}' for n in own)).replace(
                "{STAGE}", stage
            ),
        )


def start(params: Path, stubs: Path, *more: str, seconds: float = 0) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "varireal_utils",
        "study",
        "--params",
        str(params),
        "--notebooks",
        str(stubs),
        "--cores",
        "2",
        *more,
    ]
    env = os.environ | {"STUB_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    text = process.communicate(timeout=900)[0]
    assert process.returncode == 0, text
    return text


def jobs_run(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.endswith(" MB")]


def test_a_cut_notebook_is_named_with_the_way_to_get_it_back(tmp_path: Path) -> None:
    write_notebook(tmp_path / "04_edit.ipynb", "a: int = 1")
    whole = (tmp_path / "04_edit.ipynb").read_text()
    message = "04_edit.ipynb: no whole notebook.*take it back"
    for text in (whole[: len(whole) // 2], "", "[]", "{}"):
        (tmp_path / "04_edit.ipynb").write_text(text)
        with pytest.raises(ParameterError, match=message):
            invocation.find_notebook("04_edit", tmp_path)


def test_signature_reads_names_and_types(tmp_path: Path) -> None:
    write_notebook(tmp_path / "a.ipynb", 'a: str = "x"  # words\nb: list[int] = []\nc: float = 1')
    assert invocation.read_signature(tmp_path / "a.ipynb") == {
        "a": "str",
        "b": "list",
        "c": "float",
    }


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a = 3", "wanted `name: type = literal`"),
        ("a: set = {1}", "type 'set'"),
        ("a: int", "wanted `name"),
        ("a: int = ", "not Python"),
    ],
)
def test_signature_that_cannot_be_checked_is_refused(
    tmp_path: Path, cell: str, message: str
) -> None:
    write_notebook(tmp_path / "a.ipynb", cell)
    with pytest.raises(ParameterError, match=message):
        invocation.read_signature(tmp_path / "a.ipynb")


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("1e-4", "float", 1e-4),
        ("3", "float", 3.0),
        ("3", "int", 3),
        ("no", "str", "no"),
        ("2012", "str", "2012"),
        ("'2012'", "str", "2012"),
        ("false", "bool", False),
        ("[a, 2]", "list", ["a", 2]),
        ("{a: 1}", "dict", {"a": 1}),
    ],
)
def test_settings_become_what_the_annotation_says(text: str, kind: str, wanted: object) -> None:
    own, overrides = invocation.split_settings([f"key={text}"], {"key": kind}, {}, "here")
    assert own == {"key": wanted} and type(own["key"]) is type(wanted) and not overrides


def test_unknown_stage_names_the_nearest(tmp_path: Path) -> None:
    write_notebook(tmp_path / "04_edit.ipynb", "a: int = 1")
    with pytest.raises(ParameterError, match="did you mean '04_edit'"):
        invocation.find_notebook("04_edits", tmp_path)


def test_digest_counts_sources_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    write_notebook(path, "a: int = 1", "print(a)")
    before = storage.notebook_digest(path)
    book = json.loads(path.read_text())
    book["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    book["cells"][1]["execution_count"], book["metadata"]["x"] = 3, "y"
    path.write_text(json.dumps(book))
    assert storage.notebook_digest(path) == before
    book["cells"][1]["source"] = "print(2)"
    path.write_text(json.dumps(book))
    assert storage.notebook_digest(path) != before


def test_command_line_names_a_misspelt_parameter(
    params_file: Path, stubs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = __main__.main(
        [
            "run",
            "01_data",
            "--notebooks",
            str(stubs),
            "--params",
            str(params_file),
            "--set",
            "datset=a",
        ]
    )
    assert code == 2 and "did you mean 'dataset'" in capsys.readouterr().err


def test_notebook_that_is_no_stage_must_reach_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "free.ipynb", "count: int = 1", "print(count)")
    assert runner.run(invocation.prepare("free.ipynb", None, ["count=3"])) == {}
    assert (tmp_path / "runs/notebooks/free-3.ipynb").exists()
    write_notebook(tmp_path / "free.ipynb", "count: int = 1", "import sys; sys.exit(0)")
    with pytest.raises(runner.RunFailed, match="no record"):
        runner.run(invocation.prepare("free.ipynb", None, []))


def test_a_path_means_itself_whatever_characters_it_has(tmp_path: Path, monkeypatch) -> None:
    """Papermill fills in braces, Jupyter what follows a dollar sign."""
    home = tmp_path / "a {count} \"b' #é $HOME"
    home.mkdir()
    monkeypatch.chdir(home)
    code = "import os; print(os.environ['VARIREAL_NOTEBOOK'])"
    write_notebook(home / "free.ipynb", "count: int = 1", code)
    runner.run(invocation.prepare("free.ipynb", None, ["count=3"]))
    book = nbformat.read(home / "runs/notebooks/free-3.ipynb", 4)
    assert book.cells[2].outputs[0]["text"] == f"{home / 'free.ipynb'}\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("own", ["", "65536"])
def test_a_kernel_keeps_the_pages_of_large_arrays_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if own:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", own)
    write_notebook(
        tmp_path / "free.ipynb",
        "count: int = 4",
        """
import resource, pathlib
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        b"x" * (16_000_000 + count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
pathlib.Path("faults").write_text(str(faults() / count * resource.getpagesize() / 16_000_000))""",
    )
    runner.run(invocation.prepare("free.ipynb", None, []))
    new = float((tmp_path / "faults").read_text())  # share of an array's pages that are new
    assert new > 0.5 if own else new < 0.05


def test_two_drivers_of_one_study_are_refused(tmp_path: Path) -> None:
    with lock.lock(tmp_path), pytest.raises(lock.StudyBusy, match=str(os.getpid())):
        with lock.lock(tmp_path):
            pass
    with lock.lock(tmp_path):
        pass


@pytest.mark.slow
def test_killed_and_failed_study_resumes_and_runs_again_only_what_changed(
    params_file: Path, stubs: Path
) -> None:
    more = ("--set", "seed=9", "--set", "classify.job=recipe")
    good = (stubs / "07_claims.ipynb").read_text()
    write_notebook(
        stubs / "07_claims.ipynb",
        'params: str = ""\noverrides: dict = {}',
        'raise ValueError("no claim")',
    )
    killed = start(params_file, stubs, *more, seconds=60)
    deadline = time.monotonic() + 300
    while not running("01_data", stubs) and time.monotonic() < deadline:
        time.sleep(0.2)
    busy = start(params_file, stubs, *more)
    assert "another driver is at work" in busy.communicate(timeout=300)[0] and busy.returncode == 1
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    failed = start(params_file, stubs, *more)
    first = failed.communicate(timeout=900)[0]
    assert failed.returncode == 1 and "ValueError: no claim" in first, first
    assert not running("", stubs)  # the jobs of the killed driver have ended with it
    (stubs / "07_claims.ipynb").write_text(good)
    second = finish(start(params_file, stubs, *more))
    assert jobs_run(second) == ["07_claims", "08_figures"], second
    assert "feasible = infeasible  open" in second
    ran = [*jobs_run(first), *jobs_run(second)]
    assert sorted(ran) == sorted([*OWN, "04_edit", "06_classify"]), first
    folder = params_file.parent / "runs/tiny"
    assert (folder / "classify/micro_cars/real/seed0/run.json").exists()
    assert (folder / "notebooks/06_classify-micro_cars-real-0.ipynb").exists()
    book = nbformat.read(stubs / "04_edit.ipynb", 4)  # as JupyterLab saves it after a look
    book.cells[1].execution_count = 5
    nbformat.write(book, stubs / "04_edit.ipynb")
    assert jobs_run(finish(start(params_file, stubs, *more))) == []
    book = nbformat.read(stubs / "07_claims.ipynb", 4)
    book.cells[1].source += "\n"
    nbformat.write(book, stubs / "07_claims.ipynb")
    assert jobs_run(finish(start(params_file, stubs, *more))) == ["07_claims", "08_figures"]


def running(stage: str, stubs: Path) -> list[int]:
    """Processes that run a stage's stub ("" for any)."""
    import psutil

    wanted = ["run", *([stage] if stage else [])]
    return [
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if str(stubs) in (words := p.info["cmdline"] or []) and all(w in words for w in wanted)
    ]


def test_snakemake_speaks_of_progress_and_faults_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from snakemake.logging import logger

    assert study._snakemake(["--version"]) == 0

    def heard(text: str) -> bool:
        record = logger.makeRecord("a", logging.INFO, "f.py", 1, text, (), None)
        return bool(logger.filter(record))

    assert not heard("Select jobs to execute...") and not heard("Execute 2 jobs...")
    assert heard("3 of 9 steps (33%) done") and heard("Error in rule edit:")
    assert heard("Finished jobid: 3 (Rule: edit)")  # of a cluster nothing else says so
    assert study._snakemake(["--profile", study.LOCAL, "--version"]) == 0
    assert not heard("Finished jobid: 3 (Rule: edit)")
    for old in logger.filters[-2:]:
        logger.removeFilter(old)


def test_recipe_without_its_edits_is_an_error_before_any_job(
    params_file: Path, stubs: Path
) -> None:
    process = start(params_file, stubs, "--set", "classify.recipes=['edit(colour,feasible)']")
    text = process.communicate(timeout=300)[0]
    assert process.returncode != 0 and "attribute is 'colour'" in text and not jobs_run(text)


def test_a_reply_is_looked_for_again_where_its_wake_up_was_lost():
    waited = []

    async def get(timeout):  # as a socket whose poll does not notice the first two times
        waited.append(timeout)
        if timeout is None:
            await asyncio.sleep(60)
        if len(waited) < 3:
            raise queue.Empty
        return "reply"

    def ask(timeout):
        waited.clear()
        return asyncio.run(asyncio.wait_for(runner._look_again(get, timeout, 0.5), 5))

    assert ask(None) == "reply" and waited == [0.5] * 3
    with pytest.raises(queue.Empty):
        ask(7.0)
    assert waited == [7.0]
