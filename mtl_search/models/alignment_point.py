"""Meeting and Aligner: where tasks of several data sets last share a representation, and what aligns these there.

``MultiTaskModel`` holds the aligner in joint training and hands it the alignment points of every pass; ``alignment``
has the variants. No prediction needs it, so it is in checkpoints and not in models that are kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtl_search.models.forward_context import ForwardContext


@dataclass(frozen=True)
class AlignmentPoint:
    """A representation that tasks of several data sets share, and after which some of these tasks share no other.

    Attributes:
        tasks: Names of all that share it.
        datasets: Indices of their data sets among the model's, rising.
        rows: (n, features) float32: this rank's rows of those data sets one after the other. Feature maps (channels,
            height, width) are averaged over their positions, anything else is flattened.
        sizes: This rank's rows of each of those data sets, summing to n.
    """

    tasks: tuple[str, ...]
    datasets: tuple[int, ...]
    rows: Tensor
    sizes: tuple[int, ...]


class AlignmentModule(nn.Module, ABC):
    """Penalises a joint training step for what tells data sets apart; parameters are ``alignment.<name>``."""

    @abstractmethod
    def forward(self, alignment_points: Sequence[AlignmentPoint], context: ForwardContext) -> None:
        """Add the penalties of one pass to the update.

        Args:
            alignment_points: Of this pass; as many, of the same data sets and features as the aligner was made for.
            context: Knows the global batch; takes the penalties.
        """

    def initialise(self, seed: int) -> None:
        """Set the parameters, if any, to a start that depends on the seed and the alignment points alone."""


Align = Callable[[Sequence[AlignmentPoint]], AlignmentModule | None]
"""Makes the alignment module of a model (None: no alignment) from points of which only the width counts."""


def alignment_points(
    context: ForwardContext, task_datasets: Mapping[str, int], sizes: Sequence[int]
) -> list[AlignmentPoint]:
    """The alignment points of a pass: each task's deepest boundary that has a task of another data set, once.

    Args:
        context: With the boundaries of the pass.
        task_datasets: By task, the index of its data set.
        sizes: This rank's rows of each data set of the model.
    """
    sharers: dict[int, list[str]] = {}
    for task, way in context.boundaries.items():
        for boundary in way:
            sharers.setdefault(id(boundary), []).append(task)
    found: dict[int, AlignmentPoint] = {}
    for way in context.boundaries.values():
        for boundary in reversed(way):
            tasks = sharers[id(boundary)]
            datasets = tuple(sorted({task_datasets[task] for task in tasks}))
            if len(datasets) > 1:
                if id(boundary) not in found:
                    own = tuple(sizes[dataset] for dataset in datasets)
                    found[id(boundary)] = AlignmentPoint(tuple(tasks), datasets, _flat(boundary), own)
                break
    return list(found.values())


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    with torch.autocast(tensors[0].device.type, enabled=False):
        full = [tensor.float() for tensor in tensors]
        flat = [each.flatten(2).mean(2) if each.ndim > 3 else each.flatten(1) for each in full]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)
