"""Task arithmetic, TIES, DARE, slerp and layerwise against their published formulas on small tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.errors import ConfigError
from mtl_search.fusion.base import Fusion, Site
from mtl_search.fusion.dare import Dare
from mtl_search.fusion.layerwise import Layerwise
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.slerp import Slerp
from mtl_search.fusion.task_arithmetic import TaskArithmetic
from mtl_search.fusion.ties import Ties

seeds = st.integers(0, 1000)


def fused(fusion: Fusion, rows: list[list[float]], base: list[float] | None = None, at: Site | None = None) -> Tensor:
    states = [{"w": torch.tensor(row, dtype=torch.float64)} for row in rows]
    start = {"w": torch.tensor(base or [0.0] * len(rows[0]), dtype=torch.float64)}
    return fusion(states, [f"t{i}" for i in range(len(rows))], start, at or Site())["w"]


def drawn(seed: int, count: int, size: int = 6) -> tuple[list[list[float]], list[float]]:
    numbers = torch.randn(count + 1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers[1:].tolist(), numbers[0].tolist()


@given(seeds, st.integers(2, 5), st.floats(0.1, 2.0))
@settings(deadline=None, max_examples=30)
def test_task_arithmetic_adds_scaled_task_vectors(seed: int, count: int, scale: float) -> None:
    rows, base = drawn(seed, count)
    start = torch.tensor(base, dtype=torch.float64)
    wanted = start + scale * sum(torch.tensor(row, dtype=torch.float64) - start for row in rows)
    torch.testing.assert_close(fused(TaskArithmetic(scale), rows, base), wanted)
    torch.testing.assert_close(fused(TaskArithmetic(1 / count), rows, base), fused(Mean(), rows, base))


def test_ties_trims_elects_and_averages_those_that_agree() -> None:
    # Half is kept: of each row the three largest. Signs are elected by the sum of what is left.
    rows = [[5.0, -4.0, 3.0, 0.1, 0.2, 0.3], [-2.0, -3.0, 0.1, 0.2, 4.0, 0.0], [4.0, 0.1, 0.2, 0.3, -1.0, -2.0]]
    wanted = torch.tensor([(5 + 4) / 2, (-4 - 3) / 2, 3.0, 0.0, 4.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(fused(Ties(keep=0.5), rows), wanted)
    base = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    shifted = [[value + start for value, start in zip(row, base, strict=True)] for row in rows]
    wanted = torch.tensor(base, dtype=torch.float64) + 0.3 * wanted
    torch.testing.assert_close(fused(Ties(keep=0.5, scale=0.3), shifted, base), wanted)


def test_ties_leaves_the_base_where_signs_cancel_and_keeps_one_entry_at_least() -> None:
    assert fused(Ties(keep=1.0), [[1.0, 2.0], [-1.0, 2.0]]).tolist() == [0.0, 2.0]
    assert fused(Ties(keep=0.01), [[1.0, 2.0], [3.0, 1.0]]).tolist() == [3.0, 2.0]


def test_ties_that_keeps_all_is_the_mean_where_signs_agree() -> None:
    rows = [[1.0, -2.0, 3.0], [2.0, -1.0, 5.0]]
    torch.testing.assert_close(fused(Ties(keep=1.0), rows), fused(Mean(), rows))


def test_dare_drops_and_rescales_to_the_same_expectation() -> None:
    size = 20_000
    made = fused(Dare(drop=0.75, scale=1.0), [[1.0] * size, [0.0] * size])
    assert sorted(set(made.tolist())) == [0.0, 4.0]
    assert made.mean().item() == pytest.approx(1.0, abs=0.05)


def test_dare_without_drop_is_task_arithmetic() -> None:
    rows, base = drawn(1, 3)
    torch.testing.assert_close(fused(Dare(0.0, 0.7), rows, base), fused(TaskArithmetic(0.7), rows, base))


def test_dare_drops_by_seed_block_tensor_and_task() -> None:
    rows = [[1.0] * 64, [0.0] * 64]
    first = fused(Dare(), rows, at=Site(seed=1))
    assert torch.equal(first, fused(Dare(), rows, at=Site(seed=1)))
    for other in (Site(seed=2), Site(block=1, blocks=2, seed=1)):
        assert not torch.equal(first, fused(Dare(), rows, at=other))
    assert not torch.equal(first, fused(Dare(), rows[::-1], at=Site(seed=1)))


def test_slerp_goes_along_the_circle_and_keeps_the_length() -> None:
    half = fused(Slerp(), [[2.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(half, torch.tensor([2**0.5, 2**0.5], dtype=torch.float64))
    third = fused(Slerp({"t0": 2.0}), [[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(third, torch.tensor([3**0.5 / 2, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    "rows",
    [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [-1.0, -2.0]], [[0.0, 0.0], [1.0, 2.0]]],
    ids=["parallel", "antiparallel", "zero"],
)
def test_slerp_is_the_average_where_there_is_no_one_circle(rows: list[list[float]]) -> None:
    torch.testing.assert_close(fused(Slerp(), rows), fused(Mean(), rows))


def test_slerp_is_refused_for_any_number_of_tasks_but_two() -> None:
    for tasks in (["a"], ["a", "b", "c"]):
        with pytest.raises(ConfigError, match=r"fusion\.slerp: .* needs two tasks, got"):
            Slerp().check(tasks)
    with pytest.raises(ConfigError, match="needs two tasks, got 3"):
        fused(Slerp(), [[1.0], [2.0], [3.0]])


def test_layerwise_coefficients_lie_on_a_line_over_the_blocks() -> None:
    fusion = Layerwise(bottom={"t0": 3.0, "t1": 1.0}, top={"t0": 0.0, "t1": 8.0})
    rows = [[1.0], [0.0]]
    shares = [fused(fusion, rows, at=Site(block, 3)).item() for block in range(3)]
    assert shares == pytest.approx([0.75, 0.375, 0.0])
    assert fused(fusion, rows, at=Site(0, 1)).item() == 0.375


def test_layerwise_coefficients_are_checked_by_their_own_place() -> None:
    with pytest.raises(ConfigError, match=r"fusion\.layerwise\.top\.a: must be 0 or more, got -1"):
        Layerwise(top={"a": -1.0})
    with pytest.raises(ConfigError, match=r"fusion\.layerwise\.bottom: must name tasks, got 'c'"):
        Layerwise(bottom={"c": 1.0}).check(["a", "b"])
