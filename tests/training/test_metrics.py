"""Metrics by name, each against a value from scikit-learn, SciPy or torchmetrics' functional side."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as reference
from torch import Tensor
from torchmetrics.functional.classification import binary_matthews_corrcoef, multiclass_cohen_kappa

from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.training.metrics import (
    judging_metrics,
    measure_metric,
    metric_for,
    metric_notes,
    task_goals,
    value_of,
)

LABELS = {
    "classification": ("a", "b", "c"),
    "binary": ("no", "yes"),
    "multilabel": ("p", "q"),
    "ordinal": ("low", "mid", "high"),
}


def task_of(kind: str, metric: str, params: dict[str, Any] | None = None) -> Task:
    center, scale = (40.0, 7.0) if kind == "regression" else (0.0, 1.0)
    return Task("t", kind, "main", LABELS.get(kind, ()), center, scale, "", Component(metric, params or {}), "y")


def example(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets as a split holds them, and mask, over 60 rows."""
    generator = torch.Generator().manual_seed(5)
    if kind in ("classification", "ordinal"):
        predictions = torch.rand(60, 3, generator=generator).softmax(1)
        targets = torch.randint(3, (60,), generator=generator)
    elif kind == "regression":
        targets = torch.randn(60, generator=generator)
        predictions = 40 + 7 * (targets + torch.randn(60, generator=generator))
    elif kind == "count":
        predictions = 4 * torch.rand(60, generator=generator)
        targets = torch.poisson(predictions, generator=generator)
    else:
        shape = (60, 2) if kind == "multilabel" else (60,)
        predictions = torch.rand(shape, generator=generator)
        targets = torch.randint(2, shape, generator=generator).float()
    mask = torch.rand(targets.shape, generator=generator) < 0.7
    return predictions, torch.where(mask, targets, 0), mask


def in_own_unit(task: Task, targets: Tensor) -> Tensor:
    return task.behaviour.targets_in_own_unit(task, targets)


def per_label(score: Any) -> Any:
    """The mean over labels, each over the rows that have it."""
    return lambda y, p, mask: np.mean([score(y[m, i], p[m, i]) for i, m in enumerate(mask.T)])


def ranks(p: Any) -> Any:
    """The median label of each row."""
    return np.array([next(k for k in range(len(row)) if row[: k + 1].sum() >= 0.5) for row in p])


def one_row_at_a_time(score: Any) -> Any:
    return lambda y, p, mask: score(y[mask], p[mask])


EXPECTED: dict[tuple[str, str], Any] = {
    ("classification", "accuracy"): lambda y, p: reference.accuracy_score(y, p.argmax(1)),
    ("classification", "balanced_accuracy"): lambda y, p: reference.balanced_accuracy_score(y, p.argmax(1)),
    ("classification", "auroc"): lambda y, p: reference.roc_auc_score(y, p, multi_class="ovr", average="macro"),
    ("classification", "macro_f1"): lambda y, p: reference.f1_score(y, p.argmax(1), average="macro"),
    ("binary", "accuracy"): lambda y, p: reference.accuracy_score(y, p > 0.5),
    ("binary", "auroc"): reference.roc_auc_score,
    ("binary", "average_precision"): reference.average_precision_score,
    ("binary", "f1"): lambda y, p: reference.f1_score(y, p > 0.5),
    ("binary", "matthews"): lambda y, p: reference.matthews_corrcoef(y, p > 0.5),
    ("classification", "matthews"): lambda y, p: reference.matthews_corrcoef(y, p.argmax(1)),
    ("multilabel", "macro_f1"): lambda y, p: reference.f1_score(y, p > 0.5),
    ("multilabel", "accuracy"): lambda y, p: reference.accuracy_score(y, p > 0.5),
    ("multilabel", "auroc"): reference.roc_auc_score,
    ("regression", "rmse"): reference.root_mean_squared_error,
    ("regression", "mse"): reference.mean_squared_error,
    ("regression", "mae"): reference.mean_absolute_error,
    ("regression", "r2"): reference.r2_score,
    ("regression", "pearson"): lambda y, p: pearsonr(y, p).statistic,
    ("regression", "spearman"): lambda y, p: spearmanr(y, p).statistic,
    ("ordinal", "mae"): lambda y, p: np.abs(y - ranks(p)).mean(),
    ("ordinal", "quadratic_kappa"): lambda y, p: reference.cohen_kappa_score(y, ranks(p), weights="quadratic"),
    ("ordinal", "accuracy"): lambda y, p: reference.accuracy_score(y, ranks(p)),
    ("ordinal", "spearman"): lambda y, p: spearmanr(y, p @ np.arange(3)).statistic,
    ("count", "deviance"): reference.mean_poisson_deviance,
    ("count", "rmse"): reference.root_mean_squared_error,
    ("count", "mae"): reference.mean_absolute_error,
    ("count", "pearson"): lambda y, p: pearsonr(y, p).statistic,
    ("count", "spearman"): lambda y, p: spearmanr(y, p).statistic,
}


