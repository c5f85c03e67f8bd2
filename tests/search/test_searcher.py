"""The searcher against a real Optuna study, with the jobs' epochs and ends played by the test."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from searched_spaces import COARSE, NO_PLAIN, SPACE, Listener, PlayedRunner, space_of

from mtl_search.pool.jobs import JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search import searcher
from mtl_search.search.callbacks import RunEvent, TrialEnded
from mtl_search.search.requeue import prepare_study
from mtl_search.search.searcher import NoTrial, OptunaSearcher, StartedTrial
from mtl_search.storage.reports import EpochReport, StageResult


class Driver:
    """One driver's life with a study: a searcher, and what Tune and the pool would say to it."""

    def __init__(self, file: Path, budget: int, raw: Mapping[str, Any] = SPACE) -> None:
        space = space_of(raw)
        storage = JournalStorage(JournalFileBackend(str(file)))
        sampler = optuna.samplers.RandomSampler(seed=file.stat().st_size if file.exists() else 0)
        self.study = optuna.create_study(
            study_name="s", storage=storage, direction="maximize", load_if_exists=True, sampler=sampler
        )
        self.listener, self.runner = Listener(), PlayedRunner()
        prepare_study(self.study, [space.default(), space.plain()][:budget], self.listener)
        self.searcher = OptunaSearcher(self.study, space, budget, self.runner, self.listener)
        self._count = 0

    @property
    def submitted(self) -> list[Recipe]:
        return self.runner.submitted

    @property
    def released(self) -> list[str]:
        return self.runner.released

    def start(self) -> str | None:
        """Asks for a trial; its name, or None where there is none left."""
        self._count += 1
        started = self.searcher.start_trial(f"t{self._count}")
        if started is NoTrial.NEVER:
            return None
        assert started == StartedTrial(self.submitted[-1].key)
        return f"t{self._count}"

    def epoch(self, epoch: int, score: float) -> Update:
        return Update([EpochReport(epoch, score, best_score=score)], JobState.RUNNING)

    def tell(self, trial: str, epoch: int, score: float) -> None:
        self.searcher.report(trial, self.epoch(epoch, score).reports[0])

    def complete(self, trial: str, score: float = 1.0) -> None:
        result = StageResult(
            best_score=score, best_epoch=1, metrics={"digit": 0.9, "ink": 2.0}, parameters=7, multiply_adds=5
        )
        self.searcher.end(trial, Update([], JobState.DONE, result))

    def end(self, trial: str, state: JobState, reason: str) -> None:
        self.searcher.end(trial, Update([], state, None, reason))

    def run_to_the_end(self) -> None:
        while trial := self.start():
            self.tell(trial, 0, 0.5)
            self.complete(trial)

    @property
    def states(self) -> list[str]:
        return [TrialRecord.of(trial).state for trial in self.study.get_trials()]


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., Driver]:
    return lambda budget=10, raw=SPACE: Driver(tmp_path / "journal", budget, raw)


def test_a_study_of_one_trial_tries_the_default_alone_and_the_plain_recipe_once_it_is_extended(
    drive: Callable[..., Driver],
) -> None:
    driver = drive(1)
    driver.run_to_the_end()
    assert driver.states == ["complete"]
    assert driver.submitted == [space_of(SPACE).default().recipe]
    extended = drive(3)
    extended.run_to_the_end()
    assert extended.states == ["complete"] * 3
    assert extended.submitted[0] == space_of(SPACE).plain().recipe


def test_a_finished_trial_is_complete_with_the_best_epoch_s_score(drive: Callable[..., Driver]) -> None:
    driver = drive()
    trial = driver.start()
    driver.tell(trial, 0, -1.0)
    driver.tell(trial, 1, 3.5)
    driver.complete(trial, 3.5)
    (frozen,) = driver.study.get_trials(states=(TrialState.COMPLETE,))
    assert frozen.value == 3.5
    assert frozen.intermediate_values == {0: -1.0, 1: 3.5}
    record = TrialRecord.of(frozen)
    assert (record.metrics, record.best_epoch, record.parameters) == ({"digit": 0.9, "ink": 2.0}, 1, 7)
    assert driver.listener.ended == [record]
    assert driver.released == [driver.submitted[0].key]


