"""Auto-lambda: weights learned from a derivative that the step measures."""

import pytest
import torch

from mtl_search.errors import ConfigError
from mtl_search.weighting.auto_lambda import AutoLambda


def started(**params: object) -> AutoLambda:
    weighting = AutoLambda(**params)
    weighting.start(["a", "b", "c"], "cpu")
    return weighting


def test_weights_change_by_what_is_learned_only() -> None:
    weighting = started(initial=0.5, lr=0.1)
    for losses in (torch.ones(3), 9 * torch.ones(3)):
        assert weighting(losses).tolist() == [0.5, 0.5, 0.5]
    weighting.learn(torch.tensor([-1.0, 0.0, 2.0]))
    torch.testing.assert_close(weighting(torch.ones(3)), torch.tensor([0.6, 0.5, 0.4]))


def test_weight_does_not_fall_below_0_and_can_rise_again() -> None:
    weighting = started(lr=0.5)
    for _ in range(5):
        weighting.learn(torch.tensor([0.0, 0.0, 1.0]))
    assert weighting(torch.ones(3)).tolist() == [1, 1, 0]
    for _ in range(10):
        weighting.learn(torch.tensor([0.0, 0.0, -1.0]))
    assert weighting(torch.ones(3))[2] > 0


def test_helpful_auxiliary_task_gains_and_harmful_one_loses() -> None:
    # One parameter; the primary task's optimum is 0, as the helper's, the opponent's is 2. The derivative is exact.
    weighting, x, rate = started(primary=["a"], lr=0.05), 1.0, 0.1
    assert weighting.primary == (0,)
    for _ in range(30):
        weights = weighting(torch.ones(3)).double()
        slopes = torch.tensor([2 * x, 2 * x, 2 * (x - 2)], dtype=torch.float64)
        ahead = x - rate * float(weights @ slopes)
        weighting.learn(2 * ahead * -rate * slopes)
    weights = weighting(torch.ones(3))
    assert weights[1] > 1.3
    assert weights[2] < 0.7


def test_primary_tasks_are_all_by_default() -> None:
    assert started().primary == (0, 1, 2)
    assert started(primary=["c", "a"]).primary == (2, 0)


def test_derivative_must_have_an_entry_per_task() -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        started().learn(torch.ones(2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"holdout": 0.0}, r"weighting\.auto_lambda\.holdout: must be above 0 and below 1, got 0\.0"),
        ({"holdout": 1.0}, r"holdout: must be above 0"),
        ({"primary": []}, r"primary: must name at least one task"),
        ({"primary": ["a", "a"]}, r"primary: must name each task once"),
        ({"primary": ["d"]}, r"primary: must name tasks, got 'd' \(choices: a, b, c\)"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        started(**params)
