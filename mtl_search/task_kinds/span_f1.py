"""Metrics of tagged words: F1 over spans, and accuracy over words.

Spans are counted as conlleval and seqeval (in its default mode) count them. This module imports torchmetrics, so the
kinds import it inside methods.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_search.task_kinds.base import MASKED

_PREFIXES = "OBIES"
"""Outside, begin, inside, end, single: a tag's prefix is kept as its place here."""
_TAG = re.compile(r"O|[BIES](-.*)?", re.DOTALL)


def parse_tags(labels: Sequence[str]) -> tuple[list[int], list[int]]:
    """What tags mean.

    Where all are ``O`` or have a prefix (``B-city``, ``I-city``, ``E-city``, ``S-city``), they mark spans as BIO or
    IOBES. Any other set of tags is plain: neighbours with the same tag are one span, and ``O`` is outside.

    Args:
        labels: The tags in the order of their codes.

    Returns:
        For each tag the place of its prefix in ``OBIES``, and the number of its type. The tag ``B`` has a type too.
    """
    prefixed = all(_TAG.fullmatch(label) for label in labels)
    parts = [label.partition("-")[::2] if prefixed else ("I", label) for label in labels]
    parts = [("O", "") if label == "O" else part for label, part in zip(labels, parts, strict=True)]
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(kind for _, kind in parts))}
    return [_PREFIXES.index(prefix) for prefix, _ in parts], [kinds[kind] for _, kind in parts]


class SpanF1(Metric):
    """F1 of spans over all sequences together (micro), from 0 to 1; higher is better.

    A span is right where its type, its first and its last word are those of a span of the labels. As in conlleval, a
    span also begins where ``I`` or ``E`` follows ``O``, another type, ``E`` or ``S``. Without any right span the value
    is 0, so it tells nothing on labels without spans.

    Paper: Tjong Kim Sang & Buchholz, Introduction to the CoNLL-2000 Shared Task: Chunking, 2000,
    https://aclanthology.org/W00-0726

    Args:
        labels: All tags in the order of their codes. Tags that a model cannot predict, since training lacks them, stand
            last: their spans count as missed.
        options: As every torchmetrics class takes them.

    Attributes:
        right: Predicted spans that are right, int64.
        said: Predicted spans.
        there: Spans of the labels.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    right: Tensor
    said: Tensor
    there: Tensor

    def __init__(self, labels: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        prefixes, kinds = parse_tags(labels)
        self._prefixes, self._kinds = torch.tensor(prefixes), torch.tensor(kinds)
        for name in ("right", "said", "there"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Add sequences.

        Args:
            preds: Predicted tags (n, t) int64, or scores of tags (n, t, L).
            target: Right tags (n, t) int64.
            mask: Which words count, bool (n, t); None for those whose target is not -1. Words that do not count are as
                if they were not there: a span goes on over them.

        Raises:
            ValueError: The shapes do not fit each other.
        """
        said, there, rows = _counted(preds, target, mask)
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = rows[1:] != rows[:-1]
        (begins, ends, kinds), (wanted, wanted_ends, wanted_kinds) = self._spans(said, first), self._spans(there, first)
        self.right += (begins & wanted & (ends == wanted_ends) & (kinds == wanted_kinds)).sum()
        self.said += begins.sum()
        self.there += wanted.sum()

    def compute(self) -> Tensor:
        """2 * right / (said + there), a float64 scalar; 0 without any right span."""
        return 2 * self.right.double() / (self.said + self.there).clamp(min=1)

    def _spans(self, tags: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The spans of words one after the other.

        Args:
            tags: Codes (N,).
            first: Which words begin a sequence, (N,).

        Returns:
            For each word whether a span begins there, the last word of that span (-1 where none begins), and the type.
        """
        outside, begin, inside, end, _ = range(len(_PREFIXES))
        prefixes, kinds = self._prefixes.to(tags.device)[tags], self._kinds.to(tags.device)[tags]
        before = prefixes.roll(1)
        goes_on = ((prefixes == inside) | (prefixes == end)) & ((before == begin) | (before == inside))
        goes_on &= (kinds == kinds.roll(1)) & ~first
        begins = (prefixes != outside) & ~goes_on
        # A span's last word is followed by one that does not go on with it; the first word of all goes on with none.
        last = (prefixes != outside) & ~goes_on.roll(-1)
        ends = torch.full_like(tags, -1)
        ends[begins] = last.nonzero().squeeze(1)
        return begins, ends, kinds


class TokenAccuracy(Metric):
    """Share of words whose tag is right, from 0 to 1; higher is better.

    Args:
        options: As every torchmetrics class takes them.

    Attributes:
        right: Words whose tag is right, int64.
        there: Words that count.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    right: Tensor
    there: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("right", "there"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Add sequences, as ``SpanF1.update`` takes them.

        Raises:
            ValueError: The shapes do not fit each other.
        """
        said, there, _ = _counted(preds, target, mask)
        self.right += (said == there).sum()
        self.there += there.numel()

    def compute(self) -> Tensor:
        """Right words over all words, a scalar; NaN where no word counts."""
        return self.right / self.there


def _counted(preds: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and right tags of the words that count, one after the other, and the sequence of each; (N,) all."""
    if preds.dim() == target.dim() + 1:
        preds = preds.argmax(-1)
    mask = target != MASKED if mask is None else mask
    if target.dim() != 2 or not preds.shape == target.shape == mask.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (preds, target, mask))
        raise ValueError(f"predictions, targets and mask must be of one shape (n, t), got {shapes}")
    return preds[mask], target[mask], mask.nonzero()[:, 0]
