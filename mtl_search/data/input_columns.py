"""Which columns the backbone sees, what each of them is, and whether every value in them can be used.

Stands between the sources and the preparation: all data sets of a study share one backbone, so one set of inputs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl_search.data.datasets import DataSet, collect_problems
from mtl_search.data.sources.base import NGRAMS, TEXT_FEATURES
from mtl_search.data.sources.parquet_rows import ChunkedColumn, ChunkedRows, Rows, chunks_of
from mtl_search.errors import NOTHING, Problem, few_of
from mtl_search.input_kinds import INPUT_KINDS, Fault, GivenColumn
from mtl_search.input_kinds.base import NO_VALUE
from mtl_search.input_kinds.column_stats import ColumnStats
from mtl_search.input_kinds.preparation import Preparation

_NAMELESS = re.compile(r"Unnamed: \d+(\.\d+)*")  # what pandas calls a column without a name, when read again too


@dataclass(frozen=True)
class InputColumns:
    """The input columns of a study, over all data sets.

    Attributes:
        kinds: Input column to the name of its kind.
        listed: Key of a source that names columns of one kind -> those columns.
        hashing: Features of a column of text, and the most words hashed as one.
        missing: "impute" if a data set says so.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hashing: tuple[int, int] = (TEXT_FEATURES, NGRAMS)
    missing: str = "error"
    name: str = ""
    place: str = "data"

    @property
    def names(self) -> tuple[str, ...]:
        """All input columns, kind by kind."""
        return tuple(name for kind in INPUT_KINDS for name, own in self.kinds.items() if own == kind)

    def fit(self, rows: Sequence[Rows]) -> Preparation:
        """Fits the preparation on the training rows of every data set."""
        return Preparation.fit(self.kinds, ChunkedRows(rows), self)


def choose_inputs(
    dataset: DataSet, targeted: Iterable[str], problems: list[Problem], notes: list[str]
) -> tuple[str, ...]:
    """Input columns of one data set, those that exist.

    Args:
        dataset: Its columns, and what its source says of inputs.
        targeted: Columns that a task predicts.
        problems: Grows by what is wrong with the choice.
        notes: Grows by what a user should know of it.
    """
    place, targets = f"{dataset.place}.inputs", set(targeted)
    columns = dataset.given["train"]
    if dataset.inputs is None:
        chosen = tuple(name for name in columns if name not in targets and name not in dataset.exclude)
        if nameless := [name for name in chosen if _NAMELESS.fullmatch(name)]:
            chosen = tuple(name for name in chosen if name not in nameless)
            notes.append(
                f"{place}: a column without a name ({', '.join(nameless)}) is taken for the rows' numbers and is no "
                "input unless it is listed"
            )
        for name in dataset.exclude:
            if name not in columns:
                rule = f"must name columns of data set {dataset.name!r}"
                problems.append(Problem(f"{dataset.place}.exclude", rule, name, few_of(columns)))
    else:
        if dataset.exclude:
            rule = "has no effect beside 'inputs', which lists all that the backbone sees"
            problems.append(Problem(f"{dataset.place}.exclude", rule, dataset.exclude))
        chosen = tuple(dict.fromkeys(dataset.inputs))
        for name in targets.intersection(chosen):
            problems.append(Problem(place, "must not list a task's target", name))
    if not chosen:
        problems.append(Problem(place, "must leave at least one column that no task targets", chosen, few_of(columns)))
    for split, given in dataset.given.items():
        for name in chosen:
            if name not in given and (split == "train" or name in columns):
                rule = f"must name columns of data set {dataset.name!r} (split {split})"
                problems.append(Problem(place, rule, name, few_of(given)))
    for option, listed in dataset.listed.items():
        for name in listed:
            if name not in chosen:
                rule = "must not list a task's target" if name in targets else "must name input columns"
                problems.append(Problem(f"{dataset.place}.{option}", rule, name, few_of(chosen)))
    return tuple(name for name in chosen if name in columns and name not in targets)


def settle_inputs(
    datasets: Mapping[str, DataSet],
    chosen: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
    known: Mapping[str, str] | None = None,
) -> InputColumns:
    """What every input column is, over all data sets and splits; values that cannot be used add problems.

    Args:
        datasets: By name.
        chosen: Data set to its input columns.
        problems: Grows by what is wrong.
        known: Column to its kind where a trained model has fixed it; None to tell kinds by values.
    """
    first = next(iter(datasets.values()))
    names = chosen[first.name]
    for name, dataset in datasets.items():
        if different := sorted(set(names) ^ set(chosen[name])):
            rule = f"must be the input columns of data set {first.name!r}, one backbone sees both; they differ in"
            problems.append(Problem(f"{dataset.place}.inputs", rule, different))
    listed = {
        option: tuple(dict.fromkeys(name for dataset in datasets.values() for name in dataset.listed[option]))
        for option in first.listed
    }
    given = _look_at(datasets, names, listed, problems)
    kinds = dict(known) if known is not None else _kinds_of(given, listed)
    alone = [name for name, kind in kinds.items() if INPUT_KINDS[kind].alone]
    if alone and len(names) > 1:
        rule = "must be one column of arrays, or columns of single values and lists of numbers"
        problems.append(Problem(f"{first.place}.inputs", rule, alone[0], few_of(names)))
    for kind in set(kinds.values()):
        own = [column for column in given if kinds.get(column.name) == kind]
        faults = INPUT_KINDS[kind].check(own) if own else ()
        problems += [Problem(each.place, each.rule, _shown(each), tuple(each.choices)) for each in faults]
    hashing = next((dataset.hashing for dataset in datasets.values() if dataset.listed["text"]), first.hashing)
    missing = "impute" if any(dataset.missing == "impute" for dataset in datasets.values()) else "error"
    return InputColumns(kinds, listed, hashing, missing, first.name, first.place)


def _look_at(
    datasets: Mapping[str, DataSet],
    names: Sequence[str],
    listed: Mapping[str, Collection[str]],
    problems: list[Problem],
) -> list[GivenColumn]:
    """Every input column of every data set and split, with what was seen of its values."""
    found = []
    for dataset in datasets.values():
        for split, columns in dataset.given.items():
            with collect_problems(problems):
                stats = column_stats(columns, names, listed["categorical"], listed["text"])
                found += [
                    GivenColumn(dataset, split, name, seen, ChunkedColumn(columns, name))
                    for name, seen in stats.items()
                ]
    return found


def column_stats(
    columns: Rows, names: Sequence[str], listed: Collection[str], free: Collection[str]
) -> dict[str, ColumnStats]:
    """Facts of some columns.

    Args:
        columns: One given split of a data set.
        names: Which columns; those that it does not have are left out.
        listed: Those whose numbers are categories.
        free: Those of free text, which is not counted.
    """
    there = [name for name in names if name in columns]
    found = {name: ColumnStats() for name in there}
    for chunk in chunks_of(columns, there):
        for name, values in chunk.items():
            found[name].add(values, name in listed, name not in free)
    return found


def _kinds_of(given: Sequence[GivenColumn], listed: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The kind of each column: the last one that claims it."""
    stats: dict[str, list[ColumnStats]] = {}
    for column in given:
        stats.setdefault(column.name, []).append(column.stats)
    kinds = {}
    for name, seen in stats.items():
        options = [option for option, columns in listed.items() if name in columns]
        claims = (kind for kind in reversed(INPUT_KINDS) if INPUT_KINDS[kind].claims(seen, options, len(stats) == 1))
        kinds[name] = next(claims)
    return kinds


def _shown(fault: Fault) -> Any:
    return NOTHING if fault.value is NO_VALUE else fault.value
