"""Ordinal: one of several labels that have an order, such as grades and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from mtl_search.errors import Problem, few_of
from mtl_search.input_kinds.values import number_in
from mtl_search.task_kinds.base import Alias, Answer, Fit, FittedTask, RawTarget, StatedTask, losses_of
from mtl_search.task_kinds.labels import LabelKind, list_labels, meant_label

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def log_probabilities(raw: Tensor) -> Tensor:
    """Logarithms (n, L) of the labels' probabilities, from raw outputs (n, L - 1)."""
    from torch.nn import functional

    above = functional.logsigmoid(raw).cumsum(1)  # of being above label k
    stops = functional.logsigmoid(-raw)  # of being label k, given that the label is k or above
    return functional.pad(above, (1, 0)) + functional.pad(stops, (0, 1))


def _median_ranks(probabilities: Tensor) -> Tensor:
    """The lowest label (n,) that at least half of the probability (n, L) lies at or below, int64."""
    return (probabilities[:, :-1].cumsum(1) < 0.5).sum(1)


@final
class Ordinal(LabelKind):
    """Raw outputs (n, L - 1) are logits of "above label k, given that it is k or above"; targets are ranks (n,) int64.

    A label's probability is the product of the steps that lead to it, so probabilities of being above a label never
    cross, whatever the outputs are. The loss is the negative log likelihood of that distribution (the continuation
    ratio model): the sum of CORN's L - 1 conditional losses of a row. With two labels it is logistic regression.

    The prediction is the median label. The mean absolute error of ranks is smallest there, so what is judged by
    default is what a served model answers. That error is defined on any labels, also where they are all the same;
    quadratic weighted kappa is not.

    Papers: Shi, Cao & Raschka, Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
    Probabilities, 2021, https://arxiv.org/abs/2111.08851; kappa: Cohen, Weighted kappa, Psychological Bulletin 1968.
    """

    has_order: ClassVar[bool] = True
    losses = losses_of(corn="Corn")
    default_metric: ClassVar[str] = "mae"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "mae": ("RankError", {}),
        "quadratic_kappa": ("QuadraticKappa", {}),
        "accuracy": ("RankAccuracy", {}),
        "spearman": ("RankCorrelation", {}),
    }
    metric_prefix: ClassVar[str] = "Multiclass"
    answer: ClassVar[Answer] = "median_label"

    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        fit = super().fit(place, stated, train, problems)
        if fit is None:
            return None
        labels = fit.labels
        if stated.order is None:
            words = [label for label in labels if number_in(label) is None]
            if words:
                rule = "must list all labels from the lowest to the highest, since not all of them are numbers"
                problems.append(Problem(f"{place}.order", rule, list(few_of(words))))
            return None if words else fit
        meant = [meant_label(value, labels) for value in stated.order]
        before = len(problems)
        for value, label in zip(stated.order, meant, strict=True):
            if label is None:
                rule = "must list labels of the training rows"
                problems.append(Problem(f"{place}.order", rule, value, few_of(labels)))
            elif meant.count(label) > 1:
                problem = Problem(f"{place}.order", "must list each label once", label)
                problems += [] if problem in problems else [problem]
        if len(problems) == before and set(labels) != set(meant):
            rule = "must list every label of the training rows"
            problems.append(Problem(f"{place}.order", rule, stated.order, few_of(labels)))
        return Fit(tuple(str(label) for label in meant)) if len(problems) == before else None

    def _wrong_count(self, labels: int) -> str:
        return "at least 2" if labels < 2 else ""

    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        return (len(task.labels) - 1,)

    def prediction_shape(self, task: FittedTask) -> tuple[int, ...]:
        return (len(task.labels),)

    def activate(self, task: FittedTask, raw: Tensor) -> Tensor:
        return log_probabilities(raw).exp()

    def metric_arguments(self, task: FittedTask) -> dict[str, Any]:
        return {"num_classes": len(task.labels)}

    def own_metrics(self) -> dict[str, type[Any]]:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa
        from torchmetrics.regression import MeanAbsoluteError, SpearmanCorrCoef

        class RankError(MeanAbsoluteError):
            """Mean absolute error of the median label, in ranks; lower is better."""

            def __init__(self, num_classes: int, validate_args: bool = True, **options: Any) -> None:
                super().__init__(**options)

            def update(self, preds: Tensor, target: Tensor) -> None:
                """Add rows: probabilities (n, L) and ranks (n,)."""
                super().update(_median_ranks(preds).float(), target.float())

        class QuadraticKappa(MulticlassCohenKappa):
            """Cohen's kappa of the median label with quadratic weights; higher is better."""

            def __init__(self, num_classes: int, **options: Any) -> None:
                super().__init__(num_classes, **{"weights": "quadratic", **options})

            def update(self, preds: Tensor, target: Tensor) -> None:
                """Add rows: probabilities (n, L) and ranks (n,)."""
                super().update(_median_ranks(preds), target)

        class RankAccuracy(MulticlassAccuracy):
            """Share of rows whose median label is right; higher is better."""

            def __init__(self, num_classes: int, **options: Any) -> None:
                super().__init__(num_classes, **{"average": "micro", **options})

            def update(self, preds: Tensor, target: Tensor) -> None:
                """Add rows: probabilities (n, L) and ranks (n,)."""
                super().update(_median_ranks(preds), target)

        class RankCorrelation(SpearmanCorrCoef):
            """Spearman's correlation of the mean rank with the right one; higher is better."""

            def __init__(self, num_classes: int, validate_args: bool = True, **options: Any) -> None:
                super().__init__(**options)

            def update(self, preds: Tensor, target: Tensor) -> None:
                """Add rows: probabilities (n, L) and ranks (n,)."""
                super().update(preds[:, 1:].flip(1).cumsum(1).sum(1), target.float())

        own = (RankError, QuadraticKappa, RankAccuracy, RankCorrelation)
        return {metric.__name__: metric for metric in own}

    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.one_hot(targets.long(), len(task.labels)).float()

    def trivial(self, task: FittedTask, targets: Tensor) -> Tensor:
        """The label that is farthest from the right one."""
        highest = len(task.labels) - 1
        return self.perfect(task, (2 * targets.long() < highest + 1) * highest)

    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        chances = torch.rand(len(raw), *raw.shape[1:], generator=generator).to(raw.device)
        rises = chances < raw.detach().sigmoid()
        # The drawn label is the number of steps up before the first one that is not taken.
        drawn = rises.long().cumprod(1).sum(1)
        return functional.nll_loss(log_probabilities(raw), drawn, reduction="sum")

    def entropies(self, raw: Tensor) -> Tensor:
        logs = log_probabilities(raw)
        return -(logs.exp() * logs).sum(1)

    def soft_targets(self, raw: Tensor, temperature: float) -> Tensor:
        return log_probabilities(raw / temperature).exp()

    def hard_targets(self, raw: Tensor) -> Tensor:
        return _median_ranks(log_probabilities(raw).exp())

    def constant(self, task: FittedTask, targets: Tensor, mask: Tensor, rows: int) -> Tensor:
        import torch

        shares = torch.bincount(targets[mask], minlength=len(task.labels)).float()
        return (shares / shares.sum().clamp(min=1)).expand(rows, -1)

    def describe_answer(self, task: FittedTask) -> str:
        return f"one of {list_labels(task.labels)}, from low to high"
