"""The step against plain PyTorch loops written by hand: same batches, same optimiser, same parameters."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_workloads import EVERY_KIND, STEP_SEED, data_of, model_of, moved, snapshot, step_of, workspace_of
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.data.batching import BatchPlan
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import Weighting

SGD = Component("sgd", {"lr": 0.05, "momentum": 0.9})
ADAMW = Component("adamw", {"lr": 0.01})
MEANS: dict[str, Any] = {
    "digit": functional.cross_entropy,
    "odd": functional.binary_cross_entropy_with_logits,
    "ink": functional.mse_loss,
    "halves": functional.binary_cross_entropy_with_logits,
}


def train(step: Step, epochs: int = 1, lr: float = 1.0) -> list[Tensor]:
    return [step.run_epoch(epoch, lambda _: lr) for epoch in range(1, epochs + 1)]


def hand_written(
    workspace: Workspace,
    model: MultiTaskModel,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    weights: dict[str, float],
    epoch: int = 1,
) -> None:
    """Joint training as anybody would write it: the weighted sum of every task's mean loss over its labels."""
    split = workspace.splits["train"]
    masks = {task: split.masks[task] for task in weights}
    task_datasets = {task: split.task_dataset[task] for task in weights}
    sizes = {name: split.sizes[name] for name in model.datasets}
    plan = BatchPlan(sizes, masks, task_datasets, schedule.batch_size, schedule.temperature, STEP_SEED)
    model.train()
    for batch in plan.epoch(epoch):
        rows = dict(zip(model.datasets, batch.rows, strict=True))
        x = torch.cat([split.inputs[name][:].single[rows[name]] for name in model.datasets])
        outputs = model(x, [len(rows[name]) for name in model.datasets])
        total = torch.zeros(())
        for task, weight in weights.items():
            own = rows[task_datasets[task]]
            mask = masks[task][own]
            if mask.any():
                total = total + weight * MEANS[task](outputs[task][mask], split.targets[task][own][mask])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("data", ["every_kind", "unequal"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_epoch_is_that_of_a_hand_written_loop(data: str, depth: int, request: pytest.FixtureRequest) -> None:
    workspace = workspace_of(request.getfixturevalue(data))
    schedule = Schedule(batch_size=32, optimizer=SGD, temperature=2.0)
    ours, theirs = model_of(workspace, depth=depth), model_of(workspace, depth=depth)
    train(step_of(workspace, ours, schedule))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    hand_written(workspace, theirs, optimizer, schedule, {task.name: 1.0 for task in ours.tasks})
    assert distance(ours, theirs) <= 1e-6
    assert distance(ours, model_of(workspace, depth=depth)) > 1e-2


def test_several_epochs_with_adamw_stay_with_the_hand_written_loop(workspace: Workspace) -> None:
    schedule = Schedule(batch_size=32, optimizer=ADAMW)
    ours, theirs = model_of(workspace), model_of(workspace)
    train(step_of(workspace, ours, schedule), epochs=2)
    optimizer = torch.optim.AdamW(theirs.parameters(), 0.01)
    for epoch in (1, 2):
        hand_written(workspace, theirs, optimizer, schedule, dict.fromkeys(EVERY_KIND, 1.0), epoch)
    assert distance(ours, theirs) <= 1e-5


@pytest.mark.parametrize("task", EVERY_KIND)
def test_fine_tuning_one_task_is_plain_training_of_that_net(workspace: Workspace, task: str) -> None:
    schedule = Schedule(batch_size=32, optimizer=SGD)
    ours, theirs = model_of(workspace, (task,)), model_of(workspace, (task,))
    train(step_of(workspace, ours, schedule))
    hand_written(workspace, theirs, torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9), schedule, {task: 1.0})
    assert distance(ours, theirs) <= 1e-6


def test_weights_scale_the_task_losses(workspace: Workspace) -> None:
    schedule = Schedule(batch_size=32, optimizer=SGD)
    tasks = ("digit", "ink")
    weighting = build(WEIGHTINGS, Component("fixed", {"log_ratio": 1.0}))
    ours, theirs = model_of(workspace, tasks), model_of(workspace, tasks)
    step = step_of(workspace, ours, schedule, weighting)
    train(step)
    ratio = torch.tensor(1.0).exp().item()
    weights = {"digit": 2 / (1 + ratio), "ink": 2 * ratio / (1 + ratio)}
    hand_written(workspace, theirs, torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9), schedule, weights)
    assert distance(ours, theirs) <= 1e-6
    assert step.weights_used() == pytest.approx(weights)


