"""Runs one function in several processes of this machine, each with a GPU of its own if there are
several.

    launch   processes that train together: they meet through `accelerate`
    share    processes that never meet: each makes its part of the files, however long that takes
    each     the same, but a process that is done takes the next task, and results come in order

The calling process starts them and waits. Which function they run, the caller says: nothing is
imported from the stages.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
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
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    _begin(rank, device_type)
    work((rank, count), *args)


def _begin(rank: int, device_type: str) -> None:
    """What a process that meets no other does first."""
    loaders.avoid_faulty_attention()
    if device_type == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())


def each(
    work: Callable[..., Any], tasks: Sequence[Any], count: int, device: torch.device, *args: Any
) -> Iterator[Any]:
    """The results of `work(task, *args)` of all tasks, in their order, each as soon as it and
    those before it are there; `count` processes take the tasks, each with this process's threads.

    work: a function of a module, since it is pickled by name. Raises what a process raised, with
    its traceback; then, or when the caller stops, the processes end.
    """
    context = torch.multiprocessing.get_context("spawn")
    todo, done = context.SimpleQueue(), context.SimpleQueue()
    for number in [*range(len(tasks)), *[None] * count]:
        todo.put(number)
    told = (device.type, work, tasks, args, todo, done)
    processes = torch.multiprocessing.spawn(_taking, told, nprocs=count, join=False)
    ready: dict[int, Any] = {}
    try:
        for number in range(len(tasks)):
            while number not in ready:
                ended = processes.join(timeout=0.1)
                while not done.empty():
                    place, result = done.get()
                    ready[place] = result
                if ended and number not in ready:
                    raise RuntimeError(
                        f"the processes ended without task {number}: {tasks[number]}"
                    )
            yield ready.pop(number)
        while not processes.join():
            pass
    finally:
        for process in processes.processes:
            process.terminate()
            process.join()


def _taking(
    rank: int,
    device_type: str,
    work: Callable[..., Any],
    tasks: Sequence[Any],
    args: tuple,
    todo: Any,
    done: Any,
) -> None:
    _begin(rank, device_type)
    while (number := todo.get()) is not None:
        done.put((number, work(tasks[number], *args)))


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
