"""The data sets of a study as their sources gave them, and how their columns are found and counted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.sources import SOURCES
from mtl_search.data.sources.base import Source
from mtl_search.data.sources.parquet_rows import ParquetRows, Rows
from mtl_search.errors import NOTHING, Problem, ProblemsError
from mtl_search.space.binding import bind_component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.variants.building import build


@dataclass(frozen=True)
class DataSet:
    """One data set before anything is cut or encoded.

    Attributes:
        name: Its name in the study.
        place: Key path of its source, for problems.
        inputs: Input columns that the source was given, None for all that no task targets.
        exclude: Columns that are no inputs, where ``inputs`` is None.
        listed: Key of the source that names columns of one kind (``categorical``, ``text``) to those columns.
        hashing: Features of a column of text, and the most words hashed as one.
        missing: "error" or "impute".
        given: The splits of the source; columns in memory, or on disk.
    """

    name: str
    place: str
    inputs: tuple[str, ...] | None
    exclude: tuple[str, ...]
    listed: Mapping[str, tuple[str, ...]]
    hashing: tuple[int, int]
    missing: str
    given: Mapping[str, Rows]


@contextmanager
def collect_problems(problems: list[Problem], section: str = "") -> Iterator[None]:
    """Turns an error of the block into problems.

    Args:
        problems: Grows by them.
        section: Key path that their places are relative to.
    """
    try:
        yield
    except ProblemsError as error:
        problems += [replace(p, place=".".join(part for part in (section, p.place) if part)) for p in error.problems]


def build_sources(config: DataConfig, problems: list[Problem]) -> dict[str, Source]:
    """The source of every data set; one that cannot be built adds its problems and is left out."""
    sources: dict[str, Source] = {}
    for name, component in config.datasets.items():
        with collect_problems(problems, _section(config, name)):
            sources[name] = build(SOURCES, component)
    return sources


def _section(config: DataConfig, name: str) -> str:
    return "data.source" if config.source is not None else f"data.sources.{name}"


def read_datasets(
    config: DataConfig,
    sources: Mapping[str, Source],
    verbatim: Mapping[str, Collection[str]],
    problems: list[Problem],
    notes: list[str],
) -> dict[str, DataSet]:
    """Reads every source.

    Args:
        config: The data section.
        sources: Data set to its source.
        verbatim: Data set to the columns whose values are kept as they are spelled.
        problems: Grows by what is wrong; a source that fails is left out.
        notes: Grows by what a user should know.
    """
    datasets: dict[str, DataSet] = {}
    for name, source in sources.items():
        place = f"{_section(config, name)}.{config.datasets[name].name}"
        told: list[str] = []
        with collect_problems(problems, place):
            given: Mapping[str, Rows]
            if config.stream:
                given = {split: rows.under(place) for split, rows in source.stream(verbatim[name], told).items()}
            else:
                given = source.load(verbatim[name], told)
            datasets[name] = DataSet(
                name,
                place,
                source.inputs,
                source.exclude,
                source.listed,
                (source.text_features, source.ngrams),
                source.missing,
                given,
            )
        notes += [f"{place}.{note}" for note in told]
    return datasets


def assign_tasks(config: DataConfig, tasks: Mapping[str, TaskConfig], problems: list[Problem]) -> dict[str, str]:
    """The data set of each task, where it has one; what is wrong with a task whatever its data holds adds problems."""
    names = tuple(config.datasets)
    assigned: dict[str, str] = {}
    for name, task in tasks.items():
        losses, place = TASK_KINDS[task.kind].losses, f"tasks.{name}.loss"
        if task.loss is not None and task.loss.name not in losses:
            problems.append(Problem(place, f"must be a loss for {task.kind}", task.loss.name, tuple(losses)))
        elif task.loss is not None:
            bind_component(task.loss, losses, place, problems)
        if task.data is None and len(names) > 1:
            problems.append(Problem(f"tasks.{name}.data", "must name the task's data set", NOTHING, names))
        elif task.data is not None and task.data not in names:
            problems.append(Problem(f"tasks.{name}.data", "must name a data set", task.data, names))
        else:
            assigned[name] = task.data or names[0]
    idle = [name for name in names if name not in assigned.values()] if len(assigned) == len(tasks) else []
    problems += [Problem(f"data.sources.{name}", "has no effect: no task uses this data set") for name in idle]
    return assigned


def owner_of(columns: Rows, name: str) -> str:
    """The column that a target's name reads: ``y`` for ``y:0`` where there is no column called ``y:0``."""
    base, _, index = name.rpartition(":")
    if name not in columns and base in columns and index.isdigit() and columns[base].ndim == 2:
        return base
    return name


def find_column(columns: Rows, name: str) -> np.ndarray | None:
    """A column by name, or ``y:0`` for column 0 of the two-axis column ``y``; None if there is no such column."""
    base = owner_of(columns, name)
    if base == name:
        return columns.get(name)
    index = int(name.rpartition(":")[2])
    return columns[base][:, index] if index < columns[base].shape[1] else None


def row_counts(dataset: DataSet, used: Iterable[str], problems: list[Problem]) -> dict[str, int]:
    """Rows of each given split, by the columns that the study uses; a split of no or unequal rows is a problem."""
    rows: dict[str, int] = {}
    names = list(dict.fromkeys(used))
    for split, columns in dataset.given.items():
        if isinstance(columns, ParquetRows):
            rows[split] = columns.rows  # which has been seen to be more than none
            continue
        lengths = {name: len(columns[name]) for name in names if name in columns}
        if len(set(lengths.values())) > 1:
            rule = f"must give columns of equally many rows (split {split})"
            problems.append(Problem(dataset.place, rule, lengths))
        elif lengths and not max(lengths.values()):
            problems.append(Problem(dataset.place, f"must give at least one row (split {split})", 0))
        elif lengths:
            rows[split] = max(lengths.values())
    return rows
