"""The data section of a study, ready for training: splits of named tasks and one preparation, held in memory.

Where the study streams, the inputs stay on disk; targets and masks are in memory all the same.

`load_data` is hop 2 of the data path: sources -> inputs and targets -> splits -> tasks and preparation -> arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.loading import EncodedTargets, gather
from mtl_search.data.records import StreamedRows
from mtl_search.data.sources.base import SPLITS
from mtl_search.data.sources.parquet_rows import ParquetRows, Rows, first_rows
from mtl_search.data.sparse import SparseRows
from mtl_search.data.task import Task
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.errors import DataError, Problem
from mtl_search.input_kinds.encoding import Encoded, encode_sparse
from mtl_search.input_kinds.notation import ARRAYS
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.input_kinds.values import EXACT, is_missing, text_of
from mtl_search.recipe import content_key

_SAMPLE_ROWS = 5


@dataclass(frozen=True, eq=False)
class Split:
    """One data set's rows of one split.

    Attributes:
        encoded: What the preparation takes, less the text; first axis n.
        targets: Task to targets (n,) or (n, L), as its kind encodes them; 0 where there is no label.
        masks: Task to where there is a label; bool, the shape of the targets.
        text: Hashed text, the last of what the preparation takes; None without text.
        stream: Where the rows are if they stay on disk, and ``encoded`` is empty; None for rows in memory.
        weights: Task to what each label counts in the loss, float32, the shape of the mask and 0 where there is no
            label; tasks all of whose labels count 1 are left out.
    """

    encoded: Encoded
    targets: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    text: SparseRows | None = None
    stream: StreamedRows | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return len(self.encoded[0]) if self.stream is None else self.stream.count

    def digests(self) -> dict[str, str]:
        """Hash of every array of encoded values, targets, masks, weights and text: the same for equal values.

        Raises:
            ValueError: Rows on disk are not what they were.
        """
        arrays = {f"target:{task}": values for task, values in self.targets.items()}
        arrays |= {f"mask:{task}": values for task, values in self.masks.items()}
        arrays |= {f"weight:{task}": values for task, values in self.weights.items()}
        if self.text is not None:
            arrays |= {f"text:{name}": getattr(self.text, name) for name in ("starts", "columns", "values")}
        found = {name: _Digest(values.dtype, values.shape) for name, values in arrays.items()}
        for name, values in arrays.items():
            found[name].add(values)
        kinds = [(values.dtype, values.shape[1:]) for values in self.encoded]
        encoded = [_Digest(kind, (self.rows, *shape)) for kind, shape in (self.stream.kinds if self.stream else kinds)]
        for chunk in self.stream.encoded() if self.stream else [self.encoded]:
            for digest, values in zip(encoded, chunk, strict=True):
                digest.add(values)
        found |= {f"encoded:{index}": digest for index, digest in enumerate(encoded)}
        return {name: digest.hexdigest() for name, digest in found.items()}


class _Digest:
    """Hash of an array that may come in chunks."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._hash = hashlib.sha256(f"{dtype}/{shape};".encode())

    def add(self, values: np.ndarray) -> None:
        self._hash.update(np.ascontiguousarray(values).data if values.size else b"")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@dataclass(frozen=True, eq=False)
