"""What every weighting promises, over the family's dict."""

import pickle

import pytest
import torch

from mtl_search.errors import ConfigError
from mtl_search.recipe import Component, build
from mtl_search.weighting import WEIGHTINGS, Weighting

TASKS = ["a", "b", "c"]


def started(name: str, tasks: list[str] = TASKS) -> Weighting:
    weighting = build(WEIGHTINGS, Component(name))
    weighting.start(tasks, "cpu")
    return weighting


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_finite_not_negative_and_carry_no_gradient(name: str) -> None:
    losses = torch.tensor([0.5, 2.0, 1e-8], requires_grad=True)
    weights = started(name)(losses)
    assert weights.shape == (3,)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert not weights.requires_grad


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_single_task_keeps_its_loss(name: str) -> None:
    assert started(name, ["a"])(torch.tensor([3.0])).item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_resumed_weighting_goes_on_as_the_first_would_have(name: str) -> None:
    steps = torch.rand(6, 3)
    first = started(name)
    for losses in steps[:3]:
        first(losses)
    resumed = started(name)
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))  # noqa: S301
    for losses in steps[3:]:
        assert torch.equal(first(losses), resumed(losses))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_state_of_another_weighting_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no_such_entry"):
        started(name).load_state_dict({"no_such_entry": 1})


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_losses_must_be_one_per_started_task(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        started(name)(torch.ones(2))
    with pytest.raises(ValueError, match="started"):
        build(WEIGHTINGS, Component(name))(torch.ones(3))
    with pytest.raises(ConfigError, match="at least one task"):
        started(name, [])
