"""Reliability: tasks with few validation rows count little, well measured ones alike, and a ratio needs a baseline."""

import math

import numpy as np
import pytest

from mtl_search.results.objective import Goal, Objective
from mtl_search.search.reliability import BETWEEN_TASKS, Reliability, baseline_notes, reliability_of, weight_objective

GOAL = Goal(True, 0.8)


def draws_of_accuracy(rows: int, agree: float = 0.9, draws: int = 400) -> list[list[float]]:
    """Accuracy of two models on draws of rows; they are right on 80 % of all rows, and mostly on the same ones."""
    random = np.random.default_rng(rows)
    one = random.random(rows) < 0.8
    other = np.where(random.random(rows) < agree, one, random.random(rows) < 0.8)
    chosen = random.integers(rows, size=(draws, rows))
    return [list(model[chosen].mean(1)) for model in (one, other)]


def judge(rows: int, wanted: str | dict[str, float] = "reliability", goal: Goal = GOAL) -> Reliability:
    return reliability_of(goal, draws_of_accuracy(rows), rows, wanted, "a")


def test_the_standard_error_is_that_of_a_share() -> None:
    resampled = draws_of_accuracy(1000)
    share = float(np.mean(resampled[0]))
    assert judge(1000).standard_error == pytest.approx(math.sqrt(share * (1 - share) / 1000), rel=0.1)


def test_the_weight_is_the_true_part_of_the_variance() -> None:
    found = judge(300)
    assert found.weight == pytest.approx(BETWEEN_TASKS**2 / (BETWEEN_TASKS**2 + found.noise**2))


def test_the_fewer_rows_the_less_a_task_counts() -> None:
    weights = [judge(rows).weight for rows in (10_000, 1000, 200, 9, 3)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 0.98
    assert weights[-2] < 0.2
    assert weights[-1] < 0.05


def test_two_models_that_agree_on_a_few_rows_are_not_called_reliable() -> None:
    found = reliability_of(GOAL, [[1.0] * 200, [1.0] * 200], 4, "reliability", "a")
    assert found.weight < 0.05


@pytest.mark.parametrize(("wanted", "weight"), [("equal", 1.0), ({"a": 0.25}, 0.25), ({"b": 0.25}, 1.0)])
def test_other_weights_are_the_user_s(wanted: str | dict[str, float], weight: float) -> None:
    assert judge(5, wanted).weight == weight


@pytest.mark.parametrize(
    ("baseline", "wanted", "limit"),
    [(0.8, "reliability", None), (0.005, "reliability", 100.0), (0.005, "equal", None), (0.02, {"a": 1.0}, 100.0)],
)
def test_a_gain_is_clipped_where_the_baseline_cannot_bear_a_ratio(
    baseline: float, wanted: str | dict[str, float], limit: float | None
) -> None:
    found = judge(100, wanted, Goal(True, baseline))
    assert found.limit == limit
    objective = weight_objective(Objective({"a": Goal(True, baseline)}), {"a": found})
    gain = objective.gains({"a": 0.9})["a"]
    assert gain == (limit or pytest.approx(100 * (0.9 - baseline) / max(baseline, 0.01)))


def test_a_task_whose_metric_is_hardly_ever_defined_does_not_count() -> None:
    mostly = [float("nan")] * 150 + [0.5] * 50
    found = reliability_of(GOAL, [mostly, mostly], 3, "reliability", "a")
    assert (found.standard_error, found.weight) == (None, 0.0)
    others = Objective({"a": GOAL, "b": Goal(True, 0.5)})
    assert weight_objective(others, {"a": found, "b": judge(500)}).improvement({"a": 0.1, "b": 0.5}) == 0
    assert weight_objective(others, {"a": found, "b": found}).goals["a"].weight == 1.0, "one of them must count"


def test_notes_name_the_tasks_and_what_to_do() -> None:
    tasks = {"large": judge(5000), "small": judge(4)}
    under_trained, light = baseline_notes({"large": 10, "small": 12}, tasks)
    assert under_trained.startswith(
        "tasks large, small: the best epoch of the single-task models is their last (10, 12)"
    )
    assert "raise single_task.epochs" in under_trained
    assert light.startswith(f"small (weight {tasks['small'].weight:.2g}, 4 validation labels) count little")
    assert baseline_notes({}, {"large": judge(5000)}) == []
