"""Named tensors of rows: taking, joining and moving them agrees with doing so tensor by tensor."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.data.inputs import HeldInputs, Inputs


def inputs(rows: int) -> Inputs:
    generator = torch.Generator().manual_seed(rows)
    return Inputs({"a": torch.randn(rows, 3, generator=generator), "b": torch.arange(rows * 4).reshape(rows, 2, 2)})


def same(one: Inputs, other: Inputs) -> bool:
    assert list(one.tensors) == list(other.tensors)
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


@given(rows=st.integers(1, 9), picked=st.lists(st.integers(0, 8), max_size=12))
def test_rows_by_number_are_those_of_every_tensor(rows: int, picked: list[int]) -> None:
    numbers = torch.tensor([row % rows for row in picked], dtype=torch.int64)
    whole = inputs(rows)
    found = whole.select(numbers)
    assert len(found) == len(picked)
    assert same(found, Inputs({name: tensor[numbers] for name, tensor in whole.tensors.items()}))
    assert same(HeldInputs(whole.tensors).select(numbers), found)


@given(rows=st.integers(1, 9), cuts=st.lists(st.integers(0, 9), max_size=3))
def test_slices_one_after_the_other_are_the_whole(rows: int, cuts: list[int]) -> None:
    whole = inputs(rows)
    edges = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    parts = [whole[start:stop] for start, stop in pairwise(edges)]
    assert [len(part) for part in parts] == [stop - start for start, stop in pairwise(edges)]
    assert same(Inputs.cat(parts), whole)


def test_one_part_is_not_copied() -> None:
    whole = inputs(4)
    assert Inputs.cat([whole]) is whole


def test_all_tensors_move() -> None:
    moved = inputs(4).to("meta")
    assert {tensor.device.type for tensor in moved.tensors.values()} == {"meta"}
    assert len(moved) == 4


def test_one_input_is_asked_for_where_there_are_several() -> None:
    alone = Inputs({"a": torch.ones(2, 3)})
    assert alone.single is alone.tensors["a"]
    with pytest.raises(ValueError, match="must be one input, got a, b"):
        inputs(2).single  # noqa: B018
