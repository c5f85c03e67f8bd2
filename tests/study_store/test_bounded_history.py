"""What a sampler sees of a long study, and what the study's storage still holds."""

from collections.abc import Callable

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mtl_search.study_store.bounded_history import LIMIT, BoundedTrialHistory


def pair(whole: optuna.Study) -> tuple[BoundedTrialHistory, optuna.Study]:
    bounded_history = BoundedTrialHistory(whole._storage, whole._study_id)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=0)
    return bounded_history, optuna.load_study(study_name=whole.study_name, storage=bounded_history, sampler=sampler)


def search(study: optuna.Study, bounded_history: BoundedTrialHistory | None, trials: int) -> list[float]:
    values = []
    for _ in range(trials):
        if bounded_history is not None:
            list(bounded_history.refresh())
        trial = study.ask()
        x = trial.suggest_float("x", -5, 5)
        y = trial.suggest_float("y", -5, 5) if trial.suggest_categorical("kind", ["a", "b"]) == "a" else 2.0
        values.append(-((x - 1) ** 2) - (y - 0.5) ** 2)
        study.tell(trial, values[-1])
    return values


def fill(study: optuna.Study, count: int, value: Callable[[int], float]) -> None:
    for number in range(count):
        study.add_trial(optuna.trial.create_trial(value=value(number)))


def test_up_to_the_limit_a_search_is_the_same_as_without_a_horizon() -> None:
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=0)
    plain = optuna.create_study(direction="maximize", sampler=sampler)
    bounded_history, bounded = pair(optuna.create_study(direction="maximize"))
    assert search(bounded, bounded_history, 60) == search(plain, None, 60)


def test_beyond_the_limit_a_sampler_sees_the_best_the_latest_and_some_of_the_others_in_order() -> None:
    whole = optuna.create_study(direction="maximize")
    bounded_history, study = pair(whole)
    fill(whole, 4 * LIMIT, lambda number: -abs(number - 100))
    assert len(list(bounded_history.refresh())) == 4 * LIMIT
    seen = [trial.number for trial in study.get_trials()]
    assert len(seen) == LIMIT
    assert seen == sorted(seen)
    assert {*range(80, 121), *range(4 * LIMIT - 100, 4 * LIMIT)} <= set(seen)
    others = [number for number in seen if 200 < number < 4 * LIMIT - 200]
    assert min(others) < 2 * LIMIT < max(others)
    assert len(whole.get_trials()) == 4 * LIMIT


def test_what_is_seen_does_not_depend_on_when_it_was_read() -> None:
    whole = optuna.create_study(direction="maximize")
    step_by_step, study = pair(whole)
    for _ in range(7):
        fill(whole, LIMIT // 3, lambda number: float(number * 37 % 101))
        list(step_by_step.refresh())
    at_once, again = pair(whole)
    list(at_once.refresh())
    assert [trial.number for trial in study.get_trials()] == [trial.number for trial in again.get_trials()]


@pytest.mark.parametrize("journal", [True, False])
def test_running_trials_are_seen_and_a_finished_one_stays_as_it_was(tmp_path, journal: bool) -> None:  # type: ignore[no-untyped-def]
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal"))) if journal else InMemoryStorage()
    whole = optuna.create_study(direction="maximize", storage=storage)
    bounded_history, study = pair(whole)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("recipe", {"fusion": {"mean": {}}, "joint": {"epochs": 3, "lr": 0.1}})
    list(bounded_history.refresh())
    assert list(bounded_history.running) == [trial.number]
    study.tell(trial, 1.0)
    before = whole.get_trials()
    assert [ended.number for ended in bounded_history.refresh()] == [trial.number]
    assert not bounded_history.running
    assert whole.get_trials() == before
    assert study.get_trials(states=(TrialState.COMPLETE,)) == before
