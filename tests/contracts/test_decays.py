"""What every decay promises, over the family's dict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.recipe import Component
from mtl_search.transfer import DECAYS
from mtl_search.transfer.decays import Decay
from mtl_search.variants.building import build

fractions = st.floats(0, 1)


def decay(name: str, warmup: float = 0.0) -> Decay:
    return build(DECAYS, Component(name, {"warmup": warmup}))


@pytest.mark.parametrize("name", DECAYS)
@given(st.integers(1, 200), fractions)
def test_factor_stays_between_0_and_1_and_is_positive_before_the_end(name: str, steps: int, warmup: float) -> None:
    factors = [decay(name, warmup).factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize("name", DECAYS)
@given(st.integers(1, 200), fractions)
def test_factor_rises_in_a_line_to_1_and_never_rises_again(name: str, steps: int, warmup: float) -> None:
    curve = decay(name, warmup)
    warm = round(warmup * steps)
    factors = [curve.factor(step, steps) for step in range(steps + 1)]
    assert factors[:warm] == [(step + 1) / warm for step in range(warm)]
    assert factors[warm] == 1
    assert all(later <= earlier for earlier, later in zip(factors[warm:], factors[warm + 1 :], strict=False))


@pytest.mark.parametrize("name", DECAYS)
def test_step_outside_the_stage_is_refused(name: str) -> None:
    for step in (-1, 11):
        with pytest.raises(ValueError, match=r"from 0 to 10"):
            decay(name).factor(step, 10)
