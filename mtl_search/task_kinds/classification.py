"""Classification: one of several classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from mtl_search.task_kinds.base import Alias, Answer, FittedTask, losses_of
from mtl_search.task_kinds.labels import LabelKind, list_labels

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@final
class Classification(LabelKind):
    """Raw outputs are logits (n, L), targets are class numbers (n,) int64, predictions are probabilities (n, L)."""

    losses = losses_of(cross_entropy="CrossEntropy", focal="Focal")
    default_metric: ClassVar[str] = "accuracy"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "accuracy": ("MulticlassAccuracy", {"average": "micro"}),
        "balanced_accuracy": ("MulticlassAccuracy", {"average": "macro"}),
        "auroc": ("MulticlassAUROC", {"average": "macro"}),
        "macro_f1": ("MulticlassF1Score", {"average": "macro"}),
        "matthews": ("MulticlassMatthews", {}),
    }
    metric_prefix: ClassVar[str] = "Multiclass"
    answer: ClassVar[Answer] = "label"

    def _wrong_count(self, labels: int) -> str:
        return "at least 2" if labels < 2 else ""

    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        return (len(task.labels),)

    def activate(self, task: FittedTask, raw: Tensor) -> Tensor:
        return raw.softmax(1)

    def metric_arguments(self, task: FittedTask) -> dict[str, Any]:
        return {"num_classes": len(task.labels)}

    def own_metrics(self) -> dict[str, type[Any]]:
        from mtl_search.task_kinds.correlations import MulticlassMatthews

        return {"MulticlassMatthews": MulticlassMatthews}

    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.one_hot(targets.long(), len(task.labels)).float()

    def trivial(self, task: FittedTask, targets: Tensor) -> Tensor:
        return self.perfect(task, (targets.long() + 1) % len(task.labels))

    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        chances = torch.rand(len(raw), *raw.shape[1:], generator=generator).to(raw.device)
        # The largest of Gumbel-disturbed logits is a draw from their softmax.
        drawn = (raw.detach() - (-chances.clamp(1e-20, 1 - 1e-7).log()).log()).argmax(1)
        return functional.cross_entropy(raw, drawn, reduction="sum")

    def entropies(self, raw: Tensor) -> Tensor:
        logs = raw.log_softmax(1)
        return -(logs.exp() * logs).sum(1)

    def soft_targets(self, raw: Tensor, temperature: float) -> Tensor:
        return (raw / temperature).softmax(1)

    def hard_targets(self, raw: Tensor) -> Tensor:
        return raw.argmax(1)

    def constant(self, task: FittedTask, targets: Tensor, mask: Tensor, rows: int) -> Tensor:
        import torch

        shares = torch.bincount(targets[mask], minlength=len(task.labels)).float()
        return (shares / shares.sum().clamp(min=1)).expand(rows, -1)

    def describe_answer(self, task: FittedTask) -> str:
        return f"one of {list_labels(task.labels)}"
