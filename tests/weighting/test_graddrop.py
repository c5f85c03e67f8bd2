"""GradDrop: one sign per parameter, drawn by how much of the gradients has it."""

import pytest
import torch

from mtl_search.weighting.graddrop import GradDrop


def started(count: int = 2, seed: int = 0, leak: float = 0.0) -> GradDrop:
    weighting = GradDrop(leak)
    weighting.start([f"t{i}" for i in range(count)], "cpu", seed)
    return weighting


def test_where_all_signs_agree_the_update_is_the_sum() -> None:
    jacobian = torch.tensor([[1.0, -2.0, 0.0], [0.5, -1.0, 3.0]])
    assert torch.equal(started().combine(jacobian), jacobian.sum(0))


def test_parameter_without_any_gradient_stays() -> None:
    assert started().combine(torch.zeros(2, 3)).tolist() == [0, 0, 0]


def test_sign_is_drawn_in_proportion_to_its_share_of_the_gradients() -> None:
    jacobian = torch.tensor([[3.0], [-1.0]]).expand(2, 20_000)
    update = started().combine(jacobian)
    assert set(update.unique().tolist()) == {-1.0, 3.0}
    assert (update > 0).double().mean().item() == pytest.approx(0.75, abs=0.02)


def test_leak_lets_its_share_of_the_dropped_gradient_through() -> None:
    jacobian = torch.tensor([[3.0], [-1.0]]).expand(2, 50)
    assert set(started(leak=0.5).combine(jacobian).unique().tolist()) == {-1.0 + 1.5, 3.0 - 0.5}
    assert torch.equal(started(leak=1.0).combine(jacobian), jacobian.sum(0))


def test_each_step_draws_anew_and_each_seed_its_own() -> None:
    jacobian = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    weighting = started(3)
    first, second = weighting.combine(jacobian), weighting.combine(jacobian)
    assert not torch.equal(first, second)
    assert not torch.equal(first, started(3, seed=1).combine(jacobian))
    assert torch.equal(first, started(3).combine(jacobian))


def test_half_precision_gradients_give_a_half_precision_update() -> None:
    assert started().combine(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_absent_task_s_gradient_does_not_count() -> None:
    jacobian = torch.tensor([[1.0, -2.0], [-100.0, 100.0], [0.5, -1.0]])
    assert started(3).combine(jacobian, torch.tensor([True, False, True])).tolist() == [1.5, -3.0]


def test_no_task_present_leaves_the_parameters_alone() -> None:
    assert started().combine(torch.zeros(2, 3), torch.tensor([False, False])).tolist() == [0, 0, 0]


def test_jacobian_must_have_a_row_per_task() -> None:
    with pytest.raises(ValueError, match=r"\(2, P\).*\(3, 4\)"):
        started().combine(torch.ones(3, 4))
