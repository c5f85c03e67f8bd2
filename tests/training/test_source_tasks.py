"""Source tasks: they weigh what they are told to beside the target tasks, and never decide anything."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from groups_of_two import in_a_group_of_two
from small_workloads import BATCH_NORM, recipe_of, same, with_source_tasks, workload_of, workspace_of
from torch import Tensor

from mtl_search.balancing.source_tasks import SourceTasks
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import base_of, load_model
from mtl_search.storage.reports import StageResult
from mtl_search.training.episodes import Episodes
from mtl_search.training.evaluation import evaluate
from mtl_search.training.fusing import fused_model
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import Stage, run_stage, trained_model
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workspace
from mtl_search.transfer import AUXILIARIES, OPTIMIZERS
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.bases.learned import MetaLearned
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

TARGETS, SOURCES = ("ink", "dark"), ("digit", "odd")
SCHEDULE = Schedule(1, 16, Component("sgd", {"lr": 0.1, "momentum": 0.0}))
META = {
    "reptile": {"epochs": 2, "batch_size": 16, "inner_steps": 2, "inner_lr": 0.1, "outer_lr": 0.5},
    "fomaml": {"epochs": 2, "batch_size": 16, "inner_steps": 2, "inner_lr": 0.1, "outer_lr": 0.3},
}


def step_of(workspace: Workspace, model: MultiTaskModel, weighting: Component, weight: float = 0.3) -> Step:
    optimizer = build(OPTIMIZERS, SCHEDULE.optimizer).build(model.parameters())
    auxiliaries = SourceTasks(build(AUXILIARIES, Component("constant", {"weight": weight})), len(SOURCES))
    train, built = workspace.splits["train"], build(WEIGHTINGS, weighting)
    step = Step(model, train, SCHEDULE, built, optimizer, 5, workspace.world, auxiliaries=auxiliaries)
    step.enter(1)
    return step


def sharing_model(workspace: Workspace) -> MultiTaskModel:
    return workspace.model((*TARGETS, *SOURCES), Component("hard", {"depth": 1}))


@pytest.mark.parametrize(
    "weighting",
    [
        Component("fixed"),
        Component("uncertainty"),
        Component("mgda", {"at": "representation"}),
        Component("mgda", {"at": "shared"}),
        Component("graddrop"),
    ],
    ids=str,
)
def test_source_tasks_add_their_weighted_gradients_to_the_update(weighting: Component) -> None:
    workspace = workspace_of(with_source_tasks())
    model = sharing_model(workspace)
    plain = copy.deepcopy(model)
    step = step_of(workspace, model, weighting)
    without = copy.deepcopy(plain)
    batch, facts = next(step._batches(1))
    step._update(batch, facts, model)
    other = step_of(workspace, without, weighting, weight=1e-30)
    other._update(batch, facts, without)

    parts = zip(plain.datasets, batch.rows, strict=True)
    features = torch.cat([workspace.splits["train"].inputs[name][:].single[rows] for name, rows in parts])
    outputs = plain(features, [len(rows) for rows in batch.rows])
    split = workspace.splits["train"]
    losses = []
    for task in plain.tasks[len(TARGETS) :]:
        rows = batch.rows[plain.datasets.index(task.dataset)]
        targets, mask = split.targets[task.name][rows], split.masks[task.name][rows]
        total = task.behaviour.loss_sum(task, outputs[task.name], targets, mask)
        losses.append(total / batch.counts[task.name])
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(plain.parameters()), allow_unused=True)
    balanced = weighting.name not in ("fixed", "uncertainty")
    pairs = zip(model.named_parameters(), without.parameters(), gradients, strict=True)
    for (name, ours), alone, gradient in pairs:
        # Where gradients are balanced, a part that one task has alone gets that task's own gradient, as published.
        if gradient is not None and (not balanced or name.startswith("blocks.0")):
            torch.testing.assert_close(alone - ours, 0.1 * 0.3 * gradient, rtol=1e-4, atol=1e-6)


def test_what_balances_tasks_sees_the_target_tasks_alone() -> None:
    workspace = workspace_of(with_source_tasks())
    first = sharing_model(workspace)
    step = step_of(workspace, first, Component("mgda", {"at": "shared"}))
    step.run_epoch(1, lambda _: 1.0)
    used = step.weights_used()
    assert used["ink"] + used["dark"] == pytest.approx(2)
    assert used["digit"] == used["odd"] == pytest.approx(0.3)


def stages_of(workspace: Workspace, folder: Path, base: Component) -> dict[str, Any]:
    recipe = replace(
        recipe_of(SCHEDULE, SCHEDULE, depth=1),
        base=base,
        auxiliary=Component("linear", {"weight": 0.5}),
    )
    data = workspace.workload.data
    goals = Objective(task_goals(data, data.source_tasks))
    pretrain = Stage(f"base {base.name}", "pretrain", SOURCES, recipe, str(folder / "base"), goals)
    found = {"pretrain": run_stage(pretrain, workspace)}
    singles = {}
    own = task_goals(data)
    for task in TARGETS:
        objective = Objective({task: own[task]}, task)
        stage = Stage(task, "single_task", (task,), recipe, str(folder / task), objective, base=pretrain.folder)
        singles[task] = found[task] = run_stage(stage, workspace)
    goals = Objective({task: replace(goal, baseline=singles[task].metrics[task]) for task, goal in own.items()})
    joint = Stage(
        "joint",
        "joint",
        (*TARGETS, *SOURCES),
        recipe,
        str(folder / "joint"),
        goals,
        {task: str(folder / task) for task in TARGETS},
        base=pretrain.folder,
        sources=SOURCES,
    )
    found["joint"] = run_stage(joint, workspace)
    found["model"] = load_model(folder / "joint")
    found["base"] = base_of(load_model(folder / "base"))
    assert isinstance(trained_model(joint, workspace), MultiTaskModel)
    return found


def test_the_way_from_the_base_is_told_for_target_tasks(tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks())
    found = stages_of(workspace, tmp_path, Component("pretrain", {"epochs": 3, "batch_size": 32}))
    steps = found["joint"].steps
    assert list(steps) == ["base", "single", "fused", "joint"]
    assert all(list(metrics) == list(TARGETS) for metrics in steps.values())
    assert steps["single"] == {task: found[task].metrics[task] for task in TARGETS}
    assert steps["base"] == {task: found[task].history[0].metrics[task] for task in TARGETS}
    assert found["pretrain"].best_score >= 0
    base = workspace.base_of(str(tmp_path / "base"))
    assert same(base, found["base"])
    assert not same(base, workspace.base)
    weights = [report.weights["digit"] for report in found["joint"].history[1:]]
    assert weights[0] < 0.5  # falls within the epoch already


def test_source_tasks_start_from_the_heads_of_their_base(tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks())
    base = Component("pretrain", {"epochs": 2, "batch_size": 32})
    still = Schedule(0, 16)
    recipe = replace(recipe_of(still, still, depth=2), base=base, auxiliary=Component("constant"))
    data = workspace.workload.data
    goals = task_goals(data, data.all_tasks)
    pretrain = Stage("base", "pretrain", SOURCES, recipe, str(tmp_path / "base"), Objective(goals_in(goals, SOURCES)))
    before = run_stage(pretrain, workspace)
    for task in TARGETS:
        objective = Objective({task: goals[task]}, task)
        run_stage(
            Stage(task, "single_task", (task,), recipe, str(tmp_path / task), objective, base=pretrain.folder),
            workspace,
        )
    own = {task: replace(goals[task], baseline=1.0) for task in TARGETS}
    folders = {task: str(tmp_path / task) for task in TARGETS}
    joint = Stage(
        *("joint", "joint", (*TARGETS, *SOURCES), recipe, str(tmp_path / "joint"), Objective(own), folders),
        base=pretrain.folder,
        sources=SOURCES,
    )
    after = run_stage(joint, workspace)
    assert {task: after.metrics[task] for task in SOURCES} == {task: before.metrics[task] for task in SOURCES}


def goals_in(goals: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: goals[name] for name in names}


def plain_episodes(name: str, model: MultiTaskModel, workspace: Workspace, episodes: Episodes) -> None:
    """One epoch of meta-learning as the papers write it, on the batches that the episodes take."""
    params, split = META[name], workspace.splits["train"]
    turns = {task.name: iter(_all_batches(episodes, number)) for number, task in enumerate(model.tasks)}
    for number in range(episodes.steps):
        task = model.tasks[number % len(model.tasks)]
        theta = copy.deepcopy(model.blocks.state_dict())
        head = model.heads[task.name]

        def loss(task: Any = task) -> Tensor:
            rows = next(turns[task.name]).rows[model.datasets.index(task.dataset)]
            sizes = [len(rows) if name == task.dataset else 0 for name in model.datasets]
            output = model(split.inputs[task.dataset][:].single[rows], sizes)[task.name]
            mask = split.masks[task.name][rows]
            targets = split.targets[task.name][rows]
            return task.behaviour.loss_sum(task, output, targets, mask) / mask.sum()

        inner = torch.optim.SGD([*model.blocks.parameters(), *head.parameters()], params["inner_lr"])
        for _ in range(params["inner_steps"]):
            inner.zero_grad()
            loss().backward()
            inner.step()
        inner.zero_grad()
        loss().backward()
        with torch.no_grad():
            for key, phi in model.blocks.named_parameters():
                way = theta[key] - phi if name == "reptile" else phi.grad
                phi.copy_(theta[key] - params["outer_lr"] * way)


def _all_batches(episodes: Episodes, number: int) -> Any:
    return episodes._endless(number, 1)


@pytest.mark.parametrize("name", META)
def test_meta_learning_is_that_of_its_paper(name: str) -> None:
    workspace = workspace_of(with_source_tasks())
    ours = workspace.model(SOURCES, None)
    theirs = copy.deepcopy(ours)
    base = build(BASES, Component(name, META[name]))
    assert isinstance(base, MetaLearned)
    episodes = Episodes(base, ours, workspace.splits["train"], 7, DistributedContext())
    episodes.run_epoch(1, lambda _: 1.0)
    plain_episodes(name, theirs, workspace, episodes)
    assert not torch.equal(next(ours.blocks.parameters()), workspace.base["0.linear.weight"])
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-6)


def carry_out(world: DistributedContext, folder: Path) -> dict[str, Any]:
    workspace = Workspace(workload_of(with_source_tasks()), world)
    bases = [Component("pretrain", {"epochs": 1, "batch_size": 32}), *(Component(*item) for item in META.items())]
    return {base.name: stages_of(workspace, folder / base.name, base) for base in bases}


def test_two_workers_learn_from_source_tasks_as_one(tmp_path: Path) -> None:
    two, _ = in_a_group_of_two(carry_out, tmp_path, tmp_path)
    one = carry_out(DistributedContext(), tmp_path / "one")
    for name, found in one.items():
        for part in ("base", "model"):
            torch.testing.assert_close(two[name][part], found[part], rtol=0, atol=1e-5)


def joint_of(workspace: Workspace, folder: Path, **parts: Component) -> tuple[StageResult, MultiTaskModel]:
    """Result and kept model of a joint stage with source tasks over untrained single-task models."""
    still = Schedule(0, 16)
    recipe = replace(recipe_of(Schedule(1, 16), still, depth=1), auxiliary=Component("constant"), **parts)
    goals, folders = task_goals(workspace.workload.data), {}
    for task in TARGETS:
        folders[task] = str(folder / task)
        objective = Objective({task: goals[task]}, task)
        run_stage(Stage(task, "single_task", (task,), recipe, folders[task], objective), workspace)
    own = Objective({task: replace(goal, baseline=1.0) for task, goal in goals.items()})
    names, place = (*TARGETS, *SOURCES), str(folder / "joint")
    stage = Stage("joint", "joint", names, recipe, place, own, folders, sources=SOURCES)
    result = run_stage(stage, workspace)
    return result, trained_model(stage, workspace)


TREE = Component("tree", {"groups": [["ink"], ["dark"]], "depth": 1})


@pytest.mark.parametrize("sharing", [Component("hard", {"depth": 1}), TREE, Component("none")], ids=str)
def test_source_tasks_leave_no_trace_in_a_tree(sharing: Component, tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks())
    result, kept = joint_of(workspace, tmp_path, sharing=sharing)
    plain = workspace.model(TARGETS, sharing)
    assert result.parameters == sum(parameter.numel() for parameter in plain.parameters())
    assert kept.state_dict().keys() == plain.state_dict().keys()
    found = evaluate(kept, workspace.splits["validation"], workspace.metrics, DistributedContext())
    assert {task: found[task]["metric"] for task in TARGETS} == {task: result.metrics[task] for task in TARGETS}


def test_source_tasks_stay_where_the_others_ways_lead_through_theirs(tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks())
    _, kept = joint_of(workspace, tmp_path, sharing=Component("cross_stitch"))
    assert [task.name for task in kept.tasks] == [*TARGETS, *SOURCES]


@pytest.mark.parametrize(
    "fusion", [Component("slerp"), Component("learned", {"signal": "labels", "steps": 2})], ids=str
)
def test_source_tasks_are_not_fused(fusion: Component, tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks())
    found = []
    for weight in (0.5, 1e-9):
        recipe = replace(recipe_of(Schedule(0, 16), SCHEDULE, depth=1), fusion=fusion)
        recipe = replace(recipe, auxiliary=Component("constant", {"weight": weight}))
        folders = {task: str(tmp_path / task) for task in TARGETS}
        for task in TARGETS:
            goal = Objective({task: task_goals(workspace.workload.data)[task]}, task)
            run_stage(Stage(task, "single_task", (task,), recipe, folders[task], goal), workspace)
        found.append(fused_model((*TARGETS, *SOURCES), recipe, folders, workspace).state_dict())
        found.append(fused_model(TARGETS, recipe, folders, workspace).state_dict())
    names = [name for name in found[1] if name.startswith("blocks.0")]
    for state in found[1:] if fusion.name == "slerp" else found[2:3]:
        torch.testing.assert_close({n: state[n] for n in names}, {n: found[0][n] for n in names})


def test_features_of_a_base_with_batch_norm_stay_what_they_are(tmp_path: Path) -> None:
    workspace = workspace_of(with_source_tasks(), BATCH_NORM)
    never = Schedule(1, 16, unfreezing=Component("never"))
    recipe = recipe_of(never, never, depth=2)
    folders = {task: str(tmp_path / task) for task in TARGETS}
    for task in TARGETS:
        goal = Objective({task: task_goals(workspace.workload.data)[task]}, task)
        run_stage(Stage(task, "single_task", (task,), recipe, folders[task], goal), workspace)
    assert same(base_of(fused_model(TARGETS, recipe, folders, workspace).state_dict()), workspace.base)
