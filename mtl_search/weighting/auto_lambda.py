"""AutoLambda: weights learned from a look-ahead on rows kept for that."""

import torch
from torch import Tensor, nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.recipe import Fraction, PositiveFloat
from mtl_search.weighting.look_ahead import LookAhead
from mtl_search.weighting.memory import LearnedWeights
from mtl_search.weighting.presence import zero_absent

_PLACE = "weighting.auto_lambda"


class AutoLambda(LearnedWeights, LookAhead):
    """Auto-lambda: weights that lower the primary tasks' losses on kept rows after one update; all tasks may help.

    Paper: Liu et al., Auto-Lambda: Disentangling Dynamic Task Relationships, TMLR 2022, https://arxiv.org/abs/2202.03091

    Args:
        primary: Tasks whose losses count; null for all.
        lr: Learning rate of the weights (Adam); in proportion to ``initial``, the default is the paper's.
        holdout: Share of the training split kept for the look-ahead, above 0 and below 1.
        initial: Every task's weight at the start.

    Raises:
        ConfigError: ``holdout`` leaves nothing on one side, or ``primary`` is empty or names a task twice.
    """

    def __init__(
        self,
        primary: list[str] | None = None,
        lr: PositiveFloat = 1e-3,
        holdout: Fraction = 0.2,
        initial: PositiveFloat = 1.0,
    ) -> None:
        problems = []
        if not 0 < holdout < 1:
            problems.append(Problem(f"{_PLACE}.holdout", "must be above 0 and below 1", holdout))
        if primary is not None and not primary:
            problems.append(Problem(f"{_PLACE}.primary", "must name at least one task, or be null for all", primary))
        if primary is not None and len(set(primary)) < len(primary):
            problems.append(Problem(f"{_PLACE}.primary", "must name each task once", primary))
        if problems:
            raise ConfigError(problems)
        self.holdout = holdout
        self.lr = lr
        self.initial = initial
        self._named = primary

    def learn(self, derivative: Tensor) -> None:
        if derivative.shape != self._learned.shape:
            count = len(self._learned)
            raise ValueError(f"derivative must be ({count},), one per started task, got {tuple(derivative.shape)}")
        self._learned.grad = derivative.detach().to(self._learned)
        self._optimizer.step()
        with torch.no_grad():
            self._learned.clamp_(min=0)

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        named = tasks if self._named is None else self._named
        strangers = [task for task in named if task not in tasks]
        if strangers:
            raise ConfigError([Problem(f"{_PLACE}.primary", "must name tasks", task, tasks) for task in strangers])
        self.primary = tuple(tasks.index(task) for task in named)
        self._begin_with(nn.Parameter(torch.full((len(tasks),), self.initial, dtype=torch.float64, device=device)))

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return zero_absent(self._learned.detach().clone(), present, losses)
