"""What every optimiser promises, over the family's dict."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from mtl_search.recipe import Component
from mtl_search.transfer import OPTIMIZERS
from mtl_search.transfer.optimizers import Optimizer
from mtl_search.variants.building import build


def minimise(optimizer: Optimizer, steps: int) -> Tensor:
    parameter = nn.Parameter(torch.tensor([3.0, -2.0]))
    built = optimizer.build([parameter])
    for _ in range(steps):
        built.zero_grad()
        torch.autograd.backward(parameter.square().sum())
        built.step()
    return parameter.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_square_is_minimised(name: str) -> None:
    assert minimise(build(OPTIMIZERS, Component(name, {"lr": 0.05})), 300).norm() < 0.05


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_steps_give_the_same_bits(name: str) -> None:
    optimizer = build(OPTIMIZERS, Component(name))
    assert torch.equal(minimise(optimizer, 20), minimise(pickle.loads(pickle.dumps(optimizer)), 20))  # noqa: S301


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_peak_learning_rate_is_that_of_every_parameter_group(name: str) -> None:
    optimizer = build(OPTIMIZERS, Component(name, {"lr": 0.0123}))
    groups = optimizer.build(nn.Linear(2, 2).parameters()).param_groups
    assert [group["lr"] for group in groups] == [optimizer.lr] == [0.0123]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_gradient_stay(name: str) -> None:
    layer = nn.Linear(2, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    build(OPTIMIZERS, Component(name)).build(layer.parameters()).step()
    assert all(torch.equal(p, old) for p, old in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_to_train_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        build(OPTIMIZERS, Component(name)).build([])
