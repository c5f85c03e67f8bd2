"""What every kind of task promises, over the family's dict."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from mtl_search.config.study_config import TaskConfig
from mtl_search.data.targets import encode_target, fit_task
from mtl_search.data.task import Task
from mtl_search.errors import Problem
from mtl_search.models.multitask import Head
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.task_kinds.base import RawTarget
from mtl_search.training.metrics import check_metric, measure_metric, metric_for, value_of

ROWS = 40


@dataclass(frozen=True)
class Example:
    """A target that the kind can learn: some rows have no label."""

    columns: tuple[np.ndarray, ...]
    stated: dict[str, Any]


def example(name: str) -> Example:
    rng = np.random.default_rng(7)
    gap = rng.random(ROWS) < 0.2
    numbers = {
        "regression": rng.normal(50, 9, ROWS),
        "count": rng.poisson(3, ROWS).astype(float),
    }
    if name in numbers:
        return Example((np.where(gap, np.nan, numbers[name]),), {"target": "y"})
    if name == "multilabel":
        labels = rng.integers(0, 2, (3, ROWS)).astype(float)
        return Example(tuple(np.where(gap, np.nan, row) for row in labels), {"target": ["a", "b", "c"]})
    words = {"binary": ["no", "yes"], "ordinal": ["low", "mid", "high"]}.get(name, ["red", "green", "blue"])
    column = np.array([words[number % len(words)] for number in range(ROWS)], dtype=object)
    order = {"order": words} if name == "ordinal" else {}
    return Example((np.where(gap, "", column),), {"target": "y", **order})


@dataclass(frozen=True)
class Fitted:
    """A task with its targets, and raw outputs of some head."""

    task: Task
    raw_target: RawTarget
    targets: torch.Tensor
    mask: torch.Tensor
    outputs: torch.Tensor


@pytest.fixture(params=TASK_KINDS)
def fitted(request: pytest.FixtureRequest) -> Fitted:
    made, problems = example(request.param), list[Problem]()
    config = TaskConfig.model_validate({"kind": request.param, **made.stated})
    raw = TASK_KINDS[request.param].read(made.columns, config)
    task = fit_task("t", config, "main", raw, problems)
    assert task is not None
    targets, mask, _ = encode_target(task, raw, "train", problems)
    assert problems == []
    torch.manual_seed(0)
    outputs = Head(5, task)(torch.randn(ROWS, 5)).detach()
    return Fitted(task, raw, torch.from_numpy(targets), torch.from_numpy(mask), outputs)


def test_a_task_is_plain_data(fitted: Fitted) -> None:
    assert Task.from_dict(fitted.task.to_dict()) == fitted.task
    assert fitted.task.scale > 0


def test_targets_are_nothing_where_there_is_no_label(fitted: Fitted) -> None:
    assert 0 < fitted.mask.sum() < fitted.mask.numel()
    assert fitted.targets.shape == fitted.mask.shape
    assert fitted.targets.dtype in (torch.float32, torch.int64)
    assert not fitted.targets[~fitted.mask].any()


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_heads_and_predictions_have_the_shapes_that_the_kind_says(fitted: Fitted, rows: int) -> None:
    task, kind = fitted.task, fitted.task.behaviour
    raw = Head(5, task)(torch.randn(rows, 5))
    assert raw.shape == (rows, *kind.output_shape(task))
    assert kind.activate(task, raw).shape == kind.predict(task, raw).shape == (rows, *kind.prediction_shape(task))
    assert kind.predict(task, raw).isfinite().all()


def test_every_loss_is_a_sum_over_labelled_rows_with_a_gradient(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    for loss in kind.losses:
        raw = fitted.outputs.clone().requires_grad_()
        task = replace(fitted.task, loss=loss)
        whole = kind.loss_sum(task, raw, fitted.targets, fitted.mask)
        parts = [kind.loss_sum(task, raw[r], fitted.targets[r], fitted.mask[r]) for r in torch.arange(ROWS).split(9)]
        torch.testing.assert_close(whole, torch.stack(parts).sum())
        (gradient,) = torch.autograd.grad(whole, raw)
        rows = fitted.mask.reshape(ROWS, -1).any(1)
        assert not gradient[~rows].any()
        assert gradient[rows].any()


def test_training_on_the_default_loss_comes_near_the_targets(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    raw = torch.zeros_like(fitted.outputs).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        kind.loss_sum(fitted.task, raw, fitted.targets, fitted.mask).backward()
        optimizer.step()
    metric = metric_for(fitted.task)
    found = value_of(fitted.task, metric, kind.activate(fitted.task, raw.detach()), fitted.targets, fitted.mask)
    bounds = check_metric(fitted.task, metric, fitted.targets, fitted.mask)
    assert abs(found - bounds.perfect) < 0.1 * abs(found - bounds.trivial)


def test_every_metric_has_a_direction_and_tells_perfect_from_trivial(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    assert kind.default_metric in kind.aliases
    assert kind.agreement in kind.aliases
    for alias in kind.aliases:
        task = Task.from_dict(
            {**fitted.task.to_dict(), "metric": Component(alias).to_dict()} | {"metric": {"name": alias, "params": {}}}
        )
        metric = metric_for(task)
        found = check_metric(task, metric, fitted.targets, fitted.mask)
        if found.broken:
            assert alias == "spearman", found  # of one constant prediction it is not defined
            continue
        assert (found.perfect > found.trivial) == metric.higher_is_better


def test_predictions_at_missing_labels_do_not_count(fitted: Fitted) -> None:
    task, kind = fitted.task, fitted.task.behaviour
    rows = fitted.mask.reshape(ROWS, -1).any(1)
    changed = fitted.outputs.clone()
    changed[~rows] += 1
    targets = kind.targets_in_own_unit(task, fitted.targets)
    values = [
        measure_metric(metric_for(task), kind.predict(task, raw), targets, fitted.mask)
        for raw in (changed, fitted.outputs)
    ]
    assert values[0] == values[1]


def test_a_models_outputs_can_be_targets(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    soft, hard = kind.soft_targets(fitted.outputs, 1.0), kind.hard_targets(fitted.outputs)
    raw = fitted.outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kind.loss_sum(fitted.task, raw, soft, None), raw)
    assert gradient.abs().max() < 1e-5, "a model agrees with itself"
    assert hard.shape == fitted.targets.shape
    assert hard.dtype == fitted.targets.dtype
    assert kind.mask_shape(soft) == kind.mask_shape(hard) == tuple(fitted.mask.shape)


def test_a_constant_prediction_is_one_row_for_all(fitted: Fitted) -> None:
    said = fitted.task.behaviour.constant(fitted.task, fitted.targets, fitted.mask, 4)
    assert said.shape == (4, *fitted.task.behaviour.prediction_shape(fitted.task))
    assert (said == said[:1]).all()


def test_surprisal_depends_on_the_generator_alone_and_has_a_gradient(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    gradients = []
    for seed in (1, 1, 2):
        raw = fitted.outputs.clone().requires_grad_()
        total = kind.surprisal(fitted.task, raw, torch.Generator().manual_seed(seed))
        gradients += torch.autograd.grad(total, raw)
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])


def test_entropy_is_there_where_the_kind_says_so(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    if kind.has_entropy:
        assert kind.mean_entropy(fitted.outputs) > 0
        assert kind.mean_entropy(fitted.outputs[:0]) == 0
    else:
        with pytest.raises(NotImplementedError):
            kind.mean_entropy(fitted.outputs)


def test_label_counts_are_plain_and_the_rarest_is_among_them(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    found = kind.describe(fitted.task, fitted.targets.numpy(), fitted.mask.numpy())
    assert found["labels"] == int(fitted.mask.sum())
    rarest = kind.count_rarest(found)
    assert (rarest is None) == (not fitted.task.labels)
    assert rarest is None or 0 < rarest < found["labels"]


def test_a_trained_task_takes_its_own_target(fitted: Fitted) -> None:
    kind = fitted.task.behaviour
    assert kind.mismatches(fitted.task, fitted.raw_target) == []
    assert kind.describe_answer(fitted.task)
    assert kind.answers_numbers == (not fitted.task.labels)
    assert copy.deepcopy(kind).losses == kind.losses
