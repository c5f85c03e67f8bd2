"""Head: from the representation to a task's raw outputs, last module of the multi-task model.

What the raw outputs mean is the task's kind to say.
"""

import torch
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.recipe import seed_from


class Head(nn.Module):
    """One linear layer from the representation (n, features) to the raw outputs of a task.

    A batch of no rows passes.

    Args:
        features: Width of the representation.
        task: The task; its kind decides the shape of the outputs, () or (L,).
    """

    def __init__(self, features: int, task: Task) -> None:
        super().__init__()
        self.linear = nn.Linear(features, task.outputs)
        self.single = not task.behaviour.output_shape(task)

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


def seed_of_head(seed: int, task: str) -> int:
    """Seed of a task's head: the same alone and beside any other tasks."""
    return seed_from(seed, "head", task)
