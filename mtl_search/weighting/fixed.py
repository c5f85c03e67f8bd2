"""Fixed: the same weights at every step."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.recipe import PerTaskButFirst
from mtl_search.variants.building import Equal
from mtl_search.weighting.base import JointStage, Weighting
from mtl_search.weighting.presence import zero_absent

_PLACE = "weighting.fixed.log_ratio"


class Fixed(Weighting):
    """Fixed weights: w_i proportional to exp(r_i), with mean 1; the first task is the reference, r = 0.

    Ratios on a logarithmic scale make a task twice and half as important equally far from equal weights.

    Args:
        log_ratio: r_i of the tasks after the first: one number for all of them, or a number by task (0 for tasks not
            named). The default weights all tasks alike.

    Raises:
        ConfigError: A ratio is not finite.
    """

    def __init__(self, log_ratio: PerTaskButFirst = 0.0) -> None:
        named = log_ratio if isinstance(log_ratio, dict) else {"": log_ratio}
        wrong = [(task, ratio) for task, ratio in named.items() if not isfinite(ratio)]
        if wrong:
            places = (f"{_PLACE}.{task}".rstrip(".") for task, _ in wrong)
            raise ConfigError(
                [Problem(place, "must be finite", ratio) for place, (_, ratio) in zip(places, wrong, strict=True)]
            )
        self.log_ratio = log_ratio
        self._fixed = torch.empty(0)

    def idle(self, stage: JointStage) -> bool:
        """Where each task is alone with its parameters, and a constant factor on its loss changes no update."""
        # Without labels of another task in a batch, a task's weight is 1 there: the factor would not be constant.
        return stage.apart and stage.complete and stage.scale_free

    def simpler(self, tasks: Sequence[str]) -> Equal[Weighting] | None:
        """No ratios where all of them are 0."""
        ratios = self.log_ratio.values() if isinstance(self.log_ratio, dict) else [self.log_ratio]
        return None if any(ratios) else (Fixed, {})

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        if isinstance(self.log_ratio, dict):
            others = tasks[1:]
            strangers = [task for task in self.log_ratio if task not in others]
            if strangers:
                rule = f"must name tasks after the first ({tasks[0]!r} is the reference)"
                raise ConfigError([Problem(_PLACE, rule, task, others) for task in strangers])
            ratios = [0.0, *(self.log_ratio.get(task, 0.0) for task in others)]
        else:
            ratios = [0.0, *[self.log_ratio] * (len(tasks) - 1)]
        weights = len(tasks) * torch.tensor(ratios, dtype=torch.float64).softmax(0)
        self._fixed = weights.to(device, torch.float32)

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return zero_absent(self._fixed, present, losses)
