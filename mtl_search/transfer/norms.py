"""Norms: batch norm's running statistics, estimated again after fusion or training.

Fusing models fuses neither the statistics of their activations nor leaves the old ones right.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_search.models.modes import evaluating

Batch = tuple[Tensor, Sequence[int] | None]


def has_batch_norm(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules, or a module inside them, keeps running statistics."""
    return any(batch_norms(module) for module in modules)


def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Estimate every batch norm's running mean and variance anew from training data.

    Each layer's statistics are those of all its inputs taken together, whatever the size of the batches. Only batch
    norm runs in training mode meanwhile (dropout does not), and parameters stay as they are. Without batch norm nothing
    happens, and no batch is asked for.

    Args:
        model: Called as ``model(x, sizes)``.
        batches: Training data: prepared features and the rows of each data set in them.
    """
    gauges = {module: _Gauge(module) for module in batch_norms(model)}
    if not gauges:
        return
    handles = [module.register_forward_pre_hook(gauge) for module, gauge in gauges.items()]
    seen = 0
    try:
        with torch.no_grad(), evaluating(model):
            for module in gauges:
                module.train()
            for x, sizes in batches:
                model(x, sizes)
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
    """Mean and sum of squared deviations of everything that reaches one batch norm, in double precision."""

    def __init__(self, module: _BatchNorm) -> None:
        self.count = 0
        self.mean = torch.zeros(module.num_features, dtype=torch.float64)
        self.squares = torch.zeros_like(self.mean)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)
        if not (added := x.shape[1]):
            return
        # Merging per batch, not summing squares: a mean far from 0 would drown the variance.
        mean = x.mean(1)
        gap = mean - self.mean.to(mean.device)
        share = added / (self.count + added)
        self.squares = self.squares.to(mean.device) + (x - mean[:, None]).square().sum(1)
        self.squares += gap.square() * self.count * share
        self.mean = self.mean.to(mean.device) + gap * share
        self.count += added

    def write(self, module: _BatchNorm, batches: int) -> None:
        """Store mean and unbiased variance, as batch norm itself would."""
        if self.count < 2:
            return
        assert module.running_mean is not None
        assert module.running_var is not None
        assert module.num_batches_tracked is not None
        module.running_mean.copy_(self.mean)
        module.running_var.copy_(self.squares / (self.count - 1))
        module.num_batches_tracked.fill_(batches)
