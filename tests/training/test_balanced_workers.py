"""Every sharing with every weighting that goes with it: two workers train as one, for 20 steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from groups_of_two import in_a_group_of_two
from small_workloads import EVERY_KIND, data_of, recipe_of, two_data_sets, workload_of
from torch import Tensor

from mtl_search.models.distributed import DistributedContext
from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Component, Schedule
from mtl_search.training.pairings import Pairs
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

ONE_TABLE: list[tuple[str, dict[str, Any]]] = [
    ("hard", {}),
    ("hard", {"depth": 1}),
    ("none", {}),
    ("tree", {"groups": [["digit", "odd"], ["ink", "halves"]], "until": 2}),
    ("soft", {"strength": 0.01}),
    ("experts", {"count": 2}),
    ("experts", {"count": 2, "private": 1}),
    ("adapters", {"rank": 2}),
    ("cross_stitch", {}),
]
OWN_DATA: list[tuple[str, dict[str, Any]]] = [("hard", {}), ("cross_stitch", {}), ("adversarial", {})]
MORE: dict[str, list[dict[str, Any]]] = {"mgda": [{"at": "shared"}], "upgrad": [{"at": "shared"}]}
TYPICAL = ("mgda",)
"""With each sharing in the default tests; all others with ``hard`` there."""
SCHEDULE = Schedule(1, 7, Component("sgd", {"lr": 0.02, "momentum": 0.5}))
STEPS = 20


def workloads() -> dict[str, Workload]:
    return {"one table": workload_of(data_of(EVERY_KIND)), "own data": workload_of(two_data_sets((230, 47)))}


def weightings() -> list[Component]:
    return [Component(name, more) for name in WEIGHTINGS for more in [{}, *MORE.get(name, [])]]


def pairs(workloads: dict[str, Workload], rest: bool) -> Iterator[tuple[str, Workload, Component, Component]]:
    """Every pair that is not refused, with a name: the typical ones, or the rest."""
    for where, sharings in (("one table", ONE_TABLE), ("own data", OWN_DATA)):
        workload = workloads[where]
        refusals = Pairs(workload)
        for name, params in sharings:
            sharing = Component(name, params)
            for weighting in [Component(w, more) for w in WEIGHTINGS for more in [{}, *MORE.get(w, [])]]:
                typical = weighting.name in TYPICAL or (name == "hard" and not params)
                recipe = recipe_of(SCHEDULE, sharing=sharing, weighting=weighting)
                if typical is not rest and not refusals.refusal(recipe):
                    title = f"{where}: {name} {params} {weighting.name} {dict(weighting.params)}"
                    yield title, workload, sharing, weighting


def carry_out(world: DistributedContext, rest: bool) -> dict[str, tuple[Tensor, dict[str, Tensor], dict[str, float]]]:
    """By pair, the mean losses, the parameters and the weights used after the steps."""
    found = {}
    spaces: dict[int, Workspace] = {}
    for name, workload, sharing, weighting in pairs(workloads(), rest):
        workspace = spaces.setdefault(id(workload), Workspace(workload, world))
        model = workspace.model([task.name for task in workload.data.tasks], sharing)
        optimizer = build(OPTIMIZERS, SCHEDULE.optimizer).build(model.parameters())
        step = Step(model, workspace.splits["train"], SCHEDULE, build(WEIGHTINGS, weighting), optimizer, 5, world)
        assert step.steps >= STEPS
        torch.manual_seed(world.rank)
        losses = step.run_epoch(1, lambda _: 1.0)
        found[name] = (losses, {key: value.clone() for key, value in model.state_dict().items()}, step.weights_used())
    return found


@pytest.mark.parametrize("rest", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["typical", "rest"])
def test_two_workers_train_as_one_whatever_is_shared_and_however_it_is_balanced(tmp_path: Path, rest: bool) -> None:
    first, second = in_a_group_of_two(carry_out, tmp_path, rest)
    wrong = {}
    for name, (losses, state, weights) in carry_out(DistributedContext(), rest).items():
        distances = [float((losses - first[name][0]).abs().max())]
        distances += [float((value - first[name][1][key]).abs().max()) for key, value in state.items()]
        distances += [abs(value - first[name][2][task]) / 10 for task, value in weights.items()]
        if not max(distances) <= 1e-5:
            wrong[name] = max(distances)
    assert wrong == {}
    for name, (_, state, _) in first.items():  # and the two ranks are equal to the bit
        assert all(torch.equal(value, second[name][1][key]) for key, value in state.items()), name


def test_every_sharing_and_every_weighting_has_its_turn() -> None:
    assert {name for name, _ in ONE_TABLE + OWN_DATA} == set(SHARINGS)
    made = [(s.name, w.name) for rest in (False, True) for _, _, s, w in pairs(workloads(), rest)]
    assert {weighting for _, weighting in made} == set(WEIGHTINGS)
    assert {sharing for sharing, _ in made} == set(SHARINGS)
