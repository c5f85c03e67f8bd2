"""Sharing module and Layout: how the copies of the blocks are wired into one model, and what a wiring is made from.

``models.multitask`` holds the copies and the heads; the sharing module stands between a batch and the heads.
``TreeSharing`` is the one of tree-like plans, and a sharing that wires otherwise brings its own in its file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import seed_from

Blocks = Sequence[Sequence[nn.Module]]
"""For each block its copies, as the plan has them."""
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class ModelLayout:
    """What a sharing module is made from.

    Attributes:
        plan: Which tasks use which copies.
        task_datasets: By task, in the study's order, the index of its data set among those of a batch.
        datasets: Number of data sets of a batch.
        blocks: One copy of each block, to read off its layers; not to be kept.
        shapes: Shape of one sample as the input and after every block, ``blocks + 1`` in all; the last is (features,).
    """

    plan: SharingPlan
    task_datasets: Mapping[str, int]
    datasets: int
    blocks: Sequence[nn.Module]
    shapes: Sequence[tuple[int, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in the study's order."""
        return tuple(self.task_datasets)

    @property
    def batch(self) -> tuple[int, ...]:
        """Every data set of a batch, those of none of the tasks included."""
        return tuple(range(self.datasets))

    def datasets_of(self, tasks: Iterable[str]) -> tuple[int, ...]:
        """The data sets of these tasks, in the order of a batch."""
        return tuple(sorted({self.task_datasets[task] for task in tasks}))


class SharingModule(nn.Module, ABC):
    """How the copies of the blocks are wired into one model.

    Its own parameters, if any, are ``coupling.<name>`` of the model. It keeps no reference to the blocks.

    Attributes:
        features: Width of what a head takes.
        has_representation: Whether a pass notes any boundary: a tensor that tasks have in common, and at which they
            part ways.
        skippable_blocks: Number of leading blocks that a pass can leave out if it begins with what they give: through
            these, each data set goes one way, whatever the task. 0 where a pass begins at the input alone.
    """

    def __init__(self, features: int, *, has_representation: bool, skippable_blocks: int = 0) -> None:
        super().__init__()
        self.features = features
        self.has_representation = has_representation
        self.skippable_blocks = skippable_blocks

    @abstractmethod
    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        """What the head of every task takes.

        Args:
            blocks: The copies of every block.
            x: Prepared features (n, *input_shape), or what ``start_block`` blocks give: the rows of the data sets one
                after the other.
            sizes: Rows of each data set in ``x``; empty where every task sees all rows.
            context: Takes down boundaries and penalties of a pass in training; None outside.
            start_block: Number of leading blocks that ``x`` has been through, at most ``skippable_blocks``.

        Returns:
            By task (n_task, features): over the rows of its data set, or all.
        """

    def run_prefix(self, blocks: Blocks, x: Tensor, sizes: Sequence[int], start_block: int) -> Tensor:
        """What the first ``start_block`` blocks give, (n, ...), for a pass to begin with.

        Args:
            blocks: The copies of every block.
            x: Prepared features (n, *input_shape).
            sizes: As in a pass.
            start_block: From 0 to ``skippable_blocks``.
        """
        for copies in blocks[:start_block]:
            x = copies[0](x)
        return x

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of the sharing module's own parameters that several tasks have in common."""
        return []

    def initialise(self, seed: int) -> None:
        """Set the sharing module's own parameters to a start that depends on seed and tasks alone, by ``drawn``."""

    def start(self, singles: Mapping[str, Sequence[State]], fused: Sequence[Sequence[State]]) -> dict[str, Tensor]:
        """State of the sharing module at the start of joint training.

        Args:
            singles: By task, the fine-tuned state of every block.
            fused: For each block, the state that each copy starts from.

        Returns:
            The sharing module's whole state, in tensors of its own: as initialised unless a sharing module says
            otherwise.
        """
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def start_of_head(self, single: State) -> dict[str, Tensor]:
        """State of a head at the start of joint training, from that of the single-task model's head."""
        return {name: value.detach().clone() for name, value in single.items()}


SharingFactory = Callable[[ModelLayout], SharingModule]


Splits = dict[int, tuple[Tensor, tuple[Tensor, ...]]]
"""Tensors of a pass that were split into data sets, by ``id``; with many data sets, once for all of them counts."""


def select_datasets(
    x: Tensor, sizes: Sequence[int], have: tuple[int, ...], want: tuple[int, ...], splits: Splits | None = None
) -> Tensor:
    """Cut the rows of some data sets out of a tensor.

    Args:
        x: (n, ...), the rows of the data sets ``have`` one after the other.
        sizes: Rows of each data set of the batch; empty where every task sees all rows.
        have: Indices of data sets, rising.
        want: Some of those, rising.
        splits: Those of this pass so far; takes down this one.

    Returns:
        The rows of ``want``; ``x`` itself where that is all of them.
    """
    if not sizes or have == want:
        return x
    _, parts = (splits or {}).get(id(x), (x, ()))
    if not parts:
        parts = torch.split(x, [sizes[dataset] for dataset in have])
        if splits is not None:
            splits[id(x)] = (x, parts)
    chosen = [parts[have.index(dataset)] for dataset in want]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


def draw_uniform(shape: Sequence[int], bound: float, *key: object) -> Tensor:
    """Uniform numbers within +-bound that depend on the key alone; on the CPU, alike whatever the device."""
    generator = torch.Generator().manual_seed(seed_from(*key))
    return torch.empty(*shape).uniform_(-bound, bound, generator=generator)
