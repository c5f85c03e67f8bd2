"""Two workers against one on the same global batches: processes of a real group, started once for all cases."""

import gc
import weakref
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from groups_of_two import in_a_group_of_two
from small_workloads import (
    BATCH_NORM,
    EVERY_KIND,
    MLP,
    WEIGHED,
    data_of,
    joint_stage,
    recipe_of,
    same,
    two_data_sets,
    workload_of,
    workspace_of,
)
from stage_outcomes import timeless
from torch import Tensor

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.storage.checkpoint import load_model
from mtl_search.training.evaluation import evaluate
from mtl_search.training.freezing import optimizer_of
from mtl_search.training.stages import run_stage
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import Weighting

SGD = Component("sgd", {"lr": 0.05, "momentum": 0.9})
ADAMW = Component("adamw", {"lr": 0.01})


class HarderFirst(Weighting):
    """Weights that depend on the losses of the step."""

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        pass

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        return len(losses) * losses.softmax(0)


@dataclass(frozen=True)
class Case:
    workload: Workload
    schedule: Schedule
    depth: int = 1
    weighting: str = "fixed"


def cases() -> dict[str, Case]:
    # Adjusted R2 depends on the number of rows, so it shows rows that count twice.
    masked = workload_of(data_of({**EVERY_KIND, "ink": {**EVERY_KIND["ink"], "metric": {"r2": {"adjusted": 2}}}}))
    unequal = workload_of(two_data_sets())
    thawing = Schedule(2, 32, ADAMW, unfreezing=Component("shared", {"epochs": 1}), clip_norm=1.0)
    gradual, pulled = Component("gradual"), {"layer_decay": 0.7, "l2_sp": 0.1, "average": 0.9}
    norms = workload_of(data_of({task: EVERY_KIND[task] for task in ("digit", "ink")}, holes=False), BATCH_NORM)
    tiny = workload_of(two_data_sets((60, 8), metric="accuracy", holes=False))
    return {
        "masked labels": Case(masked, Schedule(1, 32, SGD)),
        "rows and labels that count less": Case(workload_of(data_of(WEIGHED)), Schedule(1, 4, SGD), 1, "uncertainty"),
        "unequal data sets": Case(unequal, Schedule(1, 32, SGD, temperature=3.0)),
        "odd batches": Case(unequal, Schedule(1, 19, SGD), depth=0),
        "frozen, then not": Case(masked, thawing),
        "unequal, frozen, then not": Case(unequal, thawing, depth=2),
        "from the top, block by block": Case(unequal, Schedule(4, 32, SGD, unfreezing=gradual, **pulled)),
        "statistics that freeze": Case(norms, Schedule(3, 32, ADAMW, unfreezing=gradual, average=0.9), depth=2),
        "weights from losses": Case(masked, Schedule(1, 32, SGD), weighting="test_workers:HarderFirst"),
        "empty shares": Case(tiny, Schedule(1, 2, SGD), depth=2),  # one row of either data set: each has one rank
    }


@dataclass
class Outcome:
    """What a case came to after each epoch; epoch 0 is the start."""

    losses: list[Tensor]
    states: list[dict[str, Tensor]]
    results: list[dict[str, dict[str, float]]]
    averages: list[dict[str, Tensor]] = field(default_factory=list)
    wraps_left: int = 0


def carry_out(case: Case, world: DistributedContext) -> Outcome:
    workspace = Workspace(case.workload, world)
    recipe = recipe_of(case.schedule, depth=case.depth)
    model = workspace.model([task.name for task in case.workload.data.tasks], recipe.sharing)
    optimizer = optimizer_of(model, case.schedule)
    weighting = build(WEIGHTINGS, Component(case.weighting))
    step = Step(model, workspace.splits["train"], case.schedule, weighting, optimizer, 5, world, workspace.base)
    outcome = Outcome([], [], [])
    wraps: list[weakref.ref[Any]] = []
    for epoch in range(case.schedule.epochs + 1):
        if epoch:
            torch.manual_seed(epoch + world.rank)
            outcome.losses.append(step.run_epoch(epoch, lambda _: 1.0))
            wraps.append(weakref.ref(step._wrapped))
        outcome.states.append({name: value.clone() for name, value in model.state_dict().items()})
        with step.judged():
            outcome.averages.append({name: value.clone() for name, value in model.state_dict().items()})
        outcome.results.append(evaluate(model, workspace.splits["validation"], workspace.metrics, world))
    gc.collect()
    outcome.wraps_left = len({id(wrap) for ref in wraps if (wrap := ref()) is not None})
    return outcome


def carry_out_stages(folder: Path, world: DistributedContext, backbone: Component = MLP) -> dict[str, Any]:
    """Single-task models, then a joint stage, one stage straight after the other."""
    workspace = workspace_of(data_of({task: EVERY_KIND[task] for task in ("odd", "ink")}), backbone, world)
    recipe = recipe_of(Schedule(2, 32, ADAMW, unfreezing=Component("shared", {"epochs": 1})), Schedule(1, 32))
    return run_stage(joint_stage(workspace, recipe, folder), workspace)


def carry_out_frozen(folder: Path, world: DistributedContext) -> list[tuple[dict[str, Any], int]]:
    """The same stages with and without room for activations of frozen blocks: results, and entries made."""
    recipe = recipe_of(
        Schedule(3, 19, ADAMW, unfreezing=Component("gradual")), Schedule(1, 19, ADAMW, unfreezing=Component("never"))
    )
    found = []
    for name, budget in (("kept", ActivationsConfig()), ("plain", ActivationsConfig(host_mib=0, disk_mib=0))):
        workspace = Workspace(workload_of(two_data_sets()), world, budget)
        result = run_stage(joint_stage(workspace, recipe, folder / name), workspace)
        found.append((timeless(result), workspace.activations.made))
    return found


