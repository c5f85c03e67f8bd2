"""Which columns the backbone sees, what each of them is, and whether every value in them can be used.

Stands between the sources and the preparation: all data sets of a study share one backbone, so one set of inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_search.data.datasets import DataSet
from mtl_search.data.encoding import texts_of
from mtl_search.data.preparation import ArrayPreparation, Preparation, TablePreparation
from mtl_search.data.sources import Columns
from mtl_search.data.sources.base import NGRAMS, TEXT_FEATURES, shown
from mtl_search.errors import NOTHING, Problem

_MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Inputs:
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

    def fit(self, rows: Sequence[Columns]) -> Preparation:
        """Fits the preparation on the training rows of every data set."""
        if self.array is not None:
            return ArrayPreparation.fit(self.array, [part[self.array] for part in rows])
        joined = {name: np.concatenate([part[name] for part in rows]) for name in (*self.numeric, *self.categorical)}
        features, ngrams = self.hashing
        text = {"columns": list(self.text), "features": features, "ngrams": ngrams} if self.text else None
        return TablePreparation.fit(joined, self.numeric, self.categorical, self.missing, text)


def choose_inputs(dataset: DataSet, targeted: Iterable[str], problems: list[Problem]) -> tuple[str, ...]:
    """Input columns of one data set, those that exist; what is wrong with the choice adds problems."""
    place, targets = f"{dataset.place}.inputs", set(targeted)
    columns = dataset.given["train"]
    if dataset.inputs is None:
        chosen = tuple(name for name in columns if name not in targets and name not in dataset.exclude)
        for name in dataset.exclude:
            if name not in columns:
                rule = f"must name columns of data set {dataset.name!r}"
                problems.append(Problem(f"{dataset.place}.exclude", rule, name, shown(columns)))
    else:
        if dataset.exclude:
            rule = "has no effect beside 'inputs', which lists all that the backbone sees"
            problems.append(Problem(f"{dataset.place}.exclude", rule, dataset.exclude))
        chosen = tuple(dict.fromkeys(dataset.inputs))
        for name in targets.intersection(chosen):
            problems.append(Problem(place, "must not list a task's target", name))
    if not chosen:
        problems.append(Problem(place, "must leave at least one column that no task targets", chosen, shown(columns)))
    for split, given in dataset.given.items():
        for name in chosen:
            if name not in given and (split == "train" or name in columns):
                rule = f"must name columns of data set {dataset.name!r} (split {split})"
                problems.append(Problem(place, rule, name, shown(given)))
    for kind, listed in (("categorical", dataset.categorical), ("text", dataset.text)):
        for name in listed:
            if name not in chosen:
                rule = "must not list a task's target" if name in targets else "must name input columns"
                problems.append(Problem(f"{dataset.place}.{kind}", rule, name, shown(chosen)))
    return tuple(name for name in chosen if name in columns and name not in targets)


def settle_inputs(
    datasets: Mapping[str, DataSet], chosen: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> Inputs:
    """What every input column is, over all data sets and splits; values that cannot be used add problems."""
    first = next(iter(datasets.values()))
    names = chosen[first.name]
    for name, dataset in datasets.items():
        if different := sorted(set(names) ^ set(chosen[name])):
            rule = f"must be the input columns of data set {first.name!r}, one backbone sees both; they differ in"
            problems.append(Problem(f"{dataset.place}.inputs", rule, different))
    found = [(d, split, d.given[split]) for d in datasets.values() for split in d.given]
    arrays = [n for n in names if any(n in columns and columns[n].ndim > 1 for _, _, columns in found)]
    missing = "impute" if any(dataset.missing == "impute" for dataset in datasets.values()) else "error"
    if arrays:
        if len(names) > 1:
            rule = "must be one column of arrays, or columns of single values"
            problems.append(Problem(f"{first.place}.inputs", rule, arrays[0], shown(names)))
        if missing == "impute":
            problems.append(Problem(f"{first.place}.missing", "has no effect on a column of arrays", missing))
        for dataset in datasets.values():
            for kind, marked in (("categorical", dataset.categorical), ("text", dataset.text)):
                if wrong := [name for name in arrays if name in marked]:
                    problems.append(Problem(f"{dataset.place}.{kind}", "has no effect on a column of arrays", wrong))
        _check_arrays(arrays, found, problems)
        return Inputs(array=arrays[0])
    listed = {name for dataset in datasets.values() for name in dataset.categorical}
    free, hashing = _settle_text(datasets, listed, problems)
    words = {n for n in names if any(n in columns and columns[n].dtype == object for _, _, columns in found)} - free
    for dataset, split, columns in found:
        for name in names:
            if name in columns and name in free:
                problems += _check_free_text(dataset, split, name, columns[name])
            elif name in columns:
                problems += _check_column(dataset, split, name, columns[name], name in listed, name in words)
    numeric = tuple(name for name in names if name not in listed | words | free)
    categorical = tuple(name for name in names if name in listed | words)
    return Inputs(numeric, categorical, None, missing, tuple(name for name in names if name in free), hashing)


def _settle_text(
    datasets: Mapping[str, DataSet], categorical: set[str], problems: list[Problem]
) -> tuple[set[str], tuple[int, int]]:
    """Columns of free text over all data sets, and how they are hashed."""
    listing = [dataset for dataset in datasets.values() if dataset.text]
    for dataset in listing:
        for name in categorical.intersection(dataset.text):
            problems.append(Problem(f"{dataset.place}.text", "must not list a column that is categorical too", name))
        if dataset.hashing != listing[0].hashing:
            rule = f"must have the text_features and ngrams of data set {listing[0].name!r}, one backbone sees both"
            problems.append(Problem(dataset.place, rule, dataset.hashing))
    free = {name for dataset in listing for name in dataset.text}
    return free, listing[0].hashing if listing else (TEXT_FEATURES, NGRAMS)


def _check_free_text(dataset: DataSet, split: str, name: str, values: np.ndarray) -> Iterator[Problem]:
    nothing = values.dtype.kind == "f" and np.isnan(values).all()
    if values.dtype != object and not nothing:
        rule = f"must list columns that hold text (column {name!r}, split {split})"
        yield Problem(f"{dataset.place}.text", rule, str(values.dtype))


def _check_arrays(names: Sequence[str], found: Sequence[tuple[DataSet, str, Columns]], problems: list[Problem]) -> None:
    for name in names:
        shape = found[0][2][name].shape[1:] if name in found[0][2] else None
        for dataset, split, columns in found:
            place, where = f"{dataset.place}.inputs", f"(column {name!r}, split {split})"
            values = columns.get(name)
            if values is None:
                continue
            if values.dtype.kind not in "biuf":
                problems.append(Problem(place, f"must hold numbers {where}", str(values.dtype)))
            elif values.shape[1:] != shape or 0 in values.shape[1:]:
                problems.append(Problem(place, f"must hold rows of one shape, {shape}, {where}", values.shape[1:]))
            elif values.dtype.kind == "f" and len(bad := np.argwhere(~_finite(values))):
                rule = f"must hold finite numbers {where}, in row {bad[0][0]} (from 0)"
                problems.append(Problem(place, rule, float(values[tuple(bad[0])])))


def _finite(values: np.ndarray) -> np.ndarray:
    """Where values are finite as float32, which is what is trained on."""
    with np.errstate(over="ignore"):
        return np.isfinite(values.astype(np.float32, copy=False))


def _check_column(
    dataset: DataSet, split: str, name: str, values: np.ndarray, listed: bool, text: bool
) -> Iterator[Problem]:
    place, where = f"{dataset.place}.inputs", f"(column {name!r}, split {split})"
    if values.dtype.kind not in "biufO":
        yield Problem(place, f"must hold numbers or text {where}", str(values.dtype))
        return
    if listed or text:
        if text and not listed:
            yield from _check_text(place, where, values)
        if (count := len(set(texts_of(values)))) > _MOST_CATEGORIES:
            hint = "; a table takes free text in `text`" if text else ""
            yield Problem(place, f"must hold at most {_MOST_CATEGORIES} categories {where}{hint}", count)
        return
    gap = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    infinite = ~_finite(values) & ~gap
    if infinite.any():
        row = int(infinite.argmax())
        yield Problem(place, f"must hold finite numbers {where}, in row {row} (from 0)", values[row].item())
    if gap.any() and dataset.missing == "error":
        rule = f"must hold a number in every row unless the source says `missing: impute` {where}"
        yield Problem(place, f"{rule}, in row {int(gap.argmax())} (from 0)", float("nan"))


def _check_text(place: str, where: str, values: np.ndarray) -> Iterator[Problem]:
    """A column that is mostly numbers has a slip in it, and would quietly become a feature per number."""
    rule = f"must hold numbers in every row, or be listed in `categorical` {where}"
    if values.dtype != object:
        if values.dtype.kind == "f" and np.isnan(values).all():
            return
        yield Problem(place, f"{rule}, since it is text elsewhere", values[0].item() if len(values) else NOTHING)
        return
    texts = list(texts_of(values))
    counts = {text: count for text, count in Counter(texts).items() if text}
    words = [text for text in counts if not _is_number(text)]
    if counts and sum(counts[word] for word in words) <= sum(counts.values()) / 2:
        text = (words or list(counts))[0]
        yield Problem(place, f"{rule}, in row {texts.index(text)} (from 0)", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
