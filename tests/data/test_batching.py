"""Batches: which rows a step sees, on one rank or several."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared import fitted_array
from torch import Tensor

from mtl_search.data.batching import Batch, BatchPlan, DeviceSplit
from mtl_search.data.study_data import Split
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.recipe import Component

many_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(lambda n: {f"d{i}": k for i, k in enumerate(n)})
plans = st.tuples(many_sizes, st.integers(4, 30), st.floats(0.2, 1e6), st.integers(0, 2**31 - 1))


def masks_of(sizes: dict[str, int], seed: int = 0) -> tuple[dict[str, Tensor], dict[str, str]]:
    generator = torch.Generator().manual_seed(seed)
    masks = {f"one-{name}": torch.rand(n, generator=generator) < 0.7 for name, n in sizes.items()}
    masks |= {f"many-{name}": torch.rand(n, 3, generator=generator) < 0.7 for name, n in sizes.items()}
    return masks, {task: task.split("-")[1] for task in masks}


def batches(sizes: dict[str, int], epoch: int = 0, **options: object) -> list[Batch]:
    masks, task_datasets = masks_of(sizes)
    return list(BatchPlan(sizes, masks, task_datasets, **options).epoch(epoch))  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(plans, st.integers(1, 4), st.integers(0, 3))
def test_the_ranks_rows_unite_to_the_rows_of_one_rank(
    plan: tuple[dict[str, int], int, float, int], world: int, epoch: int
) -> None:
    sizes, batch_size, temperature, seed = plan
    options = {"batch_size": batch_size, "temperature": temperature, "seed": seed}
    alone = batches(sizes, epoch, **options)
    ranks = [batches(sizes, epoch, **options, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(alone):
        for index, rows in enumerate(batch.rows):
            assert torch.equal(torch.cat([rank[step].rows[index] for rank in ranks]), rows)
        assert all(rank[step].counts == batch.counts for rank in ranks)
        totals = [sum(len(rows) for rows in rank[step].rows) for rank in ranks]
        assert max(totals) - min(totals) <= 1


def test_a_plan_knows_where_its_ranks_rows_start() -> None:
    sizes = {"large": 40, "small": 9}
    masks, task_datasets = masks_of(sizes)
    ranks = [BatchPlan(sizes, masks, task_datasets, 16, rank=rank, world=3) for rank in range(3)]
    before = {"large": 0, "small": 0}
    for plan in ranks:
        assert plan.starts == before
        for name, rows in zip(sizes, next(plan.epoch(0)).rows, strict=True):
            before[name] += len(rows)
    assert before == ranks[0].batch_rows


@settings(max_examples=50, deadline=None)
@given(plans)
def test_counts_are_the_labels_in_the_global_batch(plan: tuple[dict[str, int], int, float, int]) -> None:
    sizes, batch_size, temperature, seed = plan
    masks, task_datasets = masks_of(sizes)
    for batch in batches(sizes, batch_size=batch_size, temperature=temperature, seed=seed):
        rows = dict(zip(sizes, batch.rows, strict=True))
        assert batch.counts == {task: int(mask[rows[task_datasets[task]]].sum()) for task, mask in masks.items()}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 5))
def test_with_one_data_set_an_epoch_sees_no_row_twice_and_drops_less_than_a_batch(
    rows: int, batch_size: int, epoch: int
) -> None:
    seen = torch.cat([batch.rows[0] for batch in batches({"main": rows}, epoch, batch_size=batch_size)])
    assert len(set(seen.tolist())) == len(seen)
    assert rows - len(seen) < batch_size
    if rows % batch_size == 0 or rows < batch_size:
        assert sorted(seen.tolist()) == list(range(rows))


@settings(max_examples=100, deadline=None)
@given(plans)
def test_a_batch_takes_rows_in_proportion_to_size_under_temperature(
    plan: tuple[dict[str, int], int, float, int],
) -> None:
    sizes, batch_size, temperature, seed = plan
    masks, task_datasets = masks_of(sizes)
    made = BatchPlan(sizes, masks, task_datasets, batch_size, temperature, seed)
    total = min(batch_size, sum(sizes.values()))
    assert sum(made.batch_rows.values()) == total
    assert made.steps == max(1, sum(sizes.values()) // batch_size)
    assert all(1 <= made.batch_rows[name] <= rows for name, rows in sizes.items())
    shares = {name: math.exp(math.log(rows) / temperature - math.log(40) / temperature) for name, rows in sizes.items()}
    shares = {name: share / sum(shares.values()) * total for name, share in shares.items()}
    if all(1 <= share <= sizes[name] for name, share in shares.items()):
        assert all(abs(made.batch_rows[name] - share) < 1 for name, share in shares.items())


def test_proportions_go_from_the_rows_to_even() -> None:
    sizes = {"small": 100, "large": 300}
    masks, task_datasets = masks_of(sizes)
    rows = {t: BatchPlan(sizes, masks, task_datasets, 40, t).batch_rows for t in (1.0, 2.0, 1e9)}
    assert rows[1.0] == {"small": 10, "large": 30}
    assert rows[2.0] == {"small": 15, "large": 25}
    assert rows[1e9] == {"small": 20, "large": 20}


def test_a_small_data_set_goes_round_and_sees_every_row_equally_often_within_one() -> None:
    seen = torch.cat([batch.rows[0] for batch in batches({"a": 7, "b": 93}, batch_size=10, temperature=1e9)])
    counts = torch.bincount(seen, minlength=7)
    assert counts.sum() == 50
    assert counts.max() - counts.min() <= 1


def test_order_changes_with_seed_epoch_and_data_set_only() -> None:
    def order(epoch: int = 0, **options: int) -> list[int]:
        return torch.cat([b.rows[0] for b in batches({"main": 30}, epoch, batch_size=5, **options)]).tolist()

    assert order() == order()
    torch.manual_seed(99)
    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)
    for two in batches({"a": 30, "b": 30}, batch_size=60):
        assert two.rows[0].tolist() != two.rows[1].tolist()


def test_rows_that_do_not_divide_go_to_the_ranks_in_turn() -> None:
    sizes = {f"d{index}": 5 for index in range(4)}
    ranks = [batches(sizes, batch_size=4, rank=rank, world=2)[0] for rank in range(2)]
    assert [[len(rows) for rows in rank.rows] for rank in ranks] == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_a_batch_smaller_than_a_row_per_data_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: must be at least the number of data sets, 3, got 2"):
        batches({"a": 5, "b": 5, "c": 5}, batch_size=2)


def test_a_split_on_a_device_holds_prepared_features_and_leaves_read_only_arrays_alone() -> None:
    values = np.random.default_rng(0).normal(size=(20000, 2)).astype(np.float32)
    target = np.ones(20000, dtype=np.float32)
    mask = np.ones(20000, dtype=bool)
    for array in (values, target, mask):
        array.setflags(write=False)
    preparation = fitted_array([values])
    task = Task("t", "regression", "main", (), 0.0, 1.0, "mse", Component("rmse"), "y")
    held = DeviceSplit({"main": Split((values,), {"t": target}, {"t": mask})}, preparation, [task], "cpu")
    assert held.sizes == {"main": 20000}
    assert held.task_dataset == {"t": "main"}
    assert torch.equal(held.inputs["main"][:].single, preparation(torch.tensor(values))["array"])
    assert not held.inputs["main"][:].single.requires_grad
    assert held.masks["t"].dtype == torch.bool
    held.targets["t"].zero_()
    assert target.all()
