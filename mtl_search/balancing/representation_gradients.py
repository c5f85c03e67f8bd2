"""Boundaries: the tasks' gradients where their common way through the net ends, and the backward pass from there.

``balancing`` cuts a forward pass at these places. The tasks' own parts go backward first, each task's gradient stays
on its leaves; what tasks share goes backward once, from their weighted sum.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mtl_search.models.forward_context import ForwardContext

Tensors = tuple[Tensor, ...]


class RepresentationGradients:
    """The tasks' gradients at every boundary of one pass.

    Args:
        tasks: Names in the order of the losses.
        context: A pass that was cut.
        sums: Summed task losses of this rank, (tasks,).
        seeds: The gradient of each, (tasks,).
        factor: What the seeds hold beside the tasks' own scale; the Gramian is freed of it.
    """

    def __init__(
        self, tasks: Sequence[str], context: ForwardContext, sums: Tensor, seeds: Tensor, factor: Tensor
    ) -> None:
        self._context, self._factor = context, factor
        self._count = len(tasks)
        # A penalty may lead to a task's own parameters too, and DDP takes each gradient once: they wait for the end.
        self._waiting: tuple[list[Tensor], list[Tensor]] = ([], [])
        if context.penalties:
            self._waiting = ([sums], [seeds])
            _fill_leaves(context, sums, seeds)
        else:
            backward([sums], [seeds])
        self._tensors: dict[int, Tensors] = {}
        self._found: dict[int, tuple[list[int], list[Tensor]]] = {}
        self._ends: dict[int, tuple[list[int], list[Tensor]]] = {}
        for number, task in enumerate(tasks):
            if task in context.leaves:
                self._take(number, context.boundaries[task], context.leaves[task])
        self._rows = {key: torch.stack(rows) for key, (_, rows) in self._found.items()}

    def gramian(self) -> Tensor:
        """This rank's part of the inner products of the tasks' gradients, all boundaries together, (tasks, tasks)."""
        gramian = torch.zeros(self._count, self._count, device=self._factor.device)
        for key, rows in self._rows.items():
            index = self._index(self._found[key][0])
            rows = rows.float()
            gramian[index[:, None], index] += rows @ rows.T
        return gramian / self._factor**2

    def finish(self, weights: Tensor) -> None:
        """The backward pass of what tasks share, from the weighted sum of their gradients; and of the penalties.

        Args:
            weights: Of the tasks, (tasks,).
        """
        roots, grads = self._waiting
        for key, (numbers, rows) in self._ends.items():
            stacked = self._rows[key] if len(rows) == len(self._rows[key]) else torch.stack(rows)
            total = weights[self._index(numbers)].to(stacked.dtype) @ stacked
            for tensor, part in zip(
                self._tensors[key], torch.split(total, [each.numel() for each in self._tensors[key]]), strict=True
            ):
                roots.append(tensor)
                grads.append(part.view_as(tensor).to(tensor.dtype))
        penalties = self._context.penalties
        backward([*roots, *penalties], [*grads, *[self._factor] * len(penalties)])

    def _take(self, number: int, way: list[Tensors], leaves: Tensors) -> None:
        """Note one task's gradient at its last boundary, and carry it to the ones above."""
        last = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        self._note(self._ends, number, way[-1], last)
        self._note(self._found, number, way[-1], last)
        for boundary, grads in zip(way[:-1], _carried(way, last), strict=True):
            self._note(self._found, number, boundary, grads)

    def _note(
        self, where: dict[int, tuple[list[int], list[Tensor]]], number: int, boundary: Tensors, grads: Sequence[Tensor]
    ) -> None:
        self._tensors[id(boundary)] = boundary
        numbers, rows = where.setdefault(id(boundary), ([], []))
        numbers.append(number)
        rows.append(grads[0].reshape(-1) if len(grads) == 1 else torch.cat([grad.reshape(-1) for grad in grads]))

    def _index(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=self._factor.device)


def backward(roots: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Backward from all roots that lead to a parameter, in one pass."""
    needed = [(root, grad) for root, grad in zip(roots, grads, strict=True) if root.requires_grad]
    if needed:
        _seeded(needed).backward()  # type: ignore[no-untyped-call]


def _seeded(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """A scalar whose gradient at each root is the root's seed, to the bit.

    Seeds that are handed to torch beside the roots are compared with them by a part of the compiler, whose import takes
    35 MiB.
    """
    return torch.stack([(root * seed).sum() for root, seed in pairs]).sum()


def _fill_leaves(context: ForwardContext, sums: Tensor, seeds: Tensor) -> None:
    """Gradients of the leaves alone; parameters get none yet."""
    leaves = [leaf for of_task in context.leaves.values() for leaf in of_task]
    grads = torch.autograd.grad(_seeded([(sums, seeds)]), leaves, retain_graph=True, allow_unused=True)
    for leaf, grad in zip(leaves, grads, strict=True):
        leaf.grad = grad


def _carried(way: list[Tensors], last: list[Tensor]) -> list[list[Tensor]]:
    """A task's gradient at the boundaries above its last one, shallow to deep."""
    above = way[:-1]
    ends = [(tensor, grad) for tensor, grad in zip(way[-1], last, strict=True) if tensor.requires_grad]
    needed = [tensor for boundary in above for tensor in boundary if tensor.requires_grad]
    found: dict[int, Tensor] = {}
    if ends and needed:
        grads = torch.autograd.grad(_seeded(ends), needed, retain_graph=True, allow_unused=True)
        found = {id(tensor): grad for tensor, grad in zip(needed, grads, strict=True) if grad is not None}
    return [[found.get(id(tensor), torch.zeros_like(tensor)) for tensor in boundary] for boundary in above]
