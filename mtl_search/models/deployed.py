"""DeployedModel: preparation, multi-task model and predictions in one module, for export.

Last stop of a winner: ``export`` turns it into a program that takes encoded rows and returns one tensor per task.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_search.data.inputs import Inputs
from mtl_search.data.task import Task
from mtl_search.models.multitask import MultiTaskModel


class DeployedModel(nn.Module):
    """Encoded rows in, predictions out; ``torch.export`` takes it with a dynamic number of rows.

    The module and the model in it are put in evaluation mode.

    Args:
        preparation: From encoded tensors to named features (n, *input_shape).
        model: The trained model.
        tasks: The tasks to predict, in the order of the outputs.
    """

    def __init__(self, preparation: nn.Module, model: MultiTaskModel, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.preparation = preparation
        self.model = model
        self.tasks = tuple(tasks)
        self.eval()

    def forward(self, *encoded: Tensor) -> tuple[Tensor, ...]:
        """Predictions for rows of any data set.

        Args:
            encoded: What ``input_kinds.encoding.encode`` gives, (n, ...) each.

        Returns:
            For each task probabilities (n, classes), (n, labels) or (n,), or values (n,) in the target's unit.
        """
        raw = self.model(Inputs(self.preparation(*encoded)))
        return tuple(task.behaviour.predict(task, raw[task.name]) for task in self.tasks)