def test_a_trial_stopped_early_is_pruned_with_the_value_at_its_rung(drive: Callable[..., Driver]) -> None:
    driver = drive()
    trial = driver.start()
    driver.tell(trial, 0, 1.0)
    driver.searcher.end(trial, driver.epoch(1, 2.0))
    (frozen,) = driver.study.get_trials(states=(TrialState.PRUNED,))
    assert frozen.value == 2.0
    assert frozen.intermediate_values == {0: 1.0, 1: 2.0}
    assert driver.listener.ended == [TrialRecord.of(frozen)]
    assert driver.listener.ended[0].state == "pruned"
    assert driver.listener.ended[0].job == driver.submitted[0].key, "where its model lies"


def test_a_failed_trial_is_fail_with_its_reason(drive: Callable[..., Driver]) -> None:
    driver = drive()
    trial = driver.start()
    driver.end(trial, JobState.FAILED, "diverged: training loss of task ink is nan in epoch 1")
    (frozen,) = driver.study.get_trials(states=(TrialState.FAIL,))
    assert frozen.user_attrs["reason"] == "diverged: training loss of task ink is nan in epoch 1"
    assert driver.listener.ended == [TrialRecord.of(frozen)]
    assert driver.listener.ended[0].state == "failed"


def test_a_trial_whose_process_dies_is_tried_again_and_not_counted(drive: Callable[..., Driver]) -> None:
    driver = drive(3)
    driver.searcher.end(driver.start(), error=True)
    assert driver.states == ["interrupted", "waiting", "waiting"]
    assert driver.released == [driver.submitted[0].key]
    driver.run_to_the_end()
    assert driver.states == ["interrupted", "complete", "complete", "complete"]
    assert [recipe.key for recipe in driver.submitted].count(driver.submitted[0].key) == 2
    assert TrialRecord.of(driver.study.get_trials()[2]).retry_of == 0
    assert drive(3).start() is None, "resumed, it is not tried once more"


def test_a_trial_whose_process_dies_for_good_is_fail_and_its_recipe_stays_open(
    drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "MOST_DEATHS", 0)
    driver = drive()
    trial = driver.start()
    driver.searcher.end(trial, error=True)
    assert driver.states[0] == "failed"
    assert driver.released == [driver.submitted[0].key]
    assert driver.searcher._standing.known == {}


