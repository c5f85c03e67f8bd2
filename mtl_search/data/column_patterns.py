"""Column patterns: names with ``*``, ``?`` and ``[...]`` -> the columns of a data set that tasks predict.

``task_forms`` uses them when it reads a study file. The study's own data is read after that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Sequence
from fnmatch import fnmatchcase

from mtl_search.config.fields import is_name
from mtl_search.data.datasets import DataSet, owner_of
from mtl_search.data.sources.parquet_rows import Rows
from mtl_search.errors import Problem, few_of
from mtl_search.input_kinds.values import texts_of

_LONGEST, _HASH = 64, 6


def task_name(column: str) -> str:
    """A task's name made of a column's: letters, digits, ``_`` and ``-``, a letter first, 64 characters at most.

    Each run of other characters becomes ``_``. A name that is too long, or of which nothing is left, ends with a hash
    of the column's name. So the name of a task depends on its own column alone.
    """
    if is_name(column):
        return column
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", column).strip("_")
    name = safe if safe[:1].isalpha() else f"task_{safe}".rstrip("_")
    if safe and len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - _HASH - 1]}_{hashlib.sha256(column.encode()).hexdigest()[:_HASH]}"


def matched_targets(
    place: str, dataset: DataSet, patterns: Sequence[str], *, whole: bool, problems: list[Problem]
) -> list[str]:
    """Targets in the order of the data set's columns; a pattern that matches nothing adds a problem.

    Args:
        place: Of the patterns, for problems.
        dataset: Whose columns. Those that its source excludes are passed over.
        patterns: Of columns' names; ``y:0`` is column 0 of the column ``y`` of two axes.
        whole: Whether a column of two axes is one target. If not, each of its columns is one.
        problems: Grows by what is wrong.
    """
    columns = dataset.given["train"]
    names = [name for name in columns if name not in dataset.exclude]
    found: dict[str, dict[str, None]] = {name: {} for name in names}
    for pattern in patterns:
        hits = {name: targets for name in names if (targets := _targets(name, columns, pattern, whole=whole))}
        for name, targets in hits.items():
            found[name] |= dict.fromkeys(targets)
        if not hits:
            also = " that its source does not exclude" if dataset.exclude else ""
            rule = f"must match a column of data set {dataset.name!r}{also}"
            problems.append(Problem(place, rule, pattern, few_of(columns)))
    return [target for targets in found.values() for target in targets]


def _targets(name: str, columns: Rows, pattern: str, *, whole: bool) -> list[str]:
    """Targets in one column that a pattern matches."""
    base, colon, number = pattern.rpartition(":")
    if name == pattern or fnmatchcase(name, pattern):
        number = "*"
        if whole or columns[name].ndim != 2:
            return [name]
    elif not (colon and (name == base or fnmatchcase(name, base)) and columns[name].ndim == 2):
        return []
    return [f"{name}:{index}" for index in range(columns[name].shape[1]) if fnmatchcase(str(index), number)]


def names_of(
    place: str, dataset: DataSet, given: str | list[str] | None, targets: Sequence[str], problems: list[Problem]
) -> dict[str, str]:
    """Name of each target's task: made of the target, or of names that were given.

    Args:
        place: Of the given names, for problems.
        dataset: Whose columns the targets are.
        given: Names in the order of the targets, or the array of the data set that holds them.
        targets: As ``matched_targets`` gives them.
        problems: Grows by what is wrong.
    """
    names = list(targets) if given is None else given
    if isinstance(names, str):
        columns = dataset.given["train"]
        if names not in columns or columns[names].ndim != 1:
            rule = f"must name an array of names in data set {dataset.name!r}, or be a list of names"
            problems.append(Problem(place, rule, names, few_of(columns)))
            return {target: task_name(target) for target in targets}
        names = list(texts_of(columns[names]))
    if len(names) != len(targets):
        rule = f"must give a name for each of the {len(targets)} columns that 'columns' matches, got {len(names)} names"
        problems.append(Problem(place, rule))
        return {target: task_name(target) for target in targets}
    return {target: task_name(name) for target, name in zip(targets, names, strict=True)}


def not_predicted(dataset: DataSet, targets: Iterable[str], predicted: Container[str]) -> list[str]:
    """Targets that no other task predicts, alone or together with others of their column."""
    columns = dataset.given["train"]
    return [target for target in targets if target not in predicted and owner_of(columns, target) not in predicted]


def input_problems(place: str, dataset: DataSet, targets: Iterable[str]) -> list[Problem]:
    """Problems of targets in columns that the source lists as inputs."""
    owners = {owner_of(dataset.given["train"], target) for target in targets}
    return [
        Problem(place, f"must not match an input column, which {dataset.place}.{key} lists", name)
        for key, names in {"inputs": dataset.inputs or (), **dataset.listed}.items()
        for name in names
        if name in owners
    ]
