"""Which columns the backbone sees, what each of them is, and whether every value in them can be used.

Stands between the sources and the preparation: all data sets of a study share one backbone, so one set of inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_search.data.column_stats import ColumnStats, column_stats
from mtl_search.data.datasets import DataSet, collect_problems
from mtl_search.data.encoding import number_in
from mtl_search.data.notation import HOW_TO_READ, is_foreign_number
from mtl_search.data.preparation import ArrayPreparation, Preparation, TablePreparation
from mtl_search.data.sources.base import NGRAMS, TEXT_FEATURES
from mtl_search.data.sources.parquet_rows import ChunkedColumn, ChunkedRows, ParquetRows, Rows
from mtl_search.errors import NOTHING, Problem, few_of

_MOST_CATEGORIES = 1000
_NAMELESS = re.compile(r"Unnamed: \d+(\.\d+)*")  # what pandas calls a column without a name, when read again too


@dataclass(frozen=True)
class InputColumns:
    """The input columns of a study: either one array, or numbers, categories and text.

    Attributes:
        numeric: Columns of numbers.
        categorical: Columns of categories.
        array: The one column that holds arrays, if it is that.
        missing: "impute" if a data set says so.
        text: Columns of free text.
        hashing: Features of a column of text, and the most words hashed as one.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    array: str | None = None
    missing: str = "error"
    text: tuple[str, ...] = ()
    hashing: tuple[int, int] = (TEXT_FEATURES, NGRAMS)

    @property
    def names(self) -> tuple[str, ...]:
        """All input columns."""
        return (self.array,) if self.array is not None else (*self.numeric, *self.categorical, *self.text)

    def fit(self, rows: Sequence[Rows]) -> Preparation:
        """Fits the preparation on the training rows of every data set."""
        if self.array is not None:
            return ArrayPreparation.fit(self.array, [_column(part, self.array) for part in rows])
        features, ngrams = self.hashing
        text = {"columns": list(self.text), "features": features, "ngrams": ngrams} if self.text else None
        return TablePreparation.fit(ChunkedRows(rows), self.numeric, self.categorical, self.missing, text)


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
    for kind, listed in (("categorical", dataset.categorical), ("text", dataset.text)):
        for name in listed:
            if name not in chosen:
                rule = "must not list a task's target" if name in targets else "must name input columns"
                problems.append(Problem(f"{dataset.place}.{kind}", rule, name, few_of(chosen)))
    return tuple(name for name in chosen if name in columns and name not in targets)


