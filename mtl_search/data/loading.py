"""Reads and checks everything that the data section and the tasks name, and reports all problems in one go.

Each step adds what it finds to one list and goes on with what is sound, so a user mends a study file once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtl_search.config.study_config import DataConfig, SplitConfig, TaskConfig
from mtl_search.data.datasets import (
    DataSet,
    assign_tasks,
    build_sources,
    collect_problems,
    owner_of,
    read_datasets,
    row_counts,
)
from mtl_search.data.input_columns import InputColumns, choose_inputs, settle_inputs
from mtl_search.data.sources.base import SPLITS, Source
from mtl_search.data.sources.parquet_rows import ParquetRows, Rows
from mtl_search.data.splits import cut_splits
from mtl_search.data.targets import EncodedTarget, encode_target, fit_task, is_labelled, missing_labels, read_target
from mtl_search.data.task import Task
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.errors import DataError, Problem
from mtl_search.recipe import seed_from
from mtl_search.task_kinds.base import RawTarget

_Rows = dict[str, tuple[str, np.ndarray]]
EncodedTargets = dict[str, EncodedTarget]
"""Targets by task, or of one task by split."""


@dataclass(frozen=True)
class GatheredData:
    """Sound raw data, cut into splits.

    Attributes:
        tasks: The tasks, in order.
        inputs: What the input columns are.
        rows: Data set to split to raw input columns, in memory or on disk.
        targets: Task to split to targets, mask and weights as losses take them.
        notes: What a user should know though it is no error, a line each.
    """

    tasks: tuple[Task, ...]
    inputs: InputColumns
    rows: dict[str, dict[str, Rows]]
    targets: dict[str, EncodedTargets]
    notes: tuple[str, ...] = ()


def gather(
    config: DataConfig, tasks: Mapping[str, TaskConfig], seed: int, known: TrainedSchema | None = None
) -> GatheredData:
    """Reads the sources, cuts the splits and fits the tasks.

    Args:
        config: The data section.
        tasks: The tasks, in order.
        seed: The cut depends on it.
        known: What a trained model has fixed; None to fit everything.

    Raises:
        DataError: Every problem found.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    assigned = assign_tasks(config, tasks, problems)
    sources = build_sources(config, problems)
    verbatim = {name: _verbatim(name, sources, tasks, assigned, known) for name in sources}
    datasets = read_datasets(config, sources, verbatim, problems, notes)
    if known is not None:
        tasks = known.configured(tasks, problems)
        datasets = {name: known.dataset(dataset, problems) for name, dataset in datasets.items()}
    raw: dict[str, dict[str, RawTarget]] = {}
    for name, home in assigned.items():
        if home not in datasets:
            continue
        with collect_problems(problems):
            if (target := read_target(name, tasks[name], datasets[home], problems, notes)) is not None:
                raw[name] = target
    # All data sets have the same inputs, so what a task of one predicts or is weighed by is an input of none.
    wanted = [column for task in tasks.values() for column in _columns_of(task)]
    targeted = {owner_of(dataset.given["train"], column) for dataset in datasets.values() for column in wanted}
    choose = choose_inputs if known is None else known.choose_inputs
    chosen = {name: choose(dataset, targeted, problems, notes) for name, dataset in datasets.items()}
    kinds = None if known is None else known.kinds
    inputs = settle_inputs(datasets, chosen, problems, kinds) if datasets else InputColumns()
    rows: dict[str, _Rows] = {}
    for name, dataset in datasets.items():
        own = {task: raw[task] for task in raw if assigned[task] == name}
        used = [*chosen[name], *(owner_of(dataset.given["train"], c) for task in own for c in _columns_of(tasks[task]))]
        counts = row_counts(dataset, used, problems)
        if len(counts) == len(dataset.given):
            classes = {task: own[task]["train"] for task in own if is_labelled(tasks[task])}
            if len(dataset.given) < len(SPLITS):
                for task in _find_unshared(classes, problems):
                    del classes[task], raw[task]
            labels = [target.values for target in classes.values()]
            rows[name] = _cut(config, name, counts, labels, seed, problems)
    problems += _idle_fractions(config, datasets)
    fitted, targets = _fit(tasks, assigned, raw, rows, problems, known)
    if problems:
        raise DataError(problems)
    taken = {name: _take(datasets[name], rows[name], inputs) for name in rows}
    return GatheredData(fitted, inputs, taken, targets, tuple(dict.fromkeys(notes)))


