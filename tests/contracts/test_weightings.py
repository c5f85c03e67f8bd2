"""What every weighting promises, over the family's dict."""

import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_search.errors import ConfigError
from mtl_search.recipe import Component
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.jacobian import JacobianWeighting
from mtl_search.weighting.look_ahead import LookAhead

MAY_BE_NEGATIVE = {"aligned_mtl", "imtl_g"}  # by their definitions: neither stays among the mixtures of the gradients
DRAWS = {"random", "pcgrad", "graddrop"}  # which number falls to which task depends on the tasks' order
COUNTS = (1, 2, 8, 20)


def names(count: int) -> list[str]:
    return [f"t{i}" for i in range(count)]


def started(name: str, count: int = 3, seed: int = 0) -> Weighting:
    weighting = build(WEIGHTINGS, Component(name))
    weighting.start(names(count), "cpu", seed)
    return weighting


class Steps:
    """Losses and gradients of a few steps, and the gradients' Gramians, drawn from a generator of their own."""

    def __init__(self, count: int, steps: int = 6, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.losses = torch.rand(steps, count, generator=generator) + 0.1
        lengths = torch.rand(steps, count, 1, generator=generator) + 0.5
        common = torch.randn(steps, 1, 40, generator=generator)
        self.jacobians = lengths * (torch.randn(steps, count, 40, generator=generator) + 0.2 * common)
        self.gramians = self.jacobians @ self.jacobians.mT


def weigh(weighting: Weighting, steps: Steps, which: range, present: Tensor | None = None) -> list[Tensor]:
    """What some steps give, one after the other: weights, and the combined gradient where the method makes one."""
    found = []
    for step in which:
        found.append(weighting(steps.losses[step], present, steps.gramians[step]))
        if isinstance(weighting, JacobianWeighting):
            found.append(weighting.combine(steps.jacobians[step], present))
        if isinstance(weighting, LookAhead):
            weighting.learn(steps.jacobians[step, :, 0])
        if step % 2:
            weighting.end_epoch()
    return found


def saved_and_loaded(state: Mapping[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def memory_of(state: Any, count: int) -> list[Tensor]:
    """Every tensor in a state that holds something per task (in its last dimension), copied."""
    if isinstance(state, Tensor):
        return [state.clone()] if state.ndim and state.shape[-1] == count else []
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for part in parts for tensor in memory_of(part, count)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_one_finite_number_per_task_without_gradient(name: str, count: int) -> None:
    steps = Steps(count, steps=2)
    steps.losses.requires_grad_()
    for weights in weigh(started(name, count), steps, range(2)):
        if not isinstance(weights, Tensor) or len(weights) != count:
            continue  # the combined gradient
        assert weights.shape == (count,)
        assert weights.dtype == torch.float32
        assert weights.isfinite().all()
        assert name in MAY_BE_NEGATIVE or (weights >= 0).all()
        assert not weights.requires_grad


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_inputs_are_left_as_they_are(name: str) -> None:
    steps, same = Steps(3), Steps(3)
    present = torch.tensor([True, False, True])
    weigh(started(name), steps, range(4), present)
    for tensor, before in zip(vars(steps).values(), vars(same).values(), strict=True):
        assert torch.equal(tensor, before)
    assert present.tolist() == [True, False, True]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_same_seed_gives_the_same_whatever_the_global_generators_state(name: str) -> None:
    steps = Steps(3)
    torch.manual_seed(1)
    first = weigh(started(name, seed=7), steps, range(4))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = weigh(started(name, seed=7), steps, range(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_other_seeds_and_other_steps_draw_other_numbers(name: str) -> None:
    steps = Steps(8)
    steps.jacobians[:] = steps.jacobians[0]
    steps.gramians[:] = steps.gramians[0]
    here, there = (weigh(started(name, 8, seed), steps, range(4)) for seed in (1, 2))
    assert not all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(here[:-2], here[2:], strict=True))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_resumed_weighting_goes_on_as_the_first_would_have(name: str) -> None:
    steps = Steps(3, steps=7)
    first = started(name)
    weigh(first, steps, range(5))
    resumed = started(name)
    resumed.load_state_dict(saved_and_loaded(first.state_dict()))
    for ours, theirs in zip(weigh(first, steps, range(5, 7)), weigh(resumed, steps, range(5, 7)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_state_taken_before_the_first_step_can_be_taken_up(name: str) -> None:
    steps, fresh, resumed = Steps(3), started(name), started(name)
    resumed.load_state_dict(saved_and_loaded(started(name).state_dict()))
    for ours, theirs in zip(weigh(fresh, steps, range(2)), weigh(resumed, steps, range(2)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - DRAWS))
def test_permuted_tasks_get_the_permuted_weights(name: str) -> None:
    steps, turned = Steps(5), Steps(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned.losses = steps.losses[:, order]
    turned.jacobians = steps.jacobians[:, order]
    turned.gramians = turned.jacobians @ turned.jacobians.mT
    for plain, permuted in zip(
        weigh(started(name, 5), steps, range(5)), weigh(started(name, 5), turned, range(5)), strict=True
    ):
        torch.testing.assert_close(permuted, plain[order], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_absent_task_has_weight_0_and_does_not_bear_on_the_others(name: str) -> None:
    steps, other = Steps(4), Steps(4)
    other.losses[2:, 1] = 0.0
    other.gramians[2:, 1] = other.gramians[2:, :, 1] = 0.0
    other.jacobians[2:, 1] = 0.0
    present = torch.tensor([True, False, True, True])
    first, second = started(name, 4), started(name, 4)
    weigh(first, steps, range(2))
    weigh(second, other, range(2))
    for step in range(2, 4):
        ours, theirs = (
            weigh(first, steps, range(step, step + 1), present),
            weigh(second, other, range(step, step + 1), present),
        )
        assert ours[0][1] == 0
        assert ours[0].isfinite().all()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_what_is_remembered_of_an_absent_task_stays(name: str) -> None:
    count = 7  # no state holds 7 of anything else
    steps = Steps(count)
    present = torch.ones(count, dtype=torch.bool)
    present[4] = False
    weighting = started(name, count)
    for step in range(3):
        weighting(steps.losses[step], None, steps.gramians[step])
    before = memory_of(weighting.state_dict(), count)
    for step in range(3, 6):
        weighting(steps.losses[step] * present, present, steps.gramians[step] * present * present[:, None])
    after = memory_of(weighting.state_dict(), count)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[..., 4], old[..., 4], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_task_absent_from_the_first_batches_on_can_join_later(name: str) -> None:
    steps, weighting = Steps(3), started(name)
    weigh(weighting, steps, range(3), torch.tensor([True, True, False]))
    for weights in weigh(weighting, steps, range(3, 6)):
        assert weights.isfinite().all()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_single_task_is_trained_as_without_the_method(name: str) -> None:
    single = started(name, 1)
    for loss, gradient in ((0.5, 2.0), (0.0, 0.0), (9.0, 1e-3)):
        assert single(torch.tensor([loss]), None, torch.tensor([[gradient]])).tolist() == [1]
    alone = started(name)
    present = torch.tensor([False, True, False])
    steps = Steps(3)
    assert alone(steps.losses[0], present, steps.gramians[0]).tolist() == [0, 1, 0]
    if isinstance(alone, JacobianWeighting):
        assert torch.equal(alone.combine(steps.jacobians[0], present), steps.jacobians[0, 1])
        assert torch.equal(started(name, 1).combine(steps.jacobians[0, :1]), steps.jacobians[0, 0])


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"random"}))
def test_tasks_that_are_all_alike_have_equal_weights(name: str, count: int) -> None:
    weighting = started(name, count)
    for _ in range(3):
        weights = weighting(torch.full((count,), 0.7), None, torch.full((count, count), 2.5))
        torch.testing.assert_close(weights, weights.mean().expand(count), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"random", "cagrad"}))  # cagrad adds to the mean: up to 1 + c
def test_orthogonal_gradients_of_one_length_and_losses_of_1_have_weight_1_at_the_start(name: str, count: int) -> None:
    weights = started(name, count)(torch.ones(count), None, 3 * torch.eye(count))
    torch.testing.assert_close(weights, torch.ones(count), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, kind in WEIGHTINGS.items() if kind.cross_terms])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_length_of_all_gradients_together_does_not_count(name: str, scale: float) -> None:
    gramian = Steps(5).gramians[0]
    plain, scaled = (started(name, 5)(torch.ones(5), None, gramian * factor) for factor in (1.0, scale))
    torch.testing.assert_close(scaled, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize(
    ("losses", "lengths"),
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]),
        ([0.0, 1.0, 0.0], [0.0, 1.0, 0.0]),
        ([3e38, 1.0, 1e30], [1e19, 1.0, 1e15]),
        ([3e38, 3e38, 3e38], [1e19, 1e19, 1e19]),
        ([1e-38, 1e-30, 1e-20], [1e-19, 1e-15, 1e-10]),
        ([1.0, 1.0, 1.0], [1e30, 1.0, 1.0]),
    ],
)
def test_weights_stay_finite_at_any_size_of_loss_and_gradient(
    name: str, losses: list[float], lengths: list[float]
) -> None:
    weighting = started(name)
    gradients = torch.tensor(lengths)[:, None] * torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    for _ in range(4):
        weights = weighting(torch.tensor(losses), None, gradients @ gradients.T)
        assert weights.isfinite().all()
        weighting.end_epoch()
    after = weighting(torch.ones(3), None, torch.eye(3))
    assert after.isfinite().all()


