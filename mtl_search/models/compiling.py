"""The compiler of torch, and how it stays away from processes that compile nothing: it takes 75 MiB and a second.

torch loads it when an optimiser is made, when operations are counted and when its stance is set, only to be told that
there is nothing to compile.
"""

import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils import flop_counter

_LOADED = "torch._dynamo"


def compile_forward(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A block's forward pass, compiled; ``Module.compile`` would pass over modules of torch itself."""
    import torch._functorch.config

    # Kernels that free what they were given cannot go backward once per task, as balancing at shared parameters does.
    torch._functorch.config.donated_buffer = False

    def run(x: Tensor) -> Tensor:
        return forward(x)

    return torch.compile(run)


def uncompiled() -> AbstractContextManager[object]:
    """A block in which what is compiled runs as it is written."""
    return torch.compiler.set_stance("force_eager") if _LOADED in sys.modules else nullcontext()


def postpone_compiler() -> None:
    """From now on optimisers and counters of operations run without loading the compiler.

    torch wraps their methods so that a compiled caller would leave them out, and keeps what the compiler makes of a
    method as an attribute of it. Here that is the method itself: right in every process, since nothing of this package
    compiles a caller of these.
    """
    for owner, names in (
        (Optimizer, ("state_dict", "load_state_dict", "zero_grad", "add_param_group")),
        (flop_counter._FlopCounterMode, ("__torch_dispatch__",)),
    ):
        for name in names:
            method: Any = getattr(getattr(owner, name), "__wrapped__", None)
            if method is not None and not hasattr(method, "__dynamo_disable"):
                method.__dynamo_disable = method


def step_plainly(optimizer: Optimizer) -> None:
    """From now on one of torch's own optimisers steps without loading the compiler, by the same operations.

    torch's ``step`` tells the compiler where to break its graph, and switches gradients off.
    """
    if type(optimizer).__module__.startswith("torch.optim.") and not optimizer.defaults.get("differentiable"):
        plain = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        optimizer.step = MethodType(plain, optimizer)  # type: ignore[method-assign]
