"""Ordered labels: reading an order, and the model against logistic regression."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mtl_search.config.study_config import TaskConfig
from mtl_search.data.targets import encode_target, fit_task
from mtl_search.data.task import Task
from mtl_search.errors import Problem
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.task_kinds.base import RawTarget
from mtl_search.training.metrics import check_metric, metric_for

ORDINAL = TASK_KINDS["ordinal"]


def read(labels: list[Any], **stated: Any) -> tuple[Task | None, RawTarget, list[Problem]]:
    config = TaskConfig.model_validate({"kind": "ordinal", "target": "y", **stated})
    raw = ORDINAL.read((np.array(labels, dtype=object),), config)
    problems: list[Problem] = []
    return fit_task("t", config, "main", raw, problems), raw, problems


def task_of(labels: int) -> Task:
    task, _, _ = read(list(range(labels)))
    assert task is not None
    return task


def random_outputs(rows: int, labels: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(rows, labels - 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("labels", "stated", "order"),
    [
        ([10, 9, 2, None, 9.0], {}, ("2", "9", "10")),
        (["3", "-1", "0.5"], {}, ("-1", "0.5", "3")),
        (["mid", "high", "low", "mid"], {"order": ["low", "mid", "high"]}, ("low", "mid", "high")),
        ([1, 2, 3], {"order": [3, 2, 1]}, ("3", "2", "1")),
        (["x", "y", "none", "x"], {"order": ["y", "x"], "missing": "none"}, ("y", "x")),
    ],
)
def test_labels_are_ordered_by_number_or_as_the_study_file_says(
    labels: list[Any], stated: dict[str, Any], order: tuple[str, ...]
) -> None:
    task, raw, problems = read(labels, **stated)
    assert problems == []
    assert task is not None
    assert task.labels == order
    targets, mask, _ = encode_target(task, raw, "train", problems)
    ranks = [order.index(label) for label in raw.values[raw.mask]]
    assert targets[mask].tolist() == ranks


@pytest.mark.parametrize(
    ("labels", "stated", "told"),
    [
        (
            ["low", "high", "low"],
            {},
            "tasks.t.order: must list all labels from the lowest to the highest, since not all of them are numbers, "
            "got ['high', 'low']",
        ),
        (
            ["low", "high", "low"],
            {"order": ["low", "hihg", "high"]},
            "tasks.t.order: must list labels of the training rows, got 'hihg' (choices: high, low)",
        ),
        (
            ["low", "high", "mid"],
            {"order": ["low", "high"]},
            "tasks.t.order: must list every label of the training rows, got ['low', 'high'] (choices: high, low, mid)",
        ),
        (["low", "high"], {"order": ["low", "high", "low"]}, "tasks.t.order: must list each label once, got 'low'"),
        ([1, 1], {}, "tasks.t.target: must hold at least 2 labels in the training rows, got ['1']"),
    ],
)
def test_an_order_that_does_not_fit_the_labels_is_told(labels: list[Any], stated: dict[str, Any], told: str) -> None:
    task, _, problems = read(labels, **stated)
    assert task is None
    assert [str(problem) for problem in problems] == [told]


@given(rows=st.integers(1, 8), labels=st.integers(2, 7), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_probabilities_are_the_products_of_the_steps(rows: int, labels: int, seed: int) -> None:
    raw = random_outputs(rows, labels, seed)
    found = ORDINAL.activate(task_of(labels), raw)
    steps = raw.sigmoid()
    for row in range(rows):
        above = 1.0
        for label in range(labels):
            stay = 1.0 if label == labels - 1 else 1 - float(steps[row, label])
            assert float(found[row, label]) == pytest.approx(above * stay, abs=1e-6)
            above *= 1 - stay
    torch.testing.assert_close(found.sum(1), torch.ones(rows))


def test_extreme_outputs_give_finite_losses_and_gradients() -> None:
    raw = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [1e4, 1e4]], requires_grad=True)
    loss = ORDINAL.loss_sum(task_of(3), raw, torch.tensor([0, 2, 1]), None)
    loss.backward()
    assert raw.grad is not None
    assert loss.isfinite()
    assert raw.grad.isfinite().all()
    assert ORDINAL.mean_entropy(raw).isfinite()


def test_two_labels_are_logistic_regression() -> None:
    raw, targets = random_outputs(20, 2), torch.arange(20) % 2
    binary = TASK_KINDS["binary"]
    task = task_of(2)
    ours = ORDINAL.loss_sum(task, raw, targets, None)
    torch.testing.assert_close(ours, binary.losses["bce"]()(raw[:, 0], targets.float(), "sum"))
    torch.testing.assert_close(ORDINAL.activate(task, raw)[:, 1], raw[:, 0].sigmoid())
    torch.testing.assert_close(ORDINAL.entropies(raw), binary.entropies(raw[:, 0]))


def test_the_best_linear_model_is_a_logistic_regression_for_each_step() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    y = np.digitize(x @ [1.2, -0.7] + rng.logistic(size=300), [-1.0, 0.3, 1.5])
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    weights = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ORDINAL.losses["corn"]()(inputs @ weights[:2] + weights[2], targets, "sum")
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    for step in range(3):
        reached = y >= step
        known = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(x[reached], y[reached] > step)
        wanted = [*known.coef_[0], known.intercept_[0]]
        np.testing.assert_allclose(weights[:, step].detach().numpy(), wanted, atol=1e-4)


def test_the_prediction_is_the_median_label() -> None:
    task = task_of(3)
    said = torch.tensor([[0.4, 0.25, 0.35], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]])
    metric = metric_for(task)
    metric.update(said, torch.tensor([1, 0, 2]))
    assert metric.compute() == 0
    logits = torch.logit(torch.stack([1 - said[:, 0], said[:, 2] / (1 - said[:, 0])], 1))
    assert ORDINAL.hard_targets(logits).tolist() == [1, 0, 2]


def test_draws_have_the_models_own_distribution() -> None:
    raw = torch.tensor([[0.3, -0.8, 1.0]]).expand(40_000, 3).clone().requires_grad_()
    total = ORDINAL.surprisal(task_of(4), raw, torch.Generator().manual_seed(0))
    # The mean loss of draws from a distribution is its entropy.
    assert float(total.detach()) / len(raw) == pytest.approx(float(ORDINAL.mean_entropy(raw.detach())), rel=0.01)
    (gradient,) = torch.autograd.grad(total, raw)
    # A score has mean zero, and its variance is the expected Fisher information.
    assert gradient.mean(0).abs().max() < 0.01
    steps = raw[0].detach().sigmoid()
    reach = torch.cat([torch.ones(1), steps[:-1]]).cumprod(0)
    torch.testing.assert_close(gradient.var(0), reach * steps * (1 - steps), rtol=0.05, atol=0.0)


def test_soft_targets_are_softened_by_the_temperature() -> None:
    raw = random_outputs(9, 4)
    assert ORDINAL.entropies(raw).mean() < ORDINAL.entropies(raw / 3).mean()
    torch.testing.assert_close(ORDINAL.soft_targets(raw, 3.0), ORDINAL.activate(task_of(4), raw / 3))


@pytest.mark.parametrize(("metric", "defined"), [("mae", True), ("accuracy", True), ("quadratic_kappa", False)])
def test_kappa_alone_is_not_defined_where_all_labels_are_the_same(metric: str, defined: bool) -> None:
    task, _, _ = read([1, 2, 3], metric=metric)
    assert task is not None
    found = check_metric(task, metric_for(task), torch.ones(5).long(), torch.ones(5).bool())
    assert (found.broken == "") == defined
    assert math.isfinite(found.perfect) == defined