def test_reported_losses_are_the_means_over_the_labels_of_the_batches(workspace: Workspace) -> None:
    schedule = Schedule(batch_size=32, optimizer=SGD)
    model, still = model_of(workspace), model_of(workspace)
    (losses,) = train(step_of(workspace, model, schedule), lr=0.0)
    split = workspace.splits["train"]
    masks = {task: split.masks[task] for task in EVERY_KIND}
    expected = torch.zeros(4)
    batches = list(BatchPlan(split.sizes, masks, split.task_dataset, 32, seed=STEP_SEED).epoch(1))
    for batch in batches:
        (rows,) = batch.rows
        with torch.no_grad():
            outputs = still(split.inputs["main"][:].single[rows])
        for index, task in enumerate(EVERY_KIND):
            mask = masks[task][rows]
            expected[index] += MEANS[task](outputs[task][mask], split.targets[task][rows][mask]) / len(batches)
    torch.testing.assert_close(losses, expected)
    assert not moved(model, snapshot(still))


def test_the_learning_rate_follows_the_factor_of_every_step(workspace: Workspace) -> None:
    schedule = Schedule(batch_size=32, optimizer=SGD)
    model = model_of(workspace)
    step = step_of(workspace, model, schedule)
    asked: list[int] = []

    def only_the_third(number: int) -> float:
        asked.append(number)
        return float(number == 2)

    step.run_epoch(1, only_the_third)
    assert asked == list(range(step.steps))
    assert step.learning_rate == 0.0
    halved = model_of(workspace)
    other = step_of(workspace, halved, replace(schedule, optimizer=Component("sgd", {"lr": 0.025, "momentum": 0.9})))
    other.run_epoch(1, lambda number: 2.0 * (number == 2))
    assert distance(model, halved) <= 1e-7


def test_clipping_bounds_the_norm_of_each_update(workspace: Workspace) -> None:
    plain = Component("sgd", {"lr": 1.0, "momentum": 0.0})
    schedule = Schedule(batch_size=10_000, optimizer=plain, clip_norm=0.1)  # one step an epoch
    model = model_of(workspace)
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    step = step_of(workspace, model, schedule)
    train(step)
    change = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert step.steps == 1
    assert change.norm().item() == pytest.approx(0.1, rel=1e-4)
    unclipped = model_of(workspace)
    train(step_of(workspace, unclipped, replace(schedule, clip_norm=None)))
    free = nn.utils.parameters_to_vector(unclipped.parameters()).detach() - before
    torch.testing.assert_close(change, free * 0.1 / free.norm(), rtol=1e-3, atol=1e-6)


def test_a_batch_in_which_a_task_has_no_label_leaves_that_task_alone(workspace: Workspace) -> None:
    split = workspace.splits["train"]
    split.masks["digit"][:] = False
    split.masks["digit"][0] = True  # in one batch of the epoch at most
    model = model_of(workspace, depth=0)
    before = snapshot(model)
    step = step_of(workspace, model, Schedule(batch_size=32, optimizer=Component("sgd", {"lr": 0.1, "momentum": 0.0})))
    plan = BatchPlan(split.sizes, {"digit": split.masks["digit"]}, split.task_dataset, 32, seed=STEP_SEED)
    # An epoch drops the rows that fill no batch; in some the only label is among them.
    without = next(epoch for epoch in range(1, 99) if not any(batch.counts["digit"] for batch in plan.epoch(epoch)))
    losses = step.run_epoch(without, lambda _: 1.0)
    own = ("heads.digit.", "blocks.0.0.", "blocks.1.0.")
    assert losses[0] == 0
    assert torch.isfinite(losses).all()
    assert "heads.ink.linear.weight" in moved(model, before)
    assert not {name for name in moved(model, before) if name.startswith(own)}


class Recording(Weighting):
    """Keeps what it is asked, and answers with one tensor of its own."""

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self.answer = torch.tensor([0.5, 1.5], device=device)
        self.asked: list[Tensor] = []

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        self.asked.append(losses.clone())
        return self.answer


def test_the_weightings_own_tensor_is_left_as_it_is(workspace: Workspace) -> None:
    weighting = Recording()
    step = step_of(workspace, model_of(workspace, ("digit", "ink")), Schedule(batch_size=32, optimizer=SGD), weighting)
    (losses,) = train(step)
    assert weighting.answer.tolist() == [0.5, 1.5]
    assert step.weights_used() == {"digit": 0.5, "ink": 1.5}
    assert not any(asked.requires_grad for asked in weighting.asked)
    torch.testing.assert_close(torch.stack(weighting.asked).mean(0), losses)


def test_labels_without_gaps_train_as_under_a_mask_of_ones() -> None:
    workspace = workspace_of(data_of(EVERY_KIND, holes=False))
    schedule = Schedule(batch_size=32, optimizer=SGD)
    ours, theirs = model_of(workspace), model_of(workspace)
    train(step_of(workspace, ours, schedule))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    hand_written(workspace, theirs, optimizer, schedule, dict.fromkeys(EVERY_KIND, 1.0))
    assert distance(ours, theirs) <= 1e-6
