"""Fusion: the parameters of several fine-tuned models become one start for joint training.

``fusion.apply`` calls a variant once per shared (block, group). The base class validates, streams over the tensors and
settles what needs no method: tensors that all models agree on, and integers. A variant fuses one tensor.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem

State = Mapping[str, Tensor]


class Fusion(ABC):
    """A way to fuse N models of one architecture; the constructor's signature is its schema in the study file."""

    @final
    def __call__(self, states: Sequence[State], tasks: Sequence[str], base: State) -> dict[str, Tensor]:
        """Fuse N states.

        Sums run in double precision and are cast back at the end, so that the order of tasks does not show, and N
        identical models give that model exactly. Integer tensors (counters) become the largest of the N.

        Args:
            states: One state per task, same keys, shapes and types.
            tasks: Tasks of the states, in the same order.
            base: State that all of them started from.

        Returns:
            The fused state, in tensors of its own.

        Raises:
            ConfigError: The states differ in form, or the parameters do not fit the tasks.
        """
        _check_forms(states, tasks, base)
        return {name: self._fuse_tensor([state[name] for state in states], tasks, base[name]) for name in base}

    def check(self, tasks: Sequence[str]) -> None:  # noqa: B027
        """Whether the parameters suit the study's tasks; called once before any fusion.

        Raises:
            ConfigError: They name a task that does not exist.
        """

    def _fuse_tensor(self, values: list[Tensor], tasks: Sequence[str], base: Tensor) -> Tensor:
        first = values[0]
        if all(torch.equal(first, other) for other in values[1:]):  # exact, and keeps infinite masks infinite
            return first.detach().clone()
        if not (first.is_floating_point() or first.is_complex()):
            return torch.stack(values).amax(0)
        wide = torch.promote_types(first.dtype, torch.float64)
        return self._fuse([value.detach().to(wide) for value in values], tasks, base.to(wide)).to(first.dtype)

    @abstractmethod
    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor) -> Tensor:
        """Fuse one tensor of N models.

        Args:
            values: The N tensors in double precision; they are not all equal.
            tasks: Their tasks.
            base: The tensor that all of them started from.

        Returns:
            A tensor of the same shape.

        Raises:
            ConfigError: The parameters do not suit these tasks.
        """


def _check_forms(states: Sequence[State], tasks: Sequence[str], base: State) -> None:
    if not states or len(states) != len(tasks):
        raise ConfigError([Problem("fusion", f"must get one state for each of {len(tasks)} tasks", len(states))])
    problems = []
    for task, state in zip(tasks, states, strict=True):
        for name in sorted(base.keys() ^ state.keys()):
            where = "lacks" if name in base else "has, and the base lacks,"
            problems.append(Problem("fusion", f"models must be alike, but task {task!r} {where} {name!r}"))
        for name in base.keys() & state.keys():
            if (base[name].shape, base[name].dtype) != (state[name].shape, state[name].dtype):
                rule = f"{name!r} of task {task!r} must be {base[name].dtype} {tuple(base[name].shape)} as in the base"
                problems.append(Problem("fusion", rule, f"{state[name].dtype} {tuple(state[name].shape)}"))
    if problems:
        raise ConfigError(problems)