def test_every_alias_has_an_expected_value() -> None:
    assert set(EXPECTED) == {(kind, alias) for kind, behaviour in TASK_KINDS.items() for alias in behaviour.aliases}


@pytest.mark.parametrize(("kind", "alias"), EXPECTED)
def test_alias_is_the_metric_of_that_name_over_labelled_entries(kind: str, alias: str) -> None:
    predictions, targets, mask = example(kind)
    task = task_of(kind, alias)
    got = measure_metric(metric_for(task), predictions, in_own_unit(task, targets), mask)
    y, p, m = in_own_unit(task, targets).numpy(), predictions.numpy(), mask.numpy()
    over = per_label if kind == "multilabel" else one_row_at_a_time
    assert got == pytest.approx(over(EXPECTED[kind, alias])(y, p, m), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("binary", "BinaryMatthewsCorrCoef", lambda p, y: binary_matthews_corrcoef(p, y)),
        ("binary", "MatthewsCorrCoef", lambda p, y: binary_matthews_corrcoef(p, y)),
        ("classification", "CohenKappa", lambda p, y: multiclass_cohen_kappa(p, y, 3)),
        ("regression", "MeanAbsolutePercentageError", lambda p, y: ((p - y) / y).abs().mean()),
    ],
)
def test_a_torchmetrics_class_goes_by_its_own_name(kind: str, name: str, expected: Any) -> None:
    predictions, targets, mask = example(kind)
    task = task_of(kind, name)
    targets = in_own_unit(task, targets)
    got = measure_metric(metric_for(task), predictions, targets, mask)
    assert got == pytest.approx(float(expected(predictions[mask], targets[mask])), rel=1e-5)


def test_a_metrics_parameters_reach_it() -> None:
    predictions, targets, mask = example("binary")
    strict, usual = (task_of("binary", "f1", params) for params in ({"threshold": 0.9}, {}))
    got = [measure_metric(metric_for(task), predictions, in_own_unit(task, targets), mask) for task in (strict, usual)]
    assert got[0] == pytest.approx(reference.f1_score(targets[mask], predictions[mask] > 0.9), abs=1e-6)
    assert got[0] != got[1]


@pytest.mark.parametrize("kind", LABELS)
def test_predictions_at_missing_labels_do_not_count(kind: str) -> None:
    predictions, targets, mask = example(kind)
    task = task_of(kind, next(iter(TASK_KINDS[kind].aliases)))
    changed = torch.where(mask if mask.ndim == predictions.ndim else mask[:, None], predictions, 1 - predictions)
    metric = metric_for(task)
    values = [measure_metric(metric, p, in_own_unit(task, targets), mask) for p in (predictions, changed)]
    assert values[0] == values[1]


