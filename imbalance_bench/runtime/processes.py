"""One run on several processes (torchrun, Slurm, MPI), through mmengine: division of the work, and waiting.

Every process enters the same ``Benchmark.run``. They train a detector together and cache proposals together; what takes
seconds or must happen once (locks, records, classifiers on cached proposals, scores) the main process does alone while
the others wait. A process that fails ends; its launcher ends the others.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from imbalance_bench.runtime.errors import InputError

T = TypeVar("T")

LOCAL_RANK = {"pytorch": "LOCAL_RANK", "slurm": "SLURM_LOCALID", "mpi": "OMPI_COMM_WORLD_LOCAL_RANK"}
"""Launchers that mmengine knows, and where each says which of its machine's GPUs is this process's."""
TIMEOUT = 24 * 3600
"""Seconds that processes wait for the main one, which may be training a classifier on all of LVIS's proposals."""

_alone = False


@contextmanager
def launched(launcher: str) -> Iterator[None]:
    """Join the other processes of a launcher (``none``: there are none), over NCCL on GPUs, else over gloo.

    Raises:
        InputError: not a launcher, or the process was not started by it.
    """
    if launcher == "none":
        yield
        return
    if launcher not in LOCAL_RANK:
        raise InputError(f"option '--launcher' is '{launcher}', expected none, {', '.join(LOCAL_RANK)}")
    from mmengine import dist

    on_gpus = torch.cuda.is_available()
    if not on_gpus:
        # mmengine makes this GPU the process's own before it joins; a negative number stands for none.
        os.environ[LOCAL_RANK[launcher]] = "-1"
    try:
        dist.init_dist(launcher, backend="nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        # mmengine's Runner asks for it, whatever the launcher.
        os.environ.setdefault("LOCAL_RANK", os.environ[LOCAL_RANK[launcher]])
    except KeyError as error:
        raise InputError(
            f"option '--launcher {launcher}': {error.args[0]} is not set, expected to be started by this launcher"
        ) from error
    except ValueError as error:
        raise InputError(f"option '--launcher {launcher}': {error}") from error
    yield
    wait_for_all()
    # Gloo's threads end with the last that holds the group, which may be a cycle around a trained model. One that lets
    # go of a tensor after the interpreter has ended aborts the process.
    gc.collect()
    torch.distributed.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) inside ``on_main``."""
    if _alone or world_size() == 1:
        return 0, 1
    return torch.distributed.get_rank(), world_size()


def world_size() -> int:
    """Return the number of processes, inside ``on_main`` too."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if joined else 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes; with one process, or inside ``on_main``, return it unchanged."""
    if rank_and_world()[1] == 1:
        return tensor
    from mmengine import dist

    total = tensor.contiguous()  # of a slice of a tensor, gloo would sum what lies beside it
    dist.all_reduce(total)
    return total


def rows_of_processes(tensor: Tensor) -> Tensor:
    """Gather the rows of all processes in order of rank; each may have a different number."""
    rank, world = rank_and_world()
    if world == 1:
        return tensor
    from mmengine import dist

    numbers = torch.zeros(world, dtype=torch.long, device=tensor.device)
    numbers[rank] = len(tensor)
    numbers = sum_over_processes(numbers)
    padded = tensor.new_zeros((int(numbers.max()), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    parts = dist.all_gather(padded)
    return torch.cat([part[:number] for part, number in zip(parts, numbers.tolist(), strict=True)])


def on_main(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 and broadcast its result; the other processes wait.

    Raises:
        SystemExit: in the others, where the main one raises an error, which it alone reports.
    """
    rank, world = rank_and_world()
    if world == 1:
        return work()
    from mmengine import dist

    global _alone
    result: list[Any] = [None, True]
    failure: BaseException | None = None
    if rank == 0:
        _alone = True
        try:
            result = [work(), False]
        except BaseException as error:
            failure = error
        finally:
            _alone = False
    with _all_there():
        dist.broadcast_object_list(result)
    if failure is not None:
        raise failure
    value, failed = result
    if failed:
        raise SystemExit(1)
    return value


def wait_for_all() -> None:
    """Wait until every process has reached this call."""
    from mmengine import dist

    with _all_there():
        dist.barrier()


@contextmanager
def _all_there() -> Iterator[None]:
    """Stop quietly if another process has failed; that process reports the reason."""
    try:
        yield
    except RuntimeError as error:
        raise SystemExit("stopped: another process of this run has ended") from error


@contextmanager
def held_by_main(lock: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Hold a lock on rank 0 while all processes run the body."""
    with ExitStack() as stack:
        on_main(lambda: stack.enter_context(lock()))
        yield


def share(items: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """Return the consecutive items of one process; the shares in order of rank are all items."""
    return items[rank * len(items) // world : (rank + 1) * len(items) // world]


def per_process(batch_size: int, world: int) -> int:
    """Divide the images of one update evenly over ``world`` processes.

    Raises:
        InputError: they do not come out even, which would change the learning rate of an image.
    """
    if batch_size % world:
        raise InputError(
            f"option '--launcher': {batch_size} images of an update on {world} processes, "
            "expected a --batch-size that they divide"
        )
    return batch_size // world


def log_file(path: Path) -> Path:
    """Return the log file of this process: ``path`` itself on rank 0, a name with the rank on others."""
    rank, _ = rank_and_world()
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
