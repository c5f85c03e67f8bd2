"""Objective: the arithmetic of gains, improvement and score."""

import inspect
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtl_search.results.objective import FLOOR, Goal, Objective

values = st.floats(-1e3, 1e3)
positive = st.floats(0.02, 1e3)
goals = st.builds(Goal, st.booleans(), positive, st.just(1.0))
cases = st.dictionaries(st.sampled_from("abcd"), st.tuples(goals, values), min_size=1)


def better(goal: Goal, value: float, by: float) -> float:
    return value + by if goal.higher_is_better else value - by


@given(cases)
def test_delta_m_is_the_mean_signed_relative_difference_in_percent(case: dict[str, tuple[Goal, float]]) -> None:
    objective = Objective({task: goal for task, (goal, _) in case.items()})
    signed = [
        (-1) ** (not goal.higher_is_better) * (value - goal.baseline) / goal.baseline  # type: ignore[operator]
        for goal, value in case.values()
    ]
    delta_m = 100 * sum(signed) / len(signed)
    assert objective.improvement({task: value for task, (_, value) in case.items()}) == pytest.approx(delta_m)


@given(cases)
def test_the_baselines_themselves_are_worth_nothing(case: dict[str, tuple[Goal, float]]) -> None:
    chosen = {task: goal for task, (goal, _) in case.items()}
    at_baseline = {task: goal.baseline for task, goal in chosen.items()}
    for kind in ("mean_improvement", "worst_task"):
        assert Objective(chosen, kind).score(at_baseline) == 0  # type: ignore[arg-type]


@given(goals, values)
def test_a_gain_is_positive_exactly_where_the_metric_is_better_than_the_baseline(goal: Goal, value: float) -> None:
    assert goal.baseline is not None
    ahead = value > goal.baseline if goal.higher_is_better else value < goal.baseline
    assert (goal.gain(value) > 0) == ahead


@given(cases, st.data(), st.floats(0.01, 100), st.sampled_from(["mean_improvement", "worst_task", "own"]))
def test_no_better_metric_lowers_the_score(
    case: dict[str, tuple[Goal, float]], data: st.DataObject, by: float, kind: str
) -> None:
    task = data.draw(st.sampled_from(sorted(case)))
    objective = Objective({name: goal for name, (goal, _) in case.items()}, task if kind == "own" else kind)
    before = {name: value for name, (_, value) in case.items()}
    after = {**before, task: better(case[task][0], before[task], by)}
    if kind == "worst_task":
        assert objective.score(after) >= objective.score(before)
    else:
        assert objective.score(after) > objective.score(before)


@given(cases)
def test_the_worst_task_is_never_above_the_mean(case: dict[str, tuple[Goal, float]]) -> None:
    metrics = {task: value for task, (_, value) in case.items()}
    mean = Objective({task: goal for task, (goal, _) in case.items()})
    worst = replace(mean, kind="worst_task")
    assert worst.score(metrics) == min(mean.gains(metrics).values())
    assert worst.score(metrics) <= mean.score(metrics) + 1e-9 * (1 + abs(mean.score(metrics)))


@given(st.booleans(), st.floats(-1, 1), values, st.floats(1e-3, 1e3))
def test_near_a_zero_baseline_the_divisor_is_a_hundredth_of_the_natural_scale(
    higher: bool, share: float, value: float, scale: float
) -> None:
    goal = Goal(higher, share * FLOOR * scale, scale)
    assert goal.baseline is not None
    expected = (value - goal.baseline) / (FLOOR * scale) * 100 * (1 if higher else -1)
    assert goal.gain(value) == pytest.approx(expected)
    assert math.isfinite(goal.gain(value))


@given(goals, values, st.floats(0.1, 10))
def test_a_gain_does_not_depend_on_the_unit_of_the_metric(goal: Goal, value: float, unit: float) -> None:
    assert goal.baseline is not None
    assume(goal.baseline > FLOOR)
    other = Goal(goal.higher_is_better, goal.baseline * unit, goal.scale * unit)
    assert other.gain(value * unit) == pytest.approx(goal.gain(value), abs=1e-6)


@given(st.booleans(), values)
def test_one_tasks_metric_as_the_objective_is_that_metric_with_its_direction(higher: bool, value: float) -> None:
    objective = Objective({"a": Goal(higher), "b": Goal(True)}, "a")
    assert objective.score({"a": value, "b": 0.0}) == (value if higher else -value)


def test_a_gain_without_a_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a baseline"):
        Goal(True).gain(1.0)


def test_nothing_but_validation_metrics_enters_the_score() -> None:
    # What a search over loss weights could otherwise game: neither weights nor losses are even handed in.
    for method in (Objective.gains, Objective.improvement, Objective.score):
        assert list(inspect.signature(method).parameters) == ["self", "metrics"]


@given(cases, st.sampled_from(["mean_improvement", "worst_task"]))
def test_an_objective_survives_plain_json(case: dict[str, tuple[Goal, float]], kind: str) -> None:
    objective = Objective({task: goal for task, (goal, _) in case.items()}, kind)
    assert Objective.from_dict(objective.to_dict()) == objective