@pytest.mark.parametrize(("center", "scale"), [(1.7e9, 28.0), (3e20, 1e19), (0.0, 2e38), (0.0, 1e-30), (2000.0, 5.0)])
@pytest.mark.parametrize("metric", [*TASK_KINDS["regression"].aliases, "ExplainedVariance"])
def test_targets_far_from_zero_or_of_any_size_are_judged_in_float64(metric: str, center: float, scale: float) -> None:
    task = replace(task_of("regression", metric), center=center, scale=scale)
    generator = torch.Generator().manual_seed(5)
    targets, mask = torch.randn(60, generator=generator), torch.rand(60, generator=generator) < 0.7
    said = targets + 0.3 * torch.randn(60, generator=generator)
    got = value_of(task, metric_for(task), said, targets, mask)
    # Errors alone do not depend on where zero is: the reference gets its numbers near it.
    y, p = (scale * values[mask].double().numpy() for values in (targets, said))
    wanted = EXPECTED.get(("regression", metric), reference.explained_variance_score)(y, p)
    assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("center", "scale"), [(1.7e9, 28.0), (3e20, 1e19)])
def test_other_metrics_of_such_targets_get_float64(center: float, scale: float) -> None:
    task = replace(task_of("regression", "MeanAbsolutePercentageError"), center=center, scale=scale)
    said, targets, mask = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.3, 0.1]), torch.ones(3).bool()
    y, p = (center + scale * values.double().numpy() for values in (targets, said))
    got = value_of(task, metric_for(task), said, targets, mask)
    assert got == pytest.approx(np.mean(np.abs((p - y) / y)), rel=1e-9)


def test_one_measurement_leaves_nothing_for_the_next() -> None:
    task = task_of("binary", "auroc")
    predictions, targets, mask = example("binary")
    metric = metric_for(task)
    first = measure_metric(metric, predictions, in_own_unit(task, targets), mask)
    measure_metric(metric, 1 - predictions, in_own_unit(task, targets), mask)
    assert measure_metric(metric, predictions, in_own_unit(task, targets), mask) == first