def _columns_of(task: TaskConfig) -> list[str]:
    """Columns that a task reads: its targets, and the one of its weights."""
    return [*task.target, *([] if task.weight is None else [task.weight])]


def _verbatim(
    name: str,
    sources: Mapping[str, Source],
    tasks: Mapping[str, TaskConfig],
    assigned: Mapping[str, str],
    known: TrainedSchema | None,
) -> set[str]:
    """Columns of a data set to keep as they are spelled: categories and labels, unless a task needs them as numbers."""
    own = {task: config for task, config in tasks.items() if assigned.get(task) == name}
    numbers = {column for config in own.values() if not is_labelled(config) for column in config.target}
    numbers |= {config.weight for config in own.values() if config.weight is not None}
    if known is not None:
        return known.verbatim(own) - numbers
    labels = {column for config in own.values() if is_labelled(config) for column in config.target}
    # All data sets have the same inputs: what one lists as categorical is so in all.
    return labels.union(*(source.categorical for source in sources.values())) - numbers


def _find_unshared(classes: Mapping[str, RawTarget], problems: list[Problem]) -> list[str]:
    """Tasks with more labels than half of the rows, which cannot be cut into splits; each adds a problem."""
    found = []
    for task, target in classes.items():
        labels, rows = len(set(target.values[target.mask])), int(target.mask.sum())
        if labels > max(2, rows / 2):
            rule = "must hold labels that rows share, to be cut into splits (a number to predict is a regression)"
            problems.append(Problem(f"tasks.{task}.target", f"{rule}, got {labels} different labels in {rows} rows"))
            found.append(task)
    return found


def _cut(
    config: DataConfig, name: str, counts: Mapping[str, int], labels: list[np.ndarray], seed: int, out: list[Problem]
) -> _Rows:
    fractions = {"validation": config.split.validation, "test": config.split.test}
    rows, problems = cut_splits(counts, fractions, labels, seed_from(seed, "split", name))
    out += [problem for problem in problems if problem not in out]
    return {} if problems else rows


def _fit(
    tasks: Mapping[str, TaskConfig],
    assigned: Mapping[str, str],
    raw: Mapping[str, Mapping[str, RawTarget]],
    rows: Mapping[str, _Rows],
    problems: list[Problem],
    known: TrainedSchema | None,
) -> tuple[tuple[Task, ...], dict[str, EncodedTargets]]:
    """Tasks fitted on training rows, but those that are known, and the targets of every split."""
    fitted: list[Task] = []
    targets: dict[str, EncodedTargets] = {}
    for name, given in raw.items():
        home = assigned[name]
        cut = {split: given[source].take(numbers) for split, (source, numbers) in rows.get(home, {}).items()}
        old = known is not None and name in known.tasks
        for split, target in cut.items():
            problems += [] if old and split == "train" else missing_labels(name, target, split)
        if not cut:
            continue
        fit = known.task if known is not None and old else fit_task
        if (task := fit(name, tasks[name], home, cut["train"], problems)) is not None:
            fitted.append(task)
            targets[name] = {
                split: encode_target(task, target, split, problems, known=old) for split, target in cut.items()
            }
    return tuple(fitted), targets


def _idle_fractions(config: DataConfig, datasets: Mapping[str, DataSet]) -> list[Problem]:
    """Fractions that were set though every source gives the split itself."""
    standard = SplitConfig()
    return [
        Problem(f"data.split.{name}", "has no effect: every source gives this split itself", value)
        for name in ("validation", "test")
        if (value := getattr(config.split, name)) != getattr(standard, name)
        and datasets
        and all(name in dataset.given for dataset in datasets.values())
    ]


def _take(dataset: DataSet, rows: _Rows, inputs: InputColumns) -> dict[str, Rows]:
    """Raw input columns of every split."""
    return {split: _some(dataset.given[source], numbers, inputs) for split, (source, numbers) in rows.items()}


def _some(columns: Rows, numbers: np.ndarray, inputs: InputColumns) -> Rows:
    if isinstance(columns, ParquetRows):
        return columns.take(numbers)
    found = {name: columns[name] for name in inputs.names}
    return {name: column if len(numbers) == len(column) else column[numbers] for name, column in found.items()}
