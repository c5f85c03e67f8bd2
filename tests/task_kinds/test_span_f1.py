"""F1 of spans and accuracy of words, against a reference that reads one word after the other."""

import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.utilities import dim_zero_sum

from mtl_search.task_kinds.span_f1 import SpanF1, TokenAccuracy, parse_tags

Tags = list[list[str]]
SCHEMES = {
    "BIO": ["O", "B-x", "I-x", "B-y", "I-y"],
    "IOBES": ["O", *(f"{prefix}-{kind}" for kind in ("x", "y-z") for prefix in "BIES")],
    "without types": ["O", "B", "I", "E", "S"],
    "plain": ["O", "noun", "verb", "B-x"],
    "plain, nothing outside": ["DET", "NOUN", "VERB"],
}


def spans(tags: list[str], plain: bool) -> set[tuple[str, int, int]]:
    """Type, first and last word of every span, by conlleval's rules."""
    found: set[tuple[str, int, int]] = set()
    opened: tuple[str, int] | None = None
    before = "O"
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, kind = ("I", "", tag) if plain and tag != "O" else tag.partition("-")
        new = prefix in "BS" or before in "OES" or (opened is not None and kind != opened[0])
        if opened is not None and (prefix == "O" or new):
            found.add((*opened, place - 1))
            opened = None
        if prefix != "O" and new:
            opened = kind, place
        before = prefix
    return found


def reference(wanted: Tags, given_tags: Tags, plain: bool) -> Fraction:
    right = said = there = 0
    for truth, guess in zip(wanted, given_tags, strict=True):
        a, b = spans(truth, plain), spans(guess, plain)
        right, said, there = right + len(a & b), said + len(b), there + len(a)
    return Fraction(2 * right, said + there) if right else Fraction(0)


def padded(tags: Tags, labels: list[str]) -> tuple[Tensor, Tensor]:
    """Codes and mask (n, t); what stands at padding is any tag."""
    width = max(map(len, tags), default=0)
    codes = torch.randint(len(labels), (len(tags), width), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(len(tags), width, dtype=torch.bool)
    for row, sequence in enumerate(tags):
        codes[row, : len(sequence)] = torch.tensor([labels.index(tag) for tag in sequence], dtype=torch.int64)
        mask[row, : len(sequence)] = True
    return codes, mask


def measured(wanted: Tags, given_tags: Tags, labels: list[str], batch: int = 100) -> float:
    metric = SpanF1(labels)
    for start in range(0, len(wanted), batch):
        target, mask = padded(wanted[start : start + batch], labels)
        preds, _ = padded(given_tags[start : start + batch], labels)
        metric.update(preds, target, mask)
    return float(metric.compute())


@st.composite
def sequences(draw: st.DrawFn) -> tuple[str, Tags, Tags]:
    scheme = draw(st.sampled_from(list(SCHEMES)))
    tag = st.sampled_from(SCHEMES[scheme])
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    wanted = [draw(st.lists(tag, min_size=length, max_size=length)) for length in lengths]
    # Guesses that are mostly right: otherwise hardly any span is.
    guesses = [[draw(st.one_of(st.just(right), tag)) for right in sequence] for sequence in wanted]
    return scheme, wanted, guesses


@given(drawn=sequences(), batch=st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_span_f1_is_that_of_the_reference(drawn: tuple[str, Tags, Tags], batch: int) -> None:
    scheme, wanted, guesses = drawn
    expected = reference(wanted, guesses, scheme.startswith("plain"))
    assert measured(wanted, guesses, SCHEMES[scheme], batch) == pytest.approx(float(expected), abs=1e-15)


@pytest.mark.parametrize(
    ("wanted", "guess", "expected"),
    [
        ("O B-x I-x O", "O B-x I-x O", 1),
        ("O B-x I-x O", "O B-x B-x O", 0),
        ("O B-x I-x O", "O I-x I-x O", 1),  # conlleval: I after O begins a span
        ("B-x I-x B-y", "B-x I-x O", Fraction(2, 3)),
        ("B-x I-y", "B-x B-y", 1),  # another type begins a span
        ("O O O", "O O O", 0),
        ("O O O", "O B-x O", 0),
        ("B-x B-x", "B-x I-x", 0),
    ],
)
def test_cases_by_hand(wanted: str, guess: str, expected: Fraction | int) -> None:
    assert measured([wanted.split()], [guess.split()], SCHEMES["BIO"]) == pytest.approx(float(expected))


def test_spans_end_with_their_sequence() -> None:
    assert measured([["B-x"], ["I-x"]], [["B-x"], ["I-x"]], SCHEMES["BIO"]) == 1.0
    metric = SpanF1(SCHEMES["BIO"])
    metric.update(torch.tensor([[1], [2]]), torch.tensor([[1], [2]]))
    assert (int(metric.right), int(metric.said), int(metric.there)) == (2, 2, 2)


def test_words_that_do_not_count_are_as_if_they_were_not_there() -> None:
    labels = SCHEMES["BIO"]
    target = torch.tensor([[1, -1, 2, 0], [-1, 3, -1, 4]])
    preds = torch.tensor([[1, 0, 2, 0], [1, 3, 0, 4]])
    metric = SpanF1(labels)
    metric.update(preds, target)
    assert (int(metric.right), int(metric.said), int(metric.there)) == (2, 2, 2)
    accuracy = TokenAccuracy()
    accuracy.update(preds, target)
    assert (int(accuracy.right), int(accuracy.there)) == (5, 5)


def test_scores_of_tags_stand_for_the_highest() -> None:
    labels = SCHEMES["BIO"]
    generator = torch.Generator().manual_seed(0)
    scores, target = torch.randn(4, 6, 5, generator=generator), torch.randint(5, (4, 6), generator=generator)
    for one, other in ((SpanF1(labels), SpanF1(labels)), (TokenAccuracy(), TokenAccuracy())):
        one.update(scores, target)
        other.update(scores.argmax(2), target)
        assert one.compute() == other.compute()


def test_tags_that_training_lacks_count_as_wrong() -> None:
    known, unseen = SCHEMES["BIO"], ["B-new", "I-new"]
    target = torch.tensor([[1, 2, 0, 5, 6]])
    scores = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0, 3, 4]]), len(known)).float()
    metric, accuracy = SpanF1([*known, *unseen]), TokenAccuracy()
    metric.update(scores, target)
    accuracy.update(scores, target)
    assert (int(metric.right), int(metric.said), int(metric.there)) == (1, 2, 2)
    assert accuracy.compute() == pytest.approx(0.6)


