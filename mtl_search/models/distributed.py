"""World: the processes that train one model together, as the loop sees them."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class DistributedContext:
    """Rank, size and device of this process.

    Attributes:
        rank: 0-based number of this worker in its group.
        size: Workers in the group.
        device: Where model and data live.
        half: Half precision of forward passes under autocast; None for float32 throughout.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    half: torch.dtype | None = None

    @property
    def scales(self) -> bool:
        """Whether losses are scaled up before the backward pass: float16 has too small a range for many gradients."""
        return self.half is torch.float16

    @classmethod
    def current(cls, device: torch.device, precision: str = "auto") -> "DistributedContext":
        """Read rank and size from the process group, if there is one.

        Args:
            device: This worker's device.
            precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` (bf16 on a GPU that has it). On a CPU all is fp32.
        """
        ready = dist.is_available() and dist.is_initialized()
        half = None
        if device.type == "cuda" and precision == "fp16":
            half = torch.float16
        elif device.type == "cuda" and precision in ("bf16", "auto") and torch.cuda.is_bf16_supported():
            half = torch.bfloat16
        return cls(dist.get_rank() if ready else 0, dist.get_world_size() if ready else 1, device, half)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages gradients over the group; the model itself in a group of one.

        Wrap again after any change of ``requires_grad``: a live wrap does not see it.
        """
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def share_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give every rank rank 0's buffers: a user's batch norm may have seen other rows on each."""
        if self.size > 1:
            for buffer in buffers:
                dist.broadcast(buffer, src=0)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """The largest of the ranks' values, on every rank."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return float(found)

    def agree(self, flag: bool) -> bool:
        """Rank 0's flag, on every rank; returns only when all have asked."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(int(flag and self.rank == 0), device=self.device)).item())

    def gather_rows(self, rows: Tensor, counts: list[int]) -> Tensor:
        """All ranks' rows in rank order.

        Args:
            rows: This rank's rows, (counts[rank], ...).
            counts: Rows of every rank, known to all.

        Returns:
            (sum(counts), ...), equal on every rank.
        """
        if self.size == 1:
            return rows
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def share_of(self, rows: int) -> tuple[list[int], slice]:
        """How many of ``rows`` rows each rank takes, and which are this rank's."""
        bounds = [rows * rank // self.size for rank in range(self.size + 1)]
        counts = [stop - start for start, stop in pairwise(bounds)]
        return counts, slice(bounds[self.rank], bounds[self.rank + 1])

    def autocast(self) -> AbstractContextManager[object]:
        """Forward passes inside run in half precision where the world does."""
        return torch.autocast(self.device.type, dtype=self.half) if self.half is not None else nullcontext()


def use_threads(count: int) -> None:
    """Give this process ``count`` CPU threads for its kernels."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)
