"""Merged: the multi-task model as a differentiable function of the coefficients of its fusion, for those that learn."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from mtl_search.data.inputs import Inputs
from mtl_search.fusion.base import State
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.plan import Group

Share = tuple[int, Group]
"""A block and the tasks, sorted by name, whose models a copy of it starts from."""


class MergedModel:
    """A multi-task model whose shared copies are base + sum of a_t * (theta_t - base).

    There is a coefficient a_t for each task of each block's different starts: copies that start from the same tasks are
    alike. Copies that start from one task, heads, sharing module and buffers stay as they are in the model.

    Args:
        model: At some fused start; it is run, and its own parameters stay as they are.
        singles: State of each task's single-task model.
        base: State of the backbone that all of them started from.
        tasks: Names of those of its tasks that coefficients are learned from; None for all.

    Attributes:
        model: The model.
        tasks: Those that coefficients are learned from.
        shares: What the coefficients belong to, one after the other, for each of them as many as it has tasks.
    """

    def __init__(
        self, model: MultiTaskModel, singles: Mapping[str, State], base: State, tasks: Sequence[str] | None = None
    ) -> None:
        self.model = model
        self.tasks = [task for task in model.tasks if tasks is None or task.name in tasks]
        starts = [(number, tuple(sorted(start))) for number, block in enumerate(model.plan.starts) for start in block]
        self.shares: Sequence[Share] = [share for share in dict.fromkeys(starts) if len(share[1]) > 1]
        ends = torch.tensor([0, *(len(tasks) for _, tasks in self.shares)]).cumsum(0).tolist()
        self._places = {share: slice(*ends[i : i + 2]) for i, share in enumerate(self.shares)}
        self._count = int(ends[-1])
        self._changes: dict[Share, dict[str, Tensor]] = {}
        self._base: dict[Share, dict[str, Tensor]] = {}
        for number, tasks in self.shares:
            names = [name for name, _ in self._copy(number, tasks).named_parameters()]
            origin = {name: base[f"{number}.{name}"] for name in names}
            self._base[number, tasks] = origin
            self._changes[number, tasks] = {
                name: torch.stack([singles[task][f"blocks.{number}.0.{name}"] - origin[name] for task in tasks])
                for name in names
            }

    def mean(self) -> Tensor:
        """The coefficients of a plain average, on the model's device."""
        shares = [torch.full((len(tasks),), 1 / len(tasks)) for _, tasks in self.shares]
        return torch.cat([torch.zeros(0), *shares]).to(next(self.model.parameters()).device)

    def outputs(self, coefficients: Tensor, inputs: Inputs, sizes: Sequence[int]) -> dict[str, Tensor]:
        """Raw outputs by task.

        Args:
            coefficients: As ``shares`` says.
            inputs: Of the rows of the data sets, one after the other.
            sizes: Rows of each data set.
        """
        fused: dict[str, Tensor] = {}
        for number, starts in enumerate(self.model.plan.starts):
            for index, start in enumerate(starts):
                share = number, tuple(sorted(start))
                if share in self._places:
                    own = coefficients[self._places[share]]
                    for name, change in self._changes[share].items():
                        step = torch.tensordot(own.to(change.dtype), change, dims=1)
                        fused[f"blocks.{number}.{index}.{name}"] = self._base[share][name] + step
        outputs: dict[str, Tensor] = functional_call(self.model, fused, (inputs, sizes))
        return outputs

    def by_share(self, coefficients: Tensor) -> dict[Share, list[float]]:
        """The coefficients of every share, in the order of its tasks."""
        return {share: coefficients[place].tolist() for share, place in self._places.items()}

    def _copy(self, number: int, tasks: Group) -> torch.nn.Module:
        starts = self.model.plan.starts[number]
        index = next(i for i, start in enumerate(starts) if tuple(sorted(start)) == tasks)
        copies = list(self.model.blocks[number].children())
        return copies[index]