def test_states_of_several_parts_add_up_to_that_of_the_whole() -> None:
    labels = SCHEMES["IOBES"]
    generator = torch.Generator().manual_seed(1)
    preds, target = (torch.randint(len(labels), (30, 7), generator=generator) for _ in range(2))
    target = torch.where(torch.rand(30, 7, generator=generator) < 0.5, target, preds)
    whole, first, second = SpanF1(labels), SpanF1(labels), SpanF1(labels)
    whole.update(preds, target)
    first.update(preds[:11], target[:11])
    second.update(preds[11:], target[11:])
    for name in ("right", "said", "there"):
        assert getattr(whole, name) == getattr(first, name) + getattr(second, name)
        assert whole._reductions[name] is dim_zero_sum
    whole.reset()
    assert (int(whole.right), int(whole.said), int(whole.there)) == (0, 0, 0)


def test_no_sequences_and_no_words() -> None:
    metric, accuracy = SpanF1(SCHEMES["BIO"]), TokenAccuracy()
    for empty in (torch.zeros(0, 4).long(), torch.zeros(3, 0).long(), torch.full((2, 3), -1)):
        metric.update(empty.clamp(min=0), empty)
        accuracy.update(empty.clamp(min=0), empty)
    assert metric.compute() == 0
    assert accuracy.compute().isnan()


def test_shapes_that_do_not_fit_are_refused() -> None:
    tags = torch.zeros(2, 3).long()
    for preds, target, mask in ((tags[:1], tags, None), (tags, tags, tags[:, :2] == 0), (tags[0], tags[0], None)):
        with pytest.raises(ValueError, match=r"must be of one shape \(n, t\), got"):
            SpanF1(SCHEMES["BIO"]).update(preds, target, mask)


@pytest.mark.parametrize(
    ("labels", "prefixes", "kinds"),
    [
        (["O", "B-a", "I-a", "S-b-c"], [0, 1, 2, 4], [0, 1, 1, 2]),
        (["B", "I", "O"], [1, 2, 0], [0, 0, 0]),
        (["a", "O", "B-a"], [2, 0, 2], [0, 1, 2]),
    ],
)
def test_tags_have_a_prefix_and_a_type(labels: list[str], prefixes: list[int], kinds: list[int]) -> None:
    assert parse_tags(labels) == (prefixes, kinds)


def test_a_hundred_thousand_words_take_a_moment() -> None:
    labels = SCHEMES["IOBES"]
    preds, target = (torch.randint(len(labels), (2500, 40)) for _ in range(2))
    metric = SpanF1(labels)
    metric.update(preds, target)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        metric.update(preds, target)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05
