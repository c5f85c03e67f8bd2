"""Cost: parameters and multiply-adds, against sums written out."""

import pytest
import torch
from torch import nn

from mtl_search.data.task import Task
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.cost import count_parameters, multiply_adds
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.adapters import Adapters
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.cross_stitch import CrossStitch
from mtl_search.models.sharing.experts import Experts
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.none import NoSharing
from mtl_search.recipe import Component

TASKS = [Task(name, "regression", "x", (), 0, 1, "mse", Component("rmse"), "t") for name in "abc"]
FIRST, LATER, HEAD = 4 * 5, 5 * 5, 5
BIASES = 5


def model_of(sharing: Sharing) -> MultiTaskModel:
    backbone = Mlp(width=5, depth=3, norm=False)
    plan = sharing.plan("abc", 3)
    return MultiTaskModel(backbone, (4,), TASKS, plan, ["x"], sharing.module_factory)


@pytest.mark.parametrize(
    ("sharing", "expected"),
    [
        (Hard(), FIRST + 2 * LATER + 3 * HEAD),
        (Hard(1), FIRST + 3 * (2 * LATER + HEAD)),
        (NoSharing(), 3 * (FIRST + 2 * LATER + HEAD)),
        # Composing the weights is a cost of the batch, so a sample pays for the layers alone.
        (Adapters(rank=2), 3 * (FIRST + 2 * LATER + HEAD)),
        (Experts(4), FIRST + LATER + 4 * LATER + 3 * (4 * 5 + 4 * 5 + HEAD)),  # gate, mixture, head
        (CrossStitch(), 3 * (FIRST + 2 * LATER + HEAD) + 3 * 9 * 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Sharing) else str(value),
)
def test_multiply_adds_of_a_sample(sharing: Sharing, expected: int) -> None:
    assert multiply_adds(model_of(sharing), (4,)) == expected


def test_parameters_count_each_copy_once() -> None:
    trunk = FIRST + 2 * LATER + 3 * BIASES
    heads = 3 * (HEAD + 1)
    assert count_parameters(model_of(Hard())) == trunk + heads
    assert count_parameters(model_of(NoSharing())) == 3 * trunk + heads
    assert count_parameters(model_of(Adapters(2))) == trunk + heads + 3 * 2 * ((5 + 4) + 2 * (5 + 5))
    assert count_parameters(model_of(CrossStitch())) == 3 * trunk + heads + 3 * 9


def test_model_is_left_as_it_was() -> None:
    model = model_of(Hard(1))
    model.heads["b"].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    multiply_adds(model, (4,))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model, nn.Module)
