"""Splits: every row once, stratified, given ones kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.data.splits import cut_splits

FRACTIONS = {"validation": 0.15, "test": 0.15}


def cut(rows: dict[str, int], labels: list[np.ndarray] | None = None, seed: int = 0) -> dict[str, list[int]]:
    splits, problems = cut_splits(rows, FRACTIONS, labels or [], seed)
    assert not problems
    return {split: numbers.tolist() for split, (_, numbers) in splits.items()}


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 200), st.integers(1, 5), st.integers(0, 9))
def test_every_row_is_in_one_split_and_every_class_in_training(rows: int, classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, rows).astype(str).astype(object)
    splits, problems = cut_splits({"train": rows}, FRACTIONS, [labels], seed)
    parts = [numbers for _, numbers in splits.values()]
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    assert list(splits) == ["train", "validation", "test"]
    assert all((np.diff(part) > 0).all() for part in parts)
    if not problems:
        assert set(labels[splits["train"][1]]) == set(labels)


def test_a_cut_holds_each_class_in_proportion() -> None:
    labels = np.array(["rare"] * 20 + ["common"] * 180, dtype=object)
    for seed in range(20):
        parts = cut({"train": 200}, [labels], seed)
        assert [len(parts[split]) for split in parts] == [140, 30, 30]
        for split in ("validation", "test"):
            assert 2 <= (labels[parts[split]] == "rare").sum() <= 4


def test_a_task_whose_rarest_class_is_too_small_leaves_stratification_to_the_next() -> None:
    odd = np.array(["once"] + ["often"] * 199, dtype=object)
    rare = np.array(["rare"] * 20 + ["common"] * 180, dtype=object)
    for seed in range(20):
        parts = cut({"train": 200}, [odd, rare], seed)
        assert 2 <= (rare[parts["test"]] == "rare").sum() <= 4
        assert 0 in parts["train"]


def test_the_cut_follows_the_seed_alone() -> None:
    assert cut({"train": 50}, seed=1) == cut({"train": 50}, seed=1)
    assert cut({"train": 50}, seed=1) != cut({"train": 50}, seed=2)


def test_given_splits_are_kept_and_only_the_missing_one_is_cut() -> None:
    splits, problems = cut_splits({"train": 100, "test": 40}, FRACTIONS, [], 0)
    assert not problems
    assert {split: (source, len(rows)) for split, (source, rows) in splits.items()} == {
        "train": ("train", 85),
        "validation": ("train", 15),
        "test": ("test", 40),
    }
    assert cut({"train": 3, "validation": 2, "test": 1}) == {"train": [0, 1, 2], "validation": [0, 1], "test": [0]}


@pytest.mark.parametrize(
    ("rows", "fractions", "message"),
    [
        (2, FRACTIONS, "data.split: must leave at least one row for train"),
        (9, {"validation": 0.0, "test": 0.2}, "data.split.validation: must be above 0 where the source gives no such"),
    ],
)
def test_a_split_without_rows_is_a_problem(rows: int, fractions: dict[str, float], message: str) -> None:
    _, problems = cut_splits({"train": rows}, fractions, [], 0)
    assert message in str(problems[0])
