"""The clock: a trial starts only where it, and all that follows the search, can end in time."""

import time
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from mtl_search.search.clock import Clock
from mtl_search.search_config import RepeatsConfig, seconds_of

REPEATS = RepeatsConfig(trials=3, runs=3)


def trials(*seconds: float, state: TrialState = TrialState.COMPLETE) -> list[object]:
    value = 1.0 if state is TrialState.COMPLETE else None
    return [create_trial(state=state, value=value, user_attrs={"seconds": s}) for s in seconds]


@pytest.mark.parametrize(
    ("budget", "groups", "fits"),
    # The longest trial takes 10 s; after it, three recipes and perhaps a fourth run three times each.
    [(None, 1, True), (144.0, 1, True), (142.0, 1, False), (89.0, 2, True), (87.0, 2, False)],
)
def test_room_for_the_repeats_is_kept(budget: float | None, groups: int, fits: bool, tmp_path: Path) -> None:
    assert Clock(budget, tmp_path / "clock").fits_another(trials(10.0, 4.0), groups, REPEATS) is fits  # type: ignore[arg-type]


def test_without_repeats_only_the_trial_itself_must_fit(tmp_path: Path) -> None:
    assert Clock(12.0, tmp_path / "clock").fits_another(trials(10.0), 1, RepeatsConfig(runs=0))  # type: ignore[arg-type]
    assert not Clock(10.5, tmp_path / "clock").fits_another(trials(10.0), 1, RepeatsConfig(runs=0))  # type: ignore[arg-type]


def test_as_long_as_no_trial_is_complete_the_budget_itself_counts(tmp_path: Path) -> None:
    for past in ([], trials(5.0, state=TrialState.FAIL)):
        assert Clock(1.0, tmp_path / "clock").fits_another(past, 1, REPEATS)  # type: ignore[arg-type]
        late = Clock(0.001, tmp_path / "clock")
        time.sleep(0.01)
        assert late.fits_another(past, 1, REPEATS) is (not past), "one trial runs in any case"  # type: ignore[arg-type]


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
    with first.baselines():
        time.sleep(0.3)
    first.save()
    again = Clock(0.5, tmp_path / "clock")
    with again.baselines():
        pass  # found again at once
    assert again.fits_another([], 1, REPEATS)
    # 0.2 s are left, and the baselines told that single-task models alone take longer.
    assert not again.fits_another(trials(0.01), 1, RepeatsConfig(runs=0))  # type: ignore[arg-type]
