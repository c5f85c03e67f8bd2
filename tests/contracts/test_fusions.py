"""What every fusion promises, over the family's dict."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.errors import ConfigError
from mtl_search.fusion import FUSIONS
from mtl_search.fusion.base import Fusion, Site
from mtl_search.fusion.measuring import MeasuringFusion
from mtl_search.recipe import Component
from mtl_search.variants.building import build

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
seeds = st.integers(0, 10_000)
counts = st.integers(1, 7)


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": (torch.randn(3, 4, generator=generator) * 10.0 ** (seed % 9 - 4)).to(dtype),
        "scalar": torch.randn((), generator=generator).to(dtype),
        "steps": torch.randint(0, 100, (), generator=generator),
        "mask": torch.rand(3, generator=generator) > 0.5,
        "empty": torch.empty(0, dtype=dtype),
    }


FUSING = [name for name, kind in FUSIONS.items() if not kind.from_base]
PAIRS = ("slerp",)
"""For two tasks only."""


def fusion(name: str) -> Fusion:
    return build(FUSIONS, Component(name))


def fused(name: str, models: list[dict[str, Tensor]], tasks: list[str], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the variant's defaults; what a measuring one would have measured is made up, by the task's name."""
    made = fusion(name)
    if not isinstance(made, MeasuringFusion):
        return made(models, tasks, base)
    return made(models, tasks, base, Site(0, 1, facts=[facts_of(base, task) for task in tasks]))


def facts_of(base: dict[str, Tensor], task: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(task) + ord(task[-1]))
    fisher = {key: torch.rand(value.shape, generator=generator) for key, value in base.items()}
    return {**fisher, "weight.inputs": torch.randn(6, 4, generator=generator)}


def names(count: int) -> list[str]:
    return [f"task{i}" for i in range(count)]


def several(name: str) -> int:
    return 2 if name in PAIRS else 3


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.dtype == right[key].dtype
        assert torch.equal(value, right[key]), key


@pytest.mark.parametrize("name", FUSING)
@given(seeds, counts, st.sampled_from(FLOATS))
@settings(deadline=None, max_examples=20)
def test_identical_models_fuse_to_that_model_exactly(name: str, seed: int, count: int, dtype: torch.dtype) -> None:
    model = state(seed, dtype)
    assert_identical(fused(name, [model] * count, names(count), state(seed + 1, dtype)), model)


@pytest.mark.parametrize("name", FUSIONS)
@given(seeds, counts)
@settings(deadline=None, max_examples=20)
def test_base_comes_back_when_nothing_was_fine_tuned(name: str, seed: int, count: int) -> None:
    base = state(seed)
    copies = [{key: value.clone() for key, value in base.items()} for _ in range(count)]
    assert_identical(fused(name, copies, names(count), base), base)


@pytest.mark.parametrize("name", FUSIONS)
@given(seeds, st.integers(2, 5), st.sampled_from(FLOATS), st.randoms())
@settings(deadline=None, max_examples=20)
def test_order_of_tasks_does_not_show(name: str, seed: int, count: int, dtype: torch.dtype, random: Random) -> None:
    count = min(count, 2) if name in PAIRS else count
    models, order = [state(seed + i, dtype) for i in range(1, count + 1)], list(range(count))
    random.shuffle(order)
    once = fused(name, models, names(count), state(seed, dtype))
    again = fused(name, [models[i] for i in order], [names(count)[i] for i in order], state(seed, dtype))
    assert_identical(once, again)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_says_the_same_every_time(name: str) -> None:
    count = several(name)
    models = [state(seed) for seed in range(count)]
    assert_identical(*(fused(name, models, names(count), state(9)) for _ in range(2)))


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_form_is_kept_and_inputs_are_left_alone(name: str, dtype: torch.dtype) -> None:
    count = several(name)
    models, before = ([state(seed, dtype) for seed in range(1, count + 1)] for _ in range(2))
    base = state(0, dtype)
    made = fused(name, models, names(count), base)
    for value in made.values():
        value.fill_(1)
    for model, old in zip(models, before, strict=True):
        assert_identical(model, old)
    assert_identical(base, state(0, dtype))
    assert {k: (v.shape, v.dtype) for k, v in made.items()} == {k: (v.shape, v.dtype) for k, v in base.items()}


@pytest.mark.parametrize("name", FUSING)
def test_integers_become_the_largest(name: str) -> None:
    models = [state(seed) for seed in range(1, several(name) + 1)]
    made = fused(name, models, names(len(models)), state(0))
    assert made["steps"] == max(int(model["steps"]) for model in models)
    assert torch.equal(made["mask"], torch.stack([model["mask"] for model in models]).any(0))


@pytest.mark.parametrize("name", FUSIONS)
def test_infinite_mask_stays_infinite(name: str) -> None:
    mask = {"mask": torch.full((2, 2), -torch.inf).triu(1)}
    assert_identical(fused(name, [mask, dict(mask)], names(2), mask), mask)


@pytest.mark.parametrize("name", FUSIONS)
def test_parameters_do_not_carry_their_graph_into_the_fusion(name: str) -> None:
    models = [{"weight": torch.nn.Parameter(torch.randn(3))} for _ in range(2)]
    facts = [{"weight": torch.ones(3)}] * 2
    assert not fusion(name)(models, names(2), models[0], Site(facts=facts))["weight"].requires_grad


@pytest.mark.parametrize("name", FUSIONS)
def test_models_of_another_form_are_refused_by_name(name: str) -> None:
    base = state(0)
    for other, word in (
        ({**base, "weight": torch.zeros(2, 4)}, "weight"),
        ({**base, "scalar": base["scalar"].double()}, "scalar"),
        ({**base, "extra": torch.zeros(1)}, "extra"),
        ({key: value for key, value in base.items() if key != "steps"}, "steps"),
    ):
        with pytest.raises(ConfigError, match=f"task1.*{word}|{word}.*task1"):
            fusion(name)([base, other], names(2), base)
    with pytest.raises(ConfigError, match="one state for each"):
        fusion(name)([base], names(2), base)