def carry_out_all(world: DistributedContext, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {name: carry_out(case, world) for name, case in cases().items()}
    found["stages"] = carry_out_stages(folder / "stages", world)
    found["batch norm"] = carry_out_stages(folder / "norms", world, BATCH_NORM)
    found["frozen"] = carry_out_frozen(folder / "frozen", world)
    found["agree"] = [world.agree(flag) for flag in (world.rank == 0, world.rank == 1)]
    return found


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Folder of a group of two, and what each rank found."""
    folder = tmp_path_factory.mktemp("group")
    return folder, in_a_group_of_two(carry_out_all, folder, folder)


@pytest.fixture(scope="module")
def alone() -> dict[str, Outcome]:
    return {name: carry_out(case, DistributedContext()) for name, case in cases().items()}


THAWING = ("frozen, then not", "unequal, frozen, then not", "from the top, block by block")
CASES = ("masked labels", "unequal data sets", "odd batches", *THAWING, "weights from losses", "empty shares")
Group = tuple[Path, list[dict[str, Any]]]


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_as_one(case: str, group: Group, alone: dict[str, Outcome]) -> None:
    one, two = alone[case], group[1][0][case]
    torch.testing.assert_close(torch.stack(two.losses), torch.stack(one.losses), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(two.states, one.states, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert not same(one.states[0], one.states[-1])


@pytest.mark.parametrize("case", CASES)
def test_ranks_stay_equal_to_the_bit(case: str, group: Group) -> None:
    first, second = (rank[case] for rank in group[1])
    assert all(same(ours, theirs) for ours, theirs in zip(first.states, second.states, strict=True))
    assert all(same(ours, theirs) for ours, theirs in zip(first.averages, second.averages, strict=True))
    assert torch.equal(torch.stack(first.losses), torch.stack(second.losses))
    assert first.results == second.results


def test_ranks_stay_equal_to_the_bit_where_statistics_freeze(group: Group) -> None:
    test_ranks_stay_equal_to_the_bit("statistics that freeze", group)


def test_blocks_of_two_workers_stay_to_the_bit_until_their_epoch(group: Group) -> None:
    for rank in group[1]:
        for case, blocks in (("from the top, block by block", 2), ("statistics that freeze", 2)):
            states = rank[case].states
            for epoch, (before, after) in enumerate(pairwise(states), 1):
                still = tuple(f"blocks.{block}." for block in range(blocks) if epoch < blocks - block + 1)
                moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
                assert moved == {name for name in before if not name.startswith(still)}


@pytest.mark.parametrize("case", CASES)
def test_two_workers_judge_a_model_as_one(case: str, group: Group, alone: dict[str, Outcome]) -> None:
    # The start is the same model to the bit, so its metrics must be the same numbers.
    ours, theirs = group[1][0][case].results[0], alone[case].results[0]
    assert {task: result["metric"] for task, result in ours.items()} == {
        task: result["metric"] for task, result in theirs.items()
    }


@pytest.mark.parametrize("case", THAWING)
def test_unfreezing_leaves_no_old_wrap_behind(case: str, group: Group) -> None:
    assert [rank[case].wraps_left for rank in group[1]] == [1, 1]


def test_only_rank_0s_flag_counts(group: Group) -> None:
    assert [rank["agree"] for rank in group[1]] == [[True, False]] * 2


@pytest.mark.parametrize(("name", "folder"), [("stages", "stages"), ("batch norm", "norms")])
def test_stages_follow_each_other_in_a_group(name: str, folder: str, group: Group) -> None:
    first, second = (timeless(rank[name]) for rank in group[1])
    assert first == second
    assert {path.name for path in (group[0] / folder / "joint").iterdir()} == {"model.safetensors", "result.json"}


def test_two_workers_train_from_kept_activations_to_the_bit(group: Group) -> None:
    for rank in group[1]:
        (kept, made), (plain, none) = rank["frozen"]
        assert kept == plain
        assert none == 0
        assert made > 6
    first, second = (load_model(group[0] / "frozen" / name / "joint") for name in ("kept", "plain"))
    assert same(first, second)


def test_a_model_with_batch_norm_is_judged_with_the_statistics_it_is_saved_with(group: Group) -> None:
    # Ranks saw different rows; had each kept its own statistics, the saved model would not be the judged one.
    workspace = workspace_of(data_of({task: EVERY_KIND[task] for task in ("odd", "ink")}), BATCH_NORM)
    model = workspace.model(["odd", "ink"], recipe_of(Schedule()).sharing)
    model.load_state_dict(load_model(group[0] / "norms" / "joint"))
    again = evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext())
    best = group[1][0]["batch norm"].metrics
    assert {task: result["metric"] for task, result in again.items()} == pytest.approx(best, abs=1e-6)


def test_a_group_of_one_is_like_no_group(tmp_path: Path, alone: dict[str, Outcome]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        world = DistributedContext.current(torch.device("cpu"))
        assert (world.rank, world.size) == (0, 1)
        single = carry_out(cases()["masked labels"], world)
    finally:
        dist.destroy_process_group()
    expected = alone["masked labels"]
    assert all(same(ours, theirs) for ours, theirs in zip(single.states, expected.states, strict=True))
    assert single.results == expected.results
