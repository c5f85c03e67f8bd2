"""Compiling: a block's forward pass through ``torch.compile``, where a study asks for it."""

from collections.abc import Callable

import torch
import torch._functorch.config
from torch import Tensor


def compiled(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A block's forward pass, compiled; ``Module.compile`` would pass over modules of torch itself."""
    # Kernels that free what they were given cannot go backward once per task, as balancing at shared parameters does.
    torch._functorch.config.donated_buffer = False

    def run(x: Tensor) -> Tensor:
        return forward(x)

    return torch.compile(run)