@pytest.mark.parametrize("name", [name for name, kind in WEIGHTINGS.items() if kind.cross_terms])
def test_where_no_task_has_a_gradient_all_have_equal_weights(name: str) -> None:
    assert started(name)(torch.ones(3), None, torch.zeros(3, 3)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_state_of_another_weighting_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no_such_entry"):
        started(name).load_state_dict({"no_such_entry": 1})


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_state_of_another_number_of_tasks_is_refused(name: str) -> None:
    state = started(name, 5).state_dict()
    if memory_of(state, 5):
        with pytest.raises(ValueError, match=r"\(.*3.*\).*\(.*5.*\)"):
            started(name, 3).load_state_dict(state)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_losses_must_be_one_per_started_task(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        started(name)(torch.ones(2))
    with pytest.raises(ConfigError, match="at least one task"):
        started(name, 0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_method_that_reads_gradients_must_be_given_them(name: str) -> None:
    weighting = started(name)
    if weighting.places[0] == "jacobian_free":
        assert weighting(torch.ones(3)).shape == (3,)
        return
    with pytest.raises(ValueError, match=r"Gramian \(3, 3\)"):
        weighting(torch.ones(3))
    with pytest.raises(ValueError, match=r"Gramian \(3, 3\), got \(2, 2\)"):
        weighting(torch.ones(3), None, torch.eye(2))


def test_weighting_that_was_not_started_says_so() -> None:
    with pytest.raises(ValueError, match="started"):
        build(WEIGHTINGS, Component("fixed"))(torch.ones(3))
