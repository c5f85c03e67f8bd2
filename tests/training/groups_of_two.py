"""A group of two workers on the CPU, each a process of its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mtl_search.models.distributed import DistributedContext


def in_a_group_of_two(carry_out: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What each rank finds.

    Args:
        carry_out: Of a module, so that a new process finds it; called with the rank's world and the arguments.
        folder: Where the two meet; of use once.
        arguments: What can be pickled.
    """
    mp.spawn(_work, (carry_out, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"rank{rank}", weights_only=False) for rank in (0, 1)]


def _work(rank: int, carry_out: Callable[..., Any], folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    world = DistributedContext.current(torch.device("cpu"))
    assert (world.rank, world.size) == (rank, 2)
    torch.save(carry_out(world, *arguments), Path(folder, f"rank{rank}"))
    dist.barrier()
    dist.destroy_process_group()
    # Threads of libraries may outlive this, and some of them abort a process that unloads its libraries meanwhile.
    os._exit(0)
