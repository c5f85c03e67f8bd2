"""Count: how often something happened; Poisson regression with a log link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mtl_search.errors import Problem
from mtl_search.task_kinds.base import Alias, Fit, FittedTask, RawTarget, StatedTask, losses_of
from mtl_search.task_kinds.numbers import NumberKind, check_spread, refuse

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LOWEST = -60.0
"""Lowest log rate of a prediction: a rate of 0 has no deviance."""


@final
class Count(NumberKind):
    """Raw outputs (n,) are log rates relative to the mean count; the scale is that mean, and the center is 0.

    So exp(raw) * scale is the rate, and the loss is the Poisson likelihood's over the mean count.
    """

    training_mean: ClassVar[float] = 1.0
    losses = losses_of(poisson="Poisson")
    default_metric: ClassVar[str] = "deviance"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "deviance": ("PoissonDeviance", {}),
        "rmse": ("MeanSquaredError", {"squared": False}),
        "mae": ("MeanAbsoluteError", {}),
        "pearson": ("PearsonCorrelation", {}),
        "spearman": ("SpearmanCorrCoef", {}),
    }

    def read(self, columns: Sequence[np.ndarray], stated: StatedTask) -> RawTarget:
        raw = super().read(columns, stated)
        wrong = raw.mask & ((raw.values < 0) | (raw.values != np.round(raw.values)))
        refuse(raw.values[:, None], wrong[:, None], "must hold whole numbers from 0 (NaN or empty: no label)")
        return raw

    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        present = train.values[train.mask]
        return Fit(scale=float(present.mean())) if check_spread(place, present, problems) else None

    def mean_of(self, raw: Tensor) -> Tensor:
        return raw.clamp(min=_LOWEST).exp()

    def own_metrics(self) -> dict[str, type[Any]]:
        from torchmetrics.regression import TweedieDevianceScore

        class PoissonDeviance(TweedieDevianceScore):
            """Mean Poisson deviance, which torchmetrics gives no direction."""

            higher_is_better = False  # type: ignore[assignment]  # None there

            def __init__(self, **options: Any) -> None:
                super().__init__(power=1.0, **options)

        return super().own_metrics() | {"PoissonDeviance": PoissonDeviance}

    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        return targets.float().clamp(min=float(np.exp(_LOWEST)))

    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Of a Poisson distribution whose rate is exp(raw) * scale."""
        import torch

        rate = raw.detach().exp() * task.scale
        drawn = torch.poisson(rate.cpu(), generator=generator).to(raw.device)
        return (raw.exp() * task.scale - drawn * raw).sum()

    def describe_answer(self, task: FittedTask) -> str:
        return f"a mean count; training mean {task.scale:.4g}"
