"""LearningFusion: fusions whose coefficients are trained by gradient on training rows before joint training starts.

``training.fusing`` gives the rows, and fuses by what was learned: by then a ``FoldedFusion`` fusion, plain numbers.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Literal, final

import torch
from torch import Tensor, nn

from mtl_search.data.inputs import Inputs
from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion, Site, mean_tensors, weighted_sum
from mtl_search.fusion.merged import MergedModel, Share
from mtl_search.task_kinds import TASK_KINDS


@dataclass(frozen=True)
class FusionBatch:
    """A batch of training rows.

    Attributes:
        inputs: Of n rows.
        sizes: Rows of each data set of the model in them.
        losses: Raw outputs by task -> mean loss of every task over its labelled rows, (tasks,).
    """

    inputs: Inputs
    sizes: Sequence[int]
    losses: Callable[[Mapping[str, Tensor]], Tensor]


class LearningFusion(Fusion):
    """A fusion base + sum of a_t * (theta_t - base) with learned coefficients a_t for each block and group of tasks.

    They start as the plain average and are trained by Adam; before they are, it is the plain average.

    Args:
        place: Key path of the fusion, for errors.
        signal: What they learn from: the tasks' losses, or the entropy of the predictions.
        steps: Number of updates.
        lr: Learning rate.
    """

    reads_batches = True

    def __init__(self, place: str, signal: Literal["labels", "entropy"], steps: int, lr: float) -> None:
        self._place = place
        self.signal = signal
        self.steps = steps
        self.lr = lr

    def check_kinds(self, kinds: Sequence[str]) -> None:
        """Whether the predictions of every kind of task have an entropy, where that is the signal.

        Raises:
            ConfigError: Those of one kind have none.
        """
        without = [kind for kind in kinds if not TASK_KINDS[kind].has_entropy]
        if self.signal == "entropy" and without:
            rule = f"must be labels where a task is a {without[0]}, whose predictions have no entropy"
            raise ConfigError([Problem(f"{self._place}.signal", rule, self.signal)])

    @final
    def learn(self, merged: MergedModel, epoch: Callable[[int], Iterator[FusionBatch]], seed: int) -> Tensor:
        """Train the coefficients.

        Args:
            merged: The model as a function of them.
            epoch: Batches of the training split by the epoch's number.
            seed: For what is drawn at random.

        Returns:
            The coefficients as ``merged`` takes them, averaged over the batches of an epoch.
        """
        self.check_kinds([task.kind for task in merged.tasks])
        start = merged.mean()
        first = next(epoch(0))
        gate = self._gate(start, len(features_of(first)), torch.Generator().manual_seed(seed)).to(start.device)
        parameters = list(gate.parameters())
        optimizer = torch.optim.Adam(parameters, lr=self.lr)
        for rows in islice(chain.from_iterable(map(epoch, count(1))), self.steps if len(start) else 0):
            outputs = merged.outputs(gate(features_of(rows)), rows.inputs, rows.sizes)
            losses = rows.losses(outputs) if self.signal == "labels" else self._entropies(merged, outputs)
            grads = torch.autograd.grad(losses.mean(), parameters, allow_unused=True)  # blocks may hold none
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad
            optimizer.step()
        with torch.no_grad():
            return mean_tensors([gate(features_of(rows)) for rows in epoch(0)])

    @abstractmethod
    def _gate(self, start: Tensor, features: int, generator: torch.Generator) -> nn.Module:
        """What gives the coefficients, called with a batch's mean features (features,).

        Args:
            start: The coefficients of a plain average, which it must give before any training.
            features: Of one sample, flattened.
            generator: On the CPU.
        """

    def _entropies(self, merged: MergedModel, outputs: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([task.behaviour.mean_entropy(outputs[task.name]) for task in merged.tasks])

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return mean_tensors(values)


class FoldedFusion(Fusion):
    """Fusion base + sum of a_t * (theta_t - base) by given numbers.

    Args:
        coefficients: For every block and group of tasks, a number for each of the tasks.
    """

    def __init__(self, coefficients: Mapping[Share, Sequence[float]]) -> None:
        self.coefficients = coefficients

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        changes = [value - base for value in values]
        return base + weighted_sum(changes, self.coefficients[at.block, tuple(tasks)])


def features_of(rows: FusionBatch) -> Tensor:
    """Mean prepared features of a batch, (features,)."""
    return torch.cat([tensor.float().mean(0).flatten() for tensor in rows.inputs.tensors.values()])
