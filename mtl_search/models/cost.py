"""Cost: what a model takes to store and to run, so that an improvement can be held against its price."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtl_search.models.compiling import postpone_compiler, uncompiled
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel


def count_parameters(model: nn.Module) -> int:
    """Numbers that a model learns, those that only training uses included."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: MultiTaskModel, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one more sample in evaluation, seen by all tasks.

    Counted are matrix products, convolutions and attention. It is the difference between two samples and one: what a
    batch costs once, such as composing the weights of adapters, is no cost of a sample.

    Args:
        model: Its device, mode and gradients stay as they are.
        input_shape: Shape of one prepared sample.
    """
    return _operations(model, input_shape, 2) - _operations(model, input_shape, 1)


def _operations(model: MultiTaskModel, input_shape: tuple[int, ...], rows: int) -> int:
    # torch's fused transformer layers are one operation that nothing counts.
    fused = torch.backends.mha.get_fastpath_enabled()
    device = next(model.parameters()).device
    postpone_compiler()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        # Compiled blocks run as written here: nothing of a fused kernel can be counted.
        with torch.no_grad(), evaluating(model), uncompiled(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(rows, *input_shape, device=device))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2
