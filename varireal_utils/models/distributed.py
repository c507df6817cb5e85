"""One job shared by several processes, each with a GPU of its own if there are several.

The notebook's process starts them and waits; they meet through `accelerate`, which gives each its
device.

    train   one training. A batch is cut into `classify.accumulate` parts, and `steps.Step` adds
            gradients in the order of the parts
    edit    one arm, or one shard of it. Each process makes every n-th batch of it

Invariant: the adapter and the images have the same bytes with one process and with several.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator

from ..core import storage
from ..core.params import compute
from ..workflow.run_record import Run
from . import loaders

RESULT, WEIGHTS = "training.json", "training.safetensors"


def free_port() -> int:
    """A TCP port of this machine that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train(
    net: Any,
    params: dict,
    names: list[str],
    rows: pd.DataFrame,
    val: pd.DataFrame,
    options: dict,
    count: int,
    device: str | torch.device,
) -> dict:
    """`classify.train` by `count` processes; `net` ends with the best validation step's weights.

    names: class names by label; options: of classify.train (root, out, seed, dtype, workers,
    checkpoint_every). Returns its report. Raises what a process raised, with its traceback.
    """
    from safetensors.torch import load_file

    out = Path(options["out"])
    out.mkdir(parents=True, exist_ok=True)
    kind = torch.device(device).type
    torch.multiprocessing.spawn(
        _work, (count, free_port(), params, names, rows, val, options, kind), nprocs=count
    )
    report = storage.read_json(out / RESULT)
    net.adapt(params["classify"], options["seed"])
    net.load_state(load_file(out / WEIGHTS))
    net.train(False)
    for name in (RESULT, WEIGHTS):
        (out / name).unlink()
    return report


def edit(run: Run, count: int) -> None:
    """Make the batches of the arm, or of its shard, that a run of 04_edit is about.

    Raises what a process raised, with its traceback.
    """
    kind = compute(run.params)[0].type
    torch.multiprocessing.spawn(_fill, (count, free_port(), run, kind), nprocs=count)


def _fill(rank: int, count: int, port: int, run: Run, kind: str) -> None:
    """The batches of one process."""
    from ..editing import stage as editing_stage

    team = _join(rank, count, port, kind)
    table = editing_stage.inputs(run.study, run.own["dataset"])
    job = editing_stage.prepare(run, table, **run.own, part=(rank, count))
    editing_stage.fill(run, job)
    team.wait_for_everyone()
    team.end_training()


def _join(rank: int, count: int, port: int, kind: str) -> Accelerator:
    """Make this process one of a team on this machine, with its share of the threads."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    loaders.avoid_faulty_attention()
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    return Accelerator(cpu=kind == "cpu")


def _work(
    rank: int,
    count: int,
    port: int,
    params: dict,
    names: list[str],
    rows: pd.DataFrame,
    val: pd.DataFrame,
    options: dict,
    kind: str,
) -> None:
    """One process of the team; the first one writes."""
    from safetensors.torch import save

    from ..training import train
    from . import classifiers

    team = _join(rank, count, port, kind)
    net = classifiers.load(params, names, team.device)
    report = train.train(net, rows, val, params["classify"], **options, team=team)
    if team.is_main_process:
        out = Path(options["out"])
        storage.write_bytes(out / WEIGHTS, save(net.state()))
        storage.write_json(out / RESULT, report)
    team.wait_for_everyone()
    team.end_training()