class StudyData:
    """Everything that training, evaluation and export know of the data.

    Attributes:
        tasks: The tasks in the order of the study file.
        source_tasks: Those that are only learned from.
        preparation: Encoded columns to features, the same for all data sets.
        splits: "train", "validation" or "test" to data set to its rows.
        sample: A few raw training rows, as JSON takes them: input column to values.
        notes: What a user should know of the data though it is no error, a line each.
    """

    tasks: tuple[Task, ...]
    preparation: Preparation
    splits: dict[str, dict[str, Split]]
    sample: dict[str, list[Any]]
    source_tasks: tuple[Task, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """The tasks, then the source tasks."""
        return (*self.tasks, *self.source_tasks)

    @cached_property
    def complete(self) -> bool:
        """Whether every training row has a label of every task of its data set."""
        masks = (mask for part in self.splits["train"].values() for mask in part.masks.values())
        return all(bool(mask.reshape(len(mask), -1).any(axis=1).all()) for mask in masks if len(mask))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets in the order of the study file."""
        return tuple(self.splits["train"])

    @cached_property
    def key(self) -> str:
        """Hash of tasks, preparation and every encoded value, target and mask."""
        digests = {s: {name: part.digests() for name, part in parts.items()} for s, parts in self.splits.items()}
        return content_key([task.to_dict() for task in self.all_tasks], self.preparation.to_dict(), digests)

    def describe(self) -> dict[str, Any]:
        """Sizes and label counts for reports, as plain JSON: {"rows": …, "features": …, "tasks": …}."""
        return {
            "rows": {s: {name: part.rows for name, part in parts.items()} for s, parts in self.splits.items()},
            "features": list(self.preparation.feature_shape),
            "tasks": {task.name: self._describe_task(task) for task in self.all_tasks},
        }

    def _describe_task(self, task: Task) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for split, parts in self.splits.items():
            targets, mask = parts[task.dataset].targets[task.name], parts[task.dataset].masks[task.name]
            counts[split] = task.behaviour.describe(task, targets, mask)
        return {"kind": task.kind, "dataset": task.dataset, "outputs": task.outputs, "splits": counts}


def load_data(
    config: DataConfig,
    tasks: Mapping[str, TaskConfig],
    seed: int,
    source_tasks: Mapping[str, TaskConfig] | None = None,
    known: TrainedSchema | None = None,
) -> StudyData:
    """Reads, checks, cuts and encodes the data of a study.

    Args:
        config: The study's data section.
        tasks: The study's tasks, in order.
        seed: The study's seed; the cut into splits depends on it.
        source_tasks: Its source tasks, in order.
        known: Inputs and tasks of a trained model; None to fit everything.

    Raises:
        DataError: Every problem found, each with key path, rule and value.
    """
    sources = source_tasks or {}
    try:
        gathered = gather(config, {**tasks, **sources}, seed, known)
    except DataError as error:
        raise DataError([_at_home(problem, sources) for problem in error.problems]) from error
    if known is None:
        preparation = gathered.inputs.fit([parts["train"] for parts in gathered.rows.values()])
    else:
        preparation = known.preparation
    targets: dict[str, dict[str, EncodedTargets]] = {}
    for task in gathered.tasks:
        for split, encoded in gathered.targets[task.name].items():
            targets.setdefault(split, {}).setdefault(task.dataset, {})[task.name] = encoded
    rows = gathered.rows
    try:
        splits = {
            split: {name: _encoded(rows[name][split], preparation, targets[split][name]) for name in rows}
            for split in SPLITS
        }
    except ValueError as error:
        if known is None:  # fitted on these very rows
            raise
        raise DataError([Problem("data", f"must hold rows that the model takes ({error})")]) from error
    first = next(iter(gathered.rows.values()))["train"]
    sample = {name: _as_json(few) for name, few in first_rows(first, gathered.inputs.names, _SAMPLE_ROWS).items()}
    own = tuple(task for task in gathered.tasks if task.name in tasks)
    others = tuple(task for task in gathered.tasks if task.name in sources)
    return StudyData(own, preparation, splits, sample, others, gathered.notes)


def _at_home(problem: Problem, sources: Mapping[str, TaskConfig]) -> Problem:
    """A problem of a source task, at the place where the study file has it."""
    section, _, rest = problem.place.partition(".")
    if section == "tasks" and rest.partition(".")[0] in sources:
        return Problem(f"source_tasks.{rest}", problem.rule, problem.value, problem.choices)
    return problem


def _encoded(columns: Rows, preparation: Preparation, targets: EncodedTargets) -> Split:
    values = {task: target.values for task, target in targets.items()}
    masks = {task: target.mask for task, target in targets.items()}
    weights = {task: target.weights for task, target in targets.items() if target.weights is not None}
    if isinstance(columns, ParquetRows):
        return Split((), values, masks, None, StreamedRows.of(columns, preparation.spec), weights)
    encoded, text = encode_sparse(columns, preparation.spec)
    return Split(encoded, values, masks, None if text is None else SparseRows.of(text), weights=weights)


def _as_json(values: np.ndarray) -> list[Any]:
    plain: list[Any] = values.tolist()
    if values.ndim > 1:
        return plain
    plain = [np.asarray(value).tolist() if isinstance(value, ARRAYS) else value for value in plain]
    if values.dtype == object:  # a long whole number as text: beside a gap, many readers make it a float
        plain = [v if isinstance(v, (str, bool, float, list)) or _is_short(v) else text_of(v) for v in plain]
    return [None if is_missing(value) else value for value in plain]


def _is_short(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, int) and abs(value) <= EXACT)
