"""Forward context: what a training step and a model tell each other about one forward pass, beside the outputs.

The step says how large the global batch is and whether to cut the graph between what tasks share and what is theirs;
the model's sharing module leaves the places of the cut and its penalties here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor


def _one_rank(values: Tensor) -> Tensor:
    return values


@dataclass
class ForwardContext:
    """One forward pass in training.

    Attributes:
        cut: Whether every task's own part runs on leaves, so that its gradient stops there.
        ranks: Workers that train together.
        sum: Sums a tensor over the ranks, in place.
        global_rows: Rows of each data set of the model in the global batch; empty outside of training.
        starts: For each data set, how many of those rows lie on earlier ranks; empty outside of training.
        progress: Share of the stage's steps that is done, in [0, 1).
        boundaries: By task, from shallow to deep, the tensors at which tasks that shared a path part ways; the last
            entry is the input of the task's own part.
        leaves: By task, what its own part runs on in place of that last entry, where the pass is cut.
        penalties: Scalars to add to the update, this rank's part: they sum up over the ranks.
    """

    cut: bool = False
    ranks: int = 1
    sum: Callable[[Tensor], Tensor] = _one_rank
    global_rows: Sequence[int] = ()
    starts: Sequence[int] = ()
    progress: float = 0.0
    boundaries: dict[str, list[tuple[Tensor, ...]]] = field(default_factory=dict)
    leaves: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    penalties: list[Tensor] = field(default_factory=list)

    def part(self, tasks: Sequence[str], *shared: Tensor) -> None:
        """Note that these tasks, which shared all up to here, take different ways from here on.

        Args:
            tasks: Two tasks or more.
            shared: What they have in common here, (n, ...) each, the rows of all their data sets one after the other;
                the same objects for all of them.
        """
        for task in tasks:
            self.boundaries.setdefault(task, []).append(shared)

    def own(self, task: str) -> tuple[Tensor, ...]:
        """What a task's own part runs on: its last boundary, or leaves that stand for it where the pass is cut."""
        shared = self.boundaries[task][-1]
        if not self.cut:
            return shared
        self.leaves[task] = tuple(each.detach().requires_grad_() for each in shared)
        return self.leaves[task]

    def penalise(self, value: Tensor) -> None:
        """Add a scalar to the update.

        Args:
            value: This rank's part of the penalty; what is the same on every rank goes in divided by ``ranks``.
        """
        self.penalties.append(value)
