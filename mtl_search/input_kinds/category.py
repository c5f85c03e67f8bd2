"""Categories: columns of words, or of numbers that stand for words, as one-hot vectors.

A category that training never saw is all zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import NO_VALUE, Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .faults import odd_fault
from .notation import HOW_TO_READ, is_foreign_number
from .values import TRUTHS, is_number, number_in, respelled, text_of, texts_of

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats

_MOST_CATEGORIES = 1000
_UNSEEN = "a category never seen"
_SHOWN = 8


class Category(InputKind):
    """A part: ``categorical``, column to its categories in the order of their codes.

    Every table has this part, if only without columns.
    """

    tensor = "codes"
    heading = "categories"
    option = "categorical"
    fitted = frozenset()

    def part_of(self, plain: Mapping[str, Any]) -> Part | None:
        return {"categorical": plain.get("categorical", {})} if plain.get("kind") == "table" else None

    def plain(self, part: Part) -> dict[str, Any]:
        return {"categorical": {name: list(categories) for name, categories in part["categorical"].items()}}

    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        return self.option in listed or any(seen.words for seen in stats)

    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        text = {column.name for column in given if column.stats.words}
        for column in given:
            stats, place, where = column.stats, column.place, column.where
            if stats.odd is not None:
                yield odd_fault(place, where, stats.odd)
            elif stats.strange:
                yield Fault(place, f"must hold numbers or text {where}", stats.strange)
            else:
                listed = any(column.name in each.dataset.listed["categorical"] for each in given)
                found = [] if listed else list(_check_words(place, where, stats))
                yield from found
                if not found and (count := len(stats.texts)) > _MOST_CATEGORIES:
                    hint = "; a table takes free text in `text`" if column.name in text else ""
                    yield Fault(place, f"must hold at most {_MOST_CATEGORIES} categories {where}{hint}", count)

    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        found: dict[str, set[str]] = {name: set() for name in names}
        for chunk in rows.chunks(names) if names else ():
            for name in names:
                found[name].update(texts_of(chunk[name]))
        return {"categorical": {name: sorted(texts) for name, texts in found.items()}}

    def columns(self, part: Part) -> list[str]:
        return list(part["categorical"])

    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> np.ndarray:
        codes = np.empty((rows, len(part["categorical"])), dtype=np.int64)
        for index, (name, categories) in enumerate(part["categorical"].items()):
            codes[:, index] = _codes(raw[name], categories)
        return codes

    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return np.dtype(np.int64), (len(part["categorical"]),)

    def features(self, part: Part) -> nn.Module:
        from .features import OneHot

        return OneHot([len(categories) for categories in part["categorical"].values()])

    def signature(self, part: Part) -> list[Column]:
        columns = []
        for name, categories in part["categorical"].items():
            shown = ", ".join(map(repr, categories[:_SHOWN])) + (", …" if len(categories) > _SHOWN else "")
            words = all(_is_word(category) for category in categories)
            columns.append(Column(name, f"category: {shown}", "text", required=False, checked=words))
        return columns

    def describe(self, part: Part) -> list[str]:
        counts = {name: len(categories) for name, categories in part["categorical"].items()}
        return [f"{name} ({count} value{'s' if count > 1 else ''})" for name, count in counts.items()]

    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        choices = {n: np.array([*found, _UNSEEN, None], dtype=object) for n, found in part["categorical"].items()}
        return {name: generator.choice(each, size).tolist() for name, each in choices.items()}

    def limits(self, part: Part) -> Iterator[str]:
        if part["categorical"]:
            yield "A category that training never saw is treated as no category at all, without a warning."

    def facts(self, part: Part) -> Iterator[tuple[str, Any]]:
        for name, categories in part["categorical"].items():
            yield f"categories of column {name}", list(categories)

    def spelled(self, part: Part) -> Mapping[str, Sequence[str]]:
        found: Mapping[str, Sequence[str]] = part["categorical"]
        return found


def _check_words(place: str, where: str, stats: ColumnStats) -> Iterator[Fault]:
    """A column that is mostly numbers, however written, would quietly become a feature per number."""
    rule = f"must hold numbers in every row, or be listed in `categorical` {where}"
    if not stats.words:
        if not (stats.nothing and stats.rows):
            yield Fault(place, f"{rule}, since it is text elsewhere", stats.first if stats.rows else NO_VALUE)
        return
    counts = {text: count for text, count in stats.texts.items() if text}
    others = [text for text in counts if number_in(text) is None]
    foreign = [text for text in others if is_foreign_number(text)]
    words = sum(counts[text] for text in others) - sum(counts[text] for text in foreign)
    if counts and words <= sum(counts.values()) / 2:
        text = (foreign or others or list(counts))[0]
        hint = f"; {HOW_TO_READ}" if foreign else ""
        yield Fault(place, f"{rule}{hint}, in row {stats.places[text]} (from 0)", text)


def _is_word(category: str) -> bool:
    """Whether a category can only have been text: not empty, no number and no truth value."""
    try:
        float(category)
    except ValueError:
        return category != "" and category not in map(str, TRUTHS.values())
    return False


def _codes(values: np.ndarray, categories: Iterable[str]) -> np.ndarray:
    """The number of each value's category, from 1; 0 where there is no such category.

    A text is the category of the same text, or else of the text that it has once a CSV file is read ("1" for "1.0"). A
    number is the category of its own text ("3" for 3 and 3.0), or else the one category that spells it: 501 is "00501"
    where no other category is 501.
    """
    codes = {category: code for code, category in enumerate(categories, start=1)}
    spelled: dict[float, int] | None = None

    def code_of(value: Any) -> int:
        nonlocal spelled
        if isinstance(value, str):
            return codes.get(value) or codes.get(text_of(value)) or codes.get(respelled(value), 0)
        code = codes.get(text_of(value), 0)
        if code or not is_number(value):
            return code
        spelled = _by_number(codes) if spelled is None else spelled
        return spelled.get(float(value), 0)

    if values.dtype.kind in "biuf":
        distinct, places = np.unique(values, return_inverse=True)
        return np.array([code_of(value) for value in distinct], dtype=np.int64)[places]
    return np.fromiter(map(code_of, values.tolist()), np.int64, len(values))


def _by_number(codes: Mapping[str, int]) -> dict[float, int]:
    """The code of the one category that spells a number; 0 for a number that several spell."""
    found: dict[float, int] = {}
    for category, code in codes.items():
        if (number := number_in(category)) is not None:
            found[number] = 0 if number in found else code
    return found
