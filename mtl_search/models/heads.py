"""Head and predict: from the representation to a task's raw outputs, and from those to predictions.

Last module of the multi-task model. Losses take the raw outputs, metrics and users the predictions.
"""

import torch
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.recipe import seed_from


class Head(nn.Module):
    """One linear layer from the representation (n, features) to the raw outputs of a task.

    Raw outputs are logits (n, classes) for classification, logits (n, labels) for multilabel, one logit (n,) for
    binary, and one value (n,) in the scaled unit of training for regression. A batch of no rows passes.

    Args:
        features: Width of the representation.
        task: The task; decides the number of outputs.
    """

    def __init__(self, features: int, task: Task) -> None:
        super().__init__()
        self.linear = nn.Linear(features, task.outputs)
        self.single = task.kind in ("binary", "regression")

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs for features (n, features)."""
        raw: Tensor = self.linear(features)
        return raw.squeeze(1) if self.single else raw

    def initialise(self, seed: int) -> None:
        """Draw new parameters that depend on the seed alone; the global random state stays as it was."""
        generator = torch.Generator().manual_seed(seed)
        bound = self.linear.in_features**-0.5
        with torch.no_grad():
            for parameter in self.linear.parameters():  # the distribution of torch's own nn.Linear
                # Drawn on the CPU whatever the device, so that a head starts alike on all of them.
                drawn = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn)


def predict(task: Task, raw: Tensor) -> Tensor:
    """What a task's raw outputs mean.

    Args:
        task: The task.
        raw: Raw outputs of its head.

    Returns:
        Probabilities (n, classes) that sum to 1 for classification; probabilities of the positive label (n,) for
        binary and (n, labels) for multilabel; values (n,) in the target's own unit for regression.
    """
    return in_own_unit(task, raw) if task.kind == "regression" else probabilities(task, raw)


def probabilities(task: Task, raw: Tensor) -> Tensor:
    """Probabilities of a task's labels; raw outputs of a regression task, in its scaled unit, as they are."""
    if task.kind == "regression":
        return raw
    return raw.softmax(1) if task.kind == "classification" else raw.sigmoid()


def in_own_unit(task: Task, scaled: Tensor) -> Tensor:
    """Values of a regression task in the target's own unit, from its scaled unit; float64 where the task needs that."""
    if not task.double:
        return scaled * task.scale + task.center
    # As tensors: the ONNX exporter rounds numbers of Python to float32.
    unit = torch.tensor([task.scale, task.center], dtype=torch.float64, device=scaled.device)
    return scaled.double() * unit[0] + unit[1]


def seed_of_head(seed: int, task: str) -> int:
    """Seed of a task's head: the same alone and beside any other tasks."""
    return seed_from(seed, "head", task)
