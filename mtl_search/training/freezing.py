"""Freezing: which copies of the blocks hold still in an epoch, and the optimiser's groups that follow from it.

The loop makes the optimiser here, and the step asks at every epoch's start whom to let learn.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_search.models.compiling import step_plainly
from mtl_search.models.multitask import Copy, MultiTaskModel
from mtl_search.recipe import Schedule
from mtl_search.transfer import OPTIMIZERS, UNFREEZINGS
from mtl_search.variants.building import build


class Freezing:
    """Holds copies of blocks still until the schedule lets them learn.

    Args:
        model: Not wrapped.
        schedule: Says when each block begins to learn.

    Attributes:
        learning: Parameters that learn now.
        depth: Number of leading blocks that hold still now, in all of their copies.
    """

    def __init__(self, model: MultiTaskModel, schedule: Schedule) -> None:
        self._model = model
        self._starts = [(copy, _start(copy, model, schedule)) for copy in model.copies()]
        self._frozen: list[Copy] | None = None
        self.learning: list[nn.Parameter] = []
        self.depth = 0

    def enter(self, epoch: int) -> bool:
        """Let those learn whose time has come.

        Args:
            epoch: From 1.

        Returns:
            Whether anything has changed, as it has at the first call: a wrapped model has to be wrapped anew.
        """
        frozen = [copy for copy, start in self._starts if start is None or epoch < start]
        if frozen == self._frozen:
            return False
        self._frozen = frozen
        moving = [copy for copy, _ in self._starts if copy not in frozen]
        for copies, learns in ((frozen, False), (moving, True)):
            for parameter in (parameter for copy in copies for parameter in copy.module.parameters()):
                parameter.requires_grad_(learns)
                parameter.grad = None
        self.learning = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self.depth = min((copy.block - 1 for copy in moving), default=len(self._model.blocks))
        return True

    def still_norms(self) -> None:
        """Keep batch norms inside frozen blocks as they are: their running statistics belong to the blocks."""
        for module in (module for copy in self._frozen or () for module in copy.module.modules()):
            if isinstance(module, _BatchNorm):
                module.eval()


def optimizer_of(model: MultiTaskModel, schedule: Schedule) -> torch.optim.Optimizer:
    """The schedule's optimiser over all parameters; the first group learns at the full rate from the first epoch on.

    Blocks that begin to learn later are groups of their own: fused SGD starts the momentum of a whole group at once and
    cannot take in parameters that come later. Until then they have no gradient, so that neither momentum nor weight
    decay moves them. A block's rate is that of the heads, times ``layer_decay`` for each step down from them.
    """
    blocks = len(model.blocks)
    kinds = {
        id(parameter): (schedule.layer_decay ** (blocks - copy.block + 1), _start(copy, model, schedule))
        for copy in model.copies()
        for parameter in copy.module.parameters()
    }
    first = (1.0, 1)
    groups: dict[tuple[float, int | None], list[nn.Parameter]] = {first: []}
    for parameter in model.parameters():
        groups.setdefault(kinds.get(id(parameter), first), []).append(parameter)
    chosen = build(OPTIMIZERS, schedule.optimizer)
    optimizer = chosen.build(groups.pop(first))
    for (factor, _), parameters in groups.items():
        optimizer.add_param_group({"params": parameters, "lr": chosen.lr * factor})
    step_plainly(optimizer)
    return optimizer


def _start(copy: Copy, model: MultiTaskModel, schedule: Schedule) -> int | None:
    unfreezing = build(UNFREEZINGS, schedule.unfreezing)
    return unfreezing.start(copy.block, len(model.blocks), shared=copy.shared)
