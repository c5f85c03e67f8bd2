"""Numbers in a notation that Python does not read, such as ``3,7``, ``1.045,5``, ``$3.1`` and ``12%``: told from words.

A column of them would become a feature per number, or a label per number, without a word.
"""

from __future__ import annotations

import re

HOW_TO_READ = (
    "`decimal` and `thousands` of a table say how the numbers of a CSV file are written; signs such as $ and % must go"
)
_SIGN = r"[$€£¥₹]"
_GROUPED = r"\d{1,3}(?:(?P<group>[.,'_ \u00a0\u202f])\d{3})(?:(?P=group)\d{3})*(?:[.,]\d+)?"
_FOREIGN = re.compile(
    rf"\s*[+\-\u2212]?\s?{_SIGN}?\s?[+\-\u2212]?(?:{_GROUPED}|\d+(?:[.,]\d*)?|[.,]\d+)\s?(?:{_SIGN}|%)?\s*"
)


def is_foreign_number(text: str) -> bool:
    """Whether a text that is no number to Python is one to people: with another point, groups, a currency or ``%``."""
    return _FOREIGN.fullmatch(text) is not None
