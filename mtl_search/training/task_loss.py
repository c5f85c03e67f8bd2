"""Labels: one task's labels in the training split, from which the step makes its loss on the rows of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.task import Task
from mtl_search.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class TaskLoss:
    """One task's labels in the training split.

    Attributes:
        task: The task.
        dataset: Index of its data set among the model's.
        targets: (n, ...).
        mask: Where there is a label, shaped as ``targets``; None where all are.
    """

    task: Task
    dataset: int
    targets: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, task: Task, model: MultiTaskModel, split: DeviceSplit) -> "TaskLoss":
        """Those of one of a model's tasks."""
        mask = split.masks[task.name]
        location = model.datasets.index(task.dataset)
        return cls(task, location, split.targets[task.name], None if mask.all() else mask)

    def loss_sum(self, outputs: Mapping[str, Tensor], rows: Sequence[Tensor]) -> Tensor:
        """The task's loss, summed over this rank's rows.

        Args:
            outputs: Raw outputs by task.
            rows: Row numbers in the split, by data set.
        """
        own = rows[self.dataset]
        mask = None if self.mask is None else self.mask.index_select(0, own)
        targets, kind = self.targets.index_select(0, own), self.task.behaviour
        return kind.loss_sum(self.task.loss, outputs[self.task.name], targets, mask)
