"""Raw columns to numbers: the first hop of every prediction, and of the data path after the sources.

This file imports numpy alone (for text, scikit-learn where it is needed) and nothing of this package, because it is
copied as it stands into exported models: what a training row went through, a served row goes through too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Encoded = tuple[np.ndarray, ...]
GAP_TEXTS = frozenset(
    {"", "NaN", "nan", "-NaN", "-nan", "<NA>", "#N/A", "#N/A N/A", "#NA", "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"}
)
"""Texts that programs write for a missing value, and that are no words, as ``NA`` and ``None`` may be."""
EXACT = 2**53
"""Up to here float64 holds every whole number."""
TRUTHS = {spelled: truth for truth in (True, False) for spelled in (f"{truth}", f"{truth}".upper(), f"{truth}".lower())}
"""Truth values as a CSV file spells them."""


def encode(columns: Mapping[str, npt.ArrayLike], spec: Mapping[str, Any]) -> Encoded:
    """Turns raw columns into the arrays that a preparation takes.

    Args:
        columns: Column name to n values: arrays, lists as JSON gives them, or a data frame. Others are left alone.
        spec: What `Preparation.spec` says: ``{"kind": "table", "numeric": [names], "categorical": {name: [categories]},
            "missing": "error" | "impute"}``, with ``"text": {"columns": [names], "features": w, "ngrams": m}`` where
            there is text and ``"dtype": "float64"`` where float32 would lose too much of the numbers, or ``{"kind":
            "array", "column": name, "shape": [...], "dtype": ...}``.

    Returns:
        For a table: numbers (n, d) of the spec's dtype (float32 if it has none), NaN where one is to be imputed, and
        codes (n, c) int64, where 0 is a category never seen in training and 1, 2, … follow the spec; with text also its
        hashes, w features of each column side by side, (n, w * columns) float32. For an array: values (n, *shape) of
        the spec's dtype: uint8, float32 or float64.

    Raises:
        ValueError: A column is missing or has the wrong shape or length, or a value is not what the spec asks for.
    """
    encoded, text = encode_sparse(columns, spec)
    return encoded if text is None else (*encoded, text.toarray())


def encode_sparse(columns: Mapping[str, npt.ArrayLike], spec: Mapping[str, Any]) -> tuple[Encoded, Any]:
    """What `encode` returns, its last array apart where that is text: as a scipy CSR matrix; None without text.

    Args:
        columns: As in `encode`.
        spec: As in `encode`.

    Raises:
        ValueError: As in `encode`.
    """
    if spec["kind"] == "array":
        return (_array(columns, spec),), None
    text = spec.get("text")
    names = [*spec["numeric"], *spec["categorical"], *(text["columns"] if text else ())]
    raw = {name: _column(columns, name) for name in names}
    rows = len(raw[names[0]])
    for name in names:
        if len(raw[name]) != rows:
            raise ValueError(f"column {name!r}: must have {rows} rows as {names[0]!r} has, got {len(raw[name])}")
    numbers = np.empty((rows, len(spec["numeric"])), dtype=spec.get("dtype", "float32"))
    for index, name in enumerate(spec["numeric"]):
        numbers[:, index] = _finite(name, numbers_of(name, raw[name]), spec.get("missing") == "impute", numbers.dtype)
    codes = np.empty((rows, len(spec["categorical"])), dtype=np.int64)
    for index, (name, categories) in enumerate(spec["categorical"].items()):
        codes[:, index] = _codes(raw[name], categories)
    return (numbers, codes), _hashes([raw[name] for name in text["columns"]], rows, text) if text else None


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
        if code or not _is_number(value):
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


def _is_number(value: object) -> bool:
    """Whether a raw value is a number, and one that float64 tells from its neighbours if it is whole."""
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool) and abs(int(value)) <= EXACT
    return isinstance(value, (float, np.floating))


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


def is_missing(value: object) -> bool:
    """Whether a raw value stands for nothing: None, NaN, or pandas' NaT and NA."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def text_of(value: object) -> str:
    """The category a raw value belongs to: 3, 3.0 and "3" are one category, and a missing value is "".

    A text that stands for a missing value, such as "NaN", is "" too.
    """
    if isinstance(value, str):
        return "" if value in GAP_TEXTS else value
    if is_missing(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return value.decode() if isinstance(value, bytes) else str(value)


def texts_of(values: np.ndarray) -> Iterable[str]:
    """The categories of a whole column (n,)."""
    if values.dtype.kind in "biuf":
        distinct, places = np.unique(values, return_inverse=True)
        texts = [text_of(value) for value in distinct]
        return [texts[place] for place in places.tolist()]
    plain = values.tolist()
    return [("" if value in GAP_TEXTS else value) if type(value) is str else text_of(value) for value in plain]


def number_in(text: str) -> float | None:
    """The number that a text spells; None where it spells none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return None if np.isnan(number) or "_" in text else number


def respelled(text: str) -> str:
    """The category of a text in a CSV column of numbers or truth values.

    A number as Python writes it is the category of that number: ``1.0`` is 1, as whole numbers beside a gap are
    written. Any other spelling is a category of its own, such as ``01`` and ``1.10``.
    """
    bare = text.strip()
    number = number_in(bare)
    if number is None:
        return str(TRUTHS.get(text, text))
    return text_of(number) if bare == repr(number) else bare


def means(text: str, value: object) -> bool:
    """Whether a text of a column is what a user means by a value: the same text, or a spelling of the same number."""
    return text == text_of(value) or (_is_number(value) and number_in(text) == value)


def numbers_of(name: str, values: np.ndarray) -> np.ndarray:
    """A column (n,) as float64, with NaN where a value is missing or empty.

    Raises:
        ValueError: A value is not a number.
    """
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values.tolist()):
        if isinstance(value, (int, float, np.number)):
            numbers[row] = value
        elif not is_missing(value) and value != "":  # in this order: pandas' NA equals nothing
            raise ValueError(f"column {name!r}: must hold numbers, got {value!r} in row {row}")
    return numbers


def _column(columns: Mapping[str, npt.ArrayLike], name: str) -> np.ndarray:
    if name not in columns:
        raise ValueError(f"column {name!r}: must be given, got only {', '.join(map(repr, columns)) or 'no columns'}")
    values: Any = columns[name]
    # As objects, because numpy would turn [1.0, "a"] into the texts "1.0" and "a", and "1.0" is not the category "1";
    # and whole numbers of pandas beside a gap into floats, which lose digits.
    nullable = hasattr(values, "isna") and not isinstance(values.dtype, np.dtype)
    array = np.asarray(values, dtype=object) if nullable or isinstance(values, (list, tuple)) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: must hold one value a row, got the shape {array.shape}")
    return array


def _finite(name: str, numbers: np.ndarray, impute: bool, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    wrong = np.isinf(single) if impute else ~np.isfinite(single)
    if wrong.any():
        row = int(wrong.argmax())
        rule = "must hold finite numbers (float32)" if impute else "must hold finite numbers (float32), none missing"
        raise ValueError(f"column {name!r}: {rule}, got {numbers[row]} in row {row}")
    return single if dtype == single.dtype else numbers


def _array(columns: Mapping[str, npt.ArrayLike], spec: Mapping[str, Any]) -> np.ndarray:
    name, shape = spec["column"], tuple(spec["shape"])
    if name not in columns:
        raise ValueError(f"column {name!r}: must be given, got only {', '.join(map(repr, columns)) or 'no columns'}")
    try:
        values = np.asarray(columns[name])
        if values.dtype == object:  # a data frame's column of lists
            values = np.asarray([np.asarray(value) for value in values.tolist()])
    except ValueError as error:
        raise ValueError(
            f"column {name!r}: must hold rows of the shape {shape}, got rows of different shapes"
        ) from error
    if values.shape[1:] != shape or values.ndim == 0:
        raise ValueError(f"column {name!r}: must hold rows of the shape {shape}, got the shape {values.shape[1:]}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"column {name!r}: must hold numbers, got {values.dtype} ({values.reshape(-1)[:1].tolist()})")
    if spec["dtype"] == "uint8":
        return _bytes(name, values)
    return _finite_rows(name, values, np.dtype(spec["dtype"]))


def _bytes(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "b" and values.dtype != np.uint8:
        wrong = ~((values >= 0) & (values <= 255) & (values == np.round(values)))
        if wrong.any():
            raise ValueError(f"column {name!r}: must hold whole numbers from 0 to 255, got {values[wrong].flat[0]}")
    return values.astype(np.uint8, copy=False)


def _finite_rows(name: str, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        row = int((~np.isfinite(single)).reshape(len(single), -1).any(axis=1).argmax())
        wrong = values[row][~np.isfinite(single[row])].flat[0]
        raise ValueError(f"column {name!r}: must hold finite numbers (float32), none missing, got {wrong} in row {row}")
    return single if dtype == single.dtype else values.astype(dtype, copy=False)
