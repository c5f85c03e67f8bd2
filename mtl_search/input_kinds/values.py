"""Raw values: which number or category a value is, what stands for nothing, and how a column is read.

Everything that reads values asks here, so a value means the same in a source, a target, an input and a served row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

GAP_TEXTS = frozenset(
    {"", "NaN", "nan", "-NaN", "-nan", "<NA>", "#N/A", "#N/A N/A", "#NA", "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"}
)
"""Texts that programs write for a missing value, and that are no words, as ``NA`` and ``None`` may be."""
NUMBER_GAPS = GAP_TEXTS | {"NA", "N/A", "n/a", "NULL", "null", "None"}
"""How others write a missing number. In a column of text the latter may be words: "NA" is Namibia too."""
EXACT = 2**53
"""Up to here float64 holds every whole number."""
TRUTHS = {spelled: truth for truth in (True, False) for spelled in (f"{truth}", f"{truth}".upper(), f"{truth}".lower())}
"""Truth values as a CSV file spells them."""


def is_number(value: object) -> bool:
    """Whether a raw value is a number, and one that float64 tells from its neighbours if it is whole."""
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool) and abs(int(value)) <= EXACT
    return isinstance(value, (float, np.floating))


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
    return text == text_of(value) or (is_number(value) and number_in(text) == value)


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


def given_column(columns: Mapping[str, Any], name: str) -> Any:
    """A column as it was given.

    Raises:
        ValueError: It is missing.
    """
    if name not in columns:
        raise ValueError(f"column {name!r}: must be given, got only {', '.join(map(repr, columns)) or 'no columns'}")
    return columns[name]


def column_of(columns: Mapping[str, npt.ArrayLike], name: str) -> np.ndarray:
    """A column of single values (n,), as objects where numpy would make something else of them.

    Raises:
        ValueError: It is missing, or has another shape.
    """
    values = given_column(columns, name)
    # As objects, because numpy would turn [1.0, "a"] into the texts "1.0" and "a", and "1.0" is not the category "1";
    # and whole numbers of pandas beside a gap into floats, which lose digits.
    nullable = hasattr(values, "isna") and not isinstance(values.dtype, np.dtype)
    array = np.asarray(values, dtype=object) if nullable or isinstance(values, (list, tuple)) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: must hold one value a row, got the shape {array.shape}")
    return array


def finite(name: str, numbers: np.ndarray, impute: bool, dtype: np.dtype[Any]) -> np.ndarray:
    """Numbers (n, ...) in float32 or float64.

    Args:
        name: The column, for errors.
        numbers: In float64.
        impute: Whether NaN is allowed.
        dtype: What to give.

    Raises:
        ValueError: A number is not finite in float32.
    """
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    wrong = np.isinf(single) if impute else ~np.isfinite(single)
    if wrong.any():
        row = int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())
        rule = "must hold finite numbers (float32)" if impute else "must hold finite numbers (float32), none missing"
        raise ValueError(f"column {name!r}: {rule}, got {numbers[row][wrong[row]].flat[0]} in row {row}")
    return single if dtype == single.dtype else numbers
