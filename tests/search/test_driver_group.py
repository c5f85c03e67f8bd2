"""Several searchers on one storage, as several drivers have: the budget counts once, no recipe is tried twice."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from searched_spaces import COARSE, SPACE, Listener, PlayedRunner, space_of

from mtl_search.pool.jobs import JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import REFUSED, TrialRecord
from mtl_search.search.driver_group import DriverGroup
from mtl_search.search.requeue import prepare_study
from mtl_search.search.searcher import NoTrial, OptunaSearcher
from mtl_search.storage.reports import StageResult

PATIENCE = 5.0
RESULT = StageResult(best_score=1.0, best_epoch=1, metrics={"digit": 0.9, "ink": 2.0})


class JoinedDriver:
    """A driver's searcher and what Tune and its pool would say."""

    def __init__(self, file: Path, budget: int, seed: int, raw: object = SPACE, patience: float = PATIENCE) -> None:
        self.study = study_at(file, seed)
        self.drivers = DriverGroup(study_at(file, seed), patience)
        self.listener, self.runner, space = Listener(), PlayedRunner(), space_of(raw)  # type: ignore[arg-type]
        prepare_study(self.study, [space.default(), space.plain()], self.listener, alone=False)
        self.searcher = OptunaSearcher(self.study, space, budget, self.runner, self.listener, drivers=self.drivers)
        self._count = 0

    @property
    def submitted(self) -> list[Recipe]:
        return self.runner.submitted

    def start(self) -> str | None:
        """A trial's name; empty where there is nothing to start now, None where there will never be."""
        self._count += 1
        started = self.searcher.start_trial(f"t{self._count}")
        if isinstance(started, NoTrial):
            return None if started is NoTrial.NEVER else ""
        return f"t{self._count}"

    def complete(self, trial: str) -> None:
        self.searcher.end(trial, Update([], JobState.DONE, RESULT))


