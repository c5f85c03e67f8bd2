"""What bases, kinds of transfer and auxiliaries promise, over the families' registries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from mtl_search.errors import ConfigError
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.transfer import AUXILIARIES, TRANSFERS, UNFREEZINGS
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.bases.random import RandomBase
from mtl_search.variants.building import build

RECIPE = Recipe(
    Component("hard"), Component("mean"), Component("fixed"), Schedule(epochs=3), Schedule(epochs=5, patience=2)
)
over_bases = pytest.mark.parametrize("name", BASES)


def blocks(width: int = 4) -> list[nn.Module]:
    return Mlp(width=width, depth=2).blocks((3,))


def from_elsewhere(width: int = 4) -> dict[str, Tensor]:
    return RandomBase().state(lambda: blocks(width), 42)


def give(width: int) -> dict[str, Tensor]:
    """What the variant ``python`` calls."""
    return from_elsewhere(width)


@pytest.fixture
def base(tmp_path: Path) -> Callable[..., Any]:
    def made(name: str, width: int = 4) -> Any:
        path = tmp_path / f"{width}.safetensors"
        save_file(from_elsewhere(width), path)
        needed: dict[str, dict[str, Any]] = {
            "checkpoint": {"path": str(path)},
            "study": {"name": str(width)},
            "python": {"function": f"{__name__}:give", "params": {"width": width}},
        }
        return build(BASES, Component(name, needed.get(name, {})))

    return made


def fetch(name: str) -> dict[str, Tensor]:
    return from_elsewhere(int(name))


@over_bases
def test_a_base_loads_into_the_backbone_to_the_last_name(name: str, base: Callable[..., Any]) -> None:
    state = base(name).state(blocks, 7, fetch)
    modules = nn.ModuleList(blocks())
    modules.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in modules.state_dict().items())
    assert all(value.isfinite().all() and value.device.type == "cpu" for value in state.values())


@over_bases
def test_a_base_is_the_same_every_time_and_leaves_the_global_state(name: str, base: Callable[..., Any]) -> None:
    before = torch.random.get_rng_state()
    first = base(name).state(blocks, 7, fetch)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again = base(name).state(blocks, 7, fetch)
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in first.items())


@over_bases
def test_tensors_of_a_base_are_its_own(name: str, base: Callable[..., Any]) -> None:
    state = base(name).state(blocks, 7, fetch)
    next(iter(state.values())).add_(1.0)
    again = base(name).state(blocks, 7, fetch)
    assert not torch.equal(next(iter(state.values())), next(iter(again.values())))


@over_bases
def test_what_comes_from_elsewhere_and_does_not_fit_is_refused_by_name_and_shape(
    name: str, base: Callable[..., Any]
) -> None:
    kind = base(name, 6)
    if all(torch.equal(a, b) for a, b in zip(kind.state(lambda: blocks(6), 7, fetch).values(), fetch("6").values())):  # noqa: B905
        with pytest.raises(ConfigError, match=r"must have shape \(4, 3\), got \[?\(?6, 3"):
            kind.state(blocks, 7, fetch)
    else:
        assert kind.state(blocks, 7, fetch).keys() == from_elsewhere().keys()


@pytest.mark.parametrize("name", TRANSFERS)
def test_a_transfer_changes_schedules_alone_and_no_more_when_applied_twice(name: str) -> None:
    transfer = build(TRANSFERS, Component(name))
    applied = transfer.applied(RECIPE)
    assert transfer.applied(applied) == applied
    for part in ("sharing", "fusion", "weighting", "base", "auxiliary", "alignment"):
        assert getattr(applied, part) == getattr(RECIPE, part)
    assert (applied.single_task.epochs, applied.joint.epochs) == (3, 5)
    assert Recipe.from_dict(applied.to_dict()) == applied


@pytest.mark.parametrize("name", TRANSFERS)
def test_frozen_means_that_no_block_ever_learns(name: str) -> None:
    transfer = build(TRANSFERS, Component(name))
    for schedule in (transfer.applied(RECIPE).single_task, transfer.applied(RECIPE).joint):
        starts = [build(UNFREEZINGS, schedule.unfreezing).start(block, 3, shared=True) for block in (1, 2, 3)]
        assert (starts == [None] * 3) == transfer.frozen


@pytest.mark.parametrize("name", AUXILIARIES)
@given(progress=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6))
def test_the_weight_of_source_tasks_is_finite_and_never_grows(name: str, progress: list[float]) -> None:
    auxiliary = build(AUXILIARIES, Component(name))
    weights = [auxiliary.weight(each) for each in sorted(progress)]
    assert all(0 <= weight < 1e6 for weight in weights)
    assert weights == sorted(weights, reverse=True)
    assert auxiliary.trains == (auxiliary.weight(0.0) > 0)
