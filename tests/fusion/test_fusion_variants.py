"""Mean and weighted: what each computes, and which coefficients are refused."""

from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.errors import ConfigError
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.weighted import Weighted

values = st.floats(-1e6, 1e6, width=32)
models = st.integers(1, 4).flatmap(lambda size: st.lists(st.lists(values, min_size=size, max_size=size), min_size=1))
positive = st.floats(1e-3, 1e3)


def states_of(rows: list[list[float]], dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    return [{"w": torch.tensor(row, dtype=dtype)} for row in rows]


def names(rows: Sequence[object]) -> list[str]:
    return [f"t{i}" for i in range(len(rows))]


@given(models)
@settings(deadline=None, max_examples=60)
def test_mean_is_the_average(rows: list[list[float]]) -> None:
    states = states_of(rows)
    fused = Mean()(states, names(rows), states[0])["w"]
    exact = torch.tensor(rows, dtype=torch.float64).mean(0)
    torch.testing.assert_close(fused.double(), exact, rtol=1e-6, atol=1e-6)


@given(models, st.randoms())
@settings(deadline=None, max_examples=60)
def test_order_of_tasks_does_not_matter_for_the_mean(rows: list[list[float]], random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (Mean()(states_of(r), names(r), states_of(rows)[0])["w"] for r in (rows, shuffled))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@given(models, positive)
@settings(deadline=None, max_examples=60)
def test_equal_coefficients_give_the_mean(rows: list[list[float]], coefficient: float) -> None:
    states, tasks = states_of(rows), names(rows)
    wanted = Mean()(states, tasks, states[0])["w"]
    for coefficients in (coefficient, dict.fromkeys(tasks, coefficient)):
        got = Weighted(coefficients)(states, tasks, states[0])["w"]
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


@given(st.lists(st.tuples(values, positive), min_size=2, max_size=6), positive)
@settings(deadline=None, max_examples=60)
def test_only_ratios_of_coefficients_count_and_the_result_lies_between(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    states, tasks = states_of([[value] for value, _ in pairs]), names(pairs)
    base = states[0]
    once = Weighted({t: c for t, (_, c) in zip(tasks, pairs, strict=True)})(states, tasks, base)["w"]
    again = Weighted({t: c * factor for t, (_, c) in zip(tasks, pairs, strict=True)})(states, tasks, base)["w"]
    torch.testing.assert_close(once, again, rtol=1e-5, atol=1e-5)
    plain = [float(state["w"]) for state in states]
    slack = 1e-6 * max(map(abs, plain))
    assert min(plain) - slack <= float(once) <= max(plain) + slack


def test_coefficients_follow_their_task_by_name() -> None:
    states = states_of([[1.0], [5.0]])
    assert Weighted({"b": 3.0})(states, ["a", "b"], states[0])["w"].item() == 4.0
    assert Weighted({"b": 3.0})(states, ["b", "a"], states[0])["w"].item() == 2.0
    assert Weighted({"a": 0.0})(states, ["a", "b"], states[0])["w"].item() == 5.0


def test_sums_run_in_double_precision() -> None:
    states = states_of([[1.0], [2.0**-7], [2.0**-7]], torch.bfloat16)
    wanted = torch.tensor((1 + 2**-6) / 3, dtype=torch.float64).to(torch.bfloat16)
    assert Mean()(states, ["a", "b", "c"], states[0])["w"] == wanted


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), 0.0])
def test_number_that_cannot_weigh_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"fusion\.weighted\.coefficients: must be"):
        Weighted(wrong)


def test_coefficients_that_cannot_weigh_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)coefficients\.a: .*coefficients\.c: "):
        Weighted({"a": -1.0, "b": 1.0, "c": float("nan")})


def test_coefficients_all_zero_within_a_group_are_refused() -> None:
    states = states_of([[1.0], [5.0]])
    with pytest.raises(ConfigError, match=r"must not all be 0 for tasks that share a block \(a, b\)"):
        Weighted({"a": 0.0, "b": 0.0})(states, ["a", "b"], states[0])


def test_coefficient_of_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must name tasks, got 'digti' \(choices: digit, odd\)"):
        Weighted({"digti": 1.0}).check(["digit", "odd"])
