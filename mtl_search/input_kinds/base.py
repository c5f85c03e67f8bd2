"""InputKind: the base class of all kinds of input column, and what a kind is told of a column.

A kind knows everything that differs between kinds: which columns are of it, what a sound value is, how values are
fitted, encoded and made into features, what a served model takes, and what a person is told of the columns. The rest of
the package asks a kind and never compares names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from .values import column_of

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats

Part = Mapping[str, Any]
"""What a preparation keeps of one kind, as plain JSON."""
NO_VALUE: Any = object()
"""Stands for "no value to show" in a fault."""


class StatedInputs(Protocol):
    """What the source of a data set says of its input columns."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def place(self) -> str:
        """Key path of the source."""

    @property
    def listed(self) -> Mapping[str, tuple[str, ...]]:
        """Key of the source that names columns of one kind -> those columns."""

    @property
    def hashing(self) -> tuple[int, int]:
        """Features of a column of free text, and the most words that are hashed as one."""

    @property
    def missing(self) -> str:
        """``error`` or ``impute``."""


class TrainingRows(Protocol):
    """The training rows of all data sets, as often as they are asked for."""

    def chunks(self, names: Sequence[str]) -> Iterable[Mapping[str, np.ndarray]]:
        """Some columns of all rows, chunk by chunk: column name to values (n, ...)."""

    def by_dataset(self, name: str) -> Sequence[np.ndarray | Iterable[np.ndarray]]:
        """One column of each data set: an array in memory, or chunks that can be gone through again and again."""


@dataclass(frozen=True)
class GivenColumn:
    """A column of one data set in one split.

    Attributes:
        dataset: What is said of the data set.
        split: The split.
        name: The column.
        stats: What was seen of its values.
        values: Its values as the source gives them, chunk by chunk; can be gone through again and again.
    """

    dataset: StatedInputs
    split: str
    name: str
    stats: ColumnStats
    values: Iterable[np.ndarray]

    @property
    def place(self) -> str:
        """Key path of the data set's inputs."""
        return f"{self.dataset.place}.inputs"

    @property
    def where(self) -> str:
        """The column in words, as the end of a rule."""
        return f"(column {self.name!r}, split {self.split})"


@dataclass(frozen=True)
class Fault:
    """Something wrong with a column or with what is said of it.

    Attributes:
        place: Key path in the study file.
        rule: What must hold there.
        value: What was found; ``NO_VALUE`` where there is nothing to show.
        choices: What would be right, where that can be listed.
    """

    place: str
    rule: str
    value: Any = NO_VALUE
    choices: Sequence[Any] = ()


@dataclass(frozen=True)
class Column:
    """A raw input column of a served model.

    Attributes:
        name: The column.
        holds: What it holds, in a few words.
        type: ``number``, ``text`` or ``array``.
        required: Whether a value must be given in every row.
        checked: Whether a server may insist on the type before the model sees a row; otherwise the model's own encoding
            checks the values.
        gap: What a missing value means.
        shape: Shape of a row of an array.
        dtype: Of an array.
    """

    name: str
    holds: str
    type: Literal["number", "text", "array"]
    required: bool
    checked: bool = False
    gap: str = "may be missing"
    shape: tuple[int, ...] = ()
    dtype: str = "float32"


class InputKind(ABC):
    """A kind of input column; stateless. In shapes, n is the number of rows.

    A part is what a preparation keeps of the kind, as plain JSON: what ``encode`` needs to know, and what was fitted.

    Attributes:
        tensor: Name of its array among those that a model takes.
        heading: What its columns hold, in the plural: ``inputs that are <heading>``.
        option: Key of a source that lists columns of this kind; empty where columns are known by their values alone.
        alone: Whether a column of this kind must be the only input column.
        sparse: Whether ``encode`` gives a scipy CSR matrix.
        fitted: Keys of a part that ``encode`` does not need.
        written: How a CSV file holds a value: as a number, as a text, or not at all.
        packages: Distributions that a served model needs for this kind, beside numpy and torch.
    """

    tensor: ClassVar[str]
    heading: ClassVar[str]
    option: ClassVar[str] = ""
    alone: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    fitted: ClassVar[frozenset[str]] = frozenset({"means", "scales"})
    written: ClassVar[Literal["number", "text", ""]] = "text"
    packages: ClassVar[tuple[str, ...]] = ()

    def part_of(self, plain: Mapping[str, Any]) -> Part | None:
        """This kind's part of a preparation's plain form; None where that has no column of the kind."""
        return plain.get(self.tensor)

    def plain(self, part: Part) -> dict[str, Any]:
        """A part as it stands in a preparation's plain form; ``part_of`` reads it back."""
        return {self.tensor: dict(part)}

    # Study: which columns, what is wrong with them, what is fitted

    @abstractmethod
    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        """Whether a column is of this kind.

        Args:
            stats: What was seen of it in every data set and split.
            listed: Keys of the sources that list it, as in ``option``.
            alone: Whether it is the only input column.
        """

    @abstractmethod
    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        """What is wrong with all columns of this kind, in every data set and split.

        Args:
            given: At least one.
        """

    @abstractmethod
    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        """Fit on training rows.

        Args:
            names: The columns of this kind; none where the kind is kept in every table.
            rows: Training rows of every data set.
            stated: What the sources together say.
        """

    # Rows to arrays

    @abstractmethod
    def columns(self, part: Part) -> list[str]:
        """The columns of this kind, in the order of the part."""

    def read(self, columns: Mapping[str, Any], name: str, part: Part) -> np.ndarray:
        """One raw column, its first axis the rows; a column of single values (n,) by default.

        Raises:
            ValueError: It is missing, or has another shape.
        """
        return column_of(columns, name)

    @abstractmethod
    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> Any:
        """The columns of this kind as one array (n, ...), or a CSR matrix where the kind is sparse.

        Args:
            raw: What ``read`` gave, by column.
            rows: Number of rows n.
            part: With or without what was fitted.

        Raises:
            ValueError: A value is not what the part asks for.
        """

    @abstractmethod
    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Dtype and shape of one row of what ``encode`` gives, dense."""

    @abstractmethod
    def features(self, part: Part) -> nn.Module:
        """A module that makes features (n, *feature_shape), float32, of what ``encode`` gives.

        Its attribute ``feature_shape`` is the shape of one row's features. It holds what was fitted as buffers.
        """

    # Serving, and what people are told

    @abstractmethod
    def signature(self, part: Part) -> list[Column]:
        """The raw columns that a served model takes."""

    def describe(self, part: Part) -> list[str]:
        """A few words on each column, for ``validate``; the names by default."""
        return self.columns(part)

    @abstractmethod
    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        """Raw rows around those of a sample, to hold an exported model against the trained one.

        They hold what a service meets: values beyond the sample, gaps where they are allowed, values never seen.

        Args:
            part: With what was fitted.
            sample: Column to some raw training values.
            size: Number of rows to draw.
            generator: Decides which.
        """

    def limits(self, part: Part) -> Iterator[str]:
        """What a user of the model should know of this kind, a sentence each."""
        yield from ()

    def facts(self, part: Part) -> Iterator[tuple[str, Any]]:
        """By what a user knows training rows again: a few words, and the value that was fitted."""
        yield from ()

    def spelled(self, part: Part) -> Mapping[str, Sequence[str]]:
        """The texts that a model knows as a file spells them, by column."""
        return {}
