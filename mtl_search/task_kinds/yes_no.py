"""YesNoKind: kinds whose raw outputs are logits of independent yes-or-no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtl_search.task_kinds.base import FittedTask, TaskKind, losses_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class YesNoKind(TaskKind):
    """Raw outputs (n,) or (n, L) are logits, targets of the same shape are 0 and 1, predictions are probabilities."""

    losses = losses_of(bce="BinaryCrossEntropy", focal="BinaryFocal")

    def activate(self, task: FittedTask, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        return targets.long().float()

    def trivial(self, task: FittedTask, targets: Tensor) -> Tensor:
        return self.perfect(task, (targets.long() + 1) % 2)

    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        chances = torch.rand(len(raw), *raw.shape[1:], generator=generator).to(raw.device)
        drawn = (chances < raw.detach().sigmoid()).float()
        return functional.binary_cross_entropy_with_logits(raw, drawn, reduction="sum")

    def entropies(self, raw: Tensor) -> Tensor:
        from torch.nn import functional

        # p log p + (1 - p) log(1 - p), by the softplus of the logit.
        return functional.softplus(raw) - raw * raw.sigmoid()

    def soft_targets(self, raw: Tensor, temperature: float) -> Tensor:
        return (raw / temperature).sigmoid()

    def hard_targets(self, raw: Tensor) -> Tensor:
        return (raw > 0).float()

    def constant(self, task: FittedTask, targets: Tensor, mask: Tensor, rows: int) -> Tensor:
        shares = (targets * mask).sum(0) / mask.sum(0).clamp(min=1)
        return shares.expand(rows, *shares.shape)
