"""A user's backbone that sleeps, raises, takes all memory or kills its process on training batches of certain sizes."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

SLOW, RAISES, DEADLY, DEADLY_ONCE, HUNGRY = 10, 11, 13, 17, 19
"""Rows of this rank's training batch that spring the trap."""


class Trap(nn.Module):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def forward(self, x: Tensor) -> Tensor:
        rows = len(x) if self.training else 0
        if rows == SLOW:
            (self._folder / f"pid-{os.getpid()}").touch()
            time.sleep(0.02)
        if rows == RAISES:
            raise RuntimeError("the trap closed")
        if rows == HUNGRY:
            torch.empty(1 << 50)
        if rows == DEADLY or (rows == DEADLY_ONCE and not (self._folder / "died").exists()):
            (self._folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def blocks(shape: tuple[int, ...], folder: str) -> list[nn.Module]:
    if (Path(folder) / "crash at build").exists():
        raise ValueError("no such backbone today")
    hidden = 8
    return [
        nn.Sequential(Trap(folder), nn.Linear(shape[0], hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.1)),
        nn.Sequential(nn.Linear(hidden, hidden), nn.GELU()),
    ]


def still_blocks(shape: tuple[int, ...], folder: str) -> list[nn.Module]:
    """The same without dropout, whose draws depend on the number of workers."""
    network = blocks(shape, folder)
    for block in network:
        for module in block.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return network