def study_at(file: Path, seed: int) -> optuna.Study:
    return optuna.create_study(
        study_name="s",
        storage=JournalStorage(JournalFileBackend(str(file))),
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def records(file: Path) -> list[TrialRecord]:
    return [TrialRecord.of(trial) for trial in study_at(file, 0).get_trials() if REFUSED not in trial.user_attrs]


def test_two_drivers_share_a_budget_exactly_and_try_no_recipe_twice(tmp_path: Path, stack: ExitStack) -> None:
    drivers = [JoinedDriver(tmp_path / "journal", 9, seed) for seed in (1, 2)]
    for driver in drivers:
        stack.enter_context(driver.drivers)
    running: list[tuple[JoinedDriver, str]] = []
    finished = set[int]()
    while len(finished) < 2:
        for place, driver in enumerate(drivers):
            driver.searcher._not_before = 0.0
            trial = driver.start()
            if trial is None:
                finished.add(place)
            elif trial:
                running.append((driver, trial))
        if len(running) >= 4 or finished or not trial:
            for driver, trial in running:
                driver.complete(trial)
            running.clear()
    found = records(tmp_path / "journal")
    assert Counter(record.state for record in found) == {"complete": 9}
    recipes = [recipe.key for driver in drivers for recipe in driver.submitted]
    assert len(recipes) == len(set(recipes)) == 9
    told = [ended.number for driver in drivers for ended in driver.listener.ended]
    assert sorted(told) == sorted(record.number for record in found), "each trial told once"


def test_a_recipe_that_another_driver_tries_is_not_tried_beside_it(tmp_path: Path, stack: ExitStack) -> None:
    # A busy machine is late with beats, and here nobody dies.
    first, second = (JoinedDriver(tmp_path / "journal", 8, seed, COARSE, patience=120) for seed in (1, 2))
    stack.enter_context(first.drivers)
    stack.enter_context(second.drivers)
    trials = [first.start(), first.start()]
    assert all(trials), "a space of two recipes"
    second.searcher._not_before = 0.0
    assert second.start() == ""
    assert second.submitted == []
    for trial in trials:
        first.complete(trial or "")
    second.searcher._not_before = 0.0
    assert second.start() is None, "all that is left are repetitions"
    assert Counter(record.state for record in records(tmp_path / "journal")) == {"complete": 8}


def test_a_dead_driver_s_trial_is_tried_again_once_by_a_survivor(tmp_path: Path, stack: ExitStack) -> None:
    dead, *others = (JoinedDriver(tmp_path / "journal", 4, seed) for seed in (1, 2, 3))
    for driver in others:
        stack.enter_context(driver.drivers)
    dead.study.set_user_attr(f"beat:{dead.drivers.name}", 7)
    assert dead.start()
    lost = dead.submitted[0]
    deadline = time.monotonic() + 4 * PATIENCE
    done = 0
    while done < 2 and time.monotonic() < deadline:
        done = 0
        for driver in others:
            driver.searcher._not_before = 0.0
            trial = driver.start()
            done += trial is None
            if trial:
                driver.complete(trial)
        time.sleep(0.2)
    found = records(tmp_path / "journal")
    assert Counter(record.state for record in found) == {"complete": 4, "interrupted": 1}
    again = [record for record in found if record.retry_of is not None]
    assert [(record.retry_of, record.recipe, record.state) for record in again] == [(0, lost, "complete")]
    dead.complete("t1")  # it was not dead, only silent: what it has to say comes too late, and is passed over
    assert records(tmp_path / "journal") == found


def test_what_a_driver_leaves_is_tried_by_the_others_and_theirs_goes_on(tmp_path: Path, stack: ExitStack) -> None:
    leaving, staying = (JoinedDriver(tmp_path / "journal", 3, seed) for seed in (1, 2))
    stack.enter_context(leaving.drivers)
    stack.enter_context(staying.drivers)
    assert leaving.start()
    theirs = staying.start()
    assert theirs
    leaving.searcher.interrupt()
    assert [record.state for record in records(tmp_path / "journal")].count("running") == 1
    while trial := staying.start():
        staying.complete(trial)
    staying.complete(theirs)
    found = records(tmp_path / "journal")
    assert Counter(record.state for record in found) == {"complete": 3, "interrupted": 1}
    assert leaving.submitted[0] in staying.submitted


def test_nobody_is_taken_for_dead_while_the_storage_is_away_and_right_after(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_search.search.driver_group.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("mtl_search.search.driver_group._AWAY", 1.0)
    first, second = (stack.enter_context(DriverGroup(study_at(tmp_path / "journal", 0), 3.0)) for _ in range(2))

    def dead_within(seconds: float, name: str) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            first.look()
            if first.is_dead(name):
                return True
            time.sleep(0.05)
        return False

    def take_away(seconds: float) -> None:
        with get_lock_file(JournalFileSymlinkLock(str(tmp_path / "journal"))):  # who waits for it keeps readers waiting
            time.sleep(seconds)

    assert not dead_within(0.5, second.name)
    away = threading.Thread(target=take_away, args=(5.0,))
    away.start()
    assert not dead_within(7.0, second.name)
    away.join()
    first._study.set_user_attr("beat:another", 1)
    assert dead_within(30.0, "another"), "it beats no more"
    assert not first.is_dead(second.name)


def test_one_driver_concludes_and_the_next_takes_its_turn_where_it_dies(tmp_path: Path) -> None:
    first, second, third = (DriverGroup(study_at(tmp_path / "journal", 0), 1.0) for _ in range(3))
    trials = [TrialRecord(0, "complete"), TrialRecord(1, "interrupted")]
    with second, third:
        first._study.set_user_attr(f"beat:{first.name}", 1)
        assert first.wait_for_turn(trials), "the first to ask"
        assert second.wait_for_turn(trials), "the first has stopped beating"
        second.concluded()
        assert not third.wait_for_turn(trials)
        assert (second.concludes, third.concludes) == (True, False)
