"""L2-SP: a pull of the blocks towards the base, added to the gradients of an update after the tasks were balanced."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl_search.models.multitask import MultiTaskModel


class L2SP:
    """The gradient of strength / 2 * ||theta - theta_0||^2 over the blocks that learn.

    It belongs to no task, so no weight of a task counts for it. Heads and what a sharing learns beside its blocks have
    no counterpart in the base and are not pulled.

    Paper: Li et al., Explicit Inductive Bias for Transfer Learning, ICML 2018, https://arxiv.org/abs/1802.01483

    Args:
        model: Its blocks are pulled.
        base: theta_0, keys ``{l}.<name>`` for block l from 0; on the model's device.
        strength: Factor of the penalty.
    """

    def __init__(self, model: MultiTaskModel, base: Mapping[str, Tensor], strength: float) -> None:
        self._strength = strength
        self._pairs = [
            (parameter, base[f"{copy.block - 1}.{name}"])
            for copy in model.copies()
            for name, parameter in copy.module.named_parameters()
        ]

    @torch.no_grad()
    def add(self) -> None:
        """Add the penalty's gradient to those that stand on the parameters; frozen blocks have none and get none."""
        found = [(parameter.grad, parameter, start) for parameter, start in self._pairs if parameter.grad is not None]
        if found:
            grads, parameters, starts = map(list, zip(*found, strict=True))
            torch._foreach_add_(grads, torch._foreach_sub(parameters, starts), alpha=self._strength)
