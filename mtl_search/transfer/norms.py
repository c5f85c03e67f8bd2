"""Norms: batch norm's running statistics, estimated again after fusion or training.

Fusing models fuses neither the statistics of their activations nor leaves the old ones right.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_search.data.inputs import Inputs
from mtl_search.models.compiling import uncompiled
from mtl_search.models.modes import evaluating

Batch = tuple[Inputs | Tensor, Sequence[int] | None]


def has_batch_norm(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules, or a module inside them, keeps running statistics."""
    return any(batch_norms(module) for module in modules)


def recalibrate(
    model: nn.Module, batches: Iterable[Batch], norms: Sequence[_BatchNorm] | None = None, **options: Any
) -> None:
    """Estimate batch norm's running mean and variance anew from training data.

    Each layer's statistics are those of all its inputs taken together, whatever the size of the batches. Only these
    norms run in training mode meanwhile (dropout does not), and parameters stay as they are. Without batch norm nothing
    happens, and no batch is asked for.

    Args:
        model: Called as ``model(x, sizes)``.
        batches: Training data: inputs and the rows of each data set in them.
        norms: The batch norms of the model whose statistics are estimated; None for all of them.
        options: Further arguments of the model's call.
    """
    gauges = {module: _Gauge(module) for module in (batch_norms(model) if norms is None else norms)}
    if not gauges:
        return
    handles = [module.register_forward_hook(gauge) for module, gauge in gauges.items()]
    seen = 0
    try:
        # A compiled block would be compiled anew each time, for the new hooks.
        with torch.no_grad(), evaluating(model), uncompiled():
            for module in gauges:
                module.train()
            for x, sizes in batches:
                model(x, sizes, **options)
                seen += 1
    finally:
        for handle in handles:
            handle.remove()
        for module, gauge in gauges.items():
            gauge.write(module, seen)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms in a module that keep running statistics, itself included."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]


class _Gauge:
    """Mean and sum of squared deviations of everything that reaches one batch norm, in double precision.

    The norm computes them for each batch anyway: with a momentum of 1 its running statistics are those of the batch.
    """

    def __init__(self, module: _BatchNorm) -> None:
        self._momentum = module.momentum
        self._own = [buffer.clone() for buffer in module.buffers()]
        self.count = 0
        self.mean, self.squares = torch.zeros(()), torch.zeros(())
        module.reset_running_stats()
        module.momentum = 1.0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, _BatchNorm)
        assert module.running_mean is not None
        assert module.running_var is not None
        if not (added := inputs[0].numel() // module.num_features):
            return
        # Merging per batch, not summing squares: a mean far from 0 would drown the variance.
        mean, squares = module.running_mean.double(), module.running_var.double() * (added - 1)
        gap, share = mean - self.mean.to(mean), added / (self.count + added)
        self.squares = self.squares.to(mean) + squares + gap.square() * self.count * share
        self.mean = self.mean.to(mean) + gap * share
        self.count += added

    def write(self, module: _BatchNorm, batches: int) -> None:
        """Store mean and unbiased variance, as batch norm itself would; its own statistics where it saw too little."""
        module.momentum = self._momentum
        if self.count < 2:
            for buffer, value in zip(module.buffers(), self._own, strict=True):
                buffer.copy_(value)
            return
        assert module.running_mean is not None
        assert module.running_var is not None
        assert module.num_batches_tracked is not None
        module.running_mean.copy_(self.mean)
        module.running_var.copy_(self.squares / (self.count - 1))
        module.num_batches_tracked.fill_(batches)
