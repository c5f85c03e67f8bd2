"""The front, its hypervolume, and the point that a preference picks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.analysis import pareto
from mtl_search.analysis.pareto import Point, hypervolume, pareto_front, parse_preference, pick_preferred, reference_of
from mtl_search.errors import ConfigError
from mtl_search.results.objective import Goal, Objective

GOALS = {"digit": Goal(True, 0.8), "ink": Goal(False, 4.0, 8.0), "edge": Goal(True, 0.5)}


def points(rows: list[tuple[float, ...]]) -> list[Point]:
    """A point for each row of metrics, in the order of the goals."""
    found = []
    for number, row in enumerate(rows):
        goals = dict(list(GOALS.items())[: len(row)])
        metrics = dict(zip(goals, row, strict=True))
        found.append(Point(number, 1, metrics, Objective(goals).gains(metrics), Path("x")))
    return found


def gains(rows: np.ndarray) -> list[Point]:
    return [
        Point(number, 1, {}, {f"t{place}": float(value) for place, value in enumerate(row)}, Path("x"))
        for number, row in enumerate(rows)
    ]


METRIC = st.integers(0, 6).map(lambda value: value / 6)


@given(st.lists(st.tuples(METRIC, METRIC, METRIC), min_size=1, max_size=12))
def test_front_holds_what_nothing_beats_and_every_other_point_is_beaten_or_doubled(
    rows: list[tuple[float, float, float]],
) -> None:
    every = points(rows)
    kept = pareto_front(every, GOALS)
    signed = {p.trial: [goal.signed(p.metrics[task]) for task, goal in GOALS.items()] for p in every}
    for point in every:
        above = [other for other in every if all(np.array(signed[other.trial]) >= signed[point.trial])]
        strictly = [other for other in above if signed[other.trial] != signed[point.trial]]
        first = min(other.trial for other in above if signed[other.trial] == signed[point.trial])
        assert (point in kept) == (not strictly and first == point.trial)


def test_lower_is_better_where_the_metric_says_so() -> None:
    first, second, third = points([(0.9, 5.0), (0.8, 3.0), (0.8, 6.0)])
    assert pareto_front([first, second, third], dict(list(GOALS.items())[:2])) == [first, second]


def test_hypervolume_of_two_tasks_is_the_area_of_the_stairs() -> None:
    found = hypervolume(gains(np.array([[2.0, 2.0], [1.0, 1.0], [4.0, 1.0], [1.0, 4.0]])), {"t0": 0.0, "t1": 0.0})
    assert found == pytest.approx([4 / 16, 4 / 16, 6 / 16, 8 / 16])


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 9))
def test_exact_hypervolume_is_what_sampling_all_of_the_box_finds(seed: int, tasks: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.uniform(-0.2, 1, (count, tasks))
    if (rows.max(axis=0) <= 0).any():
        return
    found = hypervolume(gains(rows), {f"t{place}": 0.0 for place in range(tasks)})
    inside = draw.random((20_000, tasks)) * rows.max(axis=0)
    for last in range(count):
        share = np.mean([(drawn <= rows[: last + 1]).all(axis=1).any() for drawn in inside[:2000]])
        assert found[last] == pytest.approx(share, abs=0.06)
    assert found == sorted(found)


def test_sampled_hypervolume_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gains(np.random.default_rng(1).uniform(0, 1, (12, 4)))
    reference = {f"t{place}": 0.0 for place in range(4)}
    exact = hypervolume(rows, reference)
    monkeypatch.setattr(pareto, "EXACT", 0)
    sampled = hypervolume(rows, reference)
    assert sampled == pytest.approx(exact, rel=0.05)
    assert sampled == hypervolume(rows, reference), "the same draws every time"


def test_a_hypervolume_of_139_tasks_grows_with_what_is_added() -> None:
    rows = np.random.default_rng(0).uniform(0.2, 1, (20, 139))
    found = hypervolume(gains(rows), {f"t{place}": 0.0 for place in range(139)})
    assert found == sorted(found)
    assert 0 < found[0] < found[-1]


def test_reference_lies_below_the_front_and_below_the_single_task_models() -> None:
    best = gains(np.array([[10.0, -5.0], [5.0, 20.0]]))
    assert reference_of(best) == {"t0": -1.0, "t1": -5.0 - 2.5}
    assert reference_of([]) == {}
    assert hypervolume([], {}) == []


@given(st.lists(st.tuples(METRIC, METRIC, METRIC), min_size=1, max_size=10))
def test_equal_weights_prefer_the_highest_improvement(rows: list[tuple[float, float, float]]) -> None:
    every, objective = points(rows), Objective(GOALS)
    best = max(every, key=lambda point: (round(objective.improvement(point.metrics), 9), -point.trial))
    found = pick_preferred(every, {})
    assert objective.improvement(found.metrics) == pytest.approx(objective.improvement(best.metrics))
    assert pick_preferred(every, dict.fromkeys(GOALS, 1.0)) == found


def test_a_preference_moves_the_choice_to_the_task_it_names() -> None:
    first, second = points([(0.88, 4.4), (0.76, 3.4)])  # gains: +10 -10, -5 +15
    assert pick_preferred([first, second], {}) == second
    assert pick_preferred([first, second], {"digit": 2}) == first
    assert pick_preferred([first, second], {"digit": 2, "ink": 5}) == second
    assert pick_preferred([first, second], {"ink": 0}) == first


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"colour": 1.0}, r"--prefer\.colour: is not a task \(choices: digit, ink\)"),
        ({"digit": -1.0}, r"--prefer\.digit: must be a finite number, 0 or above, got -1.0"),
        ({"digit": float("nan")}, r"--prefer\.digit: must be a finite number"),
        ({"digit": 0.0, "ink": 0.0}, "--prefer: must give some task a weight above 0"),
    ],
)
def test_a_preference_that_says_nothing_is_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pick_preferred(points([(0.8, 4.0)]), weights)


def test_a_preference_is_read_from_text() -> None:
    assert parse_preference("digit=2, garment = 1e-1") == {"digit": 2.0, "garment": 0.1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--prefer: must be written TASK=WEIGHT"),
        ("digit", "--prefer: must be written TASK=WEIGHT,TASK=WEIGHT,..., got 'digit'"),
        ("digit=1,", "--prefer: must be written TASK=WEIGHT"),
        ("digit=much", r"--prefer\.digit: must be a number, got 'much'"),
        ("digit=1,digit=2", r"--prefer\.digit: must be given once"),
    ],
)
def test_text_of_another_form_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_preference(text)
