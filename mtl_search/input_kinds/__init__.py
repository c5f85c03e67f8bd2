"""Input kinds by name: a kind is one file and one line here.

Arrays stand in the order of the kinds in what a model takes. A column goes to the last kind that claims it, so a kind
that takes what others leave stands before them.

Every exported model holds a copy of this package, which is used where mtl_search is not installed: it imports numpy,
and torch where features are made, but nothing of ours outside of it, and its own modules by relative names.
"""

from .array import ArrayKind
from .base import Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .category import Category
from .hashed_text import HashedText
from .number import Number
from .vector import Vector

INPUT_KINDS: dict[str, InputKind] = {
    "number": Number(),
    "category": Category(),
    "array": ArrayKind(),
    "vector": Vector(),
    "text": HashedText(),
}

__all__ = [
    "INPUT_KINDS",
    "Column",
    "Fault",
    "GivenColumn",
    "InputKind",
    "Part",
    "StatedInputs",
    "TrainingRows",
]
