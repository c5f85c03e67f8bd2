"""Backbone: an ordered list of blocks, the unit in which tasks share parameters.

The study file's ``backbone`` section constructs one; ``transfer.bases`` asks it for the base, ``models.multitask`` for
the blocks that a sharing plan then copies per group of tasks.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.modes import evaluating


class Backbone(ABC):
    """A network as blocks B_1..B_L in order; the constructor's signature is its schema in the study file.

    The first block takes features of shape (n, *input_shape), the last gives (n, features).
    """

    @final
    def blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        """Fresh blocks, initialised from torch's global random state.

        Args:
            input_shape: Shape of one prepared sample, without the batch dimension.

        Returns:
            Modules that share no parameter with each other.

        Raises:
            ConfigError: The backbone does not fit the input, or is not a list of separate modules.
        """
        built = self._blocks(tuple(input_shape))
        if not built:
            raise ConfigError([Problem("backbone", "must have at least one block", built)])
        seen: set[int] = set()
        for number, block in enumerate(built, 1):
            if not isinstance(block, nn.Module):
                raise ConfigError([Problem("backbone", f"block {number} must be a torch module", block)])
            own = {id(tensor) for tensor in (*block.parameters(), *block.buffers())} | {id(block)}
            if seen & own:
                rule = f"block {number} must not share a module or tensor with an earlier block"
                raise ConfigError([Problem("backbone", rule)])
            seen |= own
        return built

    @abstractmethod
    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        """Build the blocks for samples of this shape."""


def output_shapes(blocks: list[nn.Module], input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What one sample looks like between the blocks.

    Args:
        blocks: Blocks in order.
        input_shape: Shape of one prepared sample.

    Returns:
        Shape of a sample after each block, without the batch dimension; the last is (features,).

    Raises:
        ConfigError: A block cannot take what it is given or gives no tensor with a row per sample, or the last output
            is not (rows, features).
    """
    out: object = torch.zeros(2, *input_shape)
    shapes: list[tuple[int, ...]] = []
    try:
        with torch.no_grad(), evaluating(*blocks):
            for block in blocks:
                out = block(out)
                shapes.append(tuple(out.shape) if isinstance(out, torch.Tensor) else ())
    except Exception as error:  # a user's module may raise anything; the reason goes on to the user
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        rule = f"block {len(shapes) + 1} must take samples that come as {input_shape} ({reason})"
        raise ConfigError([Problem("backbone", rule)]) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or out.shape[0] != 2:
        shown = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ConfigError([Problem("backbone", "the last block must give (rows, features) for 2 rows", shown)])
    for number, shape in enumerate(shapes, 1):
        if len(shape) < 2 or shape[0] != 2:
            rule = f"block {number} must give one tensor with a row, of one feature or more, per sample for 2 rows"
            raise ConfigError([Problem("backbone", rule, shape or "no tensor")])
    return [shape[1:] for shape in shapes]
