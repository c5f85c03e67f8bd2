"""Correlations as metrics: against scikit-learn and SciPy on random labels, and where they are not defined."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score, f1_score, matthews_corrcoef
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.recipe import Component
from mtl_search.training.metrics import check_metric, measure_metric, metric_for

CORRELATIONS = [
    ("binary", "matthews"),
    ("classification", "matthews"),
    ("regression", "pearson"),
    ("regression", "spearman"),
    ("count", "pearson"),
    ("count", "spearman"),
    ("ordinal", "spearman"),
    ("ordinal", "quadratic_kappa"),
]
SEEDS, ROWS = st.integers(0, 2**31), st.integers(1, 40)


def task_of(kind: str, metric: str) -> Task:
    labels = {"binary": ("0", "1"), "classification": ("0", "1", "2"), "ordinal": ("0", "1", "2")}.get(kind, ())
    return Task("t", kind, "main", labels, 0.0, 1.0, "", Component(metric), "y")


def example(kind: str, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets and mask. Some are so few that there is no label, or one only."""
    generator = torch.Generator().manual_seed(seed)
    if kind in ("regression", "count"):
        said, targets = torch.rand(rows, generator=generator), torch.randint(4, (rows,), generator=generator).float()
    elif kind == "binary":
        said, targets = torch.rand(rows, generator=generator), torch.randint(2, (rows,), generator=generator)
    else:
        said = (3 * torch.randn(rows, 3, generator=generator)).softmax(1)
        targets = torch.randint(3, (rows,), generator=generator)
    return said, targets, torch.rand(rows, generator=generator) < 0.7


def expected(kind: str, metric: str, said: Tensor, targets: Tensor) -> float:
    p, y = said.double().numpy(), targets.double().numpy()
    labels = (p > 0.5).astype(int) if kind == "binary" else p.argmax(1) if p.ndim > 1 else p
    if metric == "matthews":
        return float(matthews_corrcoef(y, labels))
    if metric == "quadratic_kappa":
        ranks = (p[:, :-1].cumsum(1) < 0.5).sum(1)
        return float(cohen_kappa_score(y, ranks, labels=[0, 1, 2], weights="quadratic"))
    values = p @ np.arange(3) if kind == "ordinal" else p
    return float((pearsonr if metric == "pearson" else spearmanr)(values, y).statistic)


@pytest.mark.parametrize(("kind", "metric"), CORRELATIONS)
@given(rows=ROWS, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_correlation_is_that_of_the_labelled_rows(kind: str, metric: str, rows: int, seed: int) -> None:
    said, targets, mask = example(kind, rows, seed)
    task = task_of(kind, metric)
    if not mask.any() or check_metric(task, metric_for(task), targets, mask).broken:
        assert len(set(targets[mask].tolist())) < 2
        return
    got = measure_metric(metric_for(task), said, targets, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = expected(kind, metric, said[mask], targets[mask])
    assert got == pytest.approx(0.0 if math.isnan(wanted) else wanted, abs=2e-5)


@pytest.mark.parametrize(("kind", "metric"), CORRELATIONS)
def test_predictions_that_are_all_the_same_have_no_correlation(kind: str, metric: str) -> None:
    said, targets, mask = example(kind, 40, 0)
    got = measure_metric(metric_for(task_of(kind, metric)), said[:1].expand(said.shape).clone(), targets, mask)
    assert got == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("kind", "metric"), CORRELATIONS)
@pytest.mark.parametrize("rows", [1, 5])
def test_a_correlation_is_not_defined_on_labels_that_are_all_the_same(kind: str, metric: str, rows: int) -> None:
    task = task_of(kind, metric)
    _, targets, _ = example(kind, 40, 0)
    found = check_metric(task, metric_for(task), targets[:1].expand(rows).clone(), torch.ones(rows).bool())
    assert found.broken == "must tell perfect predictions from wrong ones"


@pytest.mark.parametrize(("kind", "metric"), CORRELATIONS)
def test_higher_is_better_and_perfect_is_one(kind: str, metric: str) -> None:
    task = task_of(kind, metric)
    _, targets, mask = example(kind, 40, 0)
    found = check_metric(task, metric_for(task), targets, mask)
    assert metric_for(task).higher_is_better
    assert found.perfect == pytest.approx(1.0)
    assert found.trivial < 0.5
    assert not found.broken


def test_one_value_far_from_all_others_leaves_the_correlation_defined() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=20_000), rng.normal(size=20_000)
    x[0], y[0] = 900.0, 700.0
    said, targets = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    got = measure_metric(metric_for(task_of("regression", "pearson")), said, targets, torch.ones(20_000).bool())
    assert got == pytest.approx(pearsonr(x, y).statistic, abs=1e-5)


def test_f1_is_that_of_the_second_label() -> None:
    said, targets, mask = example("binary", 40, 3)
    got = measure_metric(metric_for(task_of("binary", "f1")), said, targets, mask)
    assert got == pytest.approx(f1_score(targets[mask], said[mask] > 0.5))
