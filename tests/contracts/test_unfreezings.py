"""What every unfreezing promises, over the family's dict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.recipe import Component
from mtl_search.transfer import UNFREEZINGS
from mtl_search.transfer.unfreezing import Gradual, HeadsFirst, Never, Shared
from mtl_search.variants.building import build

over_variants = pytest.mark.parametrize("name", UNFREEZINGS)


def starts(name: str, blocks: int, shared: bool) -> list[int | None]:
    unfreezing = build(UNFREEZINGS, Component(name))
    return [unfreezing.start(block, blocks, shared=shared) for block in range(1, blocks + 1)]


@over_variants
@given(st.integers(1, 12), st.booleans())
def test_no_block_begins_before_the_one_above_it(name: str, blocks: int, shared: bool) -> None:
    found = [float("inf") if start is None else start for start in starts(name, blocks, shared)]
    assert found == sorted(found, reverse=True)
    assert all(start >= 1 for start in found)


@over_variants
@given(st.integers(1, 12))
def test_what_tasks_share_begins_no_earlier_than_what_one_has_alone(name: str, blocks: int) -> None:
    for own, shared in zip(starts(name, blocks, False), starts(name, blocks, True), strict=True):
        assert shared is None or (own is not None and own <= shared)


@over_variants
def test_a_block_outside_the_backbone_is_refused(name: str) -> None:
    for block in (0, 4):
        with pytest.raises(ValueError, match="from 1 to 3"):
            build(UNFREEZINGS, Component(name)).start(block, 3, shared=True)


@given(st.integers(1, 9), st.integers(1, 9))
def test_gradual_unfreezing_adds_one_block_from_the_top_every_so_many_epochs(epochs: int, blocks: int) -> None:
    for epoch in range(1, epochs * (blocks + 2)):
        learning = [
            block for block in range(1, blocks + 1) if epoch >= (Gradual(epochs).start(block, blocks, shared=True) or 0)
        ]
        count = min((epoch - 1) // epochs, blocks)
        assert learning == list(range(blocks - count + 1, blocks + 1))


def test_when_the_others_begin() -> None:
    assert [Shared(3).start(1, 2, shared=shared) for shared in (True, False)] == [4, 1]
    assert [HeadsFirst(3).start(1, 2, shared=shared) for shared in (True, False)] == [4, 4]
    assert Never().start(1, 2, shared=False) is None
