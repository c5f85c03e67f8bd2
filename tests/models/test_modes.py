"""Modules in evaluation for a while come out as they went in."""

import torch
from torch import nn

from mtl_search.models.modes import evaluating


class Folding(nn.Linear):
    """Folds something into its weight while it is in evaluation, as adapters do."""

    folded = False

    def train(self, mode: bool = True) -> "Folding":
        self.folded = not mode
        return super().train(mode)


def test_every_part_is_back_in_its_own_mode_and_knows_it() -> None:
    frozen, folding = nn.BatchNorm1d(2).eval(), Folding(2, 2)
    model = nn.Sequential(frozen, folding)
    with evaluating(model):
        assert not any(part.training for part in model.modules())
        assert folding.folded
        model(torch.ones(1, 2))
    assert [part.training for part in model.modules()] == [True, False, True]
    assert not folding.folded