def settle_inputs(
    datasets: Mapping[str, DataSet], chosen: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> InputColumns:
    """What every input column is, over all data sets and splits; values that cannot be used add problems."""
    first = next(iter(datasets.values()))
    names = chosen[first.name]
    for name, dataset in datasets.items():
        if different := sorted(set(names) ^ set(chosen[name])):
            rule = f"must be the input columns of data set {first.name!r}, one backbone sees both; they differ in"
            problems.append(Problem(f"{dataset.place}.inputs", rule, different))
    listed = {name for dataset in datasets.values() for name in dataset.categorical}
    free = {name for dataset in datasets.values() for name in dataset.text}
    found: list[tuple[DataSet, str, dict[str, ColumnStats]]] = []
    for dataset in datasets.values():
        for split, columns in dataset.given.items():
            with collect_problems(problems):
                found.append((dataset, split, column_stats(columns, names, listed, free)))
    arrays = [n for n in names if any(n in facts and facts[n].array for _, _, facts in found)]
    missing = "impute" if any(dataset.missing == "impute" for dataset in datasets.values()) else "error"
    if arrays:
        if len(names) > 1:
            rule = "must be one column of arrays, or columns of single values"
            problems.append(Problem(f"{first.place}.inputs", rule, arrays[0], few_of(names)))
        if missing == "impute":
            problems.append(Problem(f"{first.place}.missing", "has no effect on a column of arrays", missing))
        for dataset in datasets.values():
            for kind, marked in (("categorical", dataset.categorical), ("text", dataset.text)):
                if wrong := [name for name in arrays if name in marked]:
                    problems.append(Problem(f"{dataset.place}.{kind}", "has no effect on a column of arrays", wrong))
        _check_arrays(arrays, found, problems)
        return InputColumns(array=arrays[0])
    hashing = _settle_text(datasets, listed, problems)
    words = {n for n in names if any(n in facts and facts[n].words for _, _, facts in found)} - free
    for dataset, split, facts in found:
        for name in facts:
            if name in free:
                problems += _check_free_text(dataset, split, name, facts[name])
            else:
                problems += _check_column(dataset, split, name, facts[name], name in listed, name in words)
    numeric = tuple(name for name in names if name not in listed | words | free)
    categorical = tuple(name for name in names if name in listed | words)
    return InputColumns(numeric, categorical, None, missing, tuple(name for name in names if name in free), hashing)


def _column(rows: Rows, name: str) -> np.ndarray | ChunkedColumn:
    return ChunkedColumn(rows, name) if isinstance(rows, ParquetRows) else rows[name]


def _settle_text(datasets: Mapping[str, DataSet], categorical: set[str], problems: list[Problem]) -> tuple[int, int]:
    """How columns of free text are hashed, over all data sets."""
    listing = [dataset for dataset in datasets.values() if dataset.text]
    for dataset in listing:
        for name in categorical.intersection(dataset.text):
            problems.append(Problem(f"{dataset.place}.text", "must not list a column that is categorical too", name))
        if dataset.hashing != listing[0].hashing:
            rule = f"must have the text_features and ngrams of data set {listing[0].name!r}, one backbone sees both"
            problems.append(Problem(dataset.place, rule, dataset.hashing))
    return listing[0].hashing if listing else (TEXT_FEATURES, NGRAMS)


def _check_free_text(dataset: DataSet, split: str, name: str, facts: ColumnStats) -> Iterator[Problem]:
    if facts.odd is not None:
        yield _odd_problem(f"{dataset.place}.text", f"(column {name!r}, split {split})", facts.odd)
    elif not facts.words and not facts.nothing:
        rule = f"must list columns that hold text (column {name!r}, split {split})"
        yield Problem(f"{dataset.place}.text", rule, facts.kind)


def _odd_problem(place: str, where: str, odd: tuple[int, Any]) -> Problem:
    row, value = odd
    kinds = "arrays of numbers of one shape" if isinstance(value, list | np.ndarray) else "numbers or text"
    return Problem(place, f"must hold {kinds} {where}, in row {row} (from 0)", value)


def _check_arrays(
    names: Sequence[str], found: Sequence[tuple[DataSet, str, Mapping[str, ColumnStats]]], problems: list[Problem]
) -> None:
    for name in names:
        shape = found[0][2][name].shape if name in found[0][2] else None
        for dataset, split, columns in found:
            place, where = f"{dataset.place}.inputs", f"(column {name!r}, split {split})"
            facts = columns.get(name)
            if facts is None:
                continue
            if facts.odd is not None:
                problems.append(_odd_problem(place, where, facts.odd))
            elif facts.strange or facts.words:
                problems.append(Problem(place, f"must hold numbers {where}", facts.kind))
            elif set(facts.shapes) != {shape} or 0 in facts.shape:
                other = next((each for each in facts.shapes if each != shape), facts.shape)
                problems.append(Problem(place, f"must hold rows of one shape, {shape}, {where}", other))
            elif facts.wrong is not None:
                row, value = facts.wrong
                problems.append(Problem(place, f"must hold finite numbers {where}, in row {row} (from 0)", value))


def _check_column(
    dataset: DataSet, split: str, name: str, facts: ColumnStats, listed: bool, text: bool
) -> Iterator[Problem]:
    place, where = f"{dataset.place}.inputs", f"(column {name!r}, split {split})"
    if facts.odd is not None:
        yield _odd_problem(place, where, facts.odd)
        return
    if facts.strange:
        yield Problem(place, f"must hold numbers or text {where}", facts.strange)
        return
    if listed or text:
        found = [] if listed else list(_check_text(place, where, facts))
        yield from found
        if not found and (count := len(facts.texts)) > _MOST_CATEGORIES:
            hint = "; a table takes free text in `text`" if text else ""
            yield Problem(place, f"must hold at most {_MOST_CATEGORIES} categories {where}{hint}", count)
        return
    if facts.infinite is not None:
        row, value = facts.infinite
        yield Problem(place, f"must hold finite numbers {where}, in row {row} (from 0)", value)
    if facts.gap is not None and dataset.missing == "error":
        rule = f"must hold a number in every row unless the source says `missing: impute` {where}"
        yield Problem(place, f"{rule}, in row {facts.gap} (from 0)", float("nan"))


def _check_text(place: str, where: str, facts: ColumnStats) -> Iterator[Problem]:
    """A column that is mostly numbers, however written, would quietly become a feature per number."""
    rule = f"must hold numbers in every row, or be listed in `categorical` {where}"
    if not facts.words:
        if not (facts.nothing and facts.rows):
            value = facts.first if facts.rows else NOTHING
            yield Problem(place, f"{rule}, since it is text elsewhere", value)
        return
    counts = {text: count for text, count in facts.texts.items() if text}
    others = [text for text in counts if number_in(text) is None]
    foreign = [text for text in others if is_foreign_number(text)]
    words = sum(counts[text] for text in others) - sum(counts[text] for text in foreign)
    if counts and words <= sum(counts.values()) / 2:
        text = (foreign or others or list(counts))[0]
        hint = f"; {HOW_TO_READ}" if foreign else ""
        yield Problem(place, f"{rule}{hint}, in row {facts.places[text]} (from 0)", text)
