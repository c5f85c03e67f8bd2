"""FAMO: favours the task whose loss fell least, from one forward pass per step."""

import torch
from torchjd.scalarization import FAMO

from mtl_search.weighting.famo import Famo


def started(count: int = 2, lr: float = 0.025) -> Famo:
    weighting = Famo(lr)
    weighting.start([f"t{i}" for i in range(count)], "cpu")
    return weighting


def test_weights_are_the_published_ones_with_the_next_steps_losses_as_the_update_s_effect() -> None:
    steps = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) + 0.2
    reference, weighting = FAMO(3).double(), started(3)
    for number, losses in enumerate(steps):
        values = losses.double().requires_grad_()
        if number:
            reference.update(values)
        (expected,) = torch.autograd.grad(reference(values), values)
        torch.testing.assert_close(weighting(losses), 3 * expected.float())


def test_task_that_does_not_improve_gains_weight() -> None:
    weighting = started()
    shares = []
    for step in range(50):
        losses = torch.tensor([0.9**step, 1.0])
        weights = weighting(losses) * losses
        shares.append((weights[1] / weights.sum()).item())
    assert shares[0] == 0.5
    assert shares[-1] > 0.7
    assert shares[1:] == sorted(shares[1:])


def test_descent_by_its_weights_helps_the_slow_task_more_than_equal_weights() -> None:
    def slow_task_after(weighting: Famo | None) -> float:
        x = torch.tensor([1.0, 1.0], requires_grad=True)
        for _ in range(200):
            losses = torch.tensor([10.0, 0.1]) * x**2 + 1e-3
            weights = torch.ones(2) if weighting is None else weighting(losses)
            (slope,) = torch.autograd.grad((weights * losses).sum(), x)
            with torch.no_grad():
                x -= 1e-2 * slope
        return x[1].item()

    assert slow_task_after(started()) < 0.9 * slow_task_after(None)


def test_present_tasks_are_weighed_as_if_the_absent_one_were_not_there() -> None:
    steps = torch.rand(4, 3, generator=torch.Generator().manual_seed(1)) + 0.2
    present = torch.tensor([True, False, True])
    pair, three = started(2), started(3)
    for losses in steps:
        torch.testing.assert_close(three(losses, present)[present], pair(losses[present]))


def test_task_s_first_loss_teaches_nothing() -> None:
    weighting = started(2)
    three = started(3)
    present = torch.tensor([True, True, False])
    for losses in ([1.0, 2.0], [0.5, 1.9]):
        weighting(torch.tensor(losses))
        three(torch.tensor([*losses, 0.0]), present)
    three(torch.tensor([0.4, 1.8, 77.0]))
    assert three.state_dict()["learned"][2] == 0
