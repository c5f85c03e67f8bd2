"""Gradients as rows: those of several losses at the same parameters, summed over the ranks.

What exact balancing, the look-ahead and task affinity have in common.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_search.models.distributed import DistributedContext

_BUCKET = 1 << 22
"""Numbers that go to the other ranks in one call: 16 MiB of float32."""


def jacobian(roots: Sequence[Tensor], parameters: Sequence[nn.Parameter], world: DistributedContext) -> Tensor:
    """Each root's gradient at the parameters over the global batch, (roots, P); this ends the roots' graph."""
    rows, _ = split_jacobian(roots, parameters, (), world)
    return rows


def split_jacobian(
    roots: Sequence[Tensor], shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter], world: DistributedContext
) -> tuple[Tensor, Tensor]:
    """As ``jacobian``, and beside it what all roots together have at other parameters.

    Args:
        roots: Scalars, this rank's part of each.
        shared: Parameters at which roots are told apart.
        own: Parameters at which they are not.
        world: The ranks to sum over.

    Returns:
        Gradients (roots, P) at ``shared``, and their sum (Q,) at ``own``.
    """
    rows = roots[0].new_zeros(len(roots), sum(map(torch.numel, shared)))
    rest = roots[0].new_zeros(sum(map(torch.numel, own)))
    for number, root in enumerate(roots):
        last = number == len(roots) - 1
        grads = torch.autograd.grad(root, [*shared, *own], retain_graph=not last, allow_unused=True)
        _add(rows[number], shared, grads[: len(shared)])
        _add(rest, own, grads[len(shared) :])
    for values in (rows, rest):
        for bucket in torch.split(values.view(-1), _BUCKET):
            world.sum(bucket)
    return rows, rest


def parts(row: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """One long row cut up, each part in its parameter's shape."""
    cut = torch.split(row, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(cut, parameters, strict=True)]


def _add(row: Tensor, parameters: Sequence[nn.Parameter], grads: Sequence[Tensor | None]) -> None:
    for part, grad in zip(parts(row, parameters), grads, strict=True):
        if grad is not None:
            part += grad
