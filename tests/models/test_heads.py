"""Heads and predictions, for every kind of task."""

import pytest
import torch
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.models.multitask import Head
from mtl_search.recipe import Component

KINDS: dict[str, tuple[int, ...]] = {"classification": (3,), "multilabel": (4,), "binary": (), "regression": ()}


def task(kind: str, name: str = "t", center: float = 0.0, scale: float = 1.0) -> Task:
    labels = tuple("abcd"[: KINDS[kind][0]]) if KINDS[kind] else ()
    return Task(name, kind, "main", labels, center, scale, "unused", Component("accuracy"), "y")


def predict(task: Task, raw: Tensor) -> Tensor:
    return task.behaviour.predict(task, raw)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_raw_outputs_have_the_shape_of_their_kind(kind: str, rows: int) -> None:
    head = Head(6, task(kind))
    raw = head(torch.randn(rows, 6))
    assert raw.shape == (rows, *KINDS[kind])
    assert predict(task(kind), raw).shape == raw.shape
    raw.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_predictions_are_probabilities_or_values_in_the_targets_unit() -> None:
    raw = torch.randn(5, 3)
    torch.testing.assert_close(predict(task("classification"), raw), raw.exp() / raw.exp().sum(1, keepdim=True))
    torch.testing.assert_close(predict(task("multilabel"), raw), 1 / (1 + (-raw).exp()))
    torch.testing.assert_close(predict(task("binary"), raw[:, 0]), 1 / (1 + (-raw[:, 0]).exp()))
    torch.testing.assert_close(predict(task("regression", center=5.0, scale=2.0), raw[:, 0]), raw[:, 0] * 2 + 5)


def test_head_is_drawn_from_its_seed_alone() -> None:
    first, second = Head(6, task("classification")), Head(6, task("classification"))
    before = torch.random.get_rng_state()
    first.initialise(1)
    second.initialise(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    second.initialise(2)
    assert not torch.equal(first.linear.weight, second.linear.weight)
    assert first.linear.weight.abs().max() <= 6**-0.5
