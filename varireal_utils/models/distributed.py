"""Runs one function in several processes of this machine, each with a GPU of its own if there are
several.

    launch   processes that train together: they meet through `accelerate`
    share    processes that never meet: each makes its part of the files, however long that takes

The calling process starts them and waits. Which function they run, the caller says: nothing is
imported from the stages.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from . import loaders


def launch(work: Callable[..., None], count: int, device: torch.device, *args: Any) -> None:
    """Call `work(accelerator, *args)` in each of `count` processes and wait for all.

    work: a function of a module, since it is pickled by name. Raises what a process raised, with
    its traceback.
    """
    torch.multiprocessing.spawn(
        _process, (count, _free_port(), device.type, work, args), nprocs=count
    )


def _process(
    rank: int, count: int, port: int, device_type: str, work: Callable[..., None], args: tuple
) -> None:
    accelerator = _join(rank, count, port, device_type)
    work(accelerator, *args)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def share(work: Callable[..., None], count: int, device: torch.device, *args: Any) -> None:
    """Call `work((number, count), *args)` in each of `count` processes and wait for all.

    There is no process group, so none waits for another's work and no limit of time ends them.
    work: a function of a module, since it is pickled by name. Raises what a process raised, with
    its traceback.
    """
    torch.multiprocessing.spawn(_alone, (count, device.type, work, args), nprocs=count)


def _alone(rank: int, count: int, device_type: str, work: Callable[..., None], args: tuple) -> None:
    loaders.avoid_faulty_attention()
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if device_type == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    work((rank, count), *args)


def _free_port() -> int:
    """A TCP port of this machine that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _join(rank: int, count: int, port: int, device_type: str) -> Accelerator:
    """Join this process to the others, with its share of the CPU threads."""
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
    return Accelerator(cpu=device_type == "cpu")
