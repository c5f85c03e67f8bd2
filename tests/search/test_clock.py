"""The clock: a trial starts only where it, and all that follows the search, can end in time."""

import time
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from mtl_search.config.search_config import RepeatsConfig, SearchConfig, seconds_of
from mtl_search.search.clock import Clock, seconds_of_ending


def trials(*seconds: float, state: TrialState = TrialState.COMPLETE) -> list[object]:
    value = 1.0 if state is TrialState.COMPLETE else None
    return [create_trial(state=state, value=value, user_attrs={"seconds": s}) for s in seconds]


def nothing(longest: float) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("budget", "fits"),
    # The longest trial takes 10 s, and what follows the search three times as long.
    [(None, True), (45.0, True), (43.0, False)],
)
def test_room_for_what_follows_the_search_is_kept(budget: float | None, fits: bool, tmp_path: Path) -> None:
    clock = Clock(budget, tmp_path / "clock")
    assert clock.fits_another(trials(10.0, 4.0), lambda longest: 3 * longest) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "seconds"),
    # Three recipes and perhaps a fourth, three runs of 10 s each. An epoch of the single-task models takes 2 s: 3 seeds
    # of 4 epochs in the repeats; controls of 6 and of 4 + 6 epochs on 2 seeds, of 4 + 6 epochs on 3 seeds.
    [(1, 10 * 12 + 2 * (3 * 4 + 2 * (6 + 10) + 3 * 10)), (2, 10 * (5 + 2) + 74)],
)
def test_fresh_runs_and_controls_take_their_time(groups: int, seconds: float) -> None:
    search = SearchConfig(baseline_seeds=2, repeats=RepeatsConfig(trials=3, runs=3))
    assert seconds_of_ending(10.0, 2.0, (4, 6), groups, search) == seconds


def test_without_fresh_runs_nothing_follows() -> None:
    assert seconds_of_ending(10.0, 2.0, (4, 6), 1, SearchConfig(repeats=RepeatsConfig(runs=0))) == 0


def test_as_long_as_no_trial_is_complete_the_budget_itself_counts(tmp_path: Path) -> None:
    for past in ([], trials(5.0, state=TrialState.FAIL)):
        assert Clock(1.0, tmp_path / "clock").fits_another(past, nothing)  # type: ignore[arg-type]
        late = Clock(0.001, tmp_path / "clock")
        time.sleep(0.01)
        assert late.fits_another(past, nothing) is (not past), "one trial runs in any case"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "seconds"), [("2h", 7200), ("90m", 5400), ("1h 30m", 5400), ("1.5h", 5400), ("45s", 45), ("10 min", 600)]
)
def test_spans_of_time(span: str, seconds: float) -> None:
    assert seconds_of(span) == seconds


@pytest.mark.parametrize("span", ["", "90", "h", "0m", "-1h", "1d", "1h1h"])
def test_what_is_no_span_of_time_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match="must be "):
        seconds_of(span)


def test_the_time_counts_over_all_runs_of_a_study(tmp_path: Path) -> None:
    first = Clock(0.5, tmp_path / "clock")
    time.sleep(0.3)
    first.save()
    again = Clock(0.5, tmp_path / "clock")
    assert again.fits_another([], nothing)
    # 0.2 s are left.
    assert not again.fits_another(trials(0.01), lambda _: 0.25)  # type: ignore[arg-type]
