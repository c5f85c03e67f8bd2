"""Values that a column must not hold unnoticed: numbers in a notation that Python does not read, and odd objects.

A column of ``3,7``, ``1.045,5``, ``$3.1`` or ``12%`` would become a feature per number, or a label per number, without
a word.
"""

from __future__ import annotations

import re
from decimal import Decimal
from numbers import Real

import numpy as np

from .values import is_missing

HOW_TO_READ = (
    "`decimal` and `thousands` of a table say how the numbers of a CSV file are written; signs such as $ and % must go"
)
ARRAYS = (list, tuple, np.ndarray)
_VALUES = (str, bool, np.bool_, Real, Decimal)
_SIGN = r"[$€£¥₹]"
_GROUPED = r"\d{1,3}(?:(?P<group>[.,'_ \u00a0\u202f])\d{3})(?:(?P=group)\d{3})*(?:[.,]\d+)?"
_FOREIGN = re.compile(
    rf"\s*[+\-\u2212]?\s?{_SIGN}?\s?[+\-\u2212]?(?:{_GROUPED}|\d+(?:[.,]\d*)?|[.,]\d+)\s?(?:{_SIGN}|%)?\s*"
)


def is_foreign_number(text: str) -> bool:
    """Whether a text that is no number to Python is one to people: with another point, groups, a currency or ``%``."""
    return _FOREIGN.fullmatch(text) is not None


def first_odd(values: np.ndarray) -> int | None:
    """The first row of a column (n, ...) that holds neither a number nor text nor nothing; None if there is none.

    Of lists it is the first whose length differs from that of the first list, since lists of one length make arrays.
    """
    plain = values.tolist() if values.dtype == object else []
    kinds = {kind for kind in set(map(type, plain)) if not issubclass(kind, _VALUES)}
    rows = [row for row, value in enumerate(plain) if type(value) in kinds and not is_missing(value)]
    if not rows:
        return None
    lengths = [len(plain[row]) if isinstance(plain[row], ARRAYS) else 0 for row in rows]
    return next((row for row, length in zip(rows, lengths, strict=True) if length != lengths[0]), rows[0])
