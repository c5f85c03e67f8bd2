"""Training, validation and test rows: splits that the source gives are kept, the missing ones are cut from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_search.data.sources.base import SPLITS
from mtl_search.errors import NOTHING, Problem


def cut_splits(
    rows: Mapping[str, int], fractions: Mapping[str, float], labels: Sequence[np.ndarray], seed: int
) -> tuple[dict[str, tuple[str, np.ndarray]], list[Problem]]:
    """Says which rows each split holds.

    Args:
        rows: Rows of the splits that the source gives; "train" among them.
        fractions: For "validation" and "test", the part of the training rows to cut where the split is not given.
        labels: Of each class task in order, the labels (n,) of the given training rows, "" where there is none. The cut
            is stratified by the first task whose rarest class is large enough to have a row in every part.
        seed: The cut depends on it, the row count and the labels alone.

    Returns:
        Split name to (the given split that its rows come from, their row numbers in ascending order), and the problems
        found, at places in the study file.
    """
    missing = [split for split in SPLITS if split not in rows]
    unset = [split for split in missing if not fractions[split]]
    if unset:
        rule = "must be above 0 where the source gives no such split"
        return {}, [Problem(f"data.split.{split}", rule, fractions[split]) for split in unset]
    cut = _cut(rows["train"], {split: fractions[split] for split in missing}, labels, seed) if missing else {}
    splits = {split: (split, np.arange(count)) for split, count in rows.items()}
    splits |= {split: ("train", part) for split, part in cut.items()}
    problems = [
        Problem("data.split" if split in cut else "", f"must leave at least one row for {split}", NOTHING)
        for split, (_, part) in splits.items()
        if not len(part)
    ]
    return {split: splits[split] for split in SPLITS if split in splits}, problems


def _cut(count: int, fractions: Mapping[str, float], labels: Sequence[np.ndarray], seed: int) -> dict[str, np.ndarray]:
    smallest = min(fractions.values())
    strata = next((task for task in labels if _allows(task, smallest)), np.zeros(count, dtype=np.int64))
    order = _interleave(strata, np.random.default_rng(seed))
    part_of = np.full(count, "train", dtype=object)
    start = 0
    for split, fraction in fractions.items():
        size = max(1, round(count * fraction))
        part_of[order[start : start + size]] = split
        start += size
    for task in labels:
        # A class that only held-out rows have could be neither learned nor scored.
        for label in sorted(set(task[part_of != "train"]) - set(task[part_of == "train"]) - {""}):
            part_of[np.flatnonzero(task == label)[0]] = "train"
    return {split: np.flatnonzero(part_of == split) for split in ("train", *fractions)}


def _allows(labels: np.ndarray, fraction: float) -> bool:
    counts = np.unique(labels, return_counts=True)[1]
    return len(counts) > 1 and bool(counts.min() * fraction >= 1)


def _interleave(strata: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order (n,) in which every stretch holds each stratum in proportion, to within a row at either end."""
    shuffled = generator.permutation(len(strata))
    codes = np.unique(strata, return_inverse=True)[1][shuffled]
    counts = np.bincount(codes)
    grouped = np.argsort(codes, kind="stable")
    ranks = np.empty(len(codes), dtype=np.float64)
    ranks[grouped] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = (ranks + 0.5) / counts[codes]
    return shuffled[np.argsort(places, kind="stable")]