def test_a_trial_that_nobody_can_carry_out_is_interrupted_and_not_failed(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.end(driver.start(), JobState.CANCELLED, "every worker group is lost")
    assert driver.states[0] == "interrupted"
    assert drive().states[-1] == "waiting"


def test_epochs_told_again_after_a_restart_are_told_once(drive: Callable[..., Driver]) -> None:
    driver = drive()
    trial = driver.start()
    for epoch in (0, 1, 0, 1, 2):
        driver.tell(trial, epoch, float(epoch))
    assert driver.listener.epochs == [(0, 0), (0, 1), (0, 2)]


def test_the_first_trials_are_the_default_recipe_and_the_plain_one(drive: Callable[..., Driver]) -> None:
    driver, space = drive(), space_of(SPACE)
    driver.start()
    driver.start()
    assert driver.submitted == [space.default().recipe, space.plain().recipe]
    plain = driver.submitted[1].flat()
    assert plain["fusion"] == "mean"
    assert plain["weighting.log_ratio.ink"] == 0.0
    assert plain["sharing.depth"] == driver.submitted[0].flat()["sharing.depth"]


def test_a_plain_recipe_outside_the_space_is_tried_too(drive: Callable[..., Driver]) -> None:
    driver, space = drive(3, NO_PLAIN), space_of(NO_PLAIN)
    assert space.plain().params is None
    driver.run_to_the_end()
    assert driver.submitted[1] == space.plain().recipe
    assert driver.submitted[1].flat()["fusion"] == "mean"
    assert driver.states == ["complete"] * 3


def test_a_finished_recipe_is_not_trained_again_and_counts(drive: Callable[..., Driver]) -> None:
    driver = drive(8, COARSE)
    first = driver.start()
    driver.tell(first, 0, 4.0)
    driver.complete(first, 4.0)
    second = driver.start()
    driver.searcher.end(second, driver.epoch(1, 2.0))
    assert driver.start() is None, "a space of two recipes: all that is left are repetitions"
    assert len(driver.submitted) == 2
    records = [TrialRecord.of(trial) for trial in driver.study.get_trials()]
    assert len(records) == 8
    for record in records[2:]:
        original = records[record.duplicate_of or 0]
        assert (record.state, record.value, record.recipe) == (original.state, original.value, original.recipe)
        assert record.metrics == original.metrics
    assert [record.number for record in driver.listener.ended] == driver.listener.started == list(range(8))


def test_a_repetition_keeps_its_own_story(drive: Callable[..., Driver]) -> None:
    """What a finished trial was a retry of is not what its repetition is one of."""
    driver = drive(4, COARSE)
    driver.start()
    driver.searcher.interrupt()
    driver = drive(4, COARSE)
    driver.run_to_the_end()
    repeated = [TrialRecord.of(t) for t in driver.study.get_trials() if "duplicate_of" in t.user_attrs]
    assert repeated
    assert all(record.retry_of is None for record in repeated)


def test_two_running_trials_of_one_recipe_share_a_job_until_both_have_ended(drive: Callable[..., Driver]) -> None:
    driver = drive(4, COARSE)
    trials = [driver.start() for _ in range(4)]
    keys = [recipe.key for recipe in driver.submitted]
    twins = [trial for trial, key in zip(trials, keys, strict=True) if keys.count(key) > 1 and key == keys[-1]]
    for trial in twins[:-1]:
        driver.complete(trial)
    assert keys[-1] not in driver.released
    driver.complete(twins[-1])
    assert keys[-1] in driver.released


def test_the_budget_counts_all_trials_but_the_interrupted(drive: Callable[..., Driver]) -> None:
    driver = drive(3)
    driver.complete(driver.start())
    driver.end(driver.start(), JobState.FAILED, "diverged")
    driver.start()
    driver.searcher.interrupt()
    assert driver.states == ["complete", "failed", "interrupted"]
    driver = drive(3)
    assert driver.searcher.left == 1
    driver.run_to_the_end()
    assert driver.states == ["complete", "failed", "interrupted", "complete"]
    assert drive(3).searcher.left == 0


def test_an_interrupted_trial_is_retried_first_with_the_same_recipe(drive: Callable[..., Driver]) -> None:
    driver = drive(5)
    for _ in range(3):
        driver.complete(driver.start())
    driver.start()
    lost = driver.submitted[-1]
    driver.searcher.interrupt()
    again = drive(5)
    again.start()
    assert again.submitted == [lost]
    assert TrialRecord.of(again.study.get_trials()[-1]).retry_of == 3


def test_what_a_killed_driver_left_running_is_closed_told_and_retried(drive: Callable[..., Driver]) -> None:
    killed = drive(4)
    killed.complete(killed.start())
    killed.start()
    del killed
    driver = drive(4)
    assert driver.states == ["complete", "interrupted", "waiting"]
    assert [(record.number, record.state) for record in driver.listener.ended] == [(1, "interrupted")]
    assert "driver" in driver.listener.ended[0].reason
    driver.run_to_the_end()
    assert driver.states == ["complete", "interrupted", "complete", "complete", "complete"]
    assert len({recipe.key for recipe in driver.submitted}) == 3


def test_a_retry_is_queued_once_however_often_the_driver_is_killed(drive: Callable[..., Driver]) -> None:
    drive(3).start()
    for _ in range(3):
        assert drive(3).states.count("waiting") == 2, "the plain recipe, and the default one again"
    driver = drive(3)
    driver.run_to_the_end()
    assert sorted(driver.states) == ["complete", "complete", "complete", "interrupted"]


def test_a_retry_of_a_trial_that_was_just_asked_for_has_all_that_was_queued(drive: Callable[..., Driver]) -> None:
    killed = drive(3)
    killed.study.ask()
    (asked, *_) = killed.study.get_trials()
    default = dict(asked.system_attrs["fixed_params"])
    assert default
    assert not asked.params, "killed before the first parameter was written"
    driver = drive(3)
    driver.start()
    driver.start()
    assert space_of(SPACE).default().recipe in driver.submitted
    retried = next(each for each in driver.study.get_trials() if each.user_attrs.get("retry_of") == 0)
    assert retried.system_attrs["fixed_params"] == default


def test_a_job_is_kept_until_its_end_is_written(drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on finds how it ended."""
    driver = drive(3)
    trial = driver.start()
    assert trial is not None
    with monkeypatch.context() as away:
        away.setattr(optuna.storages.JournalStorage, "set_trial_state_values", _refuse)
        with pytest.raises(OSError, match="no space"):
            driver.complete(trial)
    assert driver.released == []
    assert str(driver.searcher.trouble) == "no space is left", "and ends the search, see tuning"
    driver.complete(trial)
    assert driver.released == [driver.submitted[0].key]
    assert driver.states.count("complete") == 1


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no space is left")


def test_an_interrupted_plain_recipe_outside_the_space_is_retried(drive: Callable[..., Driver]) -> None:
    driver = drive(2, NO_PLAIN)
    driver.complete(driver.start())
    driver.start()
    driver.searcher.interrupt()
    again = drive(2, NO_PLAIN)
    again.run_to_the_end()
    assert again.submitted == [space_of(NO_PLAIN).plain().recipe]


def test_interrupting_leaves_nothing_running_not_even_a_trial_just_asked_for(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.start()
    driver.study.ask()
    driver.study.ask()
    driver.searcher.interrupt()
    assert driver.states == ["interrupted"] * 3
    assert [(record.number, record.state) for record in driver.listener.ended] == [
        (0, "interrupted"),
        (1, "interrupted"),
    ], "the last had no recipe yet, so nobody had heard of it"


def test_a_larger_budget_extends_a_finished_study(drive: Callable[..., Driver]) -> None:
    drive(4).run_to_the_end()
    assert drive(4).start() is None
    driver = drive(7)
    driver.run_to_the_end()
    assert driver.states == ["complete"] * 7
    assert len(driver.submitted) == 3


def test_a_recipe_finished_before_the_restart_is_known_after_it(drive: Callable[..., Driver]) -> None:
    drive(2, COARSE).run_to_the_end()
    driver = drive(6, COARSE)
    driver.run_to_the_end()
    assert driver.submitted == []
    assert all(trial.user_attrs.get("duplicate_of") in (0, 1) for trial in driver.study.get_trials()[2:])


def test_callbacks_are_told_of_an_end_before_optuna_is(drive: Callable[..., Driver]) -> None:
    """A kill between the two leaves a trial that is retried, never one that is finished here and open there."""
    driver = drive()
    seen: list[TrialState] = []

    def on_run(event: RunEvent) -> None:
        if isinstance(event, TrialEnded):
            seen.append(driver.study.get_trials()[event.trial.number].state)

    driver.listener.on_run = on_run  # type: ignore[method-assign]
    driver.complete(driver.start())
    assert seen == [TrialState.RUNNING]
    assert driver.states[0] == "complete"


def test_no_more_trials_run_than_there_are_groups_and_more_as_groups_come(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "journal", 10)
    listener, space, runner = Listener(), space_of(SPACE), PlayedRunner(size=1)
    searcher = OptunaSearcher(driver.study, space, 10, runner, listener)

    def started() -> list[bool]:
        return [
            isinstance(searcher.start_trial(f"{len(listener.started)}-{number}"), StartedTrial) for number in range(3)
        ]

    found = [started()]
    runner.size = 3
    found.append(started())
    runner.size = 0  # all of them are down for now
    found.append(started())
    assert found == [[True, False, False], [True, True, False], [False, False, False]]