@pytest.mark.parametrize(
    ("kind", "metric", "params", "words"),
    [
        ("binary", "rmse", {}, "must be a metric for binary tasks"),
        ("regression", "nothing_known", {}, "choices: rmse"),
        ("binary", "auroc", {"no_such": 1}, "must fit torchmetrics' BinaryAUROC"),
        ("binary", "f1", {"threshold": 7.0}, "must fit torchmetrics' BinaryF1Score"),
        ("binary", "ConfusionMatrix", {}, "with a direction"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_by_name(
    kind: str, metric: str, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        metric_for(task_of(kind, metric, params))
    assert caught.value.problems[0].place == "tasks.t.metric"


def test_goals_have_the_direction_of_their_metric_and_its_natural_scale(every_kind: StudyData) -> None:
    goals = task_goals(every_kind)
    assert {task: goal.higher_is_better for task, goal in goals.items()} == {
        "digit": True,
        "odd": True,
        "ink": False,
        "halves": True,
    }
    assert all(goals[task].scale == 1 for task in ("digit", "odd", "halves"))
    assert all(goal.baseline is None for goal in goals.values())
    ink = next(task for task in every_kind.tasks if task.name == "ink")
    split = every_kind.splits["validation"]["main"]
    labels = split.targets["ink"][split.masks["ink"]] * ink.scale + ink.center
    assert goals["ink"].scale == pytest.approx(math.sqrt(np.mean((labels - ink.center) ** 2)), rel=1e-5)


def with_metric(data: StudyData, **metrics: str) -> StudyData:
    return replace(
        data,
        tasks=tuple(
            replace(task, metric=Component(metrics[task.name])) if task.name in metrics else task for task in data.tasks
        ),
    )


def test_all_metrics_that_do_not_fit_are_named_at_once(every_kind: StudyData) -> None:
    with pytest.raises(ConfigError) as caught:
        task_goals(with_metric(every_kind, odd="nothing", ink="auroc"))
    assert [problem.place for problem in caught.value.problems] == ["tasks.odd.metric", "tasks.ink.metric"]


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1", "matthews"])
def test_a_task_whose_metric_needs_both_labels_is_not_judged_where_validation_has_one(
    every_kind: StudyData, metric: str
) -> None:
    validation = every_kind.splits["validation"]["main"]
    only = replace(validation, targets={**validation.targets, "odd": np.zeros_like(validation.targets["odd"])})
    data = replace(with_metric(every_kind, odd=metric), splits={**every_kind.splits, "validation": {"main": only}})
    assert [name for name, goal in task_goals(data).items() if not goal.judged] == ["odd"]


def with_labels(data: StudyData, split: str, task: str, labels: np.ndarray) -> StudyData:
    """The data whose first labels of a task in one split are these, and which has no others."""
    part = data.splits[split]["main"]
    targets, mask = np.zeros_like(part.targets[task]), np.zeros_like(part.masks[task])
    targets[: len(labels)], mask[: len(labels)] = labels, True
    other = replace(part, targets={**part.targets, task: targets}, masks={**part.masks, task: mask})
    return replace(data, splits={**data.splits, split: {"main": other}})


@pytest.mark.parametrize(
    ("metric", "labels", "reason"),
    [
        ("r2", [0.5], "Needs at least two samples to calculate r2 score"),
        ("r2", [0.5, 0.5, 0.5], "they are all the same"),
        ("spearman", [0.5, 0.5], "it gives 0 for perfect and for wrong ones"),
        ("pearson", [0.5, 0.5], "it gives nan"),
    ],
)
def test_a_task_whose_metric_needs_a_spread_is_not_judged_where_validation_has_none(
    every_kind: StudyData, metric: str, labels: list[float], reason: str
) -> None:
    data = with_labels(with_metric(every_kind, ink=metric), "validation", "ink", np.array(labels, np.float32))
    goals = task_goals(data)
    assert (goals["ink"].judged, goals["ink"].weight, goals["ink"].higher_is_better) == (False, 0.0, False)
    assert [name for name, goal in goals.items() if goal.judged] == ["digit", "odd", "halves"]
    assert judging_metrics(data)["ink"] == "loss"
    assert (
        f"tasks.ink.metric: {metric} is not defined on the validation labels ({reason}): "
        "the task is not judged, and its loss picks the best epoch"
    ) in metric_notes(data)
    assert task_goals(with_metric(data, ink="mae"))["ink"].judged
    alone = replace(data, tasks=tuple(task for task in data.tasks if task.name == "ink"))
    with pytest.raises(ConfigError, match=r"tasks\.ink\.metric: must .* on the validation labels"):
        task_goals(alone)


def test_a_metric_that_is_not_defined_on_test_is_told_and_not_refused(every_kind: StudyData) -> None:
    data = with_labels(with_metric(every_kind, odd="auroc", ink="r2"), "test", "odd", np.zeros(4, np.float32))
    data = with_labels(data, "test", "ink", np.ones(1, np.float32))
    assert set(task_goals(data)) == {"digit", "odd", "ink", "halves"}
    assert metric_notes(data) == [
        "tasks.odd.metric: auroc is not defined on the test labels (it gives 0 for perfect and for wrong ones): "
        "no test figure of this task will be reported",
        "tasks.ink.metric: r2 is not defined on the test labels (Needs at least two samples to calculate r2 score): "
        "no test figure of this task will be reported",
    ]


def test_a_score_that_counts_an_absent_class_as_zero_is_told(every_kind: StudyData) -> None:
    data = with_labels(with_metric(every_kind, digit="auroc"), "validation", "digit", np.arange(8))
    (note,) = metric_notes(data)
    assert note.startswith("tasks.digit.metric: auroc gives perfect predictions only 0.8 on the validation labels")


def test_a_metric_that_is_not_one_number_is_refused(every_kind: StudyData) -> None:
    vector = Component("accuracy", {"average": None})
    tasks = tuple(replace(task, metric=vector) if task.name == "digit" else task for task in every_kind.tasks)
    with pytest.raises(ConfigError, match=r"tasks\.digit\.metric: must give one number"):
        task_goals(replace(every_kind, tasks=tasks))


def test_choosing_a_metric_warns_of_nothing(every_kind: StudyData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_goals(with_metric(every_kind, ink="spearman"))
