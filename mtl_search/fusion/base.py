"""Fusion: the parameters of several fine-tuned models become one start for joint training.

``fusion.apply`` calls a variant once per shared (block, group). The base class validates, streams over the tensors and
settles what needs no method: tensors that all models agree on, and integers. A variant fuses one tensor. Those that
first measure the single-task models are in ``measuring``, those that learn from data in ``learning``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.variants.building import Equal

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Site:
    """Where in the model a tensor stands, and what is known of it.

    Attributes:
        block: Number of the block, from 0.
        blocks: Number of blocks of the backbone.
        tensor: Name of the tensor within the block.
        seed: The study's, for what is drawn at random.
        facts: For each task what was measured of its single-task model in this block; empty where nothing is measured.
    """

    block: int = 0
    blocks: int = 1
    tensor: str = ""
    seed: int = 0
    facts: Sequence[State] = ()


_ANYWHERE = Site()


class Fusion(ABC):
    """A way to fuse N models of one architecture; the constructor's signature is its schema in the study file.

    Attributes:
        from_base: Whether the single-task models are left out, so that everything starts anew from the base.
        reads_batches: Whether it takes batches of the joint schedule.
    """

    from_base: ClassVar[bool] = False
    reads_batches: ClassVar[bool] = False

    @final
    def __call__(
        self, states: Sequence[State], tasks: Sequence[str], base: State, at: Site = _ANYWHERE
    ) -> dict[str, Tensor]:
        """Fuse N states.

        Sums run in double precision over the tasks by name and are cast back at the end, so that the order of tasks
        does not show. Tensors that are the same in all N models stay what they are, so that N identical models give
        that model exactly. Other integer tensors (counters) become the largest of the N. Tensors are read one name
        after the other, so the states may be read from files as they are asked for.

        Args:
            states: One state per task, same keys, shapes and types.
            tasks: Tasks of the states, in the same order.
            base: State that all of them started from.
            at: The block, its facts in the order of the tasks; ``tensor`` is filled in.

        Returns:
            The fused state, in tensors of its own.

        Raises:
            ConfigError: The states differ in form, or the parameters do not fit the tasks.
        """
        _check_forms(states, tasks, base)
        order = sorted(range(len(tasks)), key=tasks.__getitem__)
        names, ordered = [tasks[i] for i in order], [states[i] for i in order]
        at = replace(at, facts=[at.facts[i] for i in order] if at.facts else ())
        return {
            name: self._fuse_tensor([state[name] for state in ordered], names, base[name], replace(at, tensor=name))
            for name in base
        }

    def check(self, tasks: Sequence[str]) -> None:  # noqa: B027
        """Whether the parameters suit the study's tasks; called once before any fusion.

        Raises:
            ConfigError: They name a task that does not exist.
        """

    def check_kinds(self, kinds: Sequence[str]) -> None:  # noqa: B027
        """Whether the parameters suit the kinds of the study's tasks; called once the data is known.

        Raises:
            ConfigError: They do not.
        """

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal["Fusion"] | None:
        """A simpler fusion that gives the same start up to the rounding of float64; None where there is none.

        Args:
            groups: The tasks whose models are fused with each other, two or more in each group.
        """
        return None

    def _fuse_tensor(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        if self.from_base:
            return base.detach().clone()
        first = values[0]
        if all(torch.equal(first, other) for other in values[1:]):  # exact, and keeps infinite masks infinite
            return first.detach().clone()
        if not (first.is_floating_point() or first.is_complex()):
            return torch.stack(values).amax(0)
        wide = torch.promote_types(first.dtype, torch.float64)
        doubles = [value.detach().to(wide) for value in values]
        return self._fuse(doubles, tasks, base.detach().to(wide), at).to(first.dtype)

    @abstractmethod
    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        """Fuse one tensor of N models.

        Args:
            values: The N tensors in double precision; they are not all equal.
            tasks: Their tasks, sorted by name.
            base: The tensor that all of them started from, in double precision.
            at: Which tensor it is.

        Returns:
            A tensor of the same shape.

        Raises:
            ConfigError: The parameters do not suit these tasks.
        """


def add_tensors(values: Sequence[Tensor]) -> Tensor:
    """Sum of tensors of one shape, without a stack of them in memory."""
    total = values[0].clone()
    for value in values[1:]:
        total += value
    return total


def mean_tensors(values: Sequence[Tensor]) -> Tensor:
    """Plain average of tensors of one shape."""
    return add_tensors(values) / len(values)


def weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum of tensors of one shape, each times its number."""
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total += weight * value
    return total


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
