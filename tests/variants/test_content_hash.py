"""Keys of Python objects tell their content: class, code, settings, numbers; nothing of where they were made."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtl_search.errors import ConfigError
from mtl_search.variants.content_hash import content_hash
from mtl_search.weighting.fixed import Fixed
from mtl_search.weighting.uncertainty import Uncertainty

SCRIPT = """
import torch
from torch import nn
from mtl_search.variants.content_hash import content_hash

def scaled(forward):
    def __init__(self, by):
        nn.Module.__init__(self)
        self.by, self.names = by, {"b", "a", "c"}
        self.linear = nn.Linear(2, 3)

    return type("Scaled", (nn.Module,), {"__init__": __init__, "forward": forward, "sizes": (2, 3)})

for forward in (lambda self, x: self.by * self.linear(x), lambda self, x: 3 * self.linear(x)):
    torch.manual_seed(0)
    print(content_hash(scaled(forward)(2.0), "backbone"))
"""


def key(value: object) -> str:
    return content_hash(value, "here")


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())


def test_key_is_the_same_in_every_process_until_the_code_changes() -> None:
    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
        return done.stdout.split()

    first, other = run()
    assert first != other
    assert run() == [first, other]


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    made = net()
    with torch.no_grad():
        change(made)
    return made


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made[0].weight[0, 0, 0].add_(1e-6),
        lambda made: made[1].running_mean.add_(1),
        lambda made: setattr(made[0], "stride", (2, 2)),
        lambda made: made.append(nn.ReLU()),
        lambda made: made.register_buffer("shift", torch.zeros(1)),
        lambda made: made.half(),
    ],
    ids=["parameter", "buffer", "setting", "structure", "another buffer", "type"],
)
def test_any_change_of_a_module_changes_its_key(change: Callable[[nn.Module], object]) -> None:
    assert key(net()) == key(net())
    assert key(changed(change)) != key(net())


def test_mode_and_gradients_do_not_count() -> None:
    made = net().eval()
    made(torch.ones(1, 1, 4, 4)).sum().backward()
    made.zero_grad()
    assert key(made) == key(net())


def test_settings_of_variants_count() -> None:
    keys = [key(variant) for variant in (Fixed(), Fixed(0.5), Fixed({"a": 0.5}), Uncertainty())]
    assert len(set(keys)) == 4


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=6,
    )
)
def test_equal_values_have_equal_keys_however_their_parts_are_held(value: object) -> None:
    import copy

    assert key(copy.deepcopy(value)) == key(value)
    assert key([value]) != key([value, value])


def test_arrays_differ_by_type_shape_and_numbers() -> None:
    values: list[object] = [np.zeros(4), np.zeros(4, np.float32), np.zeros((2, 2)), np.ones(4), torch.zeros(4)]
    values += [np.array(["a", None], dtype=object), np.array(["a", "b"], dtype=object)]
    assert len({key(value) for value in values}) == len(values)


def test_what_has_no_content_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"here: must be made of .* got 'generator'"):
        key(number for number in range(3))
    with pytest.raises(ConfigError, match="a lazy parameter has no values yet"):
        key(nn.LazyLinear(3))
