"""What every stopper promises, over the family's registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.search.stoppers import STOPPERS, Stopping

over_variants = pytest.mark.parametrize("name", STOPPERS)
EPOCHS = 9
curves = st.lists(st.lists(st.integers(0, 100), min_size=EPOCHS, max_size=EPOCHS), min_size=1, max_size=8)


def stopping(name: str, **params: int) -> Stopping:
    built: Stopping = STOPPERS[name](**params).build(EPOCHS)
    return built


def run(rule: Stopping, scores: list[list[int]], starts: list[str] | None = None) -> list[int]:
    """The last epoch of each trial, the trials epoch by epoch beside each other."""
    ended: dict[int, int] = {}
    for epoch in range(1, EPOCHS + 1):
        for number, curve in enumerate(scores):
            if number in ended:
                continue
            start = "warm" if starts is None else starts[number]
            if rule.stops(f"trial-{number}", start, epoch, float(max(curve[:epoch]))) or epoch == EPOCHS:
                rule.end(f"trial-{number}", start)
                ended[number] = epoch
    return [ended[number] for number in range(len(scores))]


@over_variants
@given(scores=curves)
def test_a_trial_that_leads_at_every_epoch_is_never_stopped(name: str, scores: list[list[int]]) -> None:
    leading = [101] * EPOCHS
    assert run(stopping(name), [*scores, leading])[-1] == EPOCHS


@over_variants
@given(scores=curves)
def test_trials_of_one_score_all_end_at_their_last_epoch(name: str, scores: list[list[int]]) -> None:
    assert run(stopping(name), [[7] * EPOCHS for _ in scores]) == [EPOCHS] * len(scores)


@over_variants
@given(scores=curves)
def test_decisions_depend_on_what_was_heard_alone(name: str, scores: list[list[int]]) -> None:
    assert run(stopping(name), scores) == run(stopping(name), scores)


@over_variants
@given(scores=curves)
def test_trials_of_another_start_change_nothing(name: str, scores: list[list[int]]) -> None:
    alone = run(stopping(name), scores)
    cold = [[1000] * EPOCHS for _ in range(6)]
    beside = run(stopping(name), [*cold, *scores], ["cold"] * 6 + ["warm"] * len(scores))
    assert beside[6:] == alone


@pytest.mark.parametrize("name", [name for name in STOPPERS if name != "none"])
def test_no_trial_is_stopped_before_its_grace_and_a_hopeless_one_is_after(name: str) -> None:
    good = [[90 + number] * EPOCHS for number in range(6)]
    for grace in (1, 4):
        ended = run(stopping(name, grace=grace), [*good, [0] * EPOCHS])
        assert grace <= ended[-1] < EPOCHS
