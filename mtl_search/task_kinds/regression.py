"""Regression: a number, standardised in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from mtl_search.errors import Problem
from mtl_search.task_kinds.base import Alias, Fit, FittedTask, RawTarget, StatedTask, losses_of
from mtl_search.task_kinds.numbers import NumberKind, check_spread

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@final
class Regression(NumberKind):
    """Raw outputs (n,) are values in the scaled unit: center is the training targets' mean, scale their spread."""

    training_mean: ClassVar[float] = 0.0
    losses = losses_of(mse="SquaredError", l1="AbsoluteError", huber="Huber")
    default_metric: ClassVar[str] = "rmse"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "rmse": ("MeanSquaredError", {"squared": False}),
        "mse": ("MeanSquaredError", {}),
        "mae": ("MeanAbsoluteError", {}),
        "r2": ("R2Score", {}),
        "pearson": ("PearsonCorrelation", {}),
        "spearman": ("SpearmanCorrCoef", {}),
    }

    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        present = train.values[train.mask]
        if not check_spread(place, present, problems):
            return None
        return Fit(center=float(present.mean()), scale=float(present.std()))

    def mean_of(self, raw: Tensor) -> Tensor:
        return raw

    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Of a Gaussian of unit variance in the scaled unit: sign * raw, with a random sign for each row.

        Its squared gradient is the expected one exactly.
        """
        import torch

        chances = torch.rand(len(raw), *raw.shape[1:], generator=generator).to(raw.device)
        return (raw * torch.where(chances < 0.5, -1.0, 1.0)).sum()

    def describe_answer(self, task: FittedTask) -> str:
        return f"a value; training mean {task.center:.4g}, spread {task.scale:.4g}"
