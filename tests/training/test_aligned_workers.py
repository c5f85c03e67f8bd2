"""Every alignment with sharings and weightings that go with it: two workers train as one, for 20 steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from groups_of_two import in_a_group_of_two
from small_workloads import two_data_sets, workload_of
from torch import Tensor

from mtl_search.alignment import ALIGNMENTS
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.pairings import Pairs
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

SGD = Component("sgd", {"lr": 0.02, "momentum": 0.5})
SHARINGS: list[tuple[str, dict[str, Any]]] = [
    ("hard", {}),
    ("hard", {"depth": 1}),
    ("tree", {"groups": [["digit", "odd"], ["ink"]]}),
    ("experts", {"count": 2, "private": 1}),
    ("adapters", {"depth": 1}),
    ("cross_stitch", {}),
    ("adversarial", {}),
]
BALANCED = [Component("fixed"), Component("gradnorm"), Component("mgda", {"at": "shared"})]
STRENGTH = {"coral": 20.0, "dann": 2.0}  # that it shows beside the losses
STEPS = 20


def cases(rest: bool) -> Iterator[tuple[str, Component, Component, Component, int]]:
    """Title, alignment, sharing, weighting and batch size: the typical ones, or the rest."""
    for alignment in ALIGNMENTS:
        aligned = Component(alignment, {"strength": STRENGTH.get(alignment, 1.0)} if alignment != "none" else {})
        for name, params in SHARINGS:
            for weighting in BALANCED:
                # In a batch of two rows, each rank lacks one of the data sets.
                for rows in (7, 2) if weighting.name == "fixed" else (7,):
                    plain = (name, params, weighting.name) == ("hard", {}, "fixed") and alignment != "none"
                    typical = plain and (rows > 2 or alignment == "mmd")
                    typical |= (name, weighting.name, alignment) == ("experts", "mgda", "dann")
                    typical |= (name, weighting.name, alignment) == ("tree", "gradnorm", "mmd")
                    if typical is not rest:
                        title = f"{alignment}, {name} {params}, {weighting.name}, {rows} rows"
                        yield title, aligned, Component(name, params), weighting, rows


def carry_out(world: DistributedContext, rest: bool) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """By case, the mean losses and the parameters after the steps."""
    found = {}
    workloads: dict[int, Workload] = {7: workload_of(two_data_sets()), 2: workload_of(two_data_sets((60, 36)))}
    spaces = {rows: Workspace(workload, world) for rows, workload in workloads.items()}
    for title, alignment, sharing, weighting, rows in cases(rest):
        workspace = spaces[rows]
        assert not Pairs(workspace.workload)._unaligned((), sharing, alignment)
        model = workspace.model([task.name for task in workspace.workload.data.tasks], sharing, alignment)
        schedule = Schedule(1, rows, SGD)
        optimizer = build(OPTIMIZERS, schedule.optimizer).build(model.parameters())
        step = Step(model, workspace.splits["train"], schedule, build(WEIGHTINGS, weighting), optimizer, 5, world)
        assert step.steps >= STEPS
        step.enter(1)
        torch.manual_seed(world.rank)
        losses = step.run_epoch(1, lambda _: 1.0)
        found[title] = (losses, {key: value.clone() for key, value in model.state_dict().items()})
    return found


@pytest.mark.parametrize("rest", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["typical", "rest"])
def test_two_workers_train_as_one_whatever_is_aligned(tmp_path: Path, rest: bool) -> None:
    first, second = in_a_group_of_two(carry_out, tmp_path, rest)
    wrong = {}
    for title, (losses, state) in carry_out(DistributedContext(), rest).items():
        distances = [float((losses - first[title][0]).abs().max())]
        distances += [float((value - first[title][1][key]).abs().max()) for key, value in state.items()]
        if not max(distances) <= 1e-5:
            wrong[title] = max(distances)
    assert wrong == {}
    for title, (_, state) in first.items():  # and the two ranks are equal to the bit
        assert all(torch.equal(value, second[title][1][key]) for key, value in state.items()), title


def test_every_alignment_has_its_turn_and_shows() -> None:
    found = carry_out(DistributedContext(), rest=False)
    assert {title.partition(",")[0] for title in found} == {name for name in ALIGNMENTS if name != "none"}
    ends = [state["blocks.0.0.linear.weight"] for title, (_, state) in found.items() if "hard {}, fixed, 7" in title]
    assert len(ends) == 3
    assert all(float((a - b).abs().max()) > 1e-4 for i, a in enumerate(ends) for b in ends[:i])
