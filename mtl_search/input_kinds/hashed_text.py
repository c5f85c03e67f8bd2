"""Free text: words and runs of words, each counted in the place that its hash says; rows of length 1.

Nothing is fitted, so a word that training never saw has its place too. A missing text is an empty one: all zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .faults import odd_fault
from .values import texts_of

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats


class HashedText(InputKind):
    """A part: ``columns`` (names), ``features`` of each of them, and ``ngrams``, the longest run of words."""

    tensor = "text"
    heading = "text"
    option = "text"
    sparse = True
    fitted = frozenset()
    packages = ("scikit-learn",)

    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        return self.option in listed

    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        for column in given:
            stats, place = column.stats, f"{column.dataset.place}.text"
            if stats.odd is not None:
                yield odd_fault(place, column.where, stats.odd)
            elif not stats.words and not stats.nothing:
                yield Fault(place, f"must list columns that hold text {column.where}", stats.kind)
        # One backbone sees all data sets.
        datasets = list({id(column.dataset): column.dataset for column in given}.values())
        listing = [dataset for dataset in datasets if dataset.listed["text"]]
        for dataset in listing:
            for name in dict.fromkeys(column.name for column in given):
                if name in dataset.listed["text"] and any(name in each.listed["categorical"] for each in datasets):
                    yield Fault(f"{dataset.place}.text", "must not list a column that is categorical too", name)
            if dataset.hashing != listing[0].hashing:
                rule = f"must have the text_features and ngrams of data set {listing[0].name!r}, one backbone sees both"
                yield Fault(dataset.place, rule, dataset.hashing)

    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        features, ngrams = stated.hashing
        return {"columns": list(names), "features": features, "ngrams": ngrams}

    def columns(self, part: Part) -> list[str]:
        return list(part["columns"])

    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> Any:
        return _hashes([raw[name] for name in part["columns"]], rows, part)

    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return np.dtype(np.float32), (part["features"] * len(part["columns"]),)

    def features(self, part: Part) -> nn.Module:
        from .features import AsGiven

        return AsGiven(*self.row_of(part)[1])

    def signature(self, part: Part) -> list[Column]:
        runs = f"words and runs of up to {part['ngrams']} words" if part["ngrams"] > 1 else "words"
        holds = f"free text: {runs}, hashed into {part['features']:,} features"
        gap = "may be missing: no text"
        return [Column(name, holds, "text", required=False, checked=True, gap=gap) for name in part["columns"]]

    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        return {name: _texts(sample[name], size, generator) for name in part["columns"]}

    def limits(self, part: Part) -> Iterator[str]:
        yield "Of a text only its words count, not their order beyond the runs named above; two may share a hash."


def _texts(known: Sequence[Any], size: int, generator: np.random.Generator) -> list[Any]:
    """The sample's words in new orders and numbers, with one that it lacks; some texts empty, some missing."""
    words = np.array([*" ".join(str(text) for text in known if text).split(), "unheard-of"], dtype=object)
    drawn = [" ".join(generator.choice(words, generator.integers(0, 40))) for _ in range(size)]
    return [None if generator.random() < 0.1 else text for text in drawn]


def _hashes(columns: Iterable[np.ndarray], rows: int, settings: Mapping[str, Any]) -> Any:
    """Words and runs of up to ``ngrams`` words, counted in one of ``features`` places each; rows of length 1 or 0."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(
        n_features=settings["features"], ngram_range=(1, settings["ngrams"]), dtype=np.float32, norm="l2"
    )
    # MLflow hands a missing text on as "None" in some forms of a request: everywhere it counts as no text.
    texts = [["" if text == "None" else text for text in texts_of(values)] for values in columns]
    if not rows:  # which the vectoriser refuses
        return csr_matrix((0, settings["features"] * len(texts)), dtype=np.float32)
    return hstack([hasher.transform(column) for column in texts], format="csr")
